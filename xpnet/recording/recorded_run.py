"""A recorded run to verify: its files are read, and compared with their digests and with each other."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xpnet._lib.text import pluralize
from xpnet._typing import Values
from xpnet.config import to_json
from xpnet.config.training import DEFAULTS
from xpnet.errors import ConfigError, DataError, setting
from xpnet.storage import record as records
from xpnet.storage.folder import RunFolder, digest_file
from xpnet.storage.schemas import list_keys

_FILES = {records.RECORD_FILE, records.METRICS_FILE, records.MODEL_FILE, records.CHECKPOINT_FILE}


class RecordedRun(RunFolder):
    """A run to verify.

    Attributes
    ----------
    first, last
        The epochs between which the training is computed: from the state after ``first`` epochs on.
    end
        The number of epochs when the training ended.
    batch
        The steps in the next epoch after which the training was stopped.
    """

    is_whole = True
    batch = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        epochs = (self.record["metrics"] or {}).get("epochs")
        self.end = int(epochs) if records.is_number(epochs) else 0
        self.first = self.initial_epoch
        self.last = self.end

    @property
    def has_end(self) -> bool:
        """True if the training is computed to its end."""
        return self.last == self.end

    @property
    def is_older(self) -> bool:
        """True if an xpnet before 0.3 wrote the record."""
        return self.record["schema_version"] < 3

    @property
    def formats(self) -> tuple[int, ...]:
        """The format versions of its model and checkpoints: 1 by an xpnet before 0.3, else 2."""
        if not self.is_older:
            return (2,)
        return (1, 2) if self.record.get("resumed") else (1,)

    @property
    def missing(self) -> list[str]:
        """The checkpoints that are missing, although the record has their digest."""
        return [name for name in self.record["digests"] or () if not (self.path / name).is_file()]

    @property
    def others(self) -> list[str]:
        """The files in the folder that no training writes."""
        known = _FILES | {records.LOCK_FILE, records.REPORT_FILE}
        names = {path.name for path in self.path.iterdir()} - known
        return sorted(name for name in names if not name.startswith("checkpoint"))  # which are compared

    @property
    def initial_file(self) -> tuple[Path, str | None] | None:
        """The file that the training is computed from and its SHA-256; None if it starts from the seed."""
        parent, start = self.record["parent"], self.config.init_from
        if self.first != self.initial_epoch:
            return self.kept(self.first), digest_file(self.kept(self.first))
        if parent:
            return RunFolder(Path(parent["run"])).checkpoint, parent["checkpoint_sha256"]
        return (start, self.record["init_from_sha256"]) if start else None

    def describe(self) -> str:
        """Return what is verified and from what file it is computed, in words."""
        first = self.first + 1
        last = self.last
        batch = self.batch
        parts = []
        if first <= last or not batch:
            parts.append(f"epochs {first} to {last}" if first < last else f"epoch {last}")
        if batch:
            parts.append(f"{pluralize(batch, 'step')} of epoch {last + 1}")
        results = ", model and metrics" if self.has_end else ""
        start, digest = self.initial_file or (None, None)
        named = ", whose SHA-256 is not recorded" if digest is None else f", {digest[:16]}…"
        origin = f", starting from {start}{named}" if start else ""
        if self.is_older:
            origin += ", by a record of schema version 1 or 2, which has no digests of files"
        return f"{' and '.join(parts)}{results} are the same bits{origin}"

    def includes(self, epoch: object) -> bool:
        """Return True if the row of an epoch in the history, however damaged, is to be compared."""
        if not records.is_number(epoch):
            return True
        is_before = epoch < self.first != self.initial_epoch
        return not (is_before or (epoch > self.last and not self.has_end))


def find_file_difference(run: RunFolder, *, all_files: bool) -> str | None:
    """Compare the files of a run with the digests in its record; return the first difference in words.

    Without ``all_files``, a missing checkpoint and a record without digests are no difference.

    Raises
    ------
    DataError
        There is no run, its record is damaged, or with ``all_files``, it holds no digests.
    """
    path, record = run.path / records.RECORD_FILE, run.record
    if record["digests"] is None:
        if not all_files:
            is_missing = record["schema_version"] > 2 and record["ended"] is not None
            return f"{path.name}: digests: are missing" if is_missing else None
        reason = "the training has not ended" if record["schema_version"] > 2 else "an older xpnet wrote it"
        raise DataError(f"{path}: holds no digests of files: {reason}")
    for file in sorted(run.path.glob("checkpoint*")):
        if not file.is_file():
            return f"{file.name}: is no file, or a link to nothing"
    found = {path.name: records.digest_record(run.content)}
    found |= {file.name: digest_file(file) for file in run.files}
    for name in dict.fromkeys((path.name, *record["digests"], *found)):
        recorded, digest = record["digests"].get(name), found.get(name)
        if digest is None and (all_files or "checkpoint" not in name):
            return f"{name}: is missing"
        if recorded is None:
            return f"{name}: is not in the record"
        if digest not in (None, recorded):
            return f"{name}: is not what was recorded (SHA-256 {recorded[:16]}…, found {digest[:16]}…)"
    return None


def check_recorded(run: RecordedRun, epochs: tuple[int, int] | None = None) -> None:
    """Check that the training of a run, or that between two epochs, can be verified.

    Raises
    ------
    DataError
        There is no run, or its record, history or checkpoint is damaged.
    ConfigError
        The training has not ended, was in native arithmetic or followed another version of the
        specification, or it has no checkpoint to start from or nothing to compare with.
    """
    record = run.record
    config = run.config
    for where, values, names in _list_parts(run):
        for name in sorted(names - values.keys()):
            raise DataError(f"{run.path / records.RECORD_FILE}: {where}{name}: is missing")
    replace(config, resume=None, extend=None)  # whose settings may not contradict each other
    if record["status"] not in ("completed", "interrupted"):
        raise ConfigError(f"{run.path}: is {record['status']}: expected a training that has ended")
    if record["specification_version"] is None or config.arithmetic == "native":
        problem = "native arithmetic, which gives other bits on other libraries and machines"
        raise ConfigError(f"{run.path}: was trained in {problem}: only --files can be verified")
    run.check_specification()
    if run.checkpoint.exists():
        run.batch = int(run.progress["batch"])
    elif record["status"] == "interrupted":
        problem = "was interrupted, and has no checkpoint that says after which step"
        raise ConfigError(f"{run.path}: {problem}: xpnet train --resume {run.path} completes it")
    _ = run.history  # which may be damaged
    if epochs:
        _select_epochs(run, *epochs)


def _list_parts(run: RecordedRun) -> Iterator[tuple[str, Values, set[str]]]:
    """Yield the parts of run.json, as text before its keys, content, and the keys of its schema version."""
    content = run.content
    parts = [("", content, "record"), ("config.", content["config"], "settings")]
    parts += [("parent.", content["parent"], "parent")] if content.get("parent") else []
    parts += [(f"segments[{i}].", part, "segment") for i, part in enumerate(content.get("segments") or [])]
    for where, values, part in parts:
        yield where, values, {*list_keys(run.record["schema_version"], part)}


def _select_epochs(run: RecordedRun, first: int, last: int) -> None:
    """Verify only these epochs of a run; raise ConfigError if they cannot be."""
    if not run.initial_epoch <= first < last <= run.last:
        msg = f"--between: expected epochs from {run.initial_epoch} to {run.last}, got {first}:{last}"
        raise ConfigError(msg)
    if run.missing:
        problem = f"{run.path} lacks {', '.join(run.missing)}, of which its record has the digest"
        raise ConfigError(f"--between: {problem}: only the whole can be verified")
    if first != run.initial_epoch and not run.kept(first).exists():
        known = [epoch for epoch in range(run.initial_epoch + 1, run.last) if run.kept(epoch).exists()]
        remedy = f"{setting('keep_checkpoint_every')} keeps some"
        hint = f"only after {', '.join(map(str, known))}" if known else remedy
        raise ConfigError(f"--between: {run.path} has no checkpoint after epoch {first}: {hint}")
    is_logged = any(row.get("epoch") == last and row.get("fingerprint") for row in run.history)
    if not (last == run.last or is_logged or run.kept(last).exists()):
        msg = f"--between: {run.path} has neither a fingerprint nor a checkpoint after epoch {last}"
        raise ConfigError(msg)
    run.batch = run.batch if last == run.last else 0
    run.first, run.last = first, last


def _find_other_forms(run: RecordedRun) -> Iterator[str]:
    """Yield keys and settings that the schema version of the record does not have, or not so."""
    version, config = run.record["schema_version"], run.config
    for where, values, names in _list_parts(run):
        for name in sorted(values.keys() - names):
            yield f"run.json: {where}{name}: is no key of a record of schema version {version}"
    if run.is_older:
        return
    written = to_json(config)
    if "source" in run.record["data"]:  # arrays, which no setting of files is of
        written |= {name: DEFAULTS[name] for name in ("data", "test_data", "test_split", "label", "columns")}
    # The setting best_by is resolved, and compared elsewhere.
    for name in sorted(run.content["config"].keys() - {"best_by"}):
        left, right = json.dumps(setting := run.content["config"][name]), json.dumps(written[name])
        # Paths are written as the operating system does.
        is_path = isinstance(getattr(config, name), Path) and isinstance(setting, str)
        if left != right and not (is_path and written[name]):
            yield f"run.json: config.{name}: recorded {left}, expected {right}"
    if (epoch := run.record["segments"][0]["epoch"]) != run.initial_epoch:
        yield f"run.json: segments[0].epoch: recorded {epoch}, expected {run.initial_epoch}"


def find_contradictions(run: RecordedRun) -> Iterator[str]:
    """Yield what no training records, without computing anything."""
    record = run.record
    config = run.config
    parent = record["parent"]
    yield from _find_other_forms(run)
    if record["error"] is not None:
        yield f"run.json: error: recorded {json.dumps(record['error'])} and status {record['status']}"
    if config.repeats > 1 or isinstance(config.learning_rate, tuple):
        several = f"repeats {config.repeats} and learning_rate {config.learning_rate}"
        yield f"run.json: config: {several}, expected those of one training"
    if config.resume or str(config.extend) != str(parent and parent["run"]):
        yield f"run.json: config.extend: recorded {config.extend} with parent {parent and parent['run']}"
    if run.batch and record["status"] == "completed":
        yield f"{records.CHECKPOINT_FILE}: has {run.batch} steps after the last epoch of a completed training"
    names = {*(record["digests"] or ()), *(path.name for path in run.path.glob("checkpoint*"))}
    for name in sorted(names - _FILES):
        kept = re.fullmatch(records.KEPT_CHECKPOINT.format("([1-9][0-9]{0,15})"), name)
        epoch = int(kept[1]) if kept else -1
        never_was = name in run.missing and epoch % (config.keep_checkpoint_every or epoch + 1) > 0
        if never_was or not run.initial_epoch <= epoch <= run.end:
            yield f"{name}: is no file of this training"
