"""The training loop: batches, steps, epochs. It knows no array library, no files and no command line."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from xpnet import functional as F
from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array
from xpnet.blocks import Group, block_bounds, block_groups, tree_sum, unstack
from xpnet.errors import DivergedError
from xpnet.layers import Linear
from xpnet.model import Parameters, forward, gradients, prepare
from xpnet.optim import Optimizer


@dataclass(frozen=True)
class Engine:
    """What the loop computes with."""

    ops: Arithmetic
    inputs: Callable[[Array], Any]  # raw rows (..., m, features) -> operand (..., features, m)
    map_blocks: Callable[[Callable[[Group], Any], Iterable[Group]], Iterator[Any]]
    stack: int = 1  # full blocks computed in one call, as matrices of a stack


@dataclass(frozen=True)
class Samples:
    """Raw features and labels on the device."""

    x: Array  # (samples, features), uint8 or floats
    labels: Array  # (samples,), int32

    @property
    def count(self) -> int:
        """The number of samples."""
        return int(self.x.shape[0])


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
    engine: Engine, parameters: Parameters, samples: Samples, order: Array | None = None
) -> Parameters:
    """Return the gradients of the mean cross-entropy of a batch by all parameters.

    ``order`` (m,) holds the indices of the batch's samples; without it the batch is all samples. Sums
    over samples are sums over blocks (see ``xpnet.blocks``), multiplied by 1/m at the end.
    """
    ops = engine.ops
    layers = prepare(ops, parameters)

    def of_group(group: Group) -> list[list[Array]]:
        x, labels = rows(ops, samples, group, order)
        found = gradients(ops, layers, engine.inputs(x), labels)
        return unstack(group, [array for layer in found for array in layer])

    count = samples.count if order is None else int(order.shape[0])
    groups = block_groups(count, engine.stack)
    sums = tree_sum(chain.from_iterable(engine.map_blocks(of_group, groups)))
    means = [total * (1.0 / count) for total in sums]
    return [Linear(*pair) for pair in zip(means[::2], means[1::2], strict=True)]


def evaluate(engine: Engine, parameters: Parameters, samples: Samples) -> Evaluation:
    """Return loss, accuracy and predictions for all samples: no batch is dropped."""
    ops = engine.ops
    layers = prepare(ops, parameters)
    predicted = []

    def of_group(group: Group) -> tuple[list[list[Array]], Array]:
        x, labels = rows(ops, samples, group, None)
        logits, _ = forward(ops, layers, engine.inputs(x))
        y = F.one_hot(ops, labels, logits.shape[-2])
        loss = ops.sum(F.cross_entropy(ops, logits, y), axis=-1)
        return unstack(group, [loss]), ops.xp.reshape(F.predictions(ops, logits), (-1,))

    def losses() -> Iterator[list[Array]]:
        groups = block_groups(samples.count, engine.stack)
        for terms, prediction in engine.map_blocks(of_group, groups):
            predicted.append(prediction)
            yield from terms

    (loss,) = tree_sum(losses())
    predictions = ops.xp.concat(predicted)
    return Evaluation(
        loss=_number(ops, loss) * (1.0 / samples.count),
        accuracy=int(F.correct(ops, predictions, samples.labels)) / samples.count,
        predictions=predictions,
    )


def fit(
    engine: Engine,
    parameters: Parameters,
    samples: Samples,
    optimizer: Optimizer,
    *,
    epochs: int,
    batch_size: int | None,
    order: Callable[[int], Array],
    log_every: int = 10,
    on_epoch: Callable[[int, Evaluation | None, Parameters], None] = lambda *_: None,
) -> Fitted:
    """Train for a number of epochs and return the parameters.

    Parameters
    ----------
    batch_size : samples a step (the last batch of an epoch may be short); None for all of them
    order : epoch -> (samples,) the order in which that epoch visits the samples; full-batch training
        visits them in the order of epoch 0 always
    on_epoch : called as ``on_epoch(epoch, evaluation, parameters)`` after each epoch, and with 0 before
        the first; the evaluation is that of the parameters after so many epochs, and is made at epoch
        0, every ``log_every`` epochs and the last (else None)

    Ctrl-C ends training with the parameters of the last complete step.

    Raises
    ------
    DivergedError
        If the loss of an epoch, or of an evaluation, is not finite.
    """
    visited = samples
    if batch_size is None:
        take, first = engine.ops.xp.take, order(0)
        visited = Samples(take(samples.x, first, axis=0), take(samples.labels, first, axis=0))
    state = optimizer.init(parameters)

    def report(epoch: int) -> None:
        logged = epoch % log_every == 0 or epoch == epochs
        evaluation = evaluate(engine, parameters, samples) if logged else None
        if evaluation is not None:
            _check_finite(evaluation.loss, epoch)
        on_epoch(epoch, evaluation, parameters)

    completed = 0
    try:
        report(0)
        for epoch in range(1, epochs + 1):
            for batch in _batches(samples.count, batch_size, order, epoch):
                means = batch_gradients(engine, parameters, visited, batch)
                parameters, state = optimizer.update(means, state, parameters)
            # NaN and infinities reach the last biases, which are few, with the step that makes them.
            _check_finite(_number(engine.ops, engine.ops.xp.sum(parameters[-1].bias)), epoch)
            completed = epoch
            report(epoch)
    except KeyboardInterrupt:
        return Fitted(parameters, completed, interrupted=True)
    return Fitted(parameters, completed, interrupted=False)


def rows(
    ops: Arithmetic, samples: Samples, group: Group, order: Array | None
) -> tuple[Array, Array]:
    """Return a group's features (m, features) and labels (m,), with the blocks as first axis if stacked.

    ``order`` holds the indices of a batch's samples; without it the batch is all samples.
    """
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


def _batches(
    count: int, batch_size: int | None, order: Callable[[int], Array], epoch: int
) -> Iterator[Array | None]:
    if batch_size is None:
        yield None
        return
    indices = order(epoch)
    for start, stop in block_bounds(count, batch_size):
        yield indices[start:stop]


def _number(ops: Arithmetic, x: Array) -> float:
    return float(ops.xp.reshape(x, ()))


def _check_finite(number: float, epoch: int) -> None:
    if not math.isfinite(number):
        msg = (
            f"training diverged: the loss is not finite in epoch {epoch}: "
            "try a smaller --learning-rate, or --normalize scale"
        )
        raise DivergedError(msg)
