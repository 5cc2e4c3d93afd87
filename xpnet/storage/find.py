"""The runs in a folder: found, and read with care, since files there can hold anything."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet._lib.files import read_regular
from xpnet._lib.locks import is_held
from xpnet._lib.text import complain, plain
from xpnet.errors import DataError
from xpnet.storage.record import (
    CHECKPOINT_FILE,
    LOCK_FILE,
    METRICS_FILE,
    MODEL_FILE,
    RECORD_FILE,
    RECORD_LIMIT,
    read_metrics,
    read_run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OUT = Path("runs")
"""Where training puts runs unless it is told otherwise."""

NAMED = 3
"""Damaged runs that a note names; it counts the others."""

SUMMARY_FILE = "summary.json"
"""What several trainings that belong together leave in the folder around theirs."""

DEPTH = 3
"""Levels of folders that are searched: out/project/repeats/seed-0."""

TAIL = 64 * 2**10
"""Bytes at the end of metrics.jsonl that are read to see how far a run is."""

NESTING = 20
"""Levels of objects in a record beyond which it is none."""

SETTLING = 2.0
"""Seconds after run.json was written in which its lock is left alone: the run may be about to take it."""

STATUSES = ("running", "completed", "interrupted", "failed")


@dataclass(frozen=True)
class FoundRun:
    """A run as its folder tells it.

    Attributes
    ----------
    folder
        The folder of the run.
    id
        Its path below the folder that was searched, with / between names; the whole path elsewhere.
    status
        running, completed, interrupted, failed; or killed: nobody works on it, and it has not ended.
    record
        The content of run.json.
    metrics
        The metrics that are single finite numbers: at the end, or as far as the run is.
    ended
        Whether the metrics are those at the end, which the saved model has.

    """

    folder: Path
    id: str
    status: str
    record: Mapping[str, Any]
    metrics: Mapping[str, float]
    ended: bool

    @property
    def started(self) -> str:
        """When it started, as ISO 8601 in UTC; empty if the record does not say."""
        return text_of(self.record, "started") or ""

    @property
    def network(self) -> str | None:
        """Sizes of the layers, such as 784-10-10."""
        data, hidden = (
            object_of(self.record, "data"),
            object_of(self.record, "config").get("hidden"),
        )
        if not isinstance(hidden, list):
            return None
        sizes = [data.get("features"), *hidden, data.get("classes")]
        return "-".join(map(str, sizes)) if all(isinstance(size, int) for size in sizes) else None

    @property
    def arithmetic(self) -> str | None:
        """Which arithmetic, and for the native one in which floating-point type."""
        config = object_of(self.record, "config")
        arithmetic, dtype = text_of(config, "arithmetic"), text_of(config, "dtype")
        if arithmetic != "native":
            return arithmetic
        return f"native {'float32' if dtype == 'auto' else dtype}"

    @property
    def backend(self) -> str | None:
        """Which array library, and on which device if it is not the CPU."""
        backend, device = text_of(self.record, "backend"), text_of(self.record, "device_used")
        return backend if backend is None or device in (None, "cpu") else f"{backend} {device}"

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the parameters, if the run has ended."""
        return text_of(self.record, "fingerprint")

    def history(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; none if the run has not logged any.

        Raises
        ------
        DataError
            The file is damaged or too large.

        """
        path = self.folder / METRICS_FILE
        if not os.path.lexists(path):
            return []
        return [_cleaned(path, row) for row in read_metrics(path)]


@dataclass(frozen=True)
class Survey:
    """The runs in a folder, by the time they started, and what is wrong with those left out."""

    runs: tuple[FoundRun, ...]
    damaged: tuple[str, ...]


def survey(root: Path) -> Survey:
    """Return the runs in `root` and in the folders within it, or the run that `root` is.

    Folders that hold no run are passed over, and so are hidden ones.

    Raises
    ------
    DataError
        There is no such folder, or it cannot be read.

    """
    check_folder(root)
    runs, damaged = [], []
    for folder in _candidates(root, DEPTH, set()):
        try:
            runs.append(read(folder, root))
        except DataError as error:
            damaged.append(str(error))
    return Survey(tuple(sorted(runs, key=lambda run: (run.started, run.id))), tuple(damaged))


def surveyed(folder: Path) -> list[FoundRun]:
    """Return the runs in `folder`; say on standard error what is wrong with those left out."""
    found = survey(folder)
    if found.damaged:
        count = len(found.damaged)
        reasons = "; ".join(plain(reason) for reason in found.damaged[:NAMED])
        more = f"; and {count - NAMED} more" if count > NAMED else ""
        runs = "1 damaged run is" if count == 1 else f"{count} damaged runs are"
        complain(f"note: {runs} left out: {reasons}{more}")
    return list(found.runs)


def newest(out: Path = OUT, *, trained: bool = True) -> FoundRun:
    """Return the run in `out` that started last, and say on standard error which one it is.

    Parameters
    ----------
    trained
        Consider only runs that have ended and have a model.

    Raises
    ------
    DataError
        There is none.

    """
    runs = surveyed(out) if os.path.lexists(out) else []
    if trained:
        runs = [
            run
            for run in runs
            if run.status in ("completed", "interrupted") and (run.folder / MODEL_FILE).is_file()
        ]
    if not runs:
        kind = "trained run" if trained else "run"
        msg = f"no {kind} in {out}: xpnet train makes one; or give RUN, the folder of a run"
        raise DataError(msg)
    complain(f"note: no RUN given: using the newest, {plain(runs[-1].folder)}")
    return runs[-1]


def check_folder(folder: Path) -> None:
    """Raise DataError unless `folder` is one that can be read."""
    try:
        os.scandir(folder).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        msg = f"{folder}: cannot be read ({reason}): expected a folder with runs, as --out of training"
        raise DataError(msg) from error


def read(folder: Path, root: Path) -> FoundRun:
    """Return the run in `folder`, named by its path below `root`.

    Raises
    ------
    DataError
        The folder holds no run.json, or one that is damaged or too large.

    """
    record = _record(folder)
    status = record["status"]
    if status == "running" and not _is_worked_on(folder):
        record = _record(folder)  # it may have ended since
        status = record["status"] if record["status"] != "running" else "killed"
    ended = isinstance(record.get("metrics"), dict)
    metrics = object_of(record, "metrics") if ended else _last_row(folder / METRICS_FILE)
    return FoundRun(folder, name_below(folder, root), status, record, _figures(metrics), ended)


def name_below(folder: Path, root: Path) -> str:
    """Return what the run in `folder` is called in a list of those below `root`."""
    if folder == root:
        return folder.resolve().name
    return (folder.relative_to(root) if folder.is_relative_to(root) else folder).as_posix()


def object_of(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at `key`, or an empty one if something else is there."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def text_of(record: Mapping[str, Any], key: str) -> str | None:
    """Return the text at `key`, or None if something else is there."""
    value = record.get(key)
    return value if isinstance(value, str) else None


def number_of(value: object) -> float | None:
    """Return `value` if it is a finite number, else None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer that no float can hold
        return None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; raise DataError if there is another thing or none."""
    content = read_regular(path, RECORD_LIMIT, "expected a file of a run")
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        msg = f"{path}: damaged: expected a JSON object"
        raise DataError(msg)
    return _cleaned(path, value)


def _candidates(folder: Path, depth: int, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield each folder that has a record, or looks like a run that has lost it."""
    try:
        status = folder.stat()
        entries = list(os.scandir(folder))
    except OSError:  # gone since, or private: then it is no business of ours
        return
    if (status.st_dev, status.st_ino) in seen:  # a link back
        return
    seen.add((status.st_dev, status.st_ino))
    names = {entry.name for entry in entries}
    lost = depth < DEPTH and names & {METRICS_FILE, CHECKPOINT_FILE, LOCK_FILE}
    if RECORD_FILE in names or lost:
        yield folder
    elif depth > 0:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.name.startswith(".") and _is_folder(entry):
                yield from _candidates(Path(entry.path), depth - 1, seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD_FILE
    record = _cleaned(path, dict(read_run(folder)))
    if record.get("status") not in STATUSES:
        found = json.dumps(record.get("status"))[:60]
        msg = f"{path}: status: expected one of {', '.join(STATUSES)}, got {found}"
        raise DataError(msg)
    return record


def _cleaned(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """Return the object in `path` with null for each number that JSON does not have."""
    cleaned: dict[str, Any] = _finite(path, value, NESTING)
    return cleaned


def _finite(path: Path, value: Any, levels: int) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        msg = f"{path}: damaged: more than {NESTING} objects inside each other"
        raise DataError(msg)
    if isinstance(value, dict):
        return {key: _finite(path, item, levels - 1) for key, item in value.items()}
    return [_finite(path, item, levels - 1) for item in value]


def _is_worked_on(folder: Path) -> bool:
    """Return whether a process works on the run, or may do so, for all that can be told."""
    try:
        age = time.time() - (folder / RECORD_FILE).stat().st_mtime
    except OSError:
        return False
    return abs(age) < SETTLING or is_held(folder / LOCK_FILE)


def _last_row(path: Path) -> dict[str, Any]:
    """Return the last complete row of a metrics.jsonl, or an empty one."""
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read(TAIL).split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return {"epochs" if name == "epoch" else name: value for name, value in row.items()}
    return {}


def _figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are single finite numbers."""
    figures = {name: number_of(value) for name, value in metrics.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}
