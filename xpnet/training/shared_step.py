"""The training step of the ranks of an MPI job, which share a batch, and compare what they compute.

Of a batch of several blocks, each rank adds up whole nodes of the tree of blocks. Of a large batch of one
block, each has some of the samples: sums over them are exact once all ranks round by the same maxima, so that
MPI may add them up in any order. All ranks compute the whole of a small one.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeAlias

from xpnet._lib.tree import Tree, leaves, split, tree_map
from xpnet._typing import Array, Arrays, Function, HostArray, Pair
from xpnet.arithmetic import Arithmetic, Reproducible
from xpnet.arithmetic.base import Matrix, Operand
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group
from xpnet.arithmetic.reproducible import bit_budget
from xpnet.compute.context import ComputeContext
from xpnet.distributed.exchange import Rows, Shapes, share_rows, take_rows
from xpnet.nn import layers as L
from xpnet.nn.dropout import dropout_scale
from xpnet.nn.optim import Optimizer, map_layers
from xpnet.training.batches import Batch, SampleBlock
from xpnet.training.step import Step, Variables, block_sums

SENT_SAMPLES, WAIT_MULTIPLICATIONS, NATIVE_SPEED = 180, 20_000_000, 3
"""What sharing a batch of one block costs: sending each parameter as much as computing so many samples, and
messages and waits as much as so many multiplications of a forward pass, native ones so many times as many."""

FEW_ROWS = 8
"""Rows of an array that are all compared after an update; of many, one in so many is."""

BLOCKS = 50
"""Blocks of its own for each of which a rank computes one of the next rank's: 2 %."""

Terms: TypeAlias = Arrays
"""Of each layer A (inputs, samples) and dZ (units, samples), whose product is yet to be computed."""


def share(context: ComputeContext, samples: int, rank: int | None = None) -> tuple[int, int]:
    """Return the ``(start, stop)`` of this rank, or another, among the samples of a batch of one block.

    All ranks compute all of them if sharing costs more than it saves (the costs above, so that the path does
    not depend on a measurement), or with batch normalisation, whose sums are not exact.
    """
    ranks, network = context.ranks, context.network
    saved = (samples - SENT_SAMPLES) * network.multiplications * (1 - 1 / ranks.size)
    wait = WAIT_MULTIPLICATIONS * (1 if context.is_exact else NATIVE_SPEED)
    if saved <= wait or samples < ranks.size or network.batch_norm:
        return 0, samples
    rank = ranks.rank if rank is None else rank
    return samples * rank // ranks.size, samples * (rank + 1) // ranks.size


class PartialGradients(Arithmetic):
    """Native arithmetic whose backward pass keeps the factors of gradients, to be multiplied later."""

    def weight_and_bias_gradients(self, dz: Matrix, a: Matrix) -> tuple[Any, Any]:
        """Return the factors A and dZ, for `partial_gradients`."""
        return a, dz.values if isinstance(dz, Operand) else dz

    def sample_maxima(self, dz: Array, a: Matrix) -> Arrays:  # noqa: ARG002
        """Return what `partial_gradients` has to know of all samples, as maxima over these samples.

        (n, m) and an operand (k, m) -> arrays (..., 1), none in native arithmetic. A row with NaN gives NaN,
        whatever its maximum.
        """
        return []

    def partial_gradients(
        self,
        dz: Array,
        a: Matrix,
        samples: int,  # noqa: ARG002
        maxima: Iterator[Array],  # noqa: ARG002
    ) -> Pair:
        """Return dZ Aᵀ, without the factor of A, and Σ dZ over a part of a batch of one block.

        ``samples`` is their number in the batch, and ``maxima`` yields those over all of them. Added up over
        the parts, in any order, the results are the gradients of the batch.
        """
        return super().weight_and_bias_gradients(dz, a.values if isinstance(a, Operand) else a)


class ExactPartialGradients(PartialGradients, Reproducible):
    """`PartialGradients` in reproducible arithmetic: all ranks round by the maxima over all samples."""

    def sample_maxima(self, dz: Array, a: Matrix) -> Arrays:
        """Return the largest magnitude of each row of dZ and, unless it has integers, of A."""
        return [self.largest(x, -1) for x in ([dz] if isinstance(a, Operand) else [dz, a])]

    def partial_gradients(self, dz: Array, a: Matrix, samples: int, maxima: Iterator[Array]) -> Pair:
        """Return the exact dZ Aᵀ, without the factor of A, and Σ dZ, rounded by the batch's maxima."""
        xp, is_integer = self.xp, isinstance(a, Operand)
        budget = bit_budget(samples, a_integer=False, b_integer=is_integer)  # a slice for up to 2^13 samples
        (left,) = self._round_to_grid(dz, self._find_powers(next(maxima)), budget.a, 1)
        if is_integer:
            right = a.values
        else:
            (right,) = self._round_to_grid(a, self._find_powers(next(maxima)), budget.b, 1)
        return xp.matmul(left, xp.matrix_transpose(right)), xp.sum(left, axis=-1, keepdims=True)


class Schedule:
    """The steps in which gradients are compared: the first, and one in so many blocks.

    Without an arithmetic that is exact, none is.
    """

    def __init__(self, *, is_exact: bool) -> None:
        self._computed = BLOCKS if is_exact else -math.inf

    def is_due(self, blocks: int) -> bool:
        """Return True if a step is one of these, in which a rank computes so many blocks or more."""
        self._computed += blocks
        if self._computed < BLOCKS:
            return False
        self._computed = 0
        return True


class SharedStep(Step):
    """A training step that ranks take together, each with some blocks, or with some samples of one.

    Each rank updates its slice of the variables (`exchange.share_rows`), and keeps the optimiser's state of
    that slice alone. If all ranks compute the whole of each batch, they update all of it.

    Parameters
    ----------
    context, optimizer
        As of `Step`.
    samples
        The number of samples in a batch, but for a short last one.
    shapes
        Those of the parameters and of the running statistics.
    """

    _comparisons = 0
    _watched: int | None = None  # the first sample of the block whose sums another rank has computed too
    _own: list[str] | None = None  # in a step that is compared: digests of results of this rank
    _following: list[str]  # and of the next one, as this rank has computed them

    def __init__(self, context: ComputeContext, optimizer: Optimizer, samples: int, shapes: Shapes) -> None:
        super().__init__(context, optimizer)
        self._is_sliced = samples > BLOCK_SIZE or share(context, samples) != (0, samples)
        self._shapes, self._slices = (shapes, context.float_type), share_rows(shapes, context.ranks.size)
        self._rows = self._slices[context.ranks.rank]
        self._next = (context.ranks.rank + 1) % context.ranks.size
        ops, kind = context.ops, ExactPartialGradients if context.is_exact else PartialGradients
        self._ops = kind(ops.xp, ops.device, ops.dtype, ops.fuses)
        self._terms = context.compile(self._sample_terms, transient=True)
        # Compiled for each number of own samples, since arrays in lists are not told apart by their shapes.
        self._part_sums: Function = cache(
            lambda _own, *sizes: context.compile(partial(self._sum_terms, *sizes), transient=True)
        )
        self._schedule = Schedule(is_exact=context.is_exact)

    def __call__(self, variables: Variables, batch: Batch, *learning_rates: float) -> Variables:
        """Return the variables after each step of a batch, as `Step` does."""
        ranks, own, size = self.context.ranks, share(self.context, batch.size), batch.size
        if not self._is_sliced:
            variables = super().__call__(variables, batch, *learning_rates)
            if self._schedule.is_due(batch.steps):
                digest = self._digest(leaves(variables.parameters))
                ranks.compare_neighbours(digest, digest)
            return variables
        is_due = self._schedule.is_due(min(filter(None, map(len, ranks.shares(size)))))
        self._own, self._following = [] if is_due else None, []
        if size > BLOCK_SIZE:
            sums = self._add_up_blocks(variables, batch)
        elif own == (0, size):
            every = self._block_sums(variables.parameters, batch.block(Group(0, size, 1)))
            sums = [*leaves(take_rows(every, self._rows))]
        else:
            sums = self._add_up_samples(variables, batch, own)
        variables = self._update_rows(variables, sums, L.mean_and_variance_factors(size), *learning_rates)
        if self._own is not None:
            ranks.compare_neighbours("".join(self._own), "".join(self._following))
        return variables

    def own(self, variables: Variables) -> Variables:
        """Return variables with a copy of the optimiser's state of this rank's slice, from those with all."""
        if not self._is_sliced:
            return variables
        state = take_state(variables.optimizer, self._rows)
        return variables._replace(optimizer=tree_map(lambda array: array * 1.0, state))

    def to_host(self, variables: Variables, *, keep: bool = True) -> Variables:
        """Do as `Step.to_host`: the optimiser's state is gathered list by list."""
        if not self._is_sliced:
            return super().to_host(variables)

        def gather(layers: L.Parameters) -> L.Parameters | None:
            numbers, _ = self.context.ranks.gather_numbers(leaves(layers), self.context.float_type)
            return fill(variables.parameters, numbers) if keep else None

        state = map_layers(gather, variables.optimizer)
        return super().to_host(variables._replace(optimizer=()))._replace(optimizer=state)

    def _add_up_blocks(self, variables: Variables, batch: Batch) -> Arrays:
        """Return this rank's slice of `block_sums` over a batch; each adds up some nodes of the tree.

        In a step that is compared, a rank computes the first block of the next one too.
        """
        ranks, parameters = self.context.ranks, variables.parameters
        starts = [blocks.start * BLOCK_SIZE if blocks else None for blocks in ranks.shares(batch.size)]
        self._watched = None if self._own is None else starts[ranks.rank]
        sums = [
            self._sum_chunks(parameters, batch, node) for node in ranks.chunks(batch.size, self.context.stack)
        ]
        if self._own is not None and (start := starts[self._next]) is not None:
            block = batch.block(Group(start, min(start + BLOCK_SIZE, batch.size), 1))
            self._following.append(self._digest(self._block_sums(parameters, block)))
        return ranks.add_up(sums, -(-batch.size // BLOCK_SIZE), *self._shapes)

    def _group_sums(self, parameters: L.Parameters, batch: Batch, group: Group) -> list[Arrays]:
        """Return `block_sums` of each block of a group, and keep the digest of those to compare."""
        sums = super()._group_sums(parameters, batch, group)
        if self._own is not None and group.start == self._watched:
            self._own.append(self._digest(sums[0]))
        return sums

    def _add_up_samples(self, variables: Variables, batch: Batch, own: tuple[int, int]) -> Arrays:
        """Return this rank's slice of `block_sums` over a block, of which each has its ``own`` samples."""
        ranks, size = self.context.ranks, batch.size
        block = batch.block(Group(*own, 1))
        is_pixels = block.x.dtype == self.context.ops.xp.uint8 and block.masks.noise is None
        factor = self.context.inputs.factor if is_pixels else None  # of integers
        sizes = size, factor is not None
        terms, largest = self._terms(variables.parameters, block)
        maxima = largest
        if largest:
            numbers, _ = ranks.gather_numbers(largest, self.context.float_type)
            maxima = fill(largest, numbers.reshape(ranks.size, -1).max(axis=0))
            maxima = tree_map(self.context.backend.put, maxima)
        parts = self._part_sums(own[1] - own[0], *sizes)(maxima, terms)
        sums = ranks.add_up([parts], ranks.size, *self._shapes)
        if self._own is not None:
            self._own.append(self._digest([*largest, *parts]))
            following = share(self.context, size, self._next)
            terms, largest = self._terms(variables.parameters, batch.block(Group(*following, 1)))
            their_parts = self._part_sums(following[1] - following[0], *sizes)(maxima, terms)
            self._following.append(self._digest([*largest, *their_parts]))
        if factor is None or not self._rows[0]:
            return sums
        return [sums[0] * (factor * dropout_scale(self.context.network.input_dropout)), *sums[1:]]

    def _update_rows(
        self, variables: Variables, sums: Arrays, factors: tuple[float, float], rate: float
    ) -> Variables:
        """Return the variables after each rank has updated its slice, of which it has the sums.

        In a step that is compared, it updates some rows of the next rank too, whose sums and state it gets.
        """
        ranks, arrays = self.context.ranks, (variables.parameters, variables.statistics)
        more = []
        if self.optimizer.clips:
            more = [ranks.spread(sums, *self._shapes, "sums")[: sum(map(len, variables.parameters))]]
        own = Variables(*take_rows(arrays, self._rows), variables.optimizer)
        some = self._choose_rows([range(len(rows)) for rows in self._rows if rows])
        if self._own is not None:
            given = leaves([take_rows(sums, some), take_state(own.optimizer, some)])
            numbers, sizes = ranks.gather_numbers(given, self.context.float_type)
            part = take_rows(arrays, self._choose_rows(self._slices[self._next]))
            like = [*leaves(part)], self.optimizer.init(part[0])
            hosts = fill(like, split(numbers, sizes)[self._next])
            their_sums, state = tree_map(self.context.backend.put, hosts)
            theirs = self._apply_update(Variables(*part, state), their_sums, factors, rate, *more)
            self._following.append(self._digest(leaves(theirs)))
        own = self._update(own, sums, factors, rate, *more)
        if self._own is not None:
            updated = take_rows(own[:2], some), take_state(own.optimizer, some)
            self._own.append(self._digest(leaves(updated)))
            self._comparisons += 1
        whole = iter(ranks.spread([*leaves(own[:2])], *self._shapes))
        return Variables(*tree_map(lambda _: next(whole), arrays), own.optimizer)

    def _choose_rows(self, rows: Rows) -> Rows:
        """Return the rows to compare: of few all, of many others in the next comparison."""
        first = self._comparisons % FEW_ROWS
        return [own[first::FEW_ROWS] if len(own) > FEW_ROWS else own for own in rows]

    def _digest(self, arrays: Iterable[Array]) -> str:
        """Return the SHA-256 of the bits of arrays, but for the signs of zeros."""
        to_host = self.context.backend.to_host
        return hashlib.sha256(b"".join((to_host(array) + 0.0).tobytes() for array in arrays)).hexdigest()

    def _sample_terms(self, parameters: L.Parameters, block: SampleBlock) -> tuple[Terms, Arrays]:
        """Return the terms of each layer's gradients, the inputs without their factor, and their maxima."""
        terms = block_sums(replace(self.context, ops=self._ops), parameters, block)
        layers = zip(terms[::2], terms[1::2], strict=True)
        maxima = [largest for a, dz in layers for largest in self._ops.sample_maxima(dz, a)]
        return [x.values if isinstance(x, Operand) else x for x in terms], maxima

    def _sum_terms(self, samples: int, pixels: bool, maxima: Arrays, terms: Terms) -> Arrays:  # noqa: FBT001
        """Return the `partial_gradients` of each layer, without negative zeros."""
        largest, inputs = iter(maxima), Operand(terms[0], integer=True) if pixels else terms[0]
        layers = zip([inputs, *terms[2::2]], terms[1::2], strict=True)
        return [x + 0.0 for a, dz in layers for x in self._ops.partial_gradients(dz, a, samples, largest)]


def fill(like: Tree, numbers: HostArray) -> Tree:
    """Return a tree of arrays of the shapes of others that has these numbers, one after the other."""
    parts = iter(split(numbers, (math.prod(array.shape) for array in leaves(like))))
    return tree_map(lambda array: next(parts).reshape(array.shape), like)


def take_state(state: Any, rows: Rows) -> Any:
    """Return the rows of an optimiser's state."""
    return map_layers(partial(take_rows, rows=rows), state)
