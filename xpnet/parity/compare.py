"""The first epoch, step, block and operation in which two training runs differ."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from xpnet._lib.tree import leaves
from xpnet._typing import uncompiled
from xpnet.arithmetic.blocks import block_groups
from xpnet.config.settings import ComputationSettings, RunSettings
from xpnet.errors import BackendError, ConfigError, DivergedError
from xpnet.parity.distance import Mismatch, first_mismatch, unequal_bits
from xpnet.parity.recording import Value, record_operations
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

IGNORED_SETTINGS = {field.name for kind in (ComputationSettings, RunSettings) for field in fields(kind)}
"""Settings in which compared runs may differ: device, arithmetic, and what is saved."""


@dataclass(frozen=True)
class EpochDigest:
    """The results of an epoch as digests, small enough to keep for every epoch."""

    layers: tuple[str, ...]  # the SHA-256 of each layer's parameters
    rest: str  # the SHA-256 of the running statistics and the optimiser's state
    metrics: str  # as text, in which NaN equals NaN and the two zeros differ


class RecordEpochs(Callback):
    """Records the `EpochDigest` of each logged epoch; inside the backend's scope, after ``Evaluate``.

    Training ends at the first epoch that differs from the expected one of another run; ``before`` is then
    the last equal state, on the host.
    """

    def __init__(
        self,
        trainer: Trainer,
        notify: Callable[[int], None] = lambda _: None,
        expected: Sequence[EpochDigest] | None = None,
    ) -> None:
        self._trainer, self._notify, self._expected = trainer, notify, expected
        self.epochs: list[EpochDigest] = []
        self.before: TrainState | None = None

    def on_epoch_end(self, log: EpochLog) -> None:
        """Record the epoch, call ``notify`` with its number, and compare it."""
        self._notify(log.epoch)
        variables = self._trainer.to_host(log.state.variables)
        layers = tuple(map(_hash_arrays, variables.parameters))
        rest = _hash_arrays((variables.statistics, variables.optimizer))
        self.epochs.append(EpochDigest(layers, rest, repr(log.metrics)))
        if self._expected is not None:
            if self.epochs == self._expected[: len(self.epochs)]:
                self.before = log.state._replace(variables=variables)
            else:
                self.stop = "different"


def first_differing_layer(left: EpochDigest, right: EpochDigest) -> int | None:
    """Return the index of the first layer whose parameters differ, else None."""
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
    ulp: float | None  # None for integers and booleans
    step: int | None = None  # within the epoch; None for an evaluation after it
    block: int | None = None  # within the step; None for results of a whole step or evaluation
    call: int | None = None  # among the calls of this operation in the block

    def __str__(self) -> str:
        """Return the difference in one line, the left value first."""
        location = [f"epoch {self.epoch}"]
        if self.epoch > 0:
            location.append("the evaluation" if self.step is None else f"step {self.step}")
        if self.block is not None:
            location.append(f"block {self.block}")
        call = "" if self.call is None else f", call {self.call},"
        distance = Mismatch(self.index, self.left, self.right, self.ulp).distance
        return (
            f"{', '.join(location)}: {self.operation}{call} differs first, at {self.index}: "
            f"{self.left!r} and {self.right!r} ({distance})"
        )


def first_difference(left: Trainer, right: Trainer) -> Difference | None:
    """Train both, and return the first epoch, step, block and operation in which they differ.

    The two have the same data and settings, and differ in backend or arithmetic. First the results of each
    epoch are compared; then the first epoch that differs is computed again, step by step. In the first step
    that differs, all operations of the arithmetic are compared, block by block. None means that all bits of
    all epochs are equal.

    Each side computes in its backend's scope; for several workers, call it inside ``backend.workers``.

    Raises
    ------
    ConfigError
        The two differ in data, dtype or settings other than those of device and arithmetic.
    BackendError
        The epochs are equal when computed again: a backend is not deterministic.
    """
    _check_same_run(left, right)
    sides = left, right
    expected = _train(left).epochs
    actual = _train(right, expected)
    if actual.epochs == expected:
        return None
    if actual.before is None:
        epoch = 0
        difference = _first_unequal_pair(map(_initial_values, sides), epoch)
    else:
        epoch = actual.before.epoch + 1
        difference = _difference_in_epoch(sides, actual.before.variables, epoch)
    if difference is None:
        msg = f"epoch {epoch} differs, but not when computed again: a backend does not repeat itself"
        raise BackendError(msg)
    return difference


def _check_same_run(left: Trainer, right: Trainer) -> None:
    """Raise ConfigError if data or settings differ."""
    names = [field.name for field in fields(left.config) if field.name not in IGNORED_SETTINGS]
    for name, attribute in [*zip(names, names, strict=True), ("dtype", "float_type")]:
        a, b = getattr(left.config, attribute), getattr(right.config, attribute)
        if a != b:
            msg = f"two runs can be compared if they have one {name}, got {a!r} and {b!r}"
            raise ConfigError(msg)
    if left.sizes != right.sizes or left.samples.size != right.samples.size:
        msg = "two runs can be compared if they have the same data"
        raise ConfigError(msg)


def _train(trainer: Trainer, expected: Sequence[EpochDigest] | None = None) -> RecordEpochs:
    record = RecordEpochs(trainer, expected=expected)
    with trainer.backend.scope(), suppress(DivergedError):  # the other run may diverge in the same epoch
        if trainer.fit([Evaluate(trainer, every=1), record]).interrupted:
            raise KeyboardInterrupt
    return record


def _difference_in_epoch(sides: Sequence[Trainer], variables: Variables, epoch: int) -> Difference | None:
    """Train for an epoch step by step; return the first difference, also of the evaluation after it."""
    difference = _first_unequal_pair([_step_values(side, variables, epoch) for side in sides], epoch)
    if difference is None or difference.step is None:
        return difference
    before = chain([variables], _train_epoch(sides[0], variables, epoch))
    variables = next(islice(before, difference.step, None))
    gradients = [_gradient_values(side, variables, epoch, difference.step) for side in sides]
    return _first_unequal_pair(gradients, epoch) or difference


def _first_unequal_pair(sides: Iterable[Iterable[Value]], epoch: int) -> Difference | None:
    """Return the first difference between the values of the two sides, which are in the same order."""
    for (operation, a, *location), (_, b, *_) in zip(*sides, strict=True):
        mismatch = first_mismatch(unequal_bits(a, b), a, b)
        if mismatch is not None:
            left, right, (call, step, block) = float(mismatch.left), float(mismatch.right), location
            return Difference(epoch, operation, mismatch.index, left, right, mismatch.ulp, step, block, call)
    return None


# The results of one run, in order, from variables on the host


def _initial_values(trainer: Trainer) -> Iterator[Value]:
    with trainer.backend.scope():
        variables = trainer.to_host(trainer.initial_state().variables)
    yield from _named_values(variables._asdict())
    yield from _evaluation_values(trainer, variables)


def _step_values(trainer: Trainer, variables: Variables, epoch: int) -> Iterator[Value]:
    """Yield the variables after each step of an epoch, then the values of an evaluation."""
    after = variables
    for step, after in enumerate(_train_epoch(trainer, variables, epoch)):
        for value in _named_values(after._asdict()):
            yield value._replace(operation=f"{value.operation} after the update", step=step)
    yield from _evaluation_values(trainer, after)


def _train_epoch(trainer: Trainer, variables: Variables, epoch: int) -> Iterator[Variables]:
    """Yield the variables after each step of an epoch, on the host."""
    batches, count = trainer.loader.batches(epoch), len(trainer.loader.bounds)
    for step in range(count):
        rate = trainer.learning_rate((epoch - 1) * count + step)
        with trainer.backend.scope():
            variables = trainer.to_host(trainer.step(trainer.to_device(variables), next(batches), rate))
        yield variables


def _evaluation_values(trainer: Trainer, variables: Variables) -> Iterator[Value]:
    """Yield the operations of an evaluation block by block, their results, and the metrics."""

    def evaluation(context: ComputeContext, variables: Variables, block: Block) -> dict[str, object]:
        compute, samples = context.block_evaluation, gather_rows(context.ops, block)
        results = compute(variables.parameters, variables.statistics, *samples)
        return dict(zip(("loss", "correct", "predictions"), results, strict=True))

    ops, samples = trainer.context.ops, trainer.samples
    training = single_batch(ops, samples, trainer.training_indices)
    yield from _block_values(trainer, evaluation, variables, training)
    if trainer.validation_indices is not None:
        held_out = single_batch(ops, samples, trainer.validation_indices)
        for value in _block_values(trainer, evaluation, variables, held_out):
            yield value._replace(operation=f"{value.operation} of validation samples")
    with trainer.backend.scope():
        state = TrainState(trainer.to_device(variables))
        log = EpochLog(state, trainer.evaluate(state), trainer.validate(state))
    yield from (Value(name, np.asarray(value)) for name, value in log.metrics.items())


def _gradient_values(trainer: Trainer, variables: Variables, epoch: int, step: int) -> Iterator[Value]:
    """Yield the operations of a step block by block, and the sums over each block."""

    def gradients(context: ComputeContext, variables: Variables, block: Block) -> dict[str, object]:
        compute = Step(context, trainer.optimizer).block_sums
        return {"sums": compute(variables.parameters, *block)}

    with trainer.backend.scope():  # without stacks, so that blocks can be loaded one by one
        batch = next(replace(trainer.loader, stack=1).batches(epoch, skip=step))
    for value in _block_values(trainer, gradients, variables, batch):
        yield value._replace(step=step)


def _block_values(
    trainer: Trainer,
    compute: Callable[[ComputeContext, Variables, Block], dict[str, object]],
    variables: Variables,
    batch: Batch,
) -> Iterator[Value]:
    """Yield the operations on each block of a batch, and their results, in order."""
    for number, group in enumerate(block_groups(batch.size, 1)):
        record: list[Value] = []
        with trainer.backend.scope():
            ops = record_operations(trainer.context.ops, trainer.backend.to_host, record)
            context = replace(trainer.context, ops=ops, compile=uncompiled)
            results = compute(context, trainer.to_device(variables), batch.block(group))
            record += _named_values({name: trainer.to_host(tree) for name, tree in results.items()})
        yield from (value._replace(block=number) for value in record)


def _named_values(trees: Mapping[str, object]) -> Iterator[Value]:
    """Yield the arrays of trees on the host by their names, such as parameters.0.weight."""
    for name, tree in trees.items():
        yield from (Value(path, array) for path, array in flatten(name, tree).items())


def _hash_arrays(tree: object) -> str:
    digest = hashlib.sha256()
    for leaf in leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
