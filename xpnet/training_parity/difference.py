"""The first epoch, step, block and operation in which two training runs differ."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from xpnet._lib.kinds import check_arguments
from xpnet._lib.tree import leaves, leaves_by_path
from xpnet._typing import Function, HostArray, Json, Values
from xpnet.arithmetic.base import Arithmetic, Operand
from xpnet.arithmetic.blocks import block_groups
from xpnet.compute.context import ComputeContext
from xpnet.config.settings import ComputationSettings, RunSettings, names_of
from xpnet.errors import ConfigError
from xpnet.parity.distance import Mismatch, first_mismatch, unequal_bits
from xpnet.training.batches import Batch, SampleBlock, single_batch
from xpnet.training.loop import EpochLog, TrainState
from xpnet.training.step import Variables, block_sums
from xpnet.training.trainer import Trainer

IGNORED_SETTINGS = names_of(ComputationSettings, RunSettings)
"""Settings in which compared runs may differ: device, arithmetic, and what is saved."""
Compute = Callable[[ComputeContext, Variables, SampleBlock], Json]
"""Computes a block with variables; returns the results by name."""
OPERATIONS = ("matmul", "weight_and_bias_gradients", "sum", "exp", "log", "sqrt")
"""The methods of an arithmetic that are recorded."""


@dataclass(frozen=True, kw_only=True)
class Difference(Mismatch):
    """The first operation in which two training runs differ. Steps, blocks and calls count from 0."""

    epoch: int  # 0: before the first step
    operation: str  # such as "matmul in linear", or "parameters.0.weight after the update"
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
        values = f"{self.left!r} and {self.right!r} ({self.distance})"
        return f"{', '.join(location)}: {self.operation}{call} differs first, at {self.index}: {values}"


@check_arguments
def first_difference(left: Trainer, right: Trainer) -> Difference | None:
    """Return the first epoch, step, block and operation in which two training runs differ.

    The two have the same data and settings, and differ in backend or arithmetic. Parameters, running
    statistics and the optimiser's state are compared after each step, loss and accuracy after each epoch.
    The first step or evaluation that differs is computed again, to compare all operations of the arithmetic,
    block by block. None means that all bits are equal.

    Each side computes in its backend's scope; for several workers, call it inside ``backend.workers``.

    Raises
    ------
    ConfigError
        The two differ in data, dtype or settings other than those of device and arithmetic.
    """
    names = [field.name for field in fields(left.config) if field.name not in IGNORED_SETTINGS]
    for name, attribute in [*zip(names, names, strict=True), ("dtype", "float_type")]:
        own, other = getattr(left.config, attribute), getattr(right.config, attribute)
        if own != other:
            raise ConfigError(f"two runs can be compared if they have one {name}, got {own!r} and {other!r}")
    if (left.network, left.samples.x.shape) != (right.network, right.samples.x.shape):
        raise ConfigError("two runs can be compared if they have the same data")
    for a, b in zip(_training_points(left), _training_points(right), strict=True):
        difference = _first_unequal_pair(a, a.results, b.results)
        if difference:
            return _first_unequal_pair(a, a.operations, b.operations) or difference
    return None


class _Value(NamedTuple):
    """An operand or a result of an operation."""

    operation: str  # such as "matmul in linear"
    array: HostArray  # a copy on the host
    block: int | None = None  # in the step or the evaluation
    call: int | None = None  # among the calls of that operation in the block, from 0


class _Point(NamedTuple):
    """The results of a step or an evaluation, and its operations."""

    epoch: int
    step: int | None  # in the epoch; None for an evaluation
    results: Iterable[_Value]
    operations: Iterable[_Value] = ()  # computed when they are iterated over


def _training_points(trainer: Trainer) -> Iterator[_Point]:
    """Yield the points of a training run: initial variables, steps and evaluations."""
    with trainer.backend.scope():
        variables = trainer.to_host(trainer.initial_state().variables)
    yield _Point(0, None, _named_values(variables._asdict()))
    yield _evaluation_point(trainer, variables, 0)
    steps = len(trainer.loader.bounds)
    for epoch in range(1, trainer.config.epochs + 1):
        batches = trainer.loader.batches(epoch)
        for step in range(steps):
            before, rate = variables, trainer.learning_rate((epoch - 1) * steps + step)
            with trainer.backend.scope():
                variables = trainer.to_host(trainer.step(trainer.to_device(before), next(batches), rate))
            results = _named_values(variables._asdict(), " after the update")
            yield _Point(epoch, step, results, _step_operations(trainer, before, epoch, step))
        yield _evaluation_point(trainer, variables, epoch)


def _evaluation_point(trainer: Trainer, variables: Variables, epoch: int) -> _Point:
    with trainer.backend.scope():
        state = TrainState(trainer.to_device(variables))
        log = EpochLog(state, trainer.evaluate(state), trainer.validate(state))
    return _Point(epoch, None, _named_values(log.metrics), _evaluation_operations(trainer, variables))


def _first_unequal_pair(point: _Point, *sides: Iterable[_Value]) -> Difference | None:
    """Return the first difference between the values of the two sides, which are in the same order."""
    for (operation, a, block, call), (_, b, *_) in zip(*sides, strict=True):
        mismatch = first_mismatch(unequal_bits(a, b), a, b)
        if mismatch:
            location = {"epoch": point.epoch, "step": point.step, "block": block, "call": call}
            return Difference(**vars(mismatch), operation=operation, **location)
    return None


def _named_values(trees: Values, suffix: str = "") -> list[_Value]:
    """Return the arrays of trees on the host by their names, such as parameters.0.weight."""
    named = (item for name, tree in trees.items() for item in leaves_by_path(name, tree).items())
    return [_Value(path + suffix, np.asarray(array)) for path, array in named]


# The operations of one run, in order, from variables on the host


def _evaluation_operations(trainer: Trainer, variables: Variables) -> Iterator[_Value]:
    """Yield the operations of an evaluation block by block, and their results."""

    def evaluation(context: ComputeContext, variables: Variables, block: SampleBlock) -> Json:
        parameters, statistics, _ = variables
        results = context.block_evaluation(parameters, statistics, block.x, block.labels)
        return dict(zip(("loss", "correct", "predictions"), results, strict=True))

    orders = {"": trainer.training_indices, " of validation samples": trainer.validation_indices}
    for suffix, order in orders.items():
        if order is not None or not suffix:
            batch = single_batch(trainer.context.ops, trainer.samples, order)
            for value in _block_values(trainer, evaluation, variables, batch):
                yield value._replace(operation=value.operation + suffix)


def _step_operations(trainer: Trainer, variables: Variables, epoch: int, step: int) -> Iterator[_Value]:
    """Yield the operations of a step block by block, and the sums over each block."""

    def gradients(context: ComputeContext, variables: Variables, block: SampleBlock) -> Json:
        return {"sums": block_sums(context, variables.parameters, block)}

    with trainer.backend.scope():
        batch = next(trainer.loader.batches(epoch, skip=step))
    yield from _block_values(trainer, gradients, variables, batch)


def _block_values(trainer: Trainer, compute: Compute, variables: Variables, batch: Batch) -> Iterator[_Value]:
    """Yield the operations on each block of a batch, and their results, in order."""
    for number, group in enumerate(block_groups(batch.size, 1)):
        record: list[_Value] = []
        with trainer.backend.scope():
            ops = _record_operations(trainer.context.ops, trainer.backend.to_host, record)
            context = replace(trainer.context, ops=ops, as_written=True)
            results = compute(context, trainer.to_device(variables), batch.block(group))
            record += _named_values({name: trainer.to_host(tree) for name, tree in results.items()})
        yield from (value._replace(block=number) for value in record)


def _record_operations(ops: Arithmetic, to_host: Function, record: list[_Value]) -> Arithmetic:
    """Return an equivalent arithmetic that appends the operands and results of each operation to a record.

    Elementwise functions of the namespace are not recorded: their results are operands of the next
    operation. Operations within operations are not recorded either.
    """
    calls: Counter[str] = Counter()
    is_nested = False

    def record_method(name: str) -> Function:
        method = getattr(type(ops), name)

        def call(self: Arithmetic, *args: object, **kwargs: object) -> object:
            nonlocal is_nested
            if is_nested:
                return method(self, *args, **kwargs)
            label = f"{name} in {sys._getframe(1).f_code.co_name}"
            is_nested = True
            result = method(self, *args, **kwargs)
            is_nested = False
            for operation, tree in (f"operand of {label}", args), (label, result):
                for leaf in leaves(tree):
                    array = leaf.values if isinstance(leaf, Operand) else leaf
                    if hasattr(array, "shape"):
                        record.append(_Value(operation, np.array(to_host(array)), call=calls[label]))
            calls[label] += 1
            return result

        return call

    # A subclass, because the mathematics may depend on the type of the arithmetic.
    methods = {name: record_method(name) for name in OPERATIONS}
    subclass: type[Arithmetic] = type("Recording", (type(ops),), methods)
    return subclass(**{field.name: getattr(ops, field.name) for field in fields(ops)})
