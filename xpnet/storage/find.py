"""Search of a folder for training runs."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from xpnet._lib import clock
from xpnet._lib.files import make_read_error
from xpnet._lib.kinds import check_arguments
from xpnet._lib.text import complain, did_you_mean, plain
from xpnet._typing import Json
from xpnet.errors import DataError
from xpnet.storage import record as records
from xpnet.storage.folder import RunFolder, find_displaced
from xpnet.storage.locks import is_locked
from xpnet.storage.record import RECORD_FILE, SUMMARY_FILE, is_number

OUT = Path("runs")
"""Default folder of runs."""

MAX_DEPTH = 3
"""Levels of folders below the searched one: out/project/repeats/seed-0."""

LOCK_GRACE = 2.0
"""Seconds after the writing of run.json in which its lock is not tested: the run may be about to take it."""


class FoundRun(RunFolder):
    """A run, as read from its folder.

    Parameters
    ----------
    folder
        The folder of the run.
    root
        The searched folder.

    Attributes
    ----------
    folder
        The folder of the run.
    id
        Its path relative to the searched folder, with / between names; for runs elsewhere the whole path.
    status
        running, completed, interrupted or failed; killed if no process works on a run that has not ended.
    record
        The content of run.json.
    metrics
        The metrics that are single finite numbers: the final ones, or those of the last epoch so far.

    Raises
    ------
    DataError
        The folder holds no run.json, or one that is damaged or too large.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        super().__init__(folder)
        self.folder, self.id = folder, folder.resolve().name
        if folder != root:
            self.id = (folder.relative_to(root) if folder.is_relative_to(root) else folder).as_posix()
        self.status: str = self.record["status"]
        if self.status == "running" and not _is_in_use(folder):
            self.record = records.read_run(folder)  # it may have ended since
            self.status = "killed" if self.record["status"] == "running" else self.record["status"]
        metrics = self.record["metrics"]
        if metrics is None:  # those of the last epoch so far
            from xpnet.storage.checkpoint import read_progress  # loads NumPy, which other runs do not need

            rows: list[Json] = [{}]
            with suppress(DataError):
                rows += self.history
            metrics = {"epochs" if name == "epoch" else name: value for name, value in rows[-1].items()}
            if saved := read_progress(self.checkpoint):  # from which --resume goes on
                metrics = {**metrics, "epochs": saved["epoch"]}
        self.metrics = {name: value for name, value in metrics.items() if is_number(value)}

    @property
    def ended(self) -> bool:
        """True if the metrics are the final ones, those of the saved model."""
        return self.record["metrics"] is not None

    @cached_property
    def fields(self) -> Json:
        """The values of the run in a list besides its metrics; those that the record lacks are None.

        They are id, status, started (ISO 8601, UTC), data (its name), network (the sizes of the layers, such
        as 784-10-10), optimizer, learning_rate (a number), arithmetic (with the dtype if native), backend
        (with the device if that is not the CPU), and tags (a list).
        """
        record = self.record
        data = self.record["data"]
        get = self.record["config"].get
        hidden, arithmetic, dtype, tags = map(get, ("hidden", "arithmetic", "dtype", "tags"))
        optimizer, rate = map(get, ("optimizer", "learning_rate"))
        sizes = [data.get("features"), *(hidden if isinstance(hidden, list) else [None]), data.get("classes")]
        if arithmetic == "native":
            arithmetic = "native float32" if dtype == "auto" else f"native {dtype}"
        device = "" if record["device_used"] == "cpu" else f" {record['device_used']}"
        return {
            "id": self.id,
            "status": self.status,
            "started": record["started"],
            "data": data["name"],
            "network": None if None in sizes else "-".join(map(str, sizes)),
            "optimizer": None if optimizer is None else str(optimizer),
            "learning_rate": rate if is_number(rate) else None,
            "arithmetic": None if arithmetic is None else str(arithmetic),
            "backend": record["backend"] + device,
            "tags": list(map(str, tags)) if isinstance(tags, list) else [],
        }

    @cached_property
    def values(self) -> Json:
        """The fields, the metrics and the fingerprint, by name."""
        return {**self.metrics, **self.fields, "fingerprint": self.record["fingerprint"]}


class Survey(NamedTuple):
    """The runs in a folder, sorted by start time, and the errors of damaged or displaced ones."""

    runs: Sequence[FoundRun]
    damaged: Sequence[str]


@check_arguments
def survey(root: Path, out: Path | None = None) -> Survey:
    """Search `root`, which may be a run itself, and the folders within it for runs.

    Hidden folders, and those without a run, are skipped. Ids are relative to `out`, by default to `root`.

    Raises
    ------
    DataError
        The folder is missing or cannot be read.
    """
    try:
        folders = list(_find_candidates(root, MAX_DEPTH, set()))
    except (OSError, ValueError) as error:
        raise make_read_error(root, error, "expected a folder with runs, as --out of training") from error
    runs, damaged = [], []
    for folder in folders:
        try:
            runs.append(FoundRun(folder, out or root))
        except DataError as error:
            damaged.append(str(error))
    for parent in sorted({root, *(folder.parent for folder in folders)}):
        for aside, folder in find_displaced(parent):
            cause = f"is {folder.name}, which --overwrite was replacing when it was killed"
            damaged.append(f"{aside}: {cause}: the next training in {parent} puts it back")
    return Survey(sorted(runs, key=lambda run: (run.record["started"], run.id)), damaged)


def find_runs(folder: Path, out: Path | None = None) -> Sequence[FoundRun]:
    """Return the runs in `folder`, sorted by start time; report unreadable ones on standard error.

    Ids are relative to `out`, by default to the folder.
    """
    result = survey(folder, out)
    for problem in result.damaged:
        complain(f"note: a run is left out: {problem}")
    return result.runs


def read_runs(folder: Path, out: Path) -> Sequence[FoundRun]:
    """Return the run in a folder, or the runs below it; ids are relative to `out`.

    Raises
    ------
    DataError
        The folder does not exist, or there is no run in it.
    """
    if os.path.lexists(folder / RECORD_FILE):
        return [FoundRun(folder, out)]
    if runs := find_runs(folder, out):
        return runs
    raise DataError(f"{folder}: no run in it: xpnet runs list shows those there are")


def find_newest_run(out: Path = OUT, *, trained: bool = True) -> FoundRun:
    """Return the run in `out` that started last, and name it on standard error.

    Parameters
    ----------
    trained
        Consider only runs that have ended and have a model.

    Raises
    ------
    DataError
        The folder holds no such run.
    """
    runs = find_runs(out) if os.path.lexists(out) else []
    if trained:
        ended = (run for run in runs if run.status in ("completed", "interrupted"))
        runs = [run for run in ended if (run.folder / records.MODEL_FILE).is_file()]
    if not runs:
        kind = "trained run" if trained else "run"
        raise DataError(f"no {kind} in {out}: xpnet train makes one; or give RUN, the folder of a run")
    complain(f"note: no RUN given: using the newest, {plain(runs[-1].folder)}")
    return runs[-1]


def resolve_run(name: str | Path, out: Path = OUT, others: str = "") -> Path:
    """Return the path of a RUN: `name` if it holds a run or is a file, else the folder ``out/name``.

    Without that folder it is `name`, if it exists.

    Raises
    ------
    DataError
        Neither exists: the message names the nearest run in `out`, and the `others` that are expected too.
    """
    path, inside = Path(name), out / name
    is_itself = path.is_file() or any(os.path.lexists(path / file) for file in (RECORD_FILE, SUMMARY_FILE))
    if not is_itself and ".." not in path.parts and os.path.isdir(inside):  # noqa: PTH112 - false after an error
        return inside
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        word = str(path.relative_to(out) if path.is_relative_to(out) else path)
        folders = {*_find_candidates(out, MAX_DEPTH, set())} if out.is_dir() else set()
        folders |= {folder.parent for folder in folders if out in folder.parent.parents}
        near = did_you_mean(word, (folder.relative_to(out).as_posix() for folder in folders), f"{out}/")
        remedy = near or ": xpnet runs list shows those there are"
        problem = f"expected the folder of a run or its name in {out}{others}{remedy}"
        raise DataError(f"{name}: no such file or folder: {problem}") from error
    except (OSError, ValueError):  # whose reading says so
        pass
    return path


def _find_candidates(folder: Path, depth: int, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the folders that hold a record, or other files of a run whose record is missing.

    Raises
    ------
    OSError, ValueError
        `folder` cannot be read. Those in it without permission are yielded, other such are skipped.
    """
    status, names = folder.stat(), sorted(path.name for path in folder.iterdir())
    if (status.st_dev, status.st_ino) in seen:  # a symbolic link to a folder above
        return
    seen.add((status.st_dev, status.st_ino))
    traces = {records.METRICS_FILE, records.CHECKPOINT_FILE, records.LOCK_FILE}
    if RECORD_FILE in names or (depth < MAX_DEPTH and not traces.isdisjoint(names)):
        yield folder
    elif depth > 0:
        for name in names:
            if not name.startswith("."):
                try:
                    yield from _find_candidates(folder / name, depth - 1, seen)
                except PermissionError:  # whose reading says so
                    yield folder / name
                except OSError:  # a file, or a folder removed meanwhile
                    pass


def _is_in_use(folder: Path) -> bool:
    """Return True if a process works on the run, or may be about to."""
    try:
        age = clock.now().timestamp() - (folder / RECORD_FILE).stat().st_mtime
    except OSError:
        return False
    return abs(age) < LOCK_GRACE or is_locked(folder / records.LOCK_FILE)
