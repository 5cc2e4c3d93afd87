"""The first epoch, layer and operation in which two trainings differ."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from xpnet.arithmetic import random
from xpnet.arithmetic.blocks import block_bounds, block_groups, unstack
from xpnet.arithmetic.native import Integers
from xpnet.arithmetic.reproducible import Operand
from xpnet.errors import BackendError, ConfigError, DivergedError
from xpnet.nn import functional as F
from xpnet.nn.architecture import Network
from xpnet.nn.layers import Parameters, linear_backward, linear_backward_input
from xpnet.nn.network import forward, prepare
from xpnet.parity.distance import Mismatch, first_mismatch, unequal_bits
from xpnet.storage.model_file import fingerprint
from xpnet.training.batches import Samples, rows
from xpnet.training.evaluation import Evaluation, evaluate
from xpnet.training.state import TrainingState
from xpnet.training.step import batch_gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from xpnet._typing import Array
    from xpnet.arithmetic.base import Arithmetic
    from xpnet.training.setup import Experiment

COMPARED = ("hidden", "epochs", "batch_size", "learning_rate", "seed", "normalize", "init_from")
"""The settings that two trainings must share if their bits are to be compared."""


@dataclass(frozen=True)
class Epoch:
    """What a training has come to after an epoch, in so few bytes that a whole history can be kept."""

    layers: tuple[str, ...]  # the SHA-256 of each layer's parameters
    loss: float
    accuracy: float


def epoch_of(experiment: Experiment, evaluation: Evaluation, parameters: Parameters) -> Epoch:
    """Return the record of an epoch, inside the backend's scope."""
    layers = tuple(fingerprint([layer]) for layer in experiment.on_host(parameters))
    return Epoch(layers, evaluation.loss, evaluation.accuracy)


def first_layer_apart(left: Epoch, right: Epoch) -> int | None:
    """Return the first layer whose parameters differ, None if none do."""
    pairs = enumerate(zip(left.layers, right.layers, strict=True))
    return next((layer for layer, (a, b) in pairs if a != b), None)


@dataclass(frozen=True)
class Difference:
    """The first operation in which two trainings differ. Layers, steps and blocks count from 0."""

    epoch: int
    operation: str  # Z, A, softmax, dW, ..., update
    layer: int | None
    index: tuple[int, ...]
    left: float
    right: float
    ulp: float
    step: int | None = None  # within the epoch; None for an evaluation after it
    block: int | None = None  # within the step; None for what is done once a step

    def __str__(self) -> str:
        """Return the difference in one line, the left value first."""
        layer = "" if self.layer is None else f" of layer {self.layer}"
        place = [f"epoch {self.epoch}"]
        if self.epoch > 0:
            place.append("the evaluation" if self.step is None else f"step {self.step}")
        if self.block is not None:
            place.append(f"block {self.block}")
        distance = Mismatch(self.index, self.left, self.right, self.ulp).distance
        return (
            f"{', '.join(place)}: {self.operation}{layer} differs first, at {self.index}: "
            f"{self.left!r} and {self.right!r} ({distance})"
        )


def first_difference(left: Experiment, right: Experiment) -> Difference | None:
    """Train both, and name the first epoch, step, block, layer and operation in which they differ.

    The two have the same data and settings, and differ in backend or arithmetic. First the parameters
    and figures after each epoch are compared; then the first epoch that differs is computed again,
    operation by operation, on both sides. None means that all bits of all epochs are equal.

    Each side computes in its backend's scope; for several workers, enter ``backend.workers`` around
    the call.

    Raises
    ------
    ConfigError
        The two are not the same training.
    BackendError
        The difference is gone when the epoch is computed again.
    """
    _check_comparable(left, right)
    apart = _first_epoch_apart(left, right)
    if apart is None:
        return None
    if apart.before is None:
        return _initial_difference(left, right)
    sides = _Side.of(left, apart.before), _Side.of(right, apart.before)
    found = None if apart.in_evaluation else _training_difference(*sides, apart.epoch)
    found = found or _evaluation_difference(*sides, apart.epoch)
    if found is None:
        msg = f"epoch {apart.epoch} differs, but not when computed again: a backend does not repeat itself"
        raise BackendError(msg)
    return found


def _check_comparable(left: Experiment, right: Experiment) -> None:
    for name in COMPARED:
        a, b = getattr(left.config, name), getattr(right.config, name)
        if a != b:
            msg = f"two trainings can be compared if they have one {name}, got {a!r} and {b!r}"
            raise ConfigError(msg)
    for side in (left, right):
        plain = Network(side.sizes) == side.network and side.feed.as_they_are
        if not plain or side.chosen.training is not None:
            msg = (
                "operations can be compared of plain networks only: relu and cross-entropy, without "
                "batch norm, dropout, label smoothing, augmentation and validation"
            )
            raise ConfigError(msg)
    if left.sizes != right.sizes or left.training.number != right.training.number:
        msg = "two trainings can be compared if they have the same data"
        raise ConfigError(msg)


class _Apart(NamedTuple):
    epoch: int
    before: Parameters | None  # on the host, the last that are equal; None if the first are not
    in_evaluation: bool  # whether the epoch's own parameters are equal


class _FoundError(Exception):
    """Ends a training in which the difference is found."""


def _first_epoch_apart(left: Experiment, right: Experiment) -> _Apart | None:
    course = _course(left)
    apart = _Apart(0, None, in_evaluation=False)

    def on_epoch(epoch: int, evaluation: Evaluation | None, state: TrainingState) -> None:
        nonlocal apart
        if evaluation is None or epoch >= len(course):
            raise _FoundError
        found = epoch_of(right, evaluation, state.parameters)
        if found.layers != course[epoch].layers:
            raise _FoundError
        before = _to_host(right, state.parameters)
        apart = _Apart(epoch, before, in_evaluation=True)
        if found != course[epoch]:
            raise _FoundError
        apart = _Apart(epoch + 1, before, in_evaluation=False)

    try:
        _fit(right, on_epoch)
    except _FoundError:
        return apart
    except DivergedError:
        pass  # the left one may have done so in the same epoch
    return None if apart.epoch == len(course) else apart


def _course(experiment: Experiment) -> list[Epoch]:
    """Train, and return the record of each epoch until training ends or diverges."""
    course: list[Epoch] = []

    def on_epoch(_: int, evaluation: Evaluation | None, state: TrainingState) -> None:
        if evaluation is not None:
            course.append(epoch_of(experiment, evaluation, state.parameters))

    with suppress(DivergedError):
        _fit(experiment, on_epoch)
    return course


def _fit(
    experiment: Experiment, on_epoch: Callable[[int, Evaluation | None, TrainingState], None]
) -> None:
    every = replace(experiment, config=replace(experiment.config, log_every=1))
    with experiment.backend.scope():
        if every.fit(on_epoch).interrupted:
            raise KeyboardInterrupt


class _Value(NamedTuple):
    """What one operation gave."""

    operation: str
    layer: int | None
    array: Any  # on the device, or on the host


@dataclass
class _Side:
    """One of the two trainings, in the middle of it."""

    experiment: Experiment
    parameters: Parameters
    state: Any  # of the optimiser
    steps: int = 0  # taken

    @classmethod
    def of(cls, experiment: Experiment, parameters: Parameters) -> _Side:
        """Put parameters that are on the host on the experiment's device."""
        with experiment.backend.scope():
            on_device = [
                type(layer)(*(experiment.backend.from_host(tensor) for tensor in layer))
                for layer in parameters
            ]
            return cls(experiment, on_device, experiment.optimizer.init(on_device))

    def samples(self) -> Samples:
        """Return the training samples in the order in which a step sees them."""
        x, labels = self.experiment.training.x, self.experiment.training.labels
        if self.experiment.config.batch_size != "full":
            return Samples(x, labels)
        with self.experiment.backend.scope():
            take, order = self.experiment.engine.ops.xp.take, self._permutation(0)
            return Samples(take(x, order, axis=0), take(labels, order, axis=0))

    def batches(self, epoch: int) -> list[Array | None]:
        """Return the indices of each step's samples, None for all of them."""
        size = self.experiment.config.batch_size
        if size == "full":
            return [None]
        with self.experiment.backend.scope():
            order = self._permutation(epoch)
            return [order[a:b] for a, b in block_bounds(self.experiment.training.number, size)]

    def gradients(self, samples: Samples, batch: Array | None) -> Parameters:
        """Return the gradients of a step, on the device."""
        with self.experiment.backend.scope():
            return batch_gradients(self.experiment.engine, self.parameters, samples, batch)

    def update(self, gradients: Parameters) -> None:
        """Take a step."""
        rate = self.experiment.learning_rate(self.steps)
        with self.experiment.backend.scope():
            self.parameters, self.state = self.experiment.optimizer.update(
                gradients, self.state, self.parameters, rate
            )
        self.steps += 1

    def evaluate(self) -> Evaluation:
        """Evaluate the parameters on the training samples."""
        with self.experiment.backend.scope():
            return evaluate(self.experiment.engine, self.parameters, self.experiment.training)

    def blocks(
        self, operations: _Operations, samples: Samples, batch: Array | None = None
    ) -> Iterator[list[_Value]]:
        """Yield what the operations on each block give, on the host."""
        engine = self.experiment.engine
        count = samples.number if batch is None else int(batch.shape[0])
        for group in block_groups(count, engine.stack):
            with self.experiment.backend.scope():
                layers = prepare(engine.ops, self.parameters)
                x, labels = rows(engine.ops, samples, group, batch)
                found = list(operations(engine.ops, layers, engine.inputs(x), labels))
                per_block = [
                    self.host(block) for block in unstack(group, [value.array for value in found])
                ]
            for block in per_block:
                yield [
                    value._replace(array=array) for value, array in zip(found, block, strict=True)
                ]

    def host(self, arrays: Iterable[Array]) -> list[NDArray[Any]]:
        """Copy arrays to the host, inside the scope."""
        return [self.experiment.backend.to_host(array) for array in arrays]

    def _permutation(self, epoch: int) -> Array:
        seed, count = self.experiment.config.seed, self.experiment.training.number
        return self.experiment.backend.from_host(random.permutation(seed, count, epoch=epoch))


_Operations: TypeAlias = "Callable[[Arithmetic, Parameters, Any, Array], Iterator[_Value]]"


def _forward_operations(cache: list[tuple[Any, Array]]) -> Iterator[_Value]:
    """Yield X, Z of layer 0, A of layer 0, Z of layer 1, ..."""
    for layer, (a, z) in enumerate(cache):
        values = a.values if isinstance(a, Integers | Operand) else a
        yield _Value("A", layer - 1, values) if layer else _Value("X", None, values)
        yield _Value("Z", layer, z)


def _training_operations(
    ops: Arithmetic, layers: Parameters, x: Any, labels: Array
) -> Iterator[_Value]:
    """Yield what ``model.gradients`` computes, in its order."""
    logits, cache = forward(ops, layers, x)
    yield from _forward_operations(cache)
    last = len(layers) - 1
    probabilities = F.softmax(ops, logits)
    yield _Value("softmax", last, probabilities)
    y = F.one_hot(ops, labels, logits.shape[-2])
    dz = F.softmax_cross_entropy_backward(probabilities, y)
    for layer in range(last, -1, -1):
        a, z = cache[layer]
        if layer < last:
            da = linear_backward_input(ops, layers[layer + 1], dz)
            yield _Value("dA", layer, da)
            dz = F.relu_backward(ops, da, z)
        yield _Value("dZ", layer, dz)
        dw, db = linear_backward(ops, a, dz)
        yield _Value("dW", layer, dw)
        yield _Value("db", layer, db)


def _evaluation_operations(
    ops: Arithmetic, layers: Parameters, x: Any, labels: Array
) -> Iterator[_Value]:
    """Yield what ``loop.evaluate`` computes."""
    logits, cache = forward(ops, layers, x)
    yield from _forward_operations(cache)
    last = len(layers) - 1
    losses = F.cross_entropy(ops, logits, F.one_hot(ops, labels, logits.shape[-2]))
    yield _Value("cross-entropy", last, losses)
    yield _Value("sum of the cross-entropies", last, ops.sum(losses, axis=-1))
    yield _Value("predictions", last, F.predictions(ops, logits))


def _initial_difference(left: Experiment, right: Experiment) -> Difference | None:
    return _unequal(
        _tensors("initial ", _to_host(left, left.parameters)),
        _tensors("initial ", _to_host(right, right.parameters)),
        epoch=0,
    )


def _training_difference(left: _Side, right: _Side, epoch: int) -> Difference | None:
    """Repeat an epoch step by step; return the first difference, or None after the whole epoch."""
    samples, theirs = left.samples(), right.samples()
    for step, (batch, their_batch) in enumerate(
        zip(left.batches(epoch), right.batches(epoch), strict=True)
    ):
        means = left.gradients(samples, batch), right.gradients(theirs, their_batch)
        found = _unequal(*_both(left, right, "sum over blocks of d", means), epoch=epoch, step=step)
        if found is not None:
            ours = left.blocks(_training_operations, samples, batch)
            others = right.blocks(_training_operations, theirs, their_batch)
            return _in_blocks(ours, others, epoch, step) or found
        left.update(means[0])
        right.update(means[1])
        stepped = _both(left, right, "update of ", (left.parameters, right.parameters))
        found = _unequal(*stepped, epoch=epoch, step=step)
        if found is not None:
            return found
    return None


def _evaluation_difference(left: _Side, right: _Side, epoch: int) -> Difference | None:
    """Repeat the evaluation of both sides' parameters; return the first difference."""
    ours, theirs = (
        side.blocks(_evaluation_operations, side.experiment.training) for side in (left, right)
    )
    found = _in_blocks(ours, theirs, epoch, None)
    return found or _unequal(_figures(left), _figures(right), epoch=epoch)


def _figures(side: _Side) -> list[_Value]:
    found = side.evaluate()
    figures = {"loss": found.loss, "accuracy": found.accuracy}
    return [_Value(name, None, np.asarray(figure)) for name, figure in figures.items()]


def _in_blocks(
    left: Iterator[list[_Value]], right: Iterator[list[_Value]], epoch: int, step: int | None
) -> Difference | None:
    for block, (a, b) in enumerate(zip(left, right, strict=True)):
        found = _unequal(a, b, epoch=epoch, step=step, block=block)
        if found is not None:
            return found
    return None


def _unequal(
    left: Sequence[_Value],
    right: Sequence[_Value],
    *,
    epoch: int,
    step: int | None = None,
    block: int | None = None,
) -> Difference | None:
    for ours, theirs in zip(left, right, strict=True):
        a, b = ours.array, theirs.array
        found = first_mismatch(unequal_bits(a, b), a, b)
        if found is not None:
            values = found.left.item(), found.right.item(), found.ulp or 0.0
            return Difference(
                epoch, ours.operation, ours.layer, found.index, *values, step=step, block=block
            )
    return None


def _both(
    left: _Side, right: _Side, prefix: str, layers: tuple[Parameters, Parameters]
) -> tuple[list[_Value], list[_Value]]:
    a, b = (
        _tensors(prefix, _to_host(side.experiment, found))
        for side, found in zip((left, right), layers, strict=True)
    )
    return a, b


def _tensors(prefix: str, layers: Parameters) -> list[_Value]:
    """Return the tensors of all layers, named by the notebook's symbols."""
    symbols = {"weight": "W", "bias": "b"}
    return [
        _Value(prefix + symbols.get(name, name), index, tensor)
        for index, layer in enumerate(layers)
        for name, tensor in layer._asdict().items()
    ]


def _to_host(experiment: Experiment, parameters: Parameters) -> Parameters:
    with experiment.backend.scope():
        to_host = experiment.backend.to_host
        return [type(layer)(*(to_host(tensor) for tensor in layer)) for layer in parameters]
