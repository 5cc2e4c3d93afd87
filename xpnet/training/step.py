"""One training step: mean gradients as a sum over the blocks of a batch, and the update."""

from functools import partial
from itertools import chain
from typing import cast

from xpnet._typing import Array, Function
from xpnet.arithmetic.base import Operand
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, add, tree_sum, unstack
from xpnet.inference.context import ComputeContext
from xpnet.nn.dropout import Masks, dropout_scale, noise_scale
from xpnet.nn.layers import (
    BatchMoments,
    BatchNorm,
    Parameters,
    SampleTerms,
    keep_terms,
    mean_and_variance_factors,
    update_running_statistics,
)
from xpnet.nn.network import gradients_and_moments, prepare
from xpnet.nn.optim import Optimizer, OptimizerState
from xpnet.training.batches import NO_MASKS, Batch, Block, gather_rows
from xpnet.training.state import Variables


def list_shapes(parameters: Parameters) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of `Step.block_sums`: those of the parameters, then two for each batch norm."""
    gradients = [array.shape for layer in parameters for array in layer]
    moments = [layer.gamma.shape for layer in parameters if isinstance(layer, BatchNorm) for _ in range(2)]
    return (*gradients, *moments)


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
        self._noise_scale = noise_scale(context.network.input_noise)
        self._compiled_block_sums = context.compile(self.block_sums)
        self._compiled_add = context.compile(add)
        self._compiled_update = context.compile(self._apply_update, donated=(0,))
        self._compiled_step = context.compile(self._step_block, donated=(0,))
        self._compiled_steps = context.compile_steps(self._step_block)
        self._compiled_terms = context.compile(self._sample_terms, transient=True)
        self._compiled_part_sums: dict[tuple[int, bool], Function] = {}  # by size of the batch and pixels
        self._compiled_shared_update = context.compile(self._apply_shared_update, donated=(0,))

    def __call__(self, variables: Variables, batch: Batch, *learning_rates: float) -> Variables:
        """Return the variables after each step of a batch, which may reuse the memory of those before it."""
        if batch.steps > 1:
            x, labels, weights, indices, masks = block = batch.block(Group(0, batch.size, 1))
            if self._compiled_steps is not None:
                return cast("Variables", self._compiled_steps(variables, *block, learning_rates))
            rows = self.context.ops.xp.asarray(indices, device=self.context.ops.device)
            for number, rate in enumerate(learning_rates):
                variables = self._compiled_step(variables, x, labels, weights, rows[number, ...], masks, rate)
            return variables
        (learning_rate,) = learning_rates
        # A batch of one block needs no tree: gradients and update are compiled as one function, because
        # starting two takes a large part of a small step's time.
        if batch.size <= BLOCK_SIZE:
            start, stop = self.context.share(batch.size)
            block = batch.block(Group(start, stop, 1))
            if stop - start < batch.size:
                return self._shared_step(variables, block, batch.size, learning_rate)
            return self._compiled_step(variables, *block, learning_rate)
        sums = self._batch_sums(variables.parameters, batch)
        return self._compiled_update(variables, sums, *mean_and_variance_factors(batch.size), learning_rate)

    def block_sums(
        self,
        parameters: Parameters,
        x: Array,
        labels: Array,
        weights: Array | None = None,
        indices: Array | None = None,
        masks: Masks = NO_MASKS,
    ) -> list[Array]:
        """Return sums over the samples of a block, in a flat list: gradients, then batch-norm moments."""
        ops, network = self.context.ops, self.context.network
        samples = gather_rows(ops, Block(x, labels, weights, indices))
        layers = prepare(ops, parameters)
        inputs = self._make_inputs(samples.x, masks)
        gradients, moments = gradients_and_moments(
            ops, layers, inputs, samples.labels, network, masks=masks.hidden, weights=samples.weights
        )
        return [array for part in (*gradients, *moments) for array in part]

    def _make_inputs(self, rows: Array, masks: Masks) -> Array | Operand:
        """Return the inputs of raw rows, with dropout and noise."""
        return self.context.inputs(rows, masks.inputs, self._input_scale, masks.noise, self._noise_scale)

    def _batch_sums(self, parameters: Parameters, batch: Batch) -> list[Array]:
        """Return `block_sums` over a batch, added up in the tree of its blocks."""

        def group_sums(group: Group) -> list[list[Array]]:
            return unstack(group, self._compiled_block_sums(parameters, *batch.block(group)))

        def chunk_sum(groups: list[Group]) -> list[Array]:
            return tree_sum(chain.from_iterable(map(group_sums, groups)), self._compiled_add)

        ranks, map_blocks = self.context.ranks, self.context.map_blocks
        nodes = ranks.chunks(batch.size, self.context.stack)
        sums = [tree_sum(map_blocks(chunk_sum, chunks), self._compiled_add) for chunks in nodes]
        return ranks.finish(sums, batch.size, list_shapes(parameters), self.context.float_type)

    def _shared_step(self, variables: Variables, block: Block, size: int, learning_rate: float) -> Variables:
        """Return the variables after a batch of one block, of which each process has some samples.

        In a block, sums are exact once all processes round by the same maxima: MPI may add them up in any
        order.
        """
        reduce, factor = self.context.ranks.reduce, self.context.inputs.factor
        if block.x.dtype != self.context.ops.xp.uint8 or block.masks.noise is not None:
            factor = None  # else the inputs are pixels, integers times the factor
        first, terms, maxima = self._compiled_terms(variables.parameters, *block)
        maxima = reduce(maxima, "MAX") if maxima else maxima
        key = size, factor is not None
        if key not in self._compiled_part_sums:
            part_sums = partial(self._part_sums, samples=size, pixels=factor is not None)
            self._compiled_part_sums[key] = self.context.compile(part_sums, transient=True)
        sums = reduce(self._compiled_part_sums[key](maxima, first, terms), "SUM")
        input_factor = 1.0 if factor is None else factor * self._input_scale
        factors = input_factor, *mean_and_variance_factors(size), learning_rate
        return self._compiled_shared_update(variables, sums, *factors)

    def _sample_terms(
        self,
        parameters: Parameters,
        x: Array,
        labels: Array,
        weights: Array | None,
        indices: Array | None,
        masks: Masks,
    ) -> tuple[Array, list[SampleTerms], list[Array]]:
        """Return the inputs without their factor, the terms of each layer's gradients, and their maxima."""
        ops, network = self.context.ops, self.context.network
        samples = gather_rows(ops, Block(x, labels, weights, indices))
        layers = prepare(ops, parameters)
        inputs = self._make_inputs(samples.x, masks)
        terms: list[SampleTerms]
        terms, _ = gradients_and_moments(
            ops,
            layers,
            inputs,
            samples.labels,
            network,
            masks=masks.hidden,
            weights=samples.weights,
            linear_backward=keep_terms,
        )
        maxima = [largest for a, dz in terms for largest in ops.sample_maxima(dz, a)]
        values = inputs.values if isinstance(inputs, Operand) else inputs
        return values, [terms[0]._replace(a=values), *terms[1:]], maxima

    def _part_sums(
        self, maxima: list[Array], first: Array, terms: list[SampleTerms], *, samples: int, pixels: bool
    ) -> list[Array]:
        """Return each layer's `Arithmetic.partial_gradients`."""
        ops, largest = self.context.ops, iter(maxima)
        inputs = Operand(first, integer=True) if pixels else first
        sums: list[Array] = []
        for a, dz in [terms[0]._replace(a=inputs), *terms[1:]]:
            sums += ops.partial_gradients(dz, a, samples, largest)
        return sums

    def _apply_shared_update(
        self, variables: Variables, sums: list[Array], input_factor: float, *factors: float
    ) -> Variables:
        first, *others = sums
        return self._apply_update(
            variables, [first * input_factor + 0.0, *(x + 0.0 for x in others)], *factors
        )

    def _step_block(
        self,
        variables: Variables,
        x: Array,
        labels: Array,
        weights: Array | None,
        indices: Array | None,
        masks: Masks,
        learning_rate: float,
    ) -> Variables:
        """Return the variables after a batch of one block."""
        sums = self.block_sums(variables.parameters, x, labels, weights, indices, masks)
        size = int((labels if indices is None else indices).shape[0])
        return self._apply_update(variables, sums, *mean_and_variance_factors(size), learning_rate)

    def _apply_update(
        self,
        variables: Variables,
        sums: list[Array],
        mean_factor: float,
        variance_factor: float,
        learning_rate: float,
    ) -> Variables:
        parameters, statistics, state = variables
        arrays = iter(sums)  # in the order of `block_sums`
        gradients = [type(layer)(*(next(arrays) * mean_factor for _ in layer)) for layer in parameters]
        moments = [BatchMoments(next(arrays), next(arrays)) for _ in statistics]
        statistics = [
            update_running_statistics(old, new, mean_factor, variance_factor)
            for old, new in zip(statistics, moments, strict=True)
        ]
        parameters, state = self.optimizer.update(gradients, state, parameters, learning_rate)
        return Variables(parameters, statistics, state)
