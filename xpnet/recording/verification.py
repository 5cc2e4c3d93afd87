"""Verification: a recorded training is computed again, and compared bit by bit with its record.

Compared are the data, the history with its fingerprints, kept checkpoints, the model, the metrics and the
last checkpoint. In reproducible arithmetic all of them must agree, whatever computes them.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from xpnet._typing import Values
from xpnet.errors import ConfigError, DivergedError, setting
from xpnet.parity.distance import first_mismatch, unequal_bits
from xpnet.recording.recorded_run import RecordedRun, find_contradictions, find_file_difference
from xpnet.recording.recorder import describe_state, evaluate_result, load_parent, load_state, make_row
from xpnet.recording.training import KEPT_SETTINGS, check_start, describe_data, describe_parent
from xpnet.storage import checkpoint, record as records
from xpnet.storage.model_file import Tensors, encode_model, load_model, name_tensors
from xpnet.storage.schemas import select_keys
from xpnet.training.callbacks import Evaluate, FinalParameters, build_final, order_callbacks
from xpnet.training.console import TrainingConsole
from xpnet.training.loop import EpochLog, FitResult, LoopCallback, TrainState
from xpnet.training.step import Variables
from xpnet.training.trainer import Trainer

Differences: TypeAlias = Iterator[str]
"""Yields differences in words."""


def find_difference(run: RecordedRun, trainer: Trainer, heading: Iterable[str] = ()) -> str | None:
    """Train again, and return in words the first difference between the training and its record, or None.

    The lines of the heading are printed before the metrics.

    Raises
    ------
    ConfigError
        The data are not those of the training, or the run that it extends has changed.
    DataError
        A checkpoint or the model is missing, damaged, or of another training.
    """
    console = TrainingConsole(trainer, run.last, quiet=trainer.config.quiet, advise=False)
    for line in heading:
        console.print_line(line)
    final, ranks = build_final(trainer.config, run.initial_epoch), trainer.ranks
    difference = ranks.from_first(lambda: next(_find_record_differences(run, trainer), None))
    with ranks.agreement():
        state = _load_start(run, trainer, final)
    if difference:
        return difference
    compare = _Compare(run, final)
    # A callback may have ended it: its last epoch has metrics of the training samples too.
    last = run.last if run.has_end and run.record["status"] == "completed" else None
    order = order_callbacks(Evaluate(run.initial_epoch, last, final), [compare], console)
    try:
        result = trainer.fit(order, state, run.last + bool(run.batch), first_epoch=run.first)
    except DivergedError as error:
        problem, epoch, *_ = str(error).split(": ")
        return f"{problem}: {epoch}"
    if result.interrupted:
        interrupt = KeyboardInterrupt()
        interrupt.shared = True  # type: ignore[attr-defined]  # by all ranks
        raise interrupt
    differences = compare.find_missing_rows()
    if run.has_end:
        differences = chain(differences, _compare_result(run, trainer, final, result))
    return compare.difference or next(differences, None)


def _find_record_differences(run: RecordedRun, trainer: Trainer) -> Differences:
    """Compare what the record says besides the results; raise ConfigError if the data or start are others."""
    record, config = run.record, run.config
    data = select_keys(record["schema_version"], "data", describe_data(trainer.data))
    if problem := run.find_other_data(data["name"], data["sha256"]):
        raise ConfigError(f"{run.path}: {problem}: name them by {setting('data')}")
    recorded: Values = record["data"]
    names = {*recorded} if run.is_older else {*data, *recorded}  # an xpnet before 0.3 wrote fewer facts
    for name in sorted(names - ({"name", "source"} if trainer.config.data != config.data else set())):
        if (left := recorded.get(name, "nothing")) != (right := data.get(name, "nothing")):
            yield f"run.json: data.{name}: recorded {left!r}, found {right!r}"
    if trainer.data.test_is_validation and config.validation != len(trainer.data.y_test):
        yield f"run.json: config.validation: recorded {config.validation}, found {len(trainer.data.y_test)}"
    if record["seed"] != config.seed:
        yield f"run.json: seed: recorded {record['seed']!r} and config.seed {config.seed!r}"
    if (best_by := record["config"].get("best_by", trainer.best_by)) != trainer.best_by:
        yield f"run.json: config.best_by: recorded {best_by!r}, expected {trainer.best_by!r}"
    yield from find_contradictions(run)
    if (config.init_from is None) != (record["init_from_sha256"] is None) and not run.is_older:
        start = f"recorded {record['init_from_sha256']} with config.init_from {config.init_from}"
        yield f"run.json: init_from_sha256: {start}"
    check_start(run, trainer.config.init_from)


def _load_start(run: RecordedRun, trainer: Trainer, final: FinalParameters) -> TrainState:
    """Return the state to start from: the initial one, that of a kept checkpoint, or that of the parent."""
    recorded = run.record["parent"]
    parent = run.parent
    remedy = "expected the files of the training"
    if run.first != run.initial_epoch:
        return load_state(trainer, final, run.kept(run.first), remedy)[0]
    if not (recorded and parent):
        return trainer.initial_state()
    state = load_parent(trainer, final, parent, remedy)
    for name, value in describe_parent(parent).items():
        expected = recorded.get(name)
        if value != expected and name != "run" and not (expected is None and run.is_older):
            problem = f"expected the {name} {expected}, found {value}"
            raise ConfigError(f"{parent.path}: is not the run that {run.path} extends: {problem}")
    difference = find_file_difference(parent, all_files=parent.record["digests"] is not None)
    settings = parent.config
    for name in sorted(KEPT_SETTINGS - {"data", "test_data", "init_from"}):
        if getattr(run.config, name) != getattr(settings, name):
            difference = f"config.{name} is another"
    is_last = not settings.patience and settings.average_epochs == 1
    fingerprint = trainer.fingerprint(state) if is_last else parent.model.fingerprint
    if recorded["fingerprint"] != fingerprint:
        difference = f"its state has the fingerprint {fingerprint[:16]}…"
    if difference:
        raise ConfigError(f"{parent.path}: is no proof of where {run.path} starts: {difference}")
    return state


class _Compare(LoopCallback):
    """Compares each epoch with the history and the kept checkpoints, and stops at the first difference."""

    difference: str | None = None

    def __init__(self, run: RecordedRun, final: FinalParameters) -> None:
        self._run, self._final = run, final
        self.needs_every_step = run.batch > 0
        self._rows = deque(row for row in run.history if run.includes(row.get("epoch")))
        # From the rows of an older xpnet: it logged fewer epochs with a patience.
        self._optional = {"fingerprint", "train_loss", "train_accuracy"} if run.is_older else set()

    def on_step_end(self, state: TrainState) -> None:
        """Stop where the recorded training was stopped within an epoch."""
        if self._run.batch and (state.epoch, state.batch) == (self._run.last, self._run.batch):
            self.stop = "end"

    def on_epoch_end(self, log: EpochLog) -> None:
        """Compare."""
        self.difference = self.stop = next(self._compare_epoch(log), None)

    def find_missing_rows(self) -> Differences:
        """Yield a difference if the history has more rows than the training."""
        if self._rows:
            number = json.dumps(self._rows[0].get("epoch"))
            yield f"metrics.jsonl: has a row of epoch {number}, which the training has not"

    def _compare_epoch(self, log: EpochLog) -> Differences:
        kept, where = self._run.kept(log.epoch), f"epoch {log.epoch}"
        if computed := make_row(self._trainer, log):
            recorded = self._rows.popleft() if self._rows else {}
            if recorded.get("epoch") != log.epoch:
                yield f"metrics.jsonl: expected a row of {where}"
            expected = {name for name in computed if name in recorded or name not in self._optional}
            yield from _compare_objects(f"{where}: ", recorded, {name: computed[name] for name in expected})
        if kept.exists():
            yield from _compare_checkpoint(self._run, kept, self._trainer, log.state, self._final)


def _compare_objects(where: str, recorded: Values, computed: Values) -> Differences:
    """Yield a difference for each value, but the seconds, whose bits two JSON objects do not share."""
    # A difference of the parameters is the cause of those of the metrics.
    names = sorted({*computed, *recorded} - {"seconds"}, key=lambda name: (name != "fingerprint", name))
    for name in names:
        left, right = recorded.get(name, "nothing"), records.replace_nonfinite(computed.get(name, "nothing"))
        if json.dumps(left) != json.dumps(right):
            yield f"{where}{name}: recorded {_format(left)}, computed {_format(right)}"


def _format(value: object) -> str:
    """Format a JSON value, floats with their bits."""
    return f"{value!r} ({value.hex()})" if isinstance(value, float) else json.dumps(value)


def _compare_arrays(where: str, recorded: Tensors, computed: Tensors) -> Differences:
    """Yield a difference for each array that is not the same, with its first element that differs.

    The parts of a state have names in place of their numbers.
    """
    for key in dict.fromkeys((*computed, *recorded)):
        name = re.sub(r"^state\.([0-2])(?=\.)", lambda part: Variables._fields[int(part[1])], key)
        left, right = recorded.get(key), computed.get(key)
        if left is None or right is None:
            yield f"{where}: {name}: {'is missing' if left is None else 'is not expected'}"
        elif (left.dtype, left.shape) != (right.dtype, right.shape):
            forms = (f"{array.dtype} of shape {array.shape}" for array in (left, right))
            yield f"{where}: {name}: recorded {next(forms)}, computed {next(forms)}"
        elif found := first_mismatch(unequal_bits(left, right), left, right):
            values = f"recorded {_format(found.left)}, computed {_format(found.right)}"
            place = list(found.index)
            yield f"{where}: {name}{place if place else ''}: {values}, {found.distance}"


def _compare_checkpoint(
    run: RecordedRun, path: Path, trainer: Trainer, state: TrainState, final: FinalParameters
) -> Differences:
    """Yield the differences between a checkpoint and a state, what is kept for the network included."""
    arrays, progress = checkpoint.load_checkpoint(path)
    rows = sum(records.is_number(epoch := row.get("epoch")) and epoch <= state.epoch for row in run.history)
    # The seconds are what no computation gives.
    computed, facts = describe_state(trainer, state, final, rows, progress["seconds"])
    yield from _compare_arrays(path.name, arrays, computed)
    yield from _compare_objects(f"{path.name}: ", progress, facts)
    encode = partial(checkpoint.encode_checkpoint, computed, facts, run.record["specification_version"])
    yield from _compare_form(run, path, encode)


def _compare_result(
    run: RecordedRun, trainer: Trainer, final: FinalParameters, result: FitResult
) -> Differences:
    """Yield the differences between the record and the result of the training."""
    is_complete, status = result.state.epoch == trainer.config.epochs or final.stop, run.record["status"]
    if status == "completed" and not (is_complete or trainer.data.from_arrays):
        yield f"run.json: metrics.epochs: recorded {result.state.epoch}, expected {trainer.config.epochs}"
    if status == "interrupted" and is_complete:
        yield "run.json: status: recorded interrupted, and the training is complete"
    path, computed = run.path / records.MODEL_FILE, trainer.model(result.best)
    model = load_model(path)
    yield from _compare_arrays(path.name, name_tensors(model), name_tensors(computed))
    for name in ("activation", "columns", "normalization.kind"):
        left, right = map(attrgetter(name), (model, computed))
        if left != right:
            yield f"{path.name}: {name}: recorded {left}, computed {right}"
    yield from _compare_form(run, path, partial(encode_model, computed))
    recorded = {"fingerprint": run.record["fingerprint"]}
    yield from _compare_objects("run.json: ", recorded, {"fingerprint": computed.fingerprint})
    metrics = evaluate_result(trainer, result, None, run.record["schema_version"])
    metrics |= {"epochs": result.state.epoch, **final.metrics}
    yield from _compare_objects("run.json: metrics.", run.record["metrics"] or {}, metrics)
    if run.checkpoint.exists():
        yield from _compare_checkpoint(run, run.checkpoint, trainer, result.state, final)


def _compare_form(run: RecordedRun, path: Path, encode: Callable[[int], bytes]) -> Differences:
    """Yield a difference if a file, whose content is right, is in none of the forms that its xpnet wrote."""
    if path.read_bytes() not in map(encode, run.formats):
        yield f"{path.name}: has a header that no training writes, with other metadata or tensors"
