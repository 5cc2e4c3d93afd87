"""The training loop: batches, steps, epochs. It knows no array library, no files and no command line."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from xpnet import functional as F
from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array, Compile, as_written
from xpnet.blocks import BLOCK_SIZE, Group, add, block_bounds, block_chunks, tree_sum, unstack
from xpnet.errors import DivergedError
from xpnet.feed import NO_MASKS, Block, Feed, Order, Samples, batches, rows
from xpnet.layers import Statistics, Sums, shares, updated_statistics
from xpnet.model import (
    NOTEBOOK,
    Masks,
    Network,
    Parameters,
    dropout_scale,
    forward,
    gradients_and_sums,
    prepare,
    sample_losses,
)
from xpnet.optim import Optimizer
from xpnet.schedules import Schedule

Inputs = Callable[..., Any]
"""(raw rows (..., m, features), mask of the inputs or None, its scale) -> operand (..., features, m)."""


@dataclass(frozen=True)
class Engine:
    """What the loop computes with."""

    ops: Arithmetic
    inputs: Inputs
    map_blocks: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
    stack: int = 1  # full blocks computed in one call, as matrices of a stack
    compile: Compile = as_written
    network: Network = NOTEBOOK

    @cached_property
    def block_sums(self) -> Callable[..., tuple[Parameters, list[Sums]]]:
        """The function from parameters and a block to the gradients of its summed loss.

        (parameters, raw rows, labels, masks) -> the gradients, and the sums of each batch normalisation.
        """
        scale = dropout_scale(self.network.input_dropout)

        def of_block(
            parameters: Parameters, x: Array, labels: Array, masks: Masks = NO_MASKS
        ) -> tuple[Parameters, list[Sums]]:
            layers, inputs = prepare(self.ops, parameters), self.inputs(x, masks.inputs, scale)
            return gradients_and_sums(
                self.ops, layers, inputs, labels, self.network, masks=masks.hidden
            )

        return self.compile(of_block)

    @cached_property
    def add(self) -> Callable[[list[Array], list[Array]], list[Array]]:
        """The function that adds what blocks give."""
        return self.compile(add)

    @cached_property
    def block_evaluation(self) -> Callable[..., tuple[Array, Array, Array]]:
        """The function from parameters, running statistics, raw rows and labels of a block.

        It returns their summed loss (..., 1, 1), how many predictions are right (..., 1), and the
        predictions, one after the other.
        """

        def of_block(
            parameters: Parameters, running: Sequence[Statistics], x: Array, labels: Array
        ) -> tuple[Array, Array, Array]:
            ops, layers = self.ops, prepare(self.ops, parameters)
            logits, _ = forward(ops, layers, self.inputs(x), self.network, running=running)
            loss = ops.sum(sample_losses(ops, logits, labels, self.network), axis=-1)
            predictions = F.predictions(ops, logits)
            right = F.correct(ops, predictions, labels)
            return loss, right, ops.xp.reshape(predictions, (-1,))

        return self.compile(of_block)


@dataclass(frozen=True)
class Evaluation:
    """What parameters give on samples."""

    loss: float  # the mean of what training minimises, without dropout
    accuracy: float  # share of right predictions
    predictions: Array  # (samples,), on the device


class TrainingState(NamedTuple):
    """All that training changes."""

    parameters: Parameters
    statistics: list[Statistics]  # the running ones of each batch normalisation
    optimizer: Any  # the optimiser's state
    epoch: int = 0  # how many are complete
    batch: int = 0  # steps taken in the next one


@dataclass(frozen=True)
class Fitted:
    """What training gave."""

    state: TrainingState
    interrupted: bool

    @property
    def parameters(self) -> Parameters:
        """The trained parameters."""
        return self.state.parameters

    @property
    def epochs(self) -> int:
        """How many were completed."""
        return self.state.epoch


def batch_gradients(
    engine: Engine, parameters: Parameters, samples: Samples, order: Array | None = None
) -> Parameters:
    """Return the gradients of the mean loss of a batch by all parameters.

    ``order`` (m,) holds the indices of the batch's samples; without it the batch is all samples. Sums
    over samples are sums over blocks (see ``xpnet.blocks``), multiplied by 1/m at the end.
    """
    count = samples.number if order is None else int(order.shape[0])

    def block(group: Group) -> Block:
        return Block(*rows(engine.ops, samples, group, order))

    sums = _batch_sums(engine, parameters, count, block)
    return _split(parameters, (), sums, 1.0 / count)[0]


def evaluate(
    engine: Engine,
    parameters: Parameters,
    samples: Samples,
    statistics: Sequence[Statistics] = (),
    order: Array | None = None,
) -> Evaluation:
    """Return loss, accuracy and predictions for all samples, or those with the indices in ``order``."""
    ops = engine.ops
    count = samples.number if order is None else int(order.shape[0])
    predicted = []

    def of_group(group: Group) -> tuple[list[list[Array]], Array]:
        x, labels = rows(ops, samples, group, order)
        loss, right, predictions = engine.block_evaluation(parameters, statistics, x, labels)
        # Counts are small whole numbers: their sums are exact.
        return unstack(group, [loss, right]), predictions

    def of_chunk(groups: list[Group]) -> tuple[list[Array], list[Array]]:
        terms, predictions = zip(*map(of_group, groups), strict=True)
        return tree_sum(chain.from_iterable(terms)), list(predictions)

    def sums() -> Iterator[list[Array]]:
        for terms, predictions in engine.map_blocks(of_chunk, block_chunks(count, engine.stack)):
            predicted.extend(predictions)
            yield terms

    loss, right = tree_sum(sums())
    return Evaluation(
        loss=_number(ops, loss) * (1.0 / count),
        accuracy=round(_number(ops, right)) / count,
        predictions=ops.xp.concat(predicted),
    )


def start(
    parameters: Parameters, statistics: list[Statistics], optimizer: Optimizer
) -> TrainingState:
    """Return the state before the first step."""
    # A copy, for a step may use the memory of what it is given.
    copies = [type(layer)(*(array * 1.0 for array in layer)) for layer in parameters]
    running = [type(each)(*(array * 1.0 for array in each)) for each in statistics]
    return TrainingState(copies, running, optimizer.init(copies))


def fit(
    engine: Engine,
    state: TrainingState,
    feed: Feed,
    optimizer: Optimizer,
    learning_rate: Schedule,
    *,
    epochs: int,
    batch_size: int | None,
    evaluation: Callable[[TrainingState], Evaluation],
    log_every: int = 10,
    on_epoch: Callable[[int, Evaluation | None, TrainingState], None] = lambda *_: None,
    on_step: Callable[[TrainingState], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train until a number of epochs is complete and return the last state.

    Parameters
    ----------
    state : where to begin: ``start(...)``, or what ``on_step`` or ``on_epoch`` were given
    learning_rate : the learning rate of each step, counted from 0
    batch_size : samples a step (the last batch of an epoch may be short); None for all of them
    evaluation : evaluates a state on the training samples, for ``on_epoch``
    on_epoch : called as ``on_epoch(epoch, evaluation, state)`` after each epoch, and with 0 before the
        first; the evaluation is that of the state after so many epochs, and is made at epoch 0, every
        ``log_every`` epochs and the last (else None). A state's arrays are valid during the call: copy
        them to keep them
    on_step : called after each step
    stop : asked before each step whether to end training there

    KeyboardInterrupt ends training with the state of the last complete step, too.

    Raises
    ------
    DivergedError
        If the loss of an epoch, or of an evaluation, is not finite.
    """
    size = batch_size or feed.number
    bounds = block_bounds(feed.number, size)
    step = _Step(engine, feed, optimizer, size)

    def report() -> None:
        epoch = state.epoch
        logged = epoch % log_every == 0 or epoch == epochs
        found = evaluation(state) if logged else None
        if found is not None:
            _check_finite(found.loss, epoch)
        on_epoch(epoch, found, state)

    try:
        if state.epoch == state.batch == 0:
            report()
        while state.epoch < epochs:
            # Batches of all samples keep the order of epoch 0, so that it is made once.
            order = feed.order(state.epoch + 1 if batch_size else 0)
            for advance in step.in_turn(order, state.epoch + 1, bounds[state.batch :]):
                if stop():
                    return Fitted(state, interrupted=True)
                rate = learning_rate(state.epoch * len(bounds) + state.batch)
                state = advance(state, rate)._replace(batch=state.batch + 1)
                on_step(state)
            state = state._replace(epoch=state.epoch + 1, batch=0)
            # NaN and infinities reach the last biases, which are few, with the step that makes them.
            last = engine.ops.xp.sum(state.parameters[-1].bias)
            _check_finite(_number(engine.ops, last), state.epoch)
            report()
    except KeyboardInterrupt:
        return Fitted(state, interrupted=True)
    return Fitted(state, interrupted=False)


Advance = Callable[[TrainingState, float], TrainingState]
"""(state, learning rate) -> the state after a step."""


class _Step:
    """How one batch changes the state, in the form that suits its size and what it is fed with."""

    def __init__(self, engine: Engine, feed: Feed, optimizer: Optimizer, size: int) -> None:
        self.engine, self.feed, self.optimizer = engine, feed, optimizer
        self.size, self.one_block = size, size <= BLOCK_SIZE
        self.cut = feed.cut(engine.ops, engine.stack) if size == feed.number else None
        compile_ = engine.compile
        self.of_indices = compile_(self._of_indices, donated=(0, 1, 2))
        self.of_block = compile_(self._of_block, donated=(0, 1, 2))
        self.of_sums = compile_(self._of_sums, donated=(0, 1, 2))

    def in_turn(self, order: Order, epoch: int, bounds: list[tuple[int, int]]) -> Iterator[Advance]:
        """Yield the step of each batch, which has these bounds in the order."""
        if not self.one_block:
            for bound in bounds:
                yield self._many_blocks(order, epoch, *bound)
        elif self.feed.as_they_are:
            chosen = batches(self.engine.ops, order.device, self.size)
            for indices in chosen[len(chosen) - len(bounds) :]:
                yield self._plain(indices)
        else:

            def fetched(bound: tuple[int, int]) -> Block:
                return self.feed.block(self.engine.ops, order, epoch, *bound)

            # Distorting images takes about as long as learning from them: the next batches meanwhile.
            ahead = self.engine.map_blocks if self.feed.augment else map
            for block in ahead(fetched, bounds):
                yield self._fed(block)

    def _plain(self, indices: Array) -> Advance:
        return lambda state, rate: state._replace(
            **_changed(self.of_indices(*state[:3], self.feed.samples, indices, rate))
        )

    def _fed(self, block: Block) -> Advance:
        return lambda state, rate: state._replace(
            **_changed(self.of_block(*state[:3], *block, rate))
        )

    def _many_blocks(self, order: Order, epoch: int, begin: int, end: int) -> Advance:
        ops, count = self.engine.ops, end - begin

        def block(group: Group) -> Block:
            if self.cut is not None:
                return self.cut[group]
            return self.feed.block(
                ops, order, epoch, begin + group.start, begin + group.stop, group.blocks
            )

        def advance(state: TrainingState, rate: float) -> TrainingState:
            sums = _batch_sums(self.engine, state.parameters, count, block)
            return state._replace(**_changed(self.of_sums(*state[:3], sums, *shares(count), rate)))

        return advance

    def _of_indices(
        self,
        parameters: Parameters,
        statistics: list[Statistics],
        optimizer: Any,
        samples: Samples,
        indices: Array,
        rate: float,
    ) -> tuple[Parameters, list[Statistics], Any]:
        x, labels = (self.engine.ops.xp.take(array, indices, axis=0) for array in samples)
        return self._of_block(parameters, statistics, optimizer, x, labels, NO_MASKS, rate)

    def _of_block(
        self,
        parameters: Parameters,
        statistics: list[Statistics],
        optimizer: Any,
        x: Array,
        labels: Array,
        masks: Masks,
        rate: float,
    ) -> tuple[Parameters, list[Statistics], Any]:
        found, sums = self.engine.block_sums(parameters, x, labels, masks)
        flat, count = _flat(found, sums), int(labels.shape[0])
        return self._of_sums(parameters, statistics, optimizer, flat, *shares(count), rate)

    def _of_sums(
        self,
        parameters: Parameters,
        statistics: list[Statistics],
        optimizer: Any,
        sums: list[Array],
        share: float,
        variance_share: float,
        rate: float,
    ) -> tuple[Parameters, list[Statistics], Any]:
        means, of_norms = _split(parameters, statistics, sums, share)
        running = [
            updated_statistics(old, new, share, variance_share)
            for old, new in zip(statistics, of_norms, strict=True)
        ]
        stepped, optimizer = self.optimizer.update(means, optimizer, parameters, rate)
        return stepped, running, optimizer


def _changed(found: tuple[Parameters, list[Statistics], Any]) -> dict[str, Any]:
    return dict(zip(TrainingState._fields, found, strict=False))


def _batch_sums(
    engine: Engine, parameters: Parameters, count: int, block: Callable[[Group], Block]
) -> list[Array]:
    """Return what the blocks of a batch of ``count`` samples give, flat, summed."""

    def of_group(group: Group) -> list[list[Array]]:
        return unstack(group, _flat(*engine.block_sums(parameters, *block(group))))

    def of_chunk(groups: list[Group]) -> list[Array]:
        return tree_sum(chain.from_iterable(map(of_group, groups)), engine.add)

    chunks = block_chunks(count, engine.stack)
    return tree_sum(engine.map_blocks(of_chunk, chunks), engine.add)


def _flat(found: Parameters, sums: list[Sums]) -> list[Array]:
    return [array for part in (*found, *sums) for array in part]


def _split(
    parameters: Parameters, statistics: Sequence[Statistics], sums: list[Array], share: float
) -> tuple[Parameters, list[Sums]]:
    """Return mean gradients, and the sums of each batch normalisation: the inverse of ``_flat``."""
    arrays = iter(sums)
    means = [type(layer)(*(next(arrays) * share for _ in layer)) for layer in parameters]
    return means, [Sums(next(arrays), next(arrays)) for _ in statistics]


def _number(ops: Arithmetic, x: Array) -> float:
    return float(ops.xp.reshape(x, ()))


def _check_finite(number: float, epoch: int) -> None:
    if not math.isfinite(number):
        msg = (
            f"training diverged: the loss is not finite in epoch {epoch}: "
            "try a smaller --learning-rate, or --normalize scale"
        )
        raise DivergedError(msg)
