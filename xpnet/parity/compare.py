"""The first epoch, step, block and operation in which two training runs differ."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnet._lib.tree import leaves
from xpnet._typing import as_written
from xpnet.arithmetic.blocks import block_groups
from xpnet.config.settings import ComputationSettings, RunSettings
from xpnet.errors import BackendError, ConfigError, DivergedError
from xpnet.parity.distance import Mismatch, first_mismatch, unequal_bits
from xpnet.parity.recording import Value, recording
from xpnet.training.batches import Batch, batch_of, rows
from xpnet.training.callbacks import Callback, EpochLog, Evaluate
from xpnet.training.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from xpnet.inference.context import ComputeContext
    from xpnet.training.state import TrainState, Variables
    from xpnet.training.trainer import Trainer

FREE = {field.name for kind in (ComputationSettings, RunSettings) for field in fields(kind)}
"""Settings in which compared runs may differ: where, with which arithmetic, and what is kept of them."""


@dataclass(frozen=True)
class Epoch:
    """What training has come to after an epoch, in so few bytes that a whole history can be kept."""

    layers: tuple[str, ...]  # the SHA-256 of each layer's parameters
    rest: str  # that of the running statistics and the optimiser's state
    loss: float
    accuracy: float


class KeepEpochs(Callback):
    """Keeps the `Epoch` of each epoch; inside the backend's scope, after ``Evaluate``."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.epochs: list[Epoch] = []

    def on_epoch_end(self, log: EpochLog) -> None:
        """Keep the epoch."""
        if log.training is not None:
            variables = self._trainer.to_host(log.state.variables)
            layers = tuple(map(_digest, variables.parameters))
            rest = _digest((variables.statistics, variables.optimizer))
            self.epochs.append(Epoch(layers, rest, log.training.loss, log.training.accuracy))


def first_layer_apart(left: Epoch, right: Epoch) -> int | None:
    """Return the first layer whose parameters differ, None if none do."""
    pairs = enumerate(zip(left.layers, right.layers, strict=True))
    return next((layer for layer, (a, b) in pairs if a != b), None)


@dataclass(frozen=True)
class Difference:
    """The first operation in which two training runs differ. Steps, blocks and operations count from 0."""

    epoch: int
    operation: str  # such as "matmul in linear", or "parameters.0.weight after the update"
    index: tuple[int, ...]
    left: float
    right: float
    ulp: float
    step: int | None = None  # within the epoch; None for an evaluation after it
    block: int | None = None  # within the step; None for what is done once a step
    number: int | None = None  # of the operation within the block

    def __str__(self) -> str:
        """Return the difference in one line, the left value first."""
        place = [f"epoch {self.epoch}"]
        if self.epoch > 0:
            place.append("the evaluation" if self.step is None else f"step {self.step}")
        if self.block is not None:
            place.append(f"block {self.block}")
        number = "" if self.number is None else f"array {self.number}, "
        distance = Mismatch(self.index, self.left, self.right, self.ulp).distance
        return (
            f"{', '.join(place)}: {number}{self.operation} differs first, at {self.index}: "
            f"{self.left!r} and {self.right!r} ({distance})"
        )


def first_difference(left: Trainer, right: Trainer) -> Difference | None:
    """Train both, and name the first epoch, step, block and operation in which they differ.

    The two have the same data and settings, and differ in backend or arithmetic. First what they come to
    after each epoch is compared; then the first epoch that differs is computed again, step by step, and in
    the first step that differs everything that the arithmetic is asked for is compared, block by block.
    None means that all bits of all epochs are equal.

    Each side computes in its backend's scope; for several workers, enter ``backend.workers`` around
    the call.

    Raises
    ------
    ConfigError
        The two are not the same training run.
    BackendError
        The difference is gone when the epoch is computed again.

    """
    _check_comparable(left, right)
    apart = _first_epoch_apart(left, right)
    if apart is None:
        return None
    sides = _Side(left), _Side(right)
    before = apart.before
    if before is None:
        starts = (side.to_host(side.initial_state().variables) for side in sides)
        difference = _unequal(*map(_named, starts), epoch=0)
        before = sides[1].initial_state()
    else:
        difference = _training_difference(*sides, before, apart.epoch)
    difference = difference or _evaluation_difference(*sides, before, apart.epoch)
    if difference is None:
        msg = f"epoch {apart.epoch} differs, but not when computed again: a backend does not repeat itself"
        raise BackendError(msg)
    return difference


def _check_comparable(left: Trainer, right: Trainer) -> None:
    for field in fields(left.config):
        a, b = getattr(left.config, field.name), getattr(right.config, field.name)
        if field.name not in FREE and a != b:
            msg = f"two runs can be compared if they have one {field.name}, got {a!r} and {b!r}"
            raise ConfigError(msg)
    if left.sizes != right.sizes or left.samples.number != right.samples.number:
        msg = "two runs can be compared if they have the same data"
        raise ConfigError(msg)


class _Apart(NamedTuple):
    """The first epoch that differs, and the state on the host before it; None: the first states differ."""

    epoch: int
    before: TrainState | None


class _ApartError(Exception):
    """Ends a training run in which the difference has been found."""


class _Compare(KeepEpochs):
    """Compares each epoch with those of another run, and keeps the last state that is equal."""

    def __init__(self, trainer: Trainer, expected: list[Epoch]) -> None:
        super().__init__(trainer)
        self._expected = expected
        self.before: TrainState | None = None

    def on_epoch_end(self, log: EpochLog) -> None:
        """Compare; raise at the first difference."""
        super().on_epoch_end(log)
        index = len(self.epochs) - 1
        if index >= len(self._expected) or self.epochs[index] != self._expected[index]:
            raise _ApartError
        self.before = log.state._replace(variables=self._trainer.to_host(log.state.variables))


def _first_epoch_apart(left: Trainer, right: Trainer) -> _Apart | None:
    expected = KeepEpochs(left)
    with suppress(DivergedError):
        _fit(left, expected)
    compared = _Compare(right, expected.epochs)
    with suppress(DivergedError):  # the left one may have done so in the same epoch
        try:
            _fit(right, compared)
        except _ApartError:
            return _Apart(len(compared.epochs) - 1, compared.before)
    if len(compared.epochs) == len(expected.epochs):
        return None
    return _Apart(len(compared.epochs), compared.before)


def _fit(trainer: Trainer, keep: KeepEpochs) -> None:
    with trainer.backend.scope():
        if trainer.fit([Evaluate(trainer, every=1), keep]).interrupted:
            raise KeyboardInterrupt


class _Side:
    """One of the two runs: what it computes, and records, from a state on the host."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.to_host = trainer.to_host
        # Blocks one by one, so that both sides have the same.
        self.context = replace(trainer.context, stack=1, compile=as_written)
        self.loader = replace(trainer.loader, stack=1)

    def initial_state(self) -> TrainState:
        """Return the initial state on the host."""
        with self.trainer.backend.scope():
            state = self.trainer.initial_state()
            return state._replace(variables=self.to_host(state.variables))

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        with self.trainer.backend.scope():
            batches = list(self.loader.batches(epoch))
        yield from batches

    def stepped(self, variables: Variables, batch: Batch, step: int) -> Variables:
        """Return the variables after step number ``step`` of all, on the host."""
        with self.trainer.backend.scope():
            compute = Step(self.context, self.trainer.optimizer)
            rate = self.trainer.learning_rate(step)
            return self.to_host(compute(self.trainer.to_device(variables), batch, rate))  # type: ignore[no-any-return]

    def recorded_gradients(self, variables: Variables, batch: Batch) -> Iterator[list[Value]]:
        """Yield what is computed of each block of a batch, in order."""

        def gradients(context: ComputeContext, block: Any) -> Any:
            step = Step(context, self.trainer.optimizer)
            return step.block_sums(on_device.parameters, *block)

        with self.trainer.backend.scope():
            on_device = self.trainer.to_device(variables)
        yield from self._recorded(batch, gradients)

    def recorded_evaluation(self, variables: Variables) -> Iterator[list[Value]]:
        """Yield what is computed of each block of the samples that are trained on, in order."""

        def evaluation(context: ComputeContext, block: Any) -> Any:
            samples = rows(context.ops, block)
            return context.block_evaluation(on_device.parameters, on_device.statistics, *samples)

        with self.trainer.backend.scope():
            on_device = self.trainer.to_device(variables)
            batch = batch_of(self.context.ops, self.trainer.samples, self.trainer.training_indices)
        yield from self._recorded(batch, evaluation)

    def _recorded(self, batch: Batch, compute: Callable[[ComputeContext, Any], Any]) -> Iterator[list[Value]]:
        to_host = self.trainer.backend.to_host
        for group in block_groups(batch.size, 1):
            record: list[Value] = []
            ops = recording(self.context.ops, to_host, record)
            with self.trainer.backend.scope():
                results = compute(replace(self.context, ops=ops), batch.block(group))
                record += [Value("result", np.array(to_host(leaf))) for leaf in leaves(results)]
            yield record


def _training_difference(left: _Side, right: _Side, before: TrainState, epoch: int) -> Difference | None:
    """Repeat an epoch step by step; return the first difference, or None after the whole epoch."""
    variables = before.variables
    steps = before.epoch * len(left.loader.bounds)
    batches = zip(left.batches(epoch), right.batches(epoch), strict=True)
    for step, (batch, other) in enumerate(batches):
        after = left.stepped(variables, batch, steps + step)
        other_after = right.stepped(variables, other, steps + step)
        updated = partial(_named, suffix=" after the update")
        difference = _unequal(updated(after), updated(other_after), epoch=epoch, step=step)
        if difference is not None:
            blocks = (
                left.recorded_gradients(variables, batch),
                right.recorded_gradients(variables, other),
            )
            return _in_blocks(*blocks, epoch, step) or difference
        variables = after
    return None


def _evaluation_difference(left: _Side, right: _Side, before: TrainState, epoch: int) -> Difference | None:
    """Repeat the evaluation after an epoch; return the first difference."""
    variables = before.variables
    if epoch:
        steps = before.epoch * len(left.loader.bounds)
        for step, batch in enumerate(left.batches(epoch)):
            variables = left.stepped(variables, batch, steps + step)
    blocks = left.recorded_evaluation(variables), right.recorded_evaluation(variables)
    return _in_blocks(*blocks, epoch, None)


def _in_blocks(
    left: Iterator[list[Value]], right: Iterator[list[Value]], epoch: int, step: int | None
) -> Difference | None:
    for block, (a, b) in enumerate(zip(left, right, strict=True)):
        difference = _unequal(a, b, epoch=epoch, step=step, block=block)
        if difference is not None:
            return difference
    return None


def _unequal(
    left: Iterable[Value],
    right: Iterable[Value],
    *,
    epoch: int,
    step: int | None = None,
    block: int | None = None,
) -> Difference | None:
    for number, (ours, theirs) in enumerate(zip(left, right, strict=False)):
        a, b = ours.array, theirs.array
        mismatch = first_mismatch(unequal_bits(a, b), a, b)
        if mismatch is not None:
            values = float(mismatch.left), float(mismatch.right), mismatch.ulp or 0.0
            where = None if block is None else number
            return Difference(epoch, ours.operation, mismatch.index, *values, step, block, where)
    return None


def _named(variables: Variables, suffix: str = "") -> Iterator[Value]:
    """Yield the arrays of variables on the host by their names, such as parameters.0.weight."""
    for name, tree in variables._asdict().items():
        yield from _named_leaves(name, tree, suffix)


def _named_leaves(name: str, tree: Any, suffix: str) -> Iterator[Value]:
    if isinstance(tree, list | tuple):
        keys = getattr(tree, "_fields", range(len(tree)))
        for key, part in zip(keys, tree, strict=True):
            yield from _named_leaves(f"{name}.{key}", part, suffix)
    elif tree is not None:
        yield Value(name + suffix, np.asarray(tree))


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
