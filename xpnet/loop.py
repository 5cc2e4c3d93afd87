"""The training loop: batches, steps, epochs. It knows no array library, no files and no command line."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from xpnet import functional as F
from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array, Compile, as_written
from xpnet.blocks import BLOCK_SIZE, Group, add, block_bounds, block_groups, tree_sum, unstack
from xpnet.errors import DivergedError
from xpnet.model import Parameters, forward, gradients, prepare
from xpnet.optim import Optimizer
from xpnet.schedules import Schedule


@dataclass(frozen=True)
class Engine:
    """What the loop computes with."""

    ops: Arithmetic
    inputs: Callable[[Array], Any]  # raw rows (..., m, features) -> operand (..., features, m)
    map_blocks: Callable[[Callable[[Group], Any], Iterable[Group]], Iterator[Any]]
    stack: int = 1  # full blocks computed in one call, as matrices of a stack
    compile: Compile = as_written

    @cached_property
    def block_gradients(self) -> Callable[[Parameters, Array, Array], Parameters]:
        """The function from parameters, raw rows and labels to the gradients of their summed loss."""

        def of_block(parameters: Parameters, x: Array, labels: Array) -> Parameters:
            layers = prepare(self.ops, parameters)
            return gradients(self.ops, layers, self.inputs(x), labels)

        return self.compile(of_block)

    @cached_property
    def add(self) -> Callable[[list[Array], list[Array]], list[Array]]:
        """The function that adds the gradients of blocks."""
        return self.compile(add)

    @cached_property
    def block_evaluation(self) -> Callable[[Parameters, Array, Array], tuple[Array, Array]]:
        """The function from parameters, raw rows and labels to their summed loss and predictions."""

        def of_block(parameters: Parameters, x: Array, labels: Array) -> tuple[Array, Array]:
            ops = self.ops
            logits, _ = forward(ops, prepare(ops, parameters), self.inputs(x))
            y = F.one_hot(ops, labels, logits.shape[-2])
            loss = ops.sum(F.cross_entropy(ops, logits, y), axis=-1)
            return loss, ops.xp.reshape(F.predictions(ops, logits), (-1,))

        return self.compile(of_block)


class Samples(NamedTuple):
    """Raw features and labels on the device."""

    x: Array  # (samples, features), uint8 or floats
    labels: Array  # (samples,), int32

    @property
    def number(self) -> int:
        """How many samples there are."""
        return int(self.x.shape[0])


class Blocks(NamedTuple):
    """Samples in blocks that are cut out once, for batches of all of them."""

    of_group: dict[Group, tuple[Array, Array]]  # features and labels, as ``rows`` returns them
    number: int


@dataclass(frozen=True)
class Evaluation:
    """What parameters give on samples."""

    loss: float  # mean cross-entropy, in nats
    accuracy: float  # share of right predictions
    predictions: Array  # (samples,), on the device


@dataclass(frozen=True)
class Fitted:
    """What training gave."""

    parameters: Parameters
    epochs: int  # how many were completed
    interrupted: bool


def batch_gradients(
    engine: Engine, parameters: Parameters, samples: Samples | Blocks, order: Array | None = None
) -> Parameters:
    """Return the gradients of the mean cross-entropy of a batch by all parameters.

    ``order`` (m,) holds the indices of the batch's samples; without it the batch is all samples. Sums
    over samples are sums over blocks (see ``xpnet.blocks``), multiplied by 1/m at the end.
    """
    count = samples.number if order is None else int(order.shape[0])
    sums = _summed_gradients(engine, parameters, samples, order, count)
    return _means(parameters, sums, 1.0 / count)


def _summed_gradients(
    engine: Engine,
    parameters: Parameters,
    samples: Samples | Blocks,
    order: Array | None,
    count: int,
) -> list[Array]:

    def of_group(group: Group) -> list[list[Array]]:
        x, labels = rows(engine.ops, samples, group, order)
        found = engine.block_gradients(parameters, x, labels)
        return unstack(group, [array for layer in found for array in layer])

    groups = block_groups(count, engine.stack)
    return tree_sum(chain.from_iterable(engine.map_blocks(of_group, groups)), engine.add)


def _means(parameters: Parameters, sums: list[Array], share: float) -> Parameters:
    arrays = iter(sums)
    return [type(layer)(*(next(arrays) * share for _ in layer)) for layer in parameters]


def evaluate(engine: Engine, parameters: Parameters, samples: Samples) -> Evaluation:
    """Return loss, accuracy and predictions for all samples: no batch is dropped."""
    ops = engine.ops
    predicted = []

    def of_group(group: Group) -> tuple[list[list[Array]], Array]:
        loss, predictions = engine.block_evaluation(parameters, *rows(ops, samples, group, None))
        return unstack(group, [loss]), predictions

    def losses() -> Iterator[list[Array]]:
        groups = block_groups(samples.number, engine.stack)
        for terms, prediction in engine.map_blocks(of_group, groups):
            predicted.append(prediction)
            yield from terms

    (loss,) = tree_sum(losses())
    predictions = ops.xp.concat(predicted)
    return Evaluation(
        loss=_number(ops, loss) * (1.0 / samples.number),
        accuracy=int(F.correct(ops, predictions, samples.labels)) / samples.number,
        predictions=predictions,
    )


def fit(
    engine: Engine,
    parameters: Parameters,
    samples: Samples,
    optimizer: Optimizer,
    learning_rate: Schedule,
    *,
    epochs: int,
    batch_size: int | None,
    order: Callable[[int], Array],
    log_every: int = 10,
    on_epoch: Callable[[int, Evaluation | None, Parameters], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
    shuffled: Samples | None = None,
) -> Fitted:
    """Train for a number of epochs and return the parameters.

    Parameters
    ----------
    learning_rate : the learning rate of each step, counted from 0
    batch_size : samples a step (the last batch of an epoch may be short); None for all of them
    order : epoch -> (samples,) the order in which that epoch visits the samples; full-batch training
        visits them in the order of epoch 0 always
    on_epoch : called as ``on_epoch(epoch, evaluation, parameters)`` after each epoch, and with 0 before
        the first; the evaluation is that of the parameters after so many epochs, and is made at epoch
        0, every ``log_every`` epochs and the last (else None). The parameters are valid during the call:
        copy them to keep them
    stop : asked after each step whether to end training there
    shuffled : the same samples, for reading in another order than their own, if they need not fit in
        memory: full-batch training then gathers each block anew instead of copying them all in order

    KeyboardInterrupt ends training with the parameters of the last complete step, too.

    Raises
    ------
    DivergedError
        If the loss of an epoch, or of an evaluation, is not finite.
    """
    visited: Samples | Blocks = samples if shuffled is None else shuffled
    whole = order(0) if batch_size is None else None
    if whole is not None and shuffled is None:
        visited, whole = _cut(engine, samples, whole), None
    step = _step(engine, optimizer, batch_size)
    parameters = [type(layer)(*(p * 1.0 for p in layer)) for layer in parameters]  # ours to donate
    state = optimizer.init(parameters)

    def report(epoch: int) -> None:
        logged = epoch % log_every == 0 or epoch == epochs
        evaluation = evaluate(engine, parameters, samples) if logged else None
        if evaluation is not None:
            _check_finite(evaluation.loss, epoch)
        on_epoch(epoch, evaluation, parameters)

    completed = steps = 0
    try:
        report(0)
        while completed < epochs and not stop():
            for batch in (
                [whole] if batch_size is None else _batches(order(completed + 1), batch_size)
            ):
                if stop():
                    return Fitted(parameters, completed, interrupted=True)
                parameters, state = step(parameters, state, visited, batch, learning_rate(steps))
                steps += 1
            completed += 1
            # NaN and infinities reach the last biases, which are few, with the step that makes them.
            _check_finite(_number(engine.ops, engine.ops.xp.sum(parameters[-1].bias)), completed)
            report(completed)
    except KeyboardInterrupt:
        return Fitted(parameters, completed, interrupted=True)
    return Fitted(parameters, completed, interrupted=completed < epochs)


def _step(engine: Engine, optimizer: Optimizer, batch_size: int | None) -> Callable[..., Any]:
    """Return the function from a step's arguments to new parameters and a new state."""

    def update(
        parameters: Parameters, state: Any, sums: list[Array], share: float, rate: float
    ) -> tuple[Parameters, Any]:
        return optimizer.update(_means(parameters, sums, share), state, parameters, rate)

    def step(
        parameters: Parameters,
        state: Any,
        samples: Samples | Blocks,
        batch: Array | None,
        rate: float,
    ) -> tuple[Parameters, Any]:
        count = samples.number if batch is None else int(batch.shape[0])
        sums = _summed_gradients(engine, parameters, samples, batch, count)
        return update(parameters, state, sums, 1.0 / count, rate)

    if batch_size is not None and batch_size <= BLOCK_SIZE:
        return engine.compile(step, donated=(0, 1))
    # The blocks of a larger batch are compiled one by one.
    update = engine.compile(update, donated=(0, 1))
    return step


def _cut(engine: Engine, samples: Samples, order: Array) -> Blocks:
    """Return all samples in this order."""
    copy = Samples(*(engine.ops.xp.take(array, order, axis=0) for array in samples))
    groups = block_groups(samples.number, engine.stack)
    of_group = {group: rows(engine.ops, copy, group, None) for group in groups}
    return Blocks(of_group, samples.number)


def rows(
    ops: Arithmetic, samples: Samples | Blocks, group: Group, order: Array | None
) -> tuple[Array, Array]:
    """Return a group's features (m, features) and labels (m,), with the blocks as first axis if stacked.

    ``order`` holds the indices of a batch's samples; without it the batch is all samples.
    """
    if isinstance(samples, Blocks):
        return samples.of_group[group]
    start, stop, blocks = group
    if order is None:
        x, labels = samples.x[start:stop, :], samples.labels[start:stop]
    else:
        chosen = order[start:stop]
        x, labels = (ops.xp.take(a, chosen, axis=0) for a in (samples.x, samples.labels))
    if blocks > 1:
        x = ops.xp.reshape(x, (blocks, -1, x.shape[1]))
        labels = ops.xp.reshape(labels, (blocks, -1))
    return x, labels


def _batches(order: Array, size: int) -> list[Array]:
    return [order[start:stop] for start, stop in block_bounds(int(order.shape[0]), size)]


def _number(ops: Arithmetic, x: Array) -> float:
    return float(ops.xp.reshape(x, ()))


def _check_finite(number: float, epoch: int) -> None:
    if not math.isfinite(number):
        msg = (
            f"training diverged: the loss is not finite in epoch {epoch}: "
            "try a smaller --learning-rate, or --normalize scale"
        )
        raise DivergedError(msg)
