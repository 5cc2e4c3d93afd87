"""One training step: mean gradients as a sum over the blocks of a batch, and the update."""

from collections.abc import Sequence
from itertools import chain

from xpnet._typing import Array
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, add, block_chunks, tree_sum, unstack
from xpnet.inference.context import ComputeContext
from xpnet.nn.dropout import Masks, dropout_scale
from xpnet.nn.layers import (
    BatchMoments,
    Parameters,
    RunningStatistics,
    mean_and_variance_factors,
    update_running_statistics,
)
from xpnet.nn.network import gradients_and_moments, prepare
from xpnet.nn.optim import Optimizer, OptimizerState
from xpnet.training.batches import NO_MASKS, Batch, Block, gather_rows
from xpnet.training.state import Variables


class Step:
    """A training step: from variables and a batch to new variables.

    A sum over the samples of a batch is a sum over its blocks in a fixed tree (``arithmetic.blocks``); a
    batch of one block is a tree with one leaf.

    Parameters
    ----------
    context
        Arithmetic, inputs and compiler.
    optimizer
        Updates the parameters.
    """

    def __init__(self, context: ComputeContext, optimizer: Optimizer[OptimizerState]) -> None:
        self.context, self.optimizer = context, optimizer
        self._input_scale = dropout_scale(context.network.input_dropout)
        self._block_sums = context.compile(self.block_sums)
        self._add = context.compile(add)
        self._update = context.compile(self._apply_update, donated=(0,))
        whole = context.whole_steps
        self._whole = context.compile(self._step_block, donated=(0,)) if whole else None

    def __call__(self, variables: Variables, batch: Batch, learning_rate: float) -> Variables:
        """Return the variables after a step; the memory of those before may be used for them."""
        if self._whole is not None and batch.size <= BLOCK_SIZE:
            block = batch.block(Group(0, batch.size, 1))
            return self._whole(variables, *block, learning_rate)
        sums = self._sums(variables.parameters, batch)
        return self._update(variables, sums, *mean_and_variance_factors(batch.size), learning_rate)

    def gradients(self, parameters: Parameters, batch: Batch) -> Parameters:
        """Return the gradients of the mean loss of a batch with respect to all parameters."""
        return _split(parameters, (), self._sums(parameters, batch), 1.0 / batch.size)[0]

    def block_sums(
        self,
        parameters: Parameters,
        x: Array,
        labels: Array,
        indices: Array | None = None,
        masks: Masks = NO_MASKS,
    ) -> list[Array]:
        """Return the sums over the samples of a block, flat: gradients, then the moments of batch norm."""
        ops, network = self.context.ops, self.context.network
        samples = gather_rows(ops, Block(x, labels, indices))
        layers = prepare(ops, parameters)
        inputs = self.context.inputs(samples.x, masks.inputs, self._input_scale)
        gradients, moments = gradients_and_moments(
            ops, layers, inputs, samples.labels, network, masks=masks.hidden
        )
        return [array for part in (*gradients, *moments) for array in part]

    def _sums(self, parameters: Parameters, batch: Batch) -> list[Array]:
        """Return the sums over a batch, added up in the tree of its blocks."""

        def of_group(group: Group) -> list[list[Array]]:
            return unstack(group, self._block_sums(parameters, *batch.block(group)))

        def of_chunk(groups: list[Group]) -> list[Array]:
            return tree_sum(chain.from_iterable(map(of_group, groups)), self._add)

        chunks = block_chunks(batch.size, self.context.stack)
        return tree_sum(self.context.map_blocks(of_chunk, chunks), self._add)

    def _step_block(
        self,
        variables: Variables,
        x: Array,
        labels: Array,
        indices: Array | None,
        masks: Masks,
        learning_rate: float,
    ) -> Variables:
        """Return the variables after a batch of one block."""
        sums = self.block_sums(variables.parameters, x, labels, indices, masks)
        size = int((labels if indices is None else indices).shape[0])
        return self._apply_update(variables, sums, *mean_and_variance_factors(size), learning_rate)

    def _apply_update(
        self,
        variables: Variables,
        sums: list[Array],
        share: float,
        variance_share: float,
        learning_rate: float,
    ) -> Variables:
        means, of_norms = _split(variables.parameters, variables.statistics, sums, share)
        running = [
            update_running_statistics(old, new, share, variance_share)
            for old, new in zip(variables.statistics, of_norms, strict=True)
        ]
        parameters, optimizer = self.optimizer.update(
            means, variables.optimizer, variables.parameters, learning_rate
        )
        return Variables(parameters, running, optimizer)


def _split(
    parameters: Parameters, statistics: Sequence[RunningStatistics], sums: list[Array], share: float
) -> tuple[Parameters, list[BatchMoments]]:
    """Return mean gradients, and the sums of each batch normalisation, from the flat list of `block_sums`."""
    arrays = iter(sums)
    means = [type(layer)(*(next(arrays) * share for _ in layer)) for layer in parameters]
    return means, [BatchMoments(next(arrays), next(arrays)) for _ in statistics]
