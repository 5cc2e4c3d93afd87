"""Verification: a recorded training is computed again, and compared bit by bit with its record.

Compared are the data, the history with its fingerprints, kept checkpoints, the model, the metrics and the
last checkpoint. In reproducible arithmetic all of them must agree, whatever computes them.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from xpnet.config import TrainConfig, from_json
from xpnet.errors import ConfigError, DataError, DivergedError
from xpnet.parity.distance import first_mismatch, unequal_bits
from xpnet.recording.outcome import evaluate_result
from xpnet.recording.training import check_start, describe_data
from xpnet.storage import checkpoint, model_file
from xpnet.storage import record as records
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.model_file import SavedModel, encode_model, load_model, name_tensors
from xpnet.storage.record import Record, read_json, read_metrics, read_run, replace_nonfinite
from xpnet.storage.run import check_specification, digest_file, list_files
from xpnet.training import callbacks, final_parameters
from xpnet.training.callbacks import EpochLog, load_state, make_progress, make_row, state_arrays
from xpnet.training.console import TrainingConsole
from xpnet.training.final_parameters import FinalParameters
from xpnet.training.loop import FitResult
from xpnet.training.state import TrainState, Variables
from xpnet.training.trainer import Trainer

_FILES = {records.RECORD_FILE, records.METRICS_FILE, records.MODEL_FILE, records.CHECKPOINT_FILE}
_OPTIONAL_DATA = {"training_samples", "validation_samples", "test_samples", "features", "classes"}
_OPTIONAL_DATA |= {"feature_names", "class_names"}
"""Facts on the data that records of an xpnet before 0.3 may lack."""


class RecordedRun(NamedTuple):
    """A run to verify.

    Attributes
    ----------
    first, last
        The epochs between which the training is computed: from the state after ``first`` epochs on.
    batch
        The steps in the next epoch after which the training was stopped.
    """

    folder: Path
    record: Record
    config: TrainConfig
    rows: list[dict[str, Any]]
    first: int
    last: int
    batch: int = 0

    @property
    def start(self) -> int:
        """The number of epochs of the state that the whole training began with."""
        parent = self.record["parent"]
        return 0 if parent is None else parent["epochs"]

    @property
    def has_end(self) -> bool:
        """True if the training is computed to its end."""
        return self.last == _count_epochs(self.record)

    @property
    def is_older(self) -> bool:
        """True if an xpnet before 0.3 wrote the record, whose segments have no epochs."""
        return self.record["segments"][0].get("epoch") is None

    @property
    def initial_file(self) -> tuple[Path, str | None] | None:
        """The file that the training is computed from and its SHA-256; None if it starts from the seed."""
        parent, start = self.record["parent"], self.config.init_from
        if self.first != self.start:
            return self.kept(self.first), digest_file(self.kept(self.first))
        if parent is not None:
            return Path(parent["run"]) / records.CHECKPOINT_FILE, parent["checkpoint_sha256"]
        return None if start is None else (start, self.record["init_from_sha256"])

    def describe(self) -> str:
        """Return what is verified and from what file it is computed, in words."""
        first, parts = self.first + 1, list[str]()
        if first <= self.last or not self.batch:
            parts.append(f"epochs {first} to {self.last}" if first < self.last else f"epoch {self.last}")
        if self.batch:
            parts.append(f"{self.batch} step{'s' * (self.batch > 1)} of epoch {self.last + 1}")
        results = ", model and metrics" if self.has_end else ""
        start, digest = self.initial_file or (None, None)
        origin = "" if start is None else f", starting from {start}"
        origin += "" if digest is None else f", {digest[:16]}…"
        return f"{' and '.join(parts)}{results} are the same bits{origin}"

    def includes(self, epoch: object) -> bool:
        """Return True if the row of an epoch in the history, however damaged, is to be compared."""
        if not records.is_number(epoch):
            return True
        is_before = epoch < self.first != self.start
        return not (is_before or (epoch > self.last and not self.has_end))

    def kept(self, epoch: int) -> Path:
        """Return the path of the checkpoint that was kept after an epoch, if it was."""
        return self.folder / records.KEPT_CHECKPOINT.format(epoch)


def _count_epochs(record: Record) -> int:
    """Return the number of epochs when a training ended."""
    epochs = (record["metrics"] or {}).get("epochs")
    return int(epochs) if records.is_number(epochs) else 0


def find_file_difference(folder: Path, *, all_files: bool) -> str | None:
    """Compare the files of a run with the digests in its record; return the first difference in words.

    Without ``all_files``, a missing checkpoint and a record without digests are no difference.

    Raises
    ------
    DataError
        There is no run, its record is damaged, or with ``all_files``, it holds no digests.
    """
    path, record = folder / records.RECORD_FILE, read_run(folder)
    if record["digests"] is None:
        if not all_files:
            is_missing = record["schema_version"] > 2 and record["ended"] is not None
            return f"{path.name}: digests: are missing" if is_missing else None
        reason = "the training has not ended" if record["schema_version"] > 2 else "an older xpnet wrote it"
        raise DataError.at(path, f"holds no digests of files: {reason}")
    content = read_json(path, "not a run record", "expected a folder of a run")
    found = {path.name: hashlib.sha256(records.canonical_json(content)).hexdigest()}
    found |= {file.name: digest_file(file) for file in list_files(folder)}
    for name in dict.fromkeys((path.name, *record["digests"], *found)):
        recorded, digest = record["digests"].get(name), found.get(name)
        if digest is None and (all_files or "checkpoint" not in name):
            return f"{name}: is missing"
        if recorded is None:
            return f"{name}: is not in the record"
        if digest not in (None, recorded):
            return f"{name}: is not what was recorded (SHA-256 {recorded[:16]}…, found {digest[:16]}…)"
    return None


def read_recorded(folder: Path, epochs: tuple[int, int] | None = None) -> RecordedRun:
    """Read a run, and check that its training, or that between two epochs, can be verified.

    Raises
    ------
    DataError
        There is no run, or its record, history or checkpoint is damaged.
    ConfigError
        The training has not ended, was in native arithmetic or followed another version of the
        specification, or it has no checkpoint to start from or nothing to compare with.
    """
    record, end = read_run(folder), 0
    if record["status"] not in ("completed", "interrupted"):
        raise ConfigError.at(folder, f"is {record['status']}: expected a training that has ended")
    config = from_json(record["config"], str(folder / records.RECORD_FILE))
    if record["specification_version"] is None or config.arithmetic == "native":
        problem = "native arithmetic, which gives other bits on other libraries and machines"
        raise ConfigError.at(folder, f"was trained in {problem}: only --files can be verified")
    check_specification(folder, record)
    last = folder / records.CHECKPOINT_FILE
    if last.exists():
        _, progress = load_checkpoint(last)
        end = int(progress["batch"])
    elif record["status"] == "interrupted":
        problem = "was interrupted, and has no checkpoint that says after which step"
        raise ConfigError.at(folder, f"{problem}: xpnet train --resume {folder} completes it")
    rows = read_metrics(folder / records.METRICS_FILE, ended=True)
    run = RecordedRun(folder, record, config, rows, 0, _count_epochs(record))
    run = run._replace(first=run.start, batch=end)
    return run if epochs is None else _select_epochs(run, *epochs)


def _select_epochs(run: RecordedRun, first: int, last: int) -> RecordedRun:
    """Return the run with only these epochs to verify; raise ConfigError if they cannot be."""
    if not run.start <= first < last <= run.last:
        msg = f"--between: expected epochs from {run.start} to {run.last}, got {first}:{last}"
        raise ConfigError(msg)
    if first != run.start and not run.kept(first).exists():
        known = [epoch for epoch in range(run.start + 1, run.last) if run.kept(epoch).exists()]
        hint = f"only after {', '.join(map(str, known))}" if known else "--keep-checkpoint-every keeps some"
        msg = f"--between: {run.folder} has no checkpoint after epoch {first}: {hint}"
        raise ConfigError(msg)
    is_logged = any(row.get("epoch") == last and row.get("fingerprint") for row in run.rows)
    if not (last == run.last or is_logged or run.kept(last).exists()):
        msg = f"--between: {run.folder} has neither a fingerprint nor a checkpoint after epoch {last}"
        raise ConfigError(msg)
    return run._replace(first=first, last=last, batch=run.batch if last == run.last else 0)


def find_difference(run: RecordedRun, trainer: Trainer, console: TrainingConsole) -> str | None:
    """Train again, and return in words the first difference between the training and its record, or None.

    Raises
    ------
    ConfigError
        The data are not those of the training, or the run that it extends has changed.
    DataError
        A checkpoint or the model is missing, damaged, or of another training.
    """
    final, ranks = final_parameters.build(trainer.config, run.start), trainer.ranks
    with ranks.agreement():
        differences = _find_record_differences(run, trainer) if ranks.rank == 0 else iter(())
        difference = next(differences, None)  # which reads all rows
        state = _load_start(run, trainer, final)
    if difference := ranks.gather(difference or "")[0]:
        return difference
    compare = _Compare(run, trainer, final)
    evaluate = callbacks.Evaluate(trainer, first=run.start)
    stop = callbacks.StopOnInterrupt(console.print_line, ranks)
    order = [evaluate, final, compare, stop, console]
    try:
        result = trainer.fit(order, state, run.last + bool(run.batch), first_epoch=run.first)
    except DivergedError as error:
        problem, epoch, *_ = str(error).split(": ")
        return f"{problem}: {epoch}"
    if result.interrupted:
        interrupt = KeyboardInterrupt()
        interrupt.shared = True  # type: ignore[attr-defined]  # by all ranks
        raise interrupt
    differences = chain(compare.differences, compare.find_missing_rows())
    if run.has_end:
        differences = chain(differences, _compare_result(run, trainer, final, result))
    return next(differences, None)


def _find_record_differences(run: RecordedRun, trainer: Trainer) -> Iterator[str]:
    """Compare what the record says besides the results; raise ConfigError if the data or start are others."""
    record, config = run.record, run.config
    data: Mapping[str, Any] = describe_data(trainer.data)
    recorded: Mapping[str, Any] = record["data"]
    if data["sha256"] != recorded["sha256"]:
        original, found = (f"{info['name']} with SHA-256 {info['sha256'][:16]}…" for info in (recorded, data))
        raise ConfigError.at(
            run.folder, f"was trained on other data: {original}, found {found}: name them by --data"
        )
    names = {*data, *recorded} - ({"name"} if trainer.config.data != config.data else set())
    absent = {"largest_class", *(_OPTIONAL_DATA if run.is_older else ())} - recorded.keys()
    for name in sorted(names - absent):
        if (left := recorded.get(name)) != (right := data.get(name)):
            yield f"run.json: data.{name}: recorded {left!r}, found {right!r}"
    if record["seed"] != config.seed:
        yield f"run.json: seed: recorded {record['seed']!r} and config.seed {config.seed!r}"
    yield from _find_contradictions(run)
    if (config.init_from is None) != (record["init_from_sha256"] is None) and not run.is_older:
        digest = json.dumps(record["init_from_sha256"])
        yield f"run.json: init_from_sha256: recorded {digest} with config.init_from {config.init_from}"
    check_start(run.folder, record, trainer.config.init_from)


def _find_contradictions(run: RecordedRun) -> Iterator[str]:
    """Yield what no training records, without computing anything."""
    record, config, parent = run.record, run.config, run.record["parent"]
    parts: list[tuple[str, Mapping[str, Any], type]] = [("", record, Record)]
    parts += [("parent.", {} if parent is None else parent, records.ParentInfo)]
    parts += [(f"segments[{i}].", part, records.Segment) for i, part in enumerate(record["segments"])]
    for where, values, kind in parts:
        for name in sorted(values.keys() - get_type_hints(kind).keys() - {"git", "resumed"}):  # of schema 1
            yield f"run.json: {where}{name}: is no key of a record"
    if record["error"] is not None:
        yield f"run.json: error: recorded {json.dumps(record['error'])} and status {record['status']}"
    if config.repeats > 1 or isinstance(config.learning_rate, tuple):
        several = f"repeats {config.repeats} and learning_rate {config.learning_rate}"
        yield f"run.json: config: recorded {several}, expected those of one training"
    if config.resume is not None or str(config.extend) != str(parent and parent["run"]):
        yield f"run.json: config.extend: recorded {config.extend} with parent {parent and parent['run']}"
    if run.batch and record["status"] == "completed":
        yield f"{records.CHECKPOINT_FILE}: has {run.batch} steps after the last epoch of a completed training"
    digests = record["digests"] or {}
    for name in sorted({*digests, *(path.name for path in run.folder.glob("checkpoint*"))} - _FILES):
        kept = re.fullmatch(records.KEPT_CHECKPOINT.format("([1-9][0-9]{0,15})"), name)
        if kept is None or not run.start <= int(kept[1]) <= _count_epochs(record):
            yield f"{name}: is no file of this training"


def _load_start(run: RecordedRun, trainer: Trainer, final: FinalParameters) -> TrainState:
    """Return the state to start from: the initial one, that of a kept checkpoint, or that of the parent."""
    parent, remedy = run.record["parent"], "expected the files of the training"
    if run.first != run.start:
        return load_state(trainer, final, run.kept(run.first), remedy)[0]
    if parent is None:
        return trainer.initial_state()
    folder = Path(parent["run"])
    if not folder.exists():
        folder = run.folder.resolve().parent / folder.name
    record, path = read_run(folder), folder / records.CHECKPOINT_FILE
    state, _ = load_state(trainer, final, path, remedy)
    found: dict[str, object] = {"fingerprint": record["fingerprint"], "started": record["started"]}
    found |= {"checkpoint_sha256": digest_file(path), "epochs": state.epoch}
    for name, value in found.items():
        if (recorded := parent.get(name)) != value and (recorded is not None or not run.is_older):
            problem = f"expected the {name} {recorded}, found {value}"
            raise ConfigError.at(folder, f"is not the run that {run.folder} extends: {problem}")
    return state


class _Compare(callbacks.Callback):
    """Compares each epoch with the history and the kept checkpoints, and stops at the first difference."""

    def __init__(self, run: RecordedRun, trainer: Trainer, final: FinalParameters) -> None:
        self._run, self._trainer, self._final = run, trainer, final
        self.needs_every_step = run.batch > 0
        self._rows = deque(row for row in run.rows if run.includes(row.get("epoch")))
        self._optional = {"fingerprint"} if run.is_older else set()  # from the rows of an older xpnet
        self.differences: Iterator[str] = iter(())

    def on_step_end(self, state: TrainState) -> None:
        """Stop where the recorded training was stopped within an epoch."""
        if self._run.batch and (state.epoch, state.batch) == (self._run.last, self._run.batch):
            self.stop = "end"

    def on_epoch_end(self, log: EpochLog) -> None:
        """Compare."""
        difference = next(self._compare_epoch(log), None)
        if difference is not None:
            self.differences, self.stop = iter((difference,)), "difference"

    def find_missing_rows(self) -> Iterator[str]:
        """Yield a difference if the history has more rows than the training."""
        if self._rows:
            number = json.dumps(self._rows[0].get("epoch"))
            yield f"metrics.jsonl: has a row of epoch {number}, which the training has not"

    def _compare_epoch(self, log: EpochLog) -> Iterator[str]:
        kept = self._run.kept(log.epoch)
        if computed := make_row(self._trainer, log):
            yield from self._compare_row(f"epoch {log.epoch}", log.epoch, computed)
        if kept.exists():
            yield from _compare_checkpoint(self._run, kept, self._trainer, log.state, self._final)

    def _compare_row(self, where: str, epoch: int, computed: Mapping[str, object]) -> Iterator[str]:
        recorded = self._rows.popleft() if self._rows else {}
        if recorded.get("epoch") != epoch:
            yield f"metrics.jsonl: expected a row of {where}"
        names = {*computed, *recorded} - {"seconds"} - (self._optional - recorded.keys())
        # A difference of the parameters is the cause of those of the metrics.
        for name in sorted(names, key=lambda name: (name != "fingerprint", name)):
            yield from _compare_values(f"{where}: {name}", recorded.get(name), computed.get(name))


def _compare_values(where: str, recorded: object, computed: object) -> Iterator[str]:
    """Yield a difference if two JSON values are not the same, with the bits of numbers."""
    computed = replace_nonfinite(computed)
    if json.dumps(recorded) != json.dumps(computed):
        yield f"{where}: recorded {_format(recorded)}, computed {_format(computed)}"


def _format(value: object) -> str:
    """Format a JSON value, floats with their bits."""
    return f"{value!r} ({value.hex()})" if isinstance(value, float) else json.dumps(value)


def _compare_arrays(
    where: str, recorded: Mapping[str, np.ndarray], computed: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """Yield a difference for each array that is not the same, with its first element that differs."""
    for name in dict.fromkeys((*computed, *recorded)):
        left, right = recorded.get(name), computed.get(name)
        if left is None or right is None:
            yield f"{where}: {name}: {'is missing' if left is None else 'is not expected'}"
        elif (left.dtype, left.shape) != (right.dtype, right.shape):
            forms = (f"{array.dtype} of shape {array.shape}" for array in (left, right))
            yield f"{where}: {name}: recorded {next(forms)}, computed {next(forms)}"
        elif (found := first_mismatch(unequal_bits(left, right), left, right)) is not None:
            values = f"recorded {_format(found.left)}, computed {_format(found.right)}"
            place = list(found.index)
            yield f"{where}: {name}{place if place else ''}: {values}, {found.distance}"


def _compare_checkpoint(
    run: RecordedRun, path: Path, trainer: Trainer, state: TrainState, final: FinalParameters
) -> Iterator[str]:
    """Yield the differences between a checkpoint and a state, what is kept for the network included."""
    arrays, progress = load_checkpoint(path)
    computed = state_arrays(trainer, state, final)

    def rename(named: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Give the parts of a state their names in place of their numbers."""
        for index, field in enumerate(Variables._fields):
            named = {re.sub(rf"^state\.{index}\.", f"{field}.", name): named[name] for name in named}
        return dict(named)

    yield from _compare_arrays(path.name, rename(arrays), rename(computed))
    rows = sum(records.is_number(epoch := row.get("epoch")) and epoch <= state.epoch for row in run.rows)
    facts = make_progress(state, final, rows, progress["seconds"])  # which no computation gives
    for name in sorted({*facts, *progress}):
        yield from _compare_values(f"{path.name}: {name}", progress.get(name), facts.get(name))
    specification = run.record["specification_version"]
    versions = range(checkpoint.FORMAT_VERSION, 0, -1)
    yield from _compare_form(
        path, (encode_checkpoint(computed, facts, specification, version) for version in versions)
    )


def _compare_result(
    run: RecordedRun, trainer: Trainer, final: FinalParameters, result: FitResult
) -> Iterator[str]:
    """Yield the differences between the record and the result of the training."""
    is_complete = result.state.epoch == trainer.config.epochs or final.stop
    if run.record["status"] == "completed" and not (is_complete or trainer.data.from_arrays):
        yield f"run.json: metrics.epochs: recorded {result.state.epoch}, expected {trainer.config.epochs}"
    model = trainer.model(result.best)
    yield from _compare_models(run.folder / records.MODEL_FILE, model)
    fingerprints = run.record["fingerprint"], trainer.fingerprint(result.best)
    yield from _compare_values("run.json: fingerprint", *fingerprints)
    computed: dict[str, object] = {**evaluate_result(trainer, result), "epochs": result.state.epoch}
    computed |= final.metrics
    recorded = run.record["metrics"] or {}
    for name in sorted({*computed, *recorded} - {"seconds"}):
        yield from _compare_values(f"run.json: metrics.{name}", recorded.get(name), computed.get(name))
    last = run.folder / records.CHECKPOINT_FILE
    if last.exists():
        yield from _compare_checkpoint(run, last, trainer, result.state, final)


def _compare_form(path: Path, forms: Iterable[bytes]) -> Iterator[str]:
    """Yield a difference if a file, whose content is right, is in none of the forms that xpnet writes."""
    content = path.read_bytes()
    if content not in forms:
        yield f"{path.name}: has a header that no training writes, with other metadata or tensors"


def _compare_models(path: Path, computed: SavedModel) -> Iterator[str]:
    recorded, versions = load_model(path), range(model_file.FORMAT_VERSION, 0, -1)
    yield from _compare_arrays(records.MODEL_FILE, name_tensors(recorded), name_tensors(computed))
    for name in ("activation", "columns"):
        if (left := getattr(recorded, name)) != (right := getattr(computed, name)):
            yield f"{records.MODEL_FILE}: {name}: recorded {left}, computed {right}"
    if (left := recorded.normalization.kind) != (right := computed.normalization.kind):
        yield f"{records.MODEL_FILE}: normalize: recorded {left}, computed {right}"
    yield from _compare_form(path, (encode_model(computed, version) for version in versions))
