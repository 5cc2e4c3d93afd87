"""One training step: mean gradients as a sum over the blocks of a batch, and the update."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from xpnet._typing import Array
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, add, block_chunks, tree_sum, unstack
from xpnet.inference.context import ComputeContext
from xpnet.nn.dropout import Masks, dropout_scale
from xpnet.nn.layers import Parameters, Statistics, Sums, shares, updated_statistics
from xpnet.nn.network import gradients_and_sums, prepare
from xpnet.nn.optim import Optimizer
from xpnet.training.batches import NO_MASKS, Batch, Block, rows
from xpnet.training.state import Variables


class Step:
    """How a batch changes the variables.

    A sum over the samples of a batch is a sum over its blocks in a fixed tree (``arithmetic.blocks``).

    Parameters
    ----------
    context
        What the network is computed with.
    optimizer
        Updates the parameters.

    """

    def __init__(self, context: ComputeContext, optimizer: Optimizer) -> None:
        self.context, self.optimizer = context, optimizer
        self._scale = dropout_scale(context.network.input_dropout)
        self._gradients: Callable[..., Any] = context.compile(self.block_gradients)
        self._add: Callable[..., Any] = context.compile(add)
        self._update: Callable[..., Any] = context.compile(self._apply, donated=(0,))
        # A batch of one block takes one call instead of two, which is most of a small step's time.
        self._both: Callable[..., Any] = context.compile(self._gradients_and_update, donated=(0,))

    def __call__(self, variables: Variables, batch: Batch, learning_rate: float) -> Variables:
        """Return the variables after a step; the memory of those before may be used for them."""
        if batch.size <= BLOCK_SIZE:
            block = batch.block(Group(0, batch.size, 1))
            after: Variables = self._both(variables, *block, learning_rate)
        else:
            sums = self._sums(variables.parameters, batch)
            after = self._update(variables, sums, *shares(batch.size), learning_rate)
        return after

    def gradients(self, parameters: Parameters, batch: Batch) -> Parameters:
        """Return the gradients of the mean loss of a batch with respect to all parameters."""
        return _split(parameters, (), self._sums(parameters, batch), 1.0 / batch.size)[0]

    def _sums(self, parameters: Parameters, batch: Batch) -> list[Array]:
        """Return the sums over a batch: gradients, and what batch normalisations add up, flat."""

        def of_group(group: Group) -> list[list[Array]]:
            return unstack(group, _flat(*self._gradients(parameters, *batch.block(group))))

        def of_chunk(groups: list[Group]) -> list[Array]:
            return tree_sum(chain.from_iterable(map(of_group, groups)), self._add)

        chunks = block_chunks(batch.size, self.context.stack)
        return tree_sum(self.context.map_blocks(of_chunk, chunks), self._add)

    def _gradients_and_update(
        self,
        variables: Variables,
        x: Array,
        labels: Array,
        indices: Array | None,
        masks: Masks,
        learning_rate: float,
    ) -> Variables:
        sums = _flat(*self.block_gradients(variables.parameters, x, labels, indices, masks))
        count = int((labels if indices is None else indices).shape[0])
        return self._apply(variables, sums, *shares(count), learning_rate)

    def block_gradients(
        self,
        parameters: Parameters,
        x: Array,
        labels: Array,
        indices: Array | None = None,
        masks: Masks = NO_MASKS,
    ) -> tuple[Parameters, list[Sums]]:
        """Return the gradients of a block's summed loss, and the sums of each batch normalisation."""
        ops, network = self.context.ops, self.context.network
        samples = rows(ops, Block(x, labels, indices))
        layers = prepare(ops, parameters)
        inputs = self.context.inputs(samples.x, masks.inputs, self._scale)
        return gradients_and_sums(ops, layers, inputs, samples.labels, network, masks=masks.hidden)

    def _apply(
        self,
        variables: Variables,
        sums: list[Array],
        share: float,
        variance_share: float,
        learning_rate: float,
    ) -> Variables:
        means, of_norms = _split(variables.parameters, variables.statistics, sums, share)
        running = [
            updated_statistics(old, new, share, variance_share)
            for old, new in zip(variables.statistics, of_norms, strict=True)
        ]
        parameters, optimizer = self.optimizer.update(
            means, variables.optimizer, variables.parameters, learning_rate
        )
        return Variables(parameters, running, optimizer)


def _flat(gradients: Parameters, sums: list[Sums]) -> list[Array]:
    return [array for part in (*gradients, *sums) for array in part]


def _split(
    parameters: Parameters, statistics: Sequence[Statistics], sums: list[Array], share: float
) -> tuple[Parameters, list[Sums]]:
    """Return mean gradients, and the sums of each batch normalisation: the inverse of ``_flat``."""
    arrays = iter(sums)
    means = [type(layer)(*(next(arrays) * share for _ in layer)) for layer in parameters]
    return means, [Sums(next(arrays), next(arrays)) for _ in statistics]
