"""The first epoch, step, block and operation in which two training runs differ."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet._lib.tree import leaves
from xpnet._typing import uncompiled
from xpnet.arithmetic.blocks import block_groups
from xpnet.config.settings import ComputationSettings, RunSettings
from xpnet.errors import BackendError, ConfigError, DivergedError
from xpnet.parity.distance import Mismatch, first_mismatch, unequal_bits
from xpnet.parity.recording import Value, recording
from xpnet.storage.checkpoint import flatten
from xpnet.training.batches import gather_rows, single_batch
from xpnet.training.callbacks import Callback, EpochLog, Evaluate
from xpnet.training.state import TrainState
from xpnet.training.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from xpnet.inference.context import ComputeContext
    from xpnet.training.batches import Batch, Block
    from xpnet.training.state import Variables
    from xpnet.training.trainer import Trainer

FREE = {field.name for kind in (ComputationSettings, RunSettings) for field in fields(kind)}
"""Settings in which compared runs may differ: where, with which arithmetic, and what is kept of them."""


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch, in so few bytes that a whole history can be kept."""

    layers: tuple[str, ...]  # the SHA-256 of each layer's parameters
    rest: str  # that of the running statistics and the optimiser's state
    metrics: str  # as text: NaN equals NaN, the two zeros differ


class KeepEpochs(Callback):
    """Keeps the `Epoch` of each logged epoch; inside the backend's scope, after ``Evaluate``.

    Training ends at the first epoch that is not the expected one of another run; ``before`` then is the
    last state, on the host, that is.
    """

    def __init__(
        self,
        trainer: Trainer,
        notify: Callable[[int], None] = lambda _: None,
        expected: Sequence[Epoch] | None = None,
    ) -> None:
        self._trainer, self._notify, self._expected = trainer, notify, expected
        self.epochs: list[Epoch] = []
        self.before: TrainState | None = None

    def on_epoch_end(self, log: EpochLog) -> None:
        """Keep the epoch, tell its number, and compare it."""
        self._notify(log.epoch)
        variables = self._trainer.to_host(log.state.variables)
        layers = tuple(map(_digest, variables.parameters))
        rest = _digest((variables.statistics, variables.optimizer))
        self.epochs.append(Epoch(layers, rest, repr(log.metrics)))
        if self._expected is not None:
            if self.epochs == self._expected[: len(self.epochs)]:
                self.before = log.state._replace(variables=variables)
            else:
                self.stop = "different"


def first_layer_apart(left: Epoch, right: Epoch) -> int | None:
    """Return the first layer whose parameters differ, None if none do."""
    pairs = enumerate(zip(left.layers, right.layers, strict=True))
    return next((layer for layer, (a, b) in pairs if a != b), None)


@dataclass(frozen=True)
class Difference:
    """The first operation in which two training runs differ. Steps, blocks and calls count from 0."""

    epoch: int  # 0: before the first step
    operation: str  # such as "matmul in linear", or "parameters.0.weight after the update"
    index: tuple[int, ...]
    left: float
    right: float
    ulp: float | None  # None for integers and truth values
    step: int | None = None  # within the epoch; None for an evaluation after it
    block: int | None = None  # within the step; None for results of a whole step or evaluation
    call: int | None = None  # of the calls of this operation within the block

    def __str__(self) -> str:
        """Return the difference in one line, the left value first."""
        place = [f"epoch {self.epoch}"]
        if self.epoch > 0:
            place.append("the evaluation" if self.step is None else f"step {self.step}")
        if self.block is not None:
            place.append(f"block {self.block}")
        call = "" if self.call is None else f", call {self.call},"
        distance = Mismatch(self.index, self.left, self.right, self.ulp).distance
        return (
            f"{', '.join(place)}: {self.operation}{call} differs first, at {self.index}: "
            f"{self.left!r} and {self.right!r} ({distance})"
        )


def first_difference(left: Trainer, right: Trainer) -> Difference | None:
    """Train both, and name the first epoch, step, block and operation in which they differ.

    The two have the same data and settings, and differ in backend or arithmetic. First the results of each
    epoch are compared; then the first epoch that differs is computed again, step by step. In the first step
    that differs, everything that the arithmetic is asked for is compared, block by block. None means that
    all bits of all epochs are equal.

    Each side computes in its backend's scope; for several workers, enter ``backend.workers`` around
    the call.

    Raises
    ------
    ConfigError
        The two are not the same training run, or have not the same dtype.
    BackendError
        The difference is gone when the epoch is computed again.
    """
    _check_comparable(left, right)
    sides = left, right
    expected = _fit(left).epochs
    compared = _fit(right, expected)
    if compared.epochs == expected:
        return None
    if compared.before is None:
        epoch = 0
        difference = _first_unequal(map(_initial_values, sides), epoch)
    else:
        epoch = compared.before.epoch + 1
        difference = _in_epoch(sides, compared.before.variables, epoch)
    if difference is None:
        msg = f"epoch {epoch} differs, but not when computed again: a backend does not repeat itself"
        raise BackendError(msg)
    return difference


def _check_comparable(left: Trainer, right: Trainer) -> None:
    names = [field.name for field in fields(left.config) if field.name not in FREE]
    for name, attribute in [*zip(names, names, strict=True), ("dtype", "float_type")]:
        a, b = getattr(left.config, attribute), getattr(right.config, attribute)
        if a != b:
            msg = f"two runs can be compared if they have one {name}, got {a!r} and {b!r}"
            raise ConfigError(msg)
    if left.sizes != right.sizes or left.samples.size != right.samples.size:
        msg = "two runs can be compared if they have the same data"
        raise ConfigError(msg)


def _fit(trainer: Trainer, expected: Sequence[Epoch] | None = None) -> KeepEpochs:
    keep = KeepEpochs(trainer, expected=expected)
    with trainer.backend.scope(), suppress(DivergedError):  # the other run may do so in the same epoch
        if trainer.fit([Evaluate(trainer, every=1), keep]).interrupted:
            raise KeyboardInterrupt
    return keep


def _in_epoch(sides: Sequence[Trainer], variables: Variables, epoch: int) -> Difference | None:
    """Train for an epoch step by step; return the first difference in it or in the evaluation after it."""
    difference = _first_unequal([_epoch_values(side, variables, epoch) for side in sides], epoch)
    if difference is None or difference.step is None:
        return difference
    before = chain([variables], _steps(sides[0], variables, epoch))
    variables = next(islice(before, difference.step, None))
    gradients = [_gradient_values(side, variables, epoch, difference.step) for side in sides]
    return _first_unequal(gradients, epoch) or difference


def _first_unequal(sides: Iterable[Iterable[Value]], epoch: int) -> Difference | None:
    """Return the first two values, one of each side, that differ."""
    for (operation, a, *place), (_, b, *_) in zip(*sides, strict=True):
        mismatch = first_mismatch(unequal_bits(a, b), a, b)
        if mismatch is not None:
            left, right, (call, step, block) = float(mismatch.left), float(mismatch.right), place
            return Difference(epoch, operation, mismatch.index, left, right, mismatch.ulp, step, block, call)
    return None


# One of the two runs: its results, in order, from variables on the host


def _initial_values(trainer: Trainer) -> Iterator[Value]:
    with trainer.backend.scope():
        variables = trainer.to_host(trainer.initial_state().variables)
    yield from _named(variables._asdict())
    yield from _evaluation_values(trainer, variables)


def _epoch_values(trainer: Trainer, variables: Variables, epoch: int) -> Iterator[Value]:
    """Yield the variables after each step of an epoch, then what an evaluation computes."""
    after = variables
    for step, after in enumerate(_steps(trainer, variables, epoch)):
        for value in _named(after._asdict()):
            yield value._replace(operation=f"{value.operation} after the update", step=step)
    yield from _evaluation_values(trainer, after)


def _steps(trainer: Trainer, variables: Variables, epoch: int) -> Iterator[Variables]:
    """Yield the variables after each step of an epoch, on the host."""
    batches, count = trainer.loader.batches(epoch), len(trainer.loader.bounds)
    for step in range(count):
        rate = trainer.learning_rate((epoch - 1) * count + step)
        with trainer.backend.scope():
            variables = trainer.to_host(trainer.step(trainer.to_device(variables), next(batches), rate))
        yield variables


def _evaluation_values(trainer: Trainer, variables: Variables) -> Iterator[Value]:
    """Yield the operations of an evaluation block by block, their results, and the metrics."""

    def evaluation(context: ComputeContext, on_device: Variables, block: Block) -> dict[str, Any]:
        compute, samples = context.block_evaluation, gather_rows(context.ops, block)
        results = compute(on_device.parameters, on_device.statistics, *samples)
        return dict(zip(("loss", "correct", "predictions"), results, strict=True))

    ops, samples = trainer.context.ops, trainer.samples
    yield from _recorded(trainer, evaluation, variables, single_batch(ops, samples, trainer.training_indices))
    if trainer.validation_indices is not None:
        held_out = single_batch(ops, samples, trainer.validation_indices)
        for value in _recorded(trainer, evaluation, variables, held_out):
            yield value._replace(operation=f"{value.operation} of validation samples")
    with trainer.backend.scope():
        state = TrainState(trainer.to_device(variables))
        log = EpochLog(state, trainer.evaluate(state), trainer.validate(state))
    yield from (Value(name, np.asarray(value)) for name, value in log.metrics.items())


def _gradient_values(trainer: Trainer, variables: Variables, epoch: int, step: int) -> Iterator[Value]:
    """Yield the operations of a step block by block, and the sums over each block."""

    def gradients(context: ComputeContext, on_device: Variables, block: Block) -> dict[str, Any]:
        compute = Step(context, trainer.optimizer).block_sums
        return {"sums": compute(on_device.parameters, *block)}

    with trainer.backend.scope():  # a loader without stacks, whose batches have all blocks one by one
        batch = next(replace(trainer.loader, stack=1).batches(epoch, skip=step))
    for value in _recorded(trainer, gradients, variables, batch):
        yield value._replace(step=step)


def _recorded(
    trainer: Trainer,
    compute: Callable[[ComputeContext, Variables, Block], dict[str, Any]],
    variables: Variables,
    batch: Batch,
) -> Iterator[Value]:
    """Yield the operations on each block of a batch, and their results, in order."""
    for number, group in enumerate(block_groups(batch.size, 1)):
        record: list[Value] = []
        with trainer.backend.scope():
            ops = recording(trainer.context.ops, trainer.backend.to_host, record)
            context = replace(trainer.context, ops=ops, compile=uncompiled)
            results = compute(context, trainer.to_device(variables), batch.block(group))
            record += _named({name: trainer.to_host(tree) for name, tree in results.items()})
        yield from (value._replace(block=number) for value in record)


def _named(trees: Mapping[str, Any]) -> Iterator[Value]:
    """Yield the arrays of trees on the host by their names, such as parameters.0.weight."""
    for name, tree in trees.items():
        yield from (Value(path, array) for path, array in flatten(name, tree).items())


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
