"""Verification: a recorded training is computed again, and compared bit by bit with its record.

Compared are the data, the history with its fingerprints, kept checkpoints, the model, the metrics and the
last checkpoint. In reproducible arithmetic all of them must agree, whatever computes them.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnet.config import TrainConfig, from_json
from xpnet.errors import ConfigError, DataError, DivergedError
from xpnet.parity.distance import first_mismatch, unequal_bits
from xpnet.recording.outcome import evaluate_result
from xpnet.recording.training import describe_data
from xpnet.storage import record as records
from xpnet.storage.checkpoint import load_checkpoint
from xpnet.storage.model_file import SavedModel, load_model, name_tensors
from xpnet.storage.record import Record, read_json, read_metrics, read_run, replace_nonfinite
from xpnet.storage.run import check_specification, digest_file, list_files
from xpnet.training import callbacks, final_parameters
from xpnet.training.callbacks import EpochLog, load_state, make_row, state_arrays
from xpnet.training.console import TrainingConsole
from xpnet.training.final_parameters import FinalParameters
from xpnet.training.loop import FitResult
from xpnet.training.state import TrainState, Variables
from xpnet.training.trainer import Trainer


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
            return None
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
    if record["specification_version"] is None:
        problem = "native arithmetic, which gives other bits on other libraries and machines"
        raise ConfigError.at(folder, f"was trained in {problem}: only --files can be verified")
    check_specification(folder, record)
    config = from_json(record["config"], str(folder / records.RECORD_FILE))
    last = folder / records.CHECKPOINT_FILE
    if last.exists():
        _, progress = load_checkpoint(last)
        end = int(progress["batch"])
    elif record["status"] == "interrupted":
        problem = "was interrupted, and has no checkpoint that says after which step"
        raise ConfigError.at(folder, f"{problem}: xpnet train --resume {folder} completes it")
    rows = read_metrics(folder / records.METRICS_FILE)
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
        difference = (
            _find_record_difference(run, trainer) if ranks.rank == 0 else None
        )  # which reads all rows
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


def _find_record_difference(run: RecordedRun, trainer: Trainer) -> str | None:
    """Compare what the record says besides the results; raise ConfigError if the data are others."""
    record: Mapping[str, Any] = run.record
    data: Mapping[str, Any] = describe_data(trainer.data)
    if data["sha256"] != record["data"]["sha256"]:
        original, found = (
            f"{info['name']} with SHA-256 {info['sha256'][:16]}…" for info in (record["data"], data)
        )
        raise ConfigError.at(
            run.folder, f"was trained on other data: {original}, found {found}: name them by --data"
        )
    for name, value in data.items():
        if name in record["data"] and name != "name" and record["data"][name] != value:
            return f"run.json: data.{name}: recorded {record['data'][name]!r}, found {value!r}"
    if record["seed"] != run.config.seed:
        return f"run.json: seed: recorded {record['seed']!r} and config.seed {run.config.seed!r}"
    return None


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
    if read_run(folder)["fingerprint"] != parent["fingerprint"]:
        problem = (
            f"is not the run that {run.folder} extends: expected the fingerprint {parent['fingerprint']}"
        )
        raise ConfigError.at(folder, problem)
    return load_state(trainer, final, folder / records.CHECKPOINT_FILE, remedy)[0]


class _Compare(callbacks.Callback):
    """Compares each epoch with the history and the kept checkpoints, and stops at the first difference."""

    def __init__(self, run: RecordedRun, trainer: Trainer, final: FinalParameters) -> None:
        self._run, self._trainer, self._final = run, trainer, final
        self.needs_every_step = run.batch > 0
        self._rows = deque(row for row in run.rows if run.includes(row.get("epoch")))
        # Rows of an older xpnet have no fingerprint, and its segments no epoch.
        self._optional = {"fingerprint"} if run.record["segments"][0]["epoch"] is None else set()
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
        if log.epoch > self._run.first and kept.exists():
            yield from _compare_checkpoint(kept, self._trainer, log.state, self._final)
        computed = make_row(self._trainer, log)
        if not computed:
            return
        where = f"epoch {log.epoch}"
        recorded = self._rows.popleft() if self._rows else {}
        if recorded.get("epoch") != log.epoch:
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
    path: Path, trainer: Trainer, state: TrainState, final: FinalParameters
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
    facts = {"epoch": state.epoch, "batch": state.batch, "best": final.progress}
    for name, value in facts.items():
        yield from _compare_values(f"{path.name}: {name}", progress.get(name), value)


def _compare_result(
    run: RecordedRun, trainer: Trainer, final: FinalParameters, result: FitResult
) -> Iterator[str]:
    """Yield the differences between the record and the result of the training."""
    is_complete = result.state.epoch == trainer.config.epochs or final.stop
    if run.record["status"] == "completed" and not (is_complete or trainer.data.from_arrays):
        yield f"run.json: metrics.epochs: recorded {result.state.epoch}, expected {trainer.config.epochs}"
    model = trainer.model(result.best)
    yield from _compare_models(load_model(run.folder / records.MODEL_FILE), model)
    fingerprints = run.record["fingerprint"], trainer.fingerprint(result.best)
    yield from _compare_values("run.json: fingerprint", *fingerprints)
    computed: dict[str, object] = {**evaluate_result(trainer, result), "epochs": result.state.epoch}
    computed |= final.metrics
    recorded = run.record["metrics"] or {}
    for name in sorted({*computed, *recorded} - {"seconds"}):
        yield from _compare_values(f"run.json: metrics.{name}", recorded.get(name), computed.get(name))
    last = run.folder / records.CHECKPOINT_FILE
    if last.exists():
        yield from _compare_checkpoint(last, trainer, result.state, final)


def _compare_models(recorded: SavedModel, computed: SavedModel) -> Iterator[str]:
    yield from _compare_arrays(records.MODEL_FILE, name_tensors(recorded), name_tensors(computed))
    for name in ("activation", "columns"):
        if (left := getattr(recorded, name)) != (right := getattr(computed, name)):
            yield f"{records.MODEL_FILE}: {name}: recorded {left}, computed {right}"
    if (left := recorded.normalization.kind) != (right := computed.normalization.kind):
        yield f"{records.MODEL_FILE}: normalize: recorded {left}, computed {right}"
