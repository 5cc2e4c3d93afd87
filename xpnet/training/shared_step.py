"""The training step of the ranks of an MPI job, which share a batch, and compare what they compute.

Of a batch of several blocks, each rank adds up whole nodes of the tree of blocks. Of a large batch of one
block, each has some of the samples: sums over them are exact once all ranks round by the same maxima, so that
MPI may add them up in any order. All ranks compute the whole of a small one.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeAlias

from xpnet._lib.tree import leaves
from xpnet._typing import Array, Function
from xpnet.arithmetic import Arithmetic, Reproducible
from xpnet.arithmetic.base import Operand
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group
from xpnet.arithmetic.reproducible import bit_budget
from xpnet.compute.context import ComputeContext
from xpnet.distributed.comparison import Schedule, compare
from xpnet.distributed.ranks import ALONE
from xpnet.nn import layers as L
from xpnet.nn.dropout import dropout_scale
from xpnet.nn.optim import Optimizer
from xpnet.training.batches import Batch, SampleBlock
from xpnet.training.step import Step, Variables, block_sums

LEAST_SAMPLES, LEAST_MULTIPLICATIONS = 128, 1 << 21
"""Samples of a batch of one block, and multiplications of its forward pass, from which ranks share it."""

Terms: TypeAlias = list[Array]
"""Of each layer A (inputs, samples) and dZ (units, samples), whose product is yet to be computed."""


def share(context: ComputeContext, samples: int, rank: int | None = None) -> tuple[int, int]:
    """Return the ``(start, stop)`` of this rank, or another, among the samples of a batch of one block.

    All ranks compute all of them if that takes less time than exchanging sums, or with batch normalisation,
    whose sums are not exact.
    """
    ranks, network = context.ranks, context.network
    is_small = samples < max(LEAST_SAMPLES, ranks.size)
    is_small |= samples * network.multiplications < LEAST_MULTIPLICATIONS
    if is_small or network.batch_norm:
        return 0, samples
    rank = ranks.rank if rank is None else rank
    return samples * rank // ranks.size, samples * (rank + 1) // ranks.size


class PartialGradients(Arithmetic):
    """Native arithmetic whose backward pass keeps the factors of gradients, to be multiplied later."""

    def weight_and_bias_gradients(self, dz: Array | Operand, a: Array | Operand) -> tuple[Any, Any]:
        """Return the factors A and dZ, for `partial_gradients`."""
        return a, dz.values if isinstance(dz, Operand) else dz

    def sample_maxima(self, dz: Array, a: Array | Operand) -> list[Array]:  # noqa: ARG002
        """Return what `partial_gradients` has to know of all samples, as maxima over these samples.

        (n, m) and an operand (k, m) -> arrays (..., 1), none in native arithmetic. A row with NaN gives NaN,
        whatever its maximum.
        """
        return []

    def partial_gradients(
        self,
        dz: Array,
        a: Array | Operand,
        samples: int,  # noqa: ARG002
        maxima: Iterator[Array],  # noqa: ARG002
    ) -> tuple[Array, Array]:
        """Return dZ Aᵀ, without the factor of A, and Σ dZ over a part of a batch of one block.

        ``samples`` is their number in the batch, and ``maxima`` yields those over all of them. Added up over
        the parts, in any order, the results are the gradients of the batch.
        """
        return super().weight_and_bias_gradients(dz, a.values if isinstance(a, Operand) else a)


class ExactPartialGradients(PartialGradients, Reproducible):
    """`PartialGradients` in reproducible arithmetic: all ranks round by the maxima over all samples."""

    def sample_maxima(self, dz: Array, a: Array | Operand) -> list[Array]:
        """Return the largest magnitude of each row of dZ and, unless it has integers, of A."""
        return [self.largest(x, -1) for x in ([dz] if isinstance(a, Operand) else [dz, a])]

    def partial_gradients(
        self, dz: Array, a: Array | Operand, samples: int, maxima: Iterator[Array]
    ) -> tuple[Array, Array]:
        """Return the exact dZ Aᵀ, without the factor of A, and Σ dZ, rounded by the batch's maxima."""
        xp, is_integer = self.xp, isinstance(a, Operand)
        budget = bit_budget(samples, a_integer=False, b_integer=is_integer)  # a slice for up to 2^13 samples
        (left,) = self._round_to_grid(dz, self._find_powers(next(maxima)), budget.a, 1)
        if is_integer:
            right = a.values
        else:
            (right,) = self._round_to_grid(a, self._find_powers(next(maxima)), budget.b, 1)
        return xp.matmul(left, xp.matrix_transpose(right)), xp.sum(left, axis=-1, keepdims=True)


class SharedStep(Step):
    """A training step that ranks take together, each with some blocks, or with some samples of one."""

    _watched: int | None = None  # the first sample of the block whose sums another rank has computed too
    _watched_digest = ""

    def __init__(self, context: ComputeContext, optimizer: Optimizer) -> None:
        super().__init__(context, optimizer)
        ops, kind = context.ops, ExactPartialGradients if context.is_exact else PartialGradients
        self._ops = kind(ops.xp, ops.device, ops.dtype, ops.fuses)
        self._terms = context.compile(self._sample_terms, transient=True)
        self._part_sums = cache(self._compile_part_sums)
        self._shared_update = context.compile(self._apply_shared_update, donated=True)
        self._schedule = Schedule(context.ranks if context.is_exact else ALONE)

    def __call__(self, variables: Variables, batch: Batch, *learning_rates: float) -> Variables:
        """Return the variables after each step of a batch, as `Step` does."""
        ranks, own = self.context.ranks, share(self.context, batch.size)
        if batch.size > BLOCK_SIZE:
            return super().__call__(variables, batch, *learning_rates)
        if own != (0, batch.size):
            return self._share_block(variables, batch, own, *learning_rates)
        variables = super().__call__(variables, batch, *learning_rates)
        if self._schedule.is_due(batch.steps):  # of results that every rank has computed
            digest = self._digest(leaves(variables.parameters))
            compare(ranks, range(ranks.size), digest, digest)
        return variables

    def _batch_sums(self, variables: Variables, batch: Batch) -> list[Array]:
        """Return `block_sums` over a batch, of which each rank adds up some nodes of the tree.

        In some steps a rank computes the first block of the next one too.
        """
        ranks, parameters = self.context.ranks, variables.parameters
        shares = {rank: blocks for rank, blocks in enumerate(ranks.shares(batch.size)) if blocks}
        first = {rank: blocks.start * BLOCK_SIZE for rank, blocks in shares.items()}
        is_due = self._schedule.is_due(min(map(len, shares.values())))
        self._watched, self._watched_digest = first.get(ranks.rank) if is_due else None, ""
        nodes = ranks.chunks(batch.size, self.context.stack)
        sums = [self._sum_chunks(parameters, batch, chunks) for chunks in nodes]
        if is_due:
            start = next((first[rank] for rank in first if rank > ranks.rank), 0)  # of the next rank
            block = batch.block(Group(start, min(start + BLOCK_SIZE, batch.size), 1))
            following = self._digest(self._block_sums(parameters, block)) if ranks.rank in first else ""
            compare(ranks, [*first], self._watched_digest, following)
        shapes = tuple(array.shape for array in leaves((parameters, variables.statistics)))  # as of the sums
        return ranks.finish(sums, batch.size, shapes, self.context.float_type)

    def _group_sums(self, parameters: L.Parameters, batch: Batch, group: Group) -> list[list[Array]]:
        """Return `block_sums` of each block of a group, and keep the digest of those to compare."""
        sums = super()._group_sums(parameters, batch, group)
        if group.start == self._watched:
            self._watched_digest = self._digest(sums[0])
        return sums

    def _share_block(
        self, variables: Variables, batch: Batch, own: tuple[int, int], learning_rate: float
    ) -> Variables:
        """Return the variables after a batch of one block, of which each rank has its ``own`` samples."""
        ranks, size = self.context.ranks, batch.size
        block = batch.block(Group(*own, 1))
        is_pixels = block.x.dtype == self.context.ops.xp.uint8 and block.masks.noise is None
        factor = self.context.inputs.factor if is_pixels else None  # of integers

        def add_up(bounds: tuple[int, int], terms: Terms) -> list[Array]:
            sums = self._part_sums(size, factor is not None, bounds[1] - bounds[0])
            return [*sums(maxima, terms)]

        terms, largest = self._terms(variables.parameters, block)
        maxima = ranks.reduce(largest, "MAX") if largest else largest
        parts, is_due = add_up(own, terms), self._schedule.is_due(1)
        digest = self._digest([*largest, *parts]) if is_due else ""
        sums = ranks.reduce(parts, "SUM")
        if is_due:
            following = share(self.context, size, (ranks.rank + 1) % ranks.size)
            terms, largest = self._terms(variables.parameters, batch.block(Group(*following, 1)))
            expected = self._digest([*largest, *add_up(following, terms)])
            compare(ranks, range(ranks.size), digest, expected)
        scale = 1.0 if factor is None else factor * dropout_scale(self.context.network.input_dropout)
        return self._shared_update(variables, sums, scale, L.mean_and_variance_factors(size), learning_rate)

    def _digest(self, arrays: Iterable[Array]) -> str:
        """Return the SHA-256 of the bits of arrays, but for the signs of zeros."""
        to_host = self.context.backend.to_host
        return hashlib.sha256(b"".join((to_host(array) + 0.0).tobytes() for array in arrays)).hexdigest()

    def _sample_terms(self, parameters: L.Parameters, block: SampleBlock) -> tuple[Terms, list[Array]]:
        """Return the terms of each layer's gradients, the inputs without their factor, and their maxima."""
        inputs, *terms = block_sums(replace(self.context, ops=self._ops), parameters, block)
        layers = zip([inputs, *terms[1::2]], terms[::2], strict=True)
        maxima = [largest for a, dz in layers for largest in self._ops.sample_maxima(dz, a)]
        return [inputs.values if isinstance(inputs, Operand) else inputs, *terms], maxima

    def _compile_part_sums(self, samples: int, pixels: bool, own: int) -> Function:  # noqa: ARG002, FBT001
        """Return the compiled `_sum_terms` of batches of a size, and of a rank with so many samples."""
        return self.context.compile(partial(self._sum_terms, samples=samples, pixels=pixels), transient=True)

    def _sum_terms(self, maxima: list[Array], terms: Terms, *, samples: int, pixels: bool) -> list[Array]:
        """Return the `partial_gradients` of each layer."""
        largest, inputs = iter(maxima), Operand(terms[0], integer=True) if pixels else terms[0]
        layers = zip([inputs, *terms[2::2]], terms[1::2], strict=True)
        return [x for a, dz in layers for x in self._ops.partial_gradients(dz, a, samples, largest)]

    def _apply_shared_update(self, variables: Variables, sums: list[Array], *factors: Any) -> Variables:
        """Do as `_apply_update`; the first factor is that of the inputs."""
        sums = [sums[0] * factors[0], *sums[1:]]
        return self._apply_update(variables, [x + 0.0 for x in sums], *factors[1:])
