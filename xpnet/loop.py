"""The training loop: batches, steps, epochs. It knows no array library, no files and no command line."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from xpnet import functional as F
from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array
from xpnet.blocks import block_bounds, tree_sum
from xpnet.errors import DivergedError
from xpnet.layers import Linear
from xpnet.model import Parameters, forward, loss_and_gradients, prepare
from xpnet.optim import Optimizer

Bounds = tuple[int, int]


@dataclass(frozen=True)
class Engine:
    """What the loop computes with."""

    ops: Arithmetic
    inputs: Callable[[Array], Any]  # raw rows (samples, features) -> operand (features, samples)
    map_blocks: Callable[[Callable[[Bounds], Any], Iterable[Bounds]], Iterator[Any]]


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


def batch_step(
    engine: Engine, parameters: Parameters, samples: Samples, order: Array | None = None
) -> tuple[Array, Parameters]:
    """Return the mean cross-entropy of a batch, (1, 1), and its gradients by all parameters.

    ``order`` (m,) holds the indices of the batch's samples; without it the batch is all samples. Sums
    over samples are sums over blocks (see ``xpnet.blocks``), multiplied by 1/m at the end.
    """
    ops = engine.ops
    layers = prepare(ops, parameters)

    def block(bounds: Bounds) -> list[Array]:
        x, labels = _rows(ops, samples, bounds, order)
        loss, gradients = loss_and_gradients(ops, layers, engine.inputs(x), labels)
        return [loss, *(array for layer in gradients for array in layer)]

    count = samples.count if order is None else int(order.shape[0])
    sums = tree_sum(engine.map_blocks(block, block_bounds(count)))
    loss, *gradients = (total * (1.0 / count) for total in sums)
    return loss, [Linear(*pair) for pair in zip(gradients[::2], gradients[1::2], strict=True)]


def evaluate(engine: Engine, parameters: Parameters, samples: Samples) -> Evaluation:
    """Return loss, accuracy and predictions for all samples: no batch is dropped."""
    ops = engine.ops
    layers = prepare(ops, parameters)
    predicted = []

    def block(bounds: Bounds) -> tuple[Array, Array, Array]:
        x, labels = _rows(ops, samples, bounds, None)
        logits, _ = forward(ops, layers, engine.inputs(x))
        y = F.one_hot(ops, labels, logits.shape[-2])
        loss, _ = F.softmax_cross_entropy(ops, logits, y)
        prediction = F.predictions(ops, logits)
        return ops.sum(loss, axis=-1), F.correct(ops, prediction, labels), prediction

    def sums() -> Iterator[tuple[Array, Array]]:
        for loss, correct, prediction in engine.map_blocks(block, block_bounds(samples.count)):
            predicted.append(prediction)
            yield loss, correct

    loss, correct = tree_sum(sums())
    return Evaluation(
        loss=_number(ops, loss) * (1.0 / samples.count),
        accuracy=int(correct) / samples.count,
        predictions=ops.xp.concat(predicted),
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
    on_epoch: Callable[[int, Evaluation | None], None] = lambda *_: None,
) -> Fitted:
    """Train for a number of epochs and return the parameters.

    Parameters
    ----------
    batch_size : samples a step (the last batch of an epoch may be short); None for all of them
    order : epoch -> (samples,) the order in which that epoch visits the samples; full-batch training
        visits them in the order of epoch 0 always
    on_epoch : called as ``on_epoch(epoch, evaluation)`` after each epoch, and with 0 before the first; the
        evaluation is that of the parameters after so many epochs, and is made at epoch 0, every
        ``log_every`` epochs and the last (else None)

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
        on_epoch(epoch, evaluation)

    completed = 0
    try:
        report(0)
        for epoch in range(1, epochs + 1):
            epoch_loss = 0.0
            for batch in _batches(samples.count, batch_size, order, epoch):
                loss, gradients = batch_step(engine, parameters, visited, batch)
                parameters, state = optimizer.update(gradients, state, parameters)
                epoch_loss = epoch_loss + loss
            _check_finite(_number(engine.ops, epoch_loss), epoch)
            completed = epoch
            report(epoch)
    except KeyboardInterrupt:
        return Fitted(parameters, completed, interrupted=True)
    return Fitted(parameters, completed, interrupted=False)


def _rows(
    ops: Arithmetic, samples: Samples, bounds: Bounds, order: Array | None
) -> tuple[Array, Array]:
    start, stop = bounds
    if order is None:
        return samples.x[start:stop, :], samples.labels[start:stop]
    chosen = order[start:stop]
    return ops.xp.take(samples.x, chosen, axis=0), ops.xp.take(samples.labels, chosen, axis=0)


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


def _check_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        msg = (
            f"training diverged: the loss is {loss} in epoch {epoch}; "
            "try a smaller --learning-rate, or --normalize scale"
        )
        raise DivergedError(msg)
