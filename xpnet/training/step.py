"""The training step: sums over the blocks of a batch, and the update."""

from functools import partial
from typing import Any, NamedTuple, cast

from xpnet._lib.tree import tree_map
from xpnet._typing import Arrays
from xpnet.arithmetic.blocks import (
    BLOCK_SIZE,
    Group,
    add,
    block_chunks,
    block_groups,
    fold_stack,
    tree_sum,
    unstack,
)
from xpnet.compute.context import ComputeContext
from xpnet.nn import layers as L
from xpnet.nn.network import gradients_and_moments
from xpnet.nn.optim import Optimizer, OptimizerState
from xpnet.training.batches import Batch, SampleBlock, gather_rows


class Variables(NamedTuple):
    """The variables that a step changes, a pytree."""

    parameters: L.Parameters
    statistics: list[L.RunningStatistics]  # of each batch normalisation
    optimizer: OptimizerState


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
        self._block_sums, self._add = compile_(partial(block_sums, context)), compile_(add)
        self._update = compile_(self._apply_update, donated=True)
        self._step = compile_(self._step_block, donated=True)
        self._batch_step = compile_(self._step_batch, donated=True)
        self._steps = context.backend.compile_steps(self._step_block, self._step, exact=context.is_exact)

    def own(self, variables: Variables) -> Variables:
        """Return variables with the part of the optimiser's state that this process keeps."""
        return variables

    def to_host(self, variables: Variables, *, keep: bool = True) -> Variables:  # noqa: ARG002
        """Return copies on the host, with the optimiser's state of all ranks, unless none need `keep` it.

        All ranks must call this: the next step may reuse the memory of the arrays.
        """
        return tree_map(lambda array: self.context.backend.to_host(array).copy(), variables)

    def __call__(self, variables: Variables, batch: Batch, *learning_rates: float) -> Variables:
        """Return the variables after each step of a batch, which may reuse the memory of those before it."""
        if batch.size > BLOCK_SIZE:
            factors = L.mean_and_variance_factors(batch.size)
            groups = block_groups(batch.size, self.context.stack)
            if self.context.backend.takes_batches and len(groups) <= 2:
                return self._batch_step(variables, factors, learning_rates[0], *map(batch.block, groups))
            chunks = block_chunks(batch.size, self.context.stack)
            sums = self._sum_chunks(variables.parameters, batch, chunks)
            return self._update(variables, sums, factors, *learning_rates)
        block = batch.block(Group(0, batch.size, 1))
        if batch.steps == 1:
            return self._step(variables, block, *learning_rates)
        return cast("Variables", self._steps(variables, block, learning_rates))

    def _sum_chunks(self, parameters: L.Parameters, batch: Batch, chunks: list[list[Group]]) -> Arrays:
        """Return `block_sums` over the blocks of chunks, each of which is a subtree."""

        def chunk_sum(groups: list[Group]) -> Arrays:
            sums = list[Arrays]()
            for group in groups:
                sums += self._group_sums(parameters, batch, group)
            return tree_sum(sums, self._add)

        return tree_sum(self.context.backend.pool.map(chunk_sum, chunks), self._add)

    def _group_sums(self, parameters: L.Parameters, batch: Batch, group: Group) -> list[Arrays]:
        """Return `block_sums` of each block of a group."""
        return unstack(group, self._block_sums(parameters, batch.block(group)))

    def _step_block(self, variables: Variables, block: SampleBlock, learning_rate: float) -> Variables:
        """Return the variables after a batch of one block."""
        sums = block_sums(self.context, variables.parameters, block)
        size = int((block.labels if block.indices is None else block.indices).shape[0])
        return self._apply_update(variables, sums, L.mean_and_variance_factors(size), learning_rate)

    def _step_batch(
        self, variables: Variables, factors: tuple[float, float], rate: float, *stacks: SampleBlock
    ) -> Variables:
        """Return the variables after a batch, given `mean_and_variance_factors` and its stacks of blocks."""
        nodes = list[tuple[int, Arrays]]()
        for stack in stacks:
            sums = block_sums(self.context, variables.parameters, stack)
            shape = stack.labels.shape
            nodes += fold_stack(sums, int(shape[0])) if len(shape) > 1 else [(1, sums)]
        counts, terms = zip(*nodes, strict=True)
        return self._apply_update(variables, tree_sum(terms, add, counts), factors, rate)

    def _apply_update(
        self, variables: Variables, sums: Arrays, factors: tuple[float, float], rate: float, *more: Any
    ) -> Variables:
        """Return the variables after a batch, given its `block_sums` and `mean_and_variance_factors`.

        They may be those of some rows; to clip them, the sums of all gradients are given besides.
        """
        parameters, statistics, state = variables
        arrays = iter(sums)  # in the order of `block_sums`
        gradients = tree_map(lambda _: next(arrays) * factors[0], parameters)
        moments = [L.BatchMoments(*tree_map(lambda _: next(arrays), running)) for running in statistics]
        pairs = zip(statistics, moments, strict=True)
        statistics = [L.update_running_statistics(*pair, factors) for pair in pairs]
        everything = ([array * factors[0] for array in arrays] for arrays in more)
        parameters, state = self.optimizer.update(gradients, state, parameters, rate, *everything)
        return Variables(parameters, statistics, state)


def block_sums(context: ComputeContext, parameters: L.Parameters, block: SampleBlock) -> Arrays:
    """Return sums over the samples of a block, in a flat list: gradients, then batch-norm moments."""
    ops, network = context.ops, context.network
    x, labels, weights = gather_rows(ops, block)
    inputs = context.inputs(x, block.masks, network)
    gradients, moments = gradients_and_moments(
        ops, parameters, inputs, labels, network, masks=block.masks.hidden, weights=weights
    )
    return [array for part in (*gradients, *moments) for array in part]
