"""The state of a training, and its step: sums over the blocks of a batch, and the update."""

import hashlib
from collections.abc import Iterable
from functools import cache, partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from xpnet._lib.tree import leaves
from xpnet._typing import Array, Function
from xpnet.arithmetic.base import Operand
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, add, tree_sum, unstack
from xpnet.compute.context import ComputeContext
from xpnet.distributed.comparison import Schedule, compare
from xpnet.distributed.ranks import ALONE
from xpnet.nn import layers as L
from xpnet.nn.dropout import dropout_scale
from xpnet.nn.network import gradients_and_moments
from xpnet.nn.optim import Optimizer, OptimizerState
from xpnet.training.batches import Batch, Block, gather_rows

Terms: TypeAlias = list[L.SampleTerms]
"""Of each layer."""


class Variables(NamedTuple):
    """The variables that a step changes, a pytree."""

    parameters: L.Parameters
    statistics: list[L.RunningStatistics]  # of each batch normalisation
    optimizer: OptimizerState


class TrainState(NamedTuple):
    """The state of a training run."""

    variables: Variables
    epoch: int = 0  # epochs completed
    batch: int = 0  # steps taken in the next epoch


class Step:
    """A training step: from variables and a batch to new variables.

    A batch is a tree of blocks, in which the sums over their samples are added (``arithmetic.blocks``). Of a
    tree with one leaf, gradients and update are one compiled function, because starting two takes a large
    part of a small step's time; and a library may take several such steps in one call.

    Parameters
    ----------
    context
        Arithmetic, inputs and compiler.
    optimizer
        Updates the parameters.
    """

    def __init__(self, context: ComputeContext, optimizer: Optimizer) -> None:
        self.context, self.optimizer = context, optimizer
        compile_ = context.compile
        self._block_sums, self._add = compile_(self.block_sums), compile_(add)
        self._update = compile_(self._apply_update, donated=True)
        self._step = compile_(self._step_block, donated=True)
        self._steps = context.backend.compile_steps(self._step_block, self._step, exact=context.is_exact)
        self._terms = compile_(self._sample_terms, transient=True)
        self._part_sums = cache(self._compile_part_sums)
        self._shared_update = compile_(self._apply_shared_update, donated=True)
        self._schedule = Schedule(context.ranks if context.is_exact else ALONE)

    def __call__(self, variables: Variables, batch: Batch, *learning_rates: float) -> Variables:
        """Return the variables after each step of a batch, which may reuse the memory of those before it."""
        if batch.size > BLOCK_SIZE:
            sums = self._batch_sums(variables.parameters, batch)
            return self._update(variables, sums, L.mean_and_variance_factors(batch.size), *learning_rates)
        start, stop = self.context.share(batch.size)
        block = batch.block(Group(start, stop, 1))
        if stop - start < batch.size:
            return self._shared_step(variables, batch, block, *learning_rates)
        if batch.steps == 1:
            variables = self._step(variables, block, *learning_rates)
        else:
            variables = self._steps(variables, block, learning_rates)
        if self._schedule.is_due(batch.steps):  # of results that every rank has computed
            digest = self._digest(leaves(variables.parameters))
            compare(self.context.ranks, range(self.context.ranks.size), digest, digest)
        return variables

    def block_sums(self, parameters: L.Parameters, block: Block) -> list[Array]:
        """Return sums over the samples of a block, in a flat list: gradients, then batch-norm moments."""
        gradients, moments, _ = self._differentiate(parameters, block)
        return [array for part in (*gradients, *moments) for array in part]

    def _differentiate(
        self, parameters: L.Parameters, block: Block, linear_backward: Function = L.linear_backward
    ) -> tuple[list[Any], list[L.BatchMoments], Array | Operand]:
        """Return gradients and moments as `gradients_and_moments` does, and the inputs."""
        ops, network, masks = self.context.ops, self.context.network, block.masks
        x, labels, weights = gather_rows(ops, block)
        inputs = self.context.inputs(x, masks, network)
        options: Any = {"masks": masks.hidden, "weights": weights, "linear_backward": linear_backward}
        return *gradients_and_moments(ops, parameters, inputs, labels, network, **options), inputs

    def _batch_sums(self, parameters: L.Parameters, batch: Batch) -> list[Array]:
        """Return `block_sums` over a batch, added up in the tree of its blocks."""
        ranks, sums = self.context.ranks, list[list[Array]]()
        shares = ranks.shares(batch.size)
        is_due = self._schedule.is_due(min(len(share) for share in shares if share))
        first = {rank: share.start * BLOCK_SIZE for rank, share in enumerate(shares) if share}
        digests = [""]

        def chunk_sum(groups: list[Group]) -> list[Array]:
            sums = list[list[Array]]()
            for group in groups:
                sums += unstack(group, self._block_sums(parameters, batch.block(group)))
            if is_due and groups[0].start == first[ranks.rank]:
                digests[0] = self._digest(sums[0])
            return tree_sum(sums, self._add)

        for chunks in ranks.chunks(batch.size, self.context.stack):
            total = tree_sum(self.context.backend.map_blocks(chunk_sum, chunks), self._add)
            sums.append(total)  # of a node of the tree
        if is_due:
            start = next((first[rank] for rank in first if rank > ranks.rank), 0)  # of the next rank
            block = batch.block(Group(start, min(start + BLOCK_SIZE, batch.size), 1))
            following = self._digest(self._block_sums(parameters, block)) if ranks.rank in first else ""
            compare(ranks, [*first], digests[0], following)
        shapes = [array.shape for layer in parameters for array in layer]
        norms = [layer for layer in parameters if isinstance(layer, L.BatchNorm)]
        shapes += [norm.gamma.shape for norm in norms for _ in L.BatchMoments._fields]
        return ranks.finish(sums, batch.size, tuple(shapes), self.context.float_type)

    def _shared_step(
        self, variables: Variables, batch: Batch, block: Block, learning_rate: float
    ) -> Variables:
        """Return the variables after a batch of one block, of which each process has some samples.

        In a block, sums are exact once all processes round by the same maxima: MPI may add them up in any
        order.
        """
        ranks, factor, size = self.context.ranks, self.context.inputs.factor, batch.size
        if block.x.dtype != self.context.ops.xp.uint8 or block.masks.noise is not None:
            factor = None  # else the inputs are pixels, integers times the factor
        shares = [self.context.share(size, rank % ranks.size) for rank in (ranks.rank, ranks.rank + 1)]
        add_up, add_next = (self._part_sums(size, factor is not None, stop - start) for start, stop in shares)
        terms, largest = self._terms(variables.parameters, block)
        maxima = ranks.reduce(largest, "MAX") if largest else largest
        parts = add_up(maxima, terms)
        is_due = self._schedule.is_due(1)
        digest = self._digest([*largest, *parts]) if is_due else ""
        sums = ranks.reduce(parts, "SUM")
        if is_due:
            terms, largest = self._terms(variables.parameters, batch.block(Group(*shares[1], 1)))
            following = self._digest([*largest, *add_next(maxima, terms)])
            compare(ranks, range(ranks.size), digest, following)
        scale = dropout_scale(self.context.network.input_dropout)
        factor = 1.0 if factor is None else factor * scale
        return self._shared_update(variables, sums, factor, L.mean_and_variance_factors(size), learning_rate)

    def _digest(self, arrays: Iterable[Array]) -> str:
        """Return the SHA-256 of the bits of arrays, but for the signs of zeros."""
        to_host = self.context.backend.to_host
        return hashlib.sha256(b"".join((to_host(array) + 0.0).tobytes() for array in arrays)).hexdigest()

    def _sample_terms(self, parameters: L.Parameters, block: Block) -> tuple[Terms, list[Array]]:
        """Return the terms of each layer's gradients, the inputs without their factor, and their maxima."""
        terms, _, inputs = self._differentiate(parameters, block, L.keep_terms)
        maxima = [largest for a, dz in terms for largest in self.context.ops.sample_maxima(dz, a)]
        values = inputs.values if isinstance(inputs, Operand) else inputs
        return [terms[0]._replace(a=values), *terms[1:]], maxima

    def _compile_part_sums(self, samples: int, pixels: bool, share: int) -> Function:  # noqa: ARG002, FBT001
        """Return the compiled `_sum_terms` of batches of a size, and of a process with so many samples."""
        return self.context.compile(partial(self._sum_terms, samples=samples, pixels=pixels), transient=True)

    def _sum_terms(self, maxima: list[Array], terms: Terms, *, samples: int, pixels: bool) -> list[Array]:
        """Return each layer's `Arithmetic.partial_gradients`."""
        largest = iter(maxima)
        if pixels:
            terms = [terms[0]._replace(a=Operand(terms[0].a, integer=True)), *terms[1:]]
        sums = (self.context.ops.partial_gradients(dz, a, samples, largest) for a, dz in terms)
        return list(chain.from_iterable(sums))

    def _apply_shared_update(self, variables: Variables, sums: list[Array], *factors: Any) -> Variables:
        """Do as `_apply_update`; the first factor is that of the inputs."""
        sums = [sums[0] * factors[0], *sums[1:]]
        return self._apply_update(variables, [x + 0.0 for x in sums], *factors[1:])

    def _step_block(self, variables: Variables, block: Block, learning_rate: float) -> Variables:
        """Return the variables after a batch of one block."""
        sums = self.block_sums(variables.parameters, block)
        size = int((block.labels if block.indices is None else block.indices).shape[0])
        return self._apply_update(variables, sums, L.mean_and_variance_factors(size), learning_rate)

    def _apply_update(
        self, variables: Variables, sums: list[Array], factors: tuple[float, float], learning_rate: float
    ) -> Variables:
        """Return the variables after a batch, given its `block_sums` and `mean_and_variance_factors`."""
        parameters, statistics, state = variables
        arrays = iter(sums)  # in the order of `block_sums`
        gradients = [type(layer)(*(next(arrays) * factors[0] for _ in layer)) for layer in parameters]
        moments = [L.BatchMoments(next(arrays), next(arrays)) for _ in statistics]
        pairs = zip(statistics, moments, strict=True)
        statistics = [L.update_running_statistics(*pair, *factors) for pair in pairs]
        parameters, state = self.optimizer.update(gradients, state, parameters, learning_rate)
        return Variables(parameters, statistics, state)
