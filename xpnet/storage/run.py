"""The folder of a training run, with run.json, metrics.jsonl and model.safetensors.

Files are written atomically, except that a crash can leave an incomplete last line in metrics.jsonl,
which `read_metrics` ignores. checkpoint.safetensors holds the state, from which a run can be resumed
(`WritableRun.reopen`) until it is completed, and extended by another run afterwards. The process that works
on a run locks the file .lock; a killed process leaves the file unlocked.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, cast

from xpnet._lib import clock, files
from xpnet._lib.files import make_write_error, write_atomic
from xpnet._lib.text import format_json, join_lines
from xpnet._typing import Values
from xpnet.distributed.ranks import ALONE, Ranks
from xpnet.errors import ConfigError, DataError, setting
from xpnet.storage import record as records
from xpnet.storage.checkpoint import RESTART
from xpnet.storage.environment import collect_environment
from xpnet.storage.folder import IN_USE, STARTING, RunFolder, acquire_lock, clean_up, digest_file, take_name
from xpnet.storage.locks import Lock
from xpnet.storage.record import Record, RunInfo, RunOutcome, Segment, replace_nonfinite
from xpnet.storage.schemas import select_content, select_keys

LARGEST_END, LONGEST_NUMBER = 1 << 16, 32
"""Bytes that the end of a run adds to its record at most, and for the accuracy of each class."""
NO_OUTCOME: RunOutcome = {"ended": None, "metrics": None, "fingerprint": None, "error": None, "digests": None}


class WritableRun(RunFolder):
    """A training run that this process writes.

    Methods that write raise ConfigError if a file cannot be written, or if the folder was removed or
    replaced by another run.

    Attributes
    ----------
    path
        The absolute path of the folder, for a callback may change the working directory.
    folder
        The folder as the user names it.
    record
        The current content of run.json.
    """

    def __init__(self, folder: Path, record: Record, identity: tuple[int, int] | None, lock: Lock) -> None:
        super().__init__(folder.absolute())
        self.folder = folder
        self.record = record
        self._identity = identity
        self._lock = lock

    @classmethod
    def start(
        cls, out: Path, name: str | None, record: RunInfo, ranks: Ranks = ALONE, *, overwrite: bool = False
    ) -> Self:
        """Create the folder of a run, with a record whose status is "running".

        The folder is ``out/name``, or ``out/<UTC time and a few random digits>`` without a name. It is
        created atomically. With `overwrite` an existing run is replaced, and kept if that fails; if a kill
        prevents that, the next start in `out` puts it back.

        Raises
        ------
        ConfigError
            The folder exists without `overwrite`, is no run, or is in use by another process; it cannot
            be written; or the record would be too large to be read again.
        """
        name = name or make_run_id()
        folder, prepared = out / name, out / f"{STARTING}{files.draw_name()}"
        first, lock = _begin_record(name, record, _format_time(), ranks), None
        content = format_json(replace_nonfinite(first)).encode()
        size = len(content) + LARGEST_END + LONGEST_NUMBER * record["data"].get("classes", 0)
        if size > records.RECORD_LIMIT:
            problem = f"would get a record of {size} bytes, above the limit of {records.RECORD_LIMIT}"
            raise ConfigError(f"{folder}: {problem}: shorten column and class names, or keep no record")
        try:
            files.change(out.mkdir, parents=True, exist_ok=True)
            files.sync_folder(out.parent)
            # It raises the error of a folder that is read-only.
            files.change(prepared.with_suffix(".lock").touch)
            lock = Lock.take(prepared.with_suffix(".lock"))
            clean_up(out, prepared)
            files.change(prepared.mkdir)
            identity = _folder_identity(prepared)
            write_atomic(prepared / records.RECORD_FILE, content)
            # Not yet locked: on Windows a folder with an open file cannot be renamed.
            files.change((prepared / records.LOCK_FILE).touch)
            take_name(prepared, folder, overwrite=overwrite)
            return cls(folder, first, identity, acquire_lock(folder))
        except OSError as error:
            problem = "is a file" if out.is_file() else error.strerror or type(error).__name__
            msg = f"{setting('out')}: no run can be written in {out} ({problem}): choose another folder"
            raise ConfigError(msg) from error
        finally:
            files.remove_folder(prepared)
            if lock:
                lock.release()

    @classmethod
    def reopen(cls, folder: Path) -> Self:
        """Return the interrupted, failed or killed run in `folder`, locked for this process.

        Its files are not changed before `resume`.

        Raises
        ------
        DataError
            run.json is missing or damaged.
        ConfigError
            The run is completed, or another process is working on it.
        """
        _read_resumable(folder)  # creates no lock file in a folder that is no run
        lock = acquire_lock(folder)
        try:
            return cls(folder, _read_resumable(folder), _folder_identity(folder), lock)
        except BaseException:
            lock.release()
            raise

    def resume(self, rows: int, epoch: int, backend: str, device: str, ranks: Ranks = ALONE) -> int:
        """Set the status to "running", and keep the first `rows` rows of metrics.jsonl.

        The outcome is removed from the record, and a segment added that begins after `epoch` epochs, with the
        keys of the record's schema version; temporary files of a killed process are deleted. Return the
        number of rows kept, which is smaller if a power cut has lost some.

        Raises
        ------
        DataError
            One of these rows is damaged, or they or the settings contradict the epoch.
        """
        path, epochs = self.folder / records.METRICS_FILE, self.record["config"].get("epochs")
        history = records.read_metrics(path, rows)
        kept, logged = len(history), max((row.get("epoch") or 0 for row in history), default=0)
        if logged > epoch or (records.is_number(epochs) and epoch > epochs):
            problem = f"is not of this run, which has {epochs} epochs: it says {epoch}, after {kept} rows"
            raise DataError(f"{RunFolder(self.folder).checkpoint}: {problem} to epoch {logged}: {RESTART}")
        lines = path.read_bytes().split(b"\n")[:kept] if path.exists() else []
        self.write(path.name, b"".join(line + b"\n" for line in lines))
        begun = _begin_segment(_format_time(), epoch, backend, device, ranks)
        segment = select_keys(max(self.record["schema_version"], 3), "segment", begun)
        changes = {"status": "running", **NO_OUTCOME}
        if (resumed := self.record.get("resumed")) is not None:  # of an xpnet before 0.3
            changes["resumed"] = [*cast("list[str]", resumed), begun["started"]]
        self._write_record({**changes, "segments": [*self.record["segments"], segment]})
        for path in self.folder.glob(f".{'[0-9a-f]' * 16}.tmp"):
            with suppress(OSError):
                files.change(path.unlink)
        return kept

    def log(self, values: Values) -> None:
        """Append a row to metrics.jsonl; floats read back exactly, non-finite ones as None."""
        line = json.dumps(replace_nonfinite(values), allow_nan=False) + "\n"
        with self._writable_path(records.METRICS_FILE) as path:
            files.append(path, line.encode())

    def write(self, name: str, data: bytes) -> None:
        """Write a file in the folder, atomically: on failure, an earlier one stays."""
        with self._writable_path(name) as path:
            write_atomic(path, data)

    def finish(self, status: Literal["completed", "interrupted", "failed"], **outcome: object) -> None:
        """Write status, time, outcome and the digests of the files to run.json, and release the lock.

        The outcome is that in `RunOutcome`, None by default. A run that has ended already is not changed.
        """
        if self.record["status"] == "running":
            digests = {p.name: digest_file(p) for p in self.files}
            changes = {"status": status, **NO_OUTCOME, **outcome, "ended": _format_time(), "digests": digests}
            digests[records.RECORD_FILE] = records.digest_record(select_content({**self.record, **changes}))
            self._write_record(changes)
        self.release()

    def fail(self, error: BaseException) -> None:
        """Finish the run after an error, as interrupted for KeyboardInterrupt, else as failed."""
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = None if interrupted else join_lines(error)
        try:
            self.finish("interrupted" if interrupted else "failed", error=reason)
        finally:
            self.release()  # also where the record cannot be written

    def release(self) -> None:
        """Release the lock on the run."""
        self._lock.release()

    def _write_record(self, changes: Values) -> None:
        """Update the record in run.json, which has the keys of its schema version, then in memory."""
        changed = cast("Record", {**self.record, **changes})
        self.write(records.RECORD_FILE, format_json(replace_nonfinite(select_content(changed))).encode())
        self.record.update(changed)

    @contextmanager
    def _writable_path(self, name: str) -> Iterator[Path]:
        """Check that the folder is still this run's, and give the body the path of a file to write."""
        if _folder_identity(self.path) != self._identity:
            raise ConfigError(f"{self.folder}: was replaced or removed while this run was using it")
        if self._lock.is_replaced:  # by one that has taken ours for a link that somebody had put there
            raise ConfigError(f"{self.folder}: {IN_USE}")
        try:
            yield self.path / name
        except OSError as error:
            raise make_write_error(self.folder / name, error) from error


def _begin_record(name: str, info: RunInfo, started: str, ranks: Ranks = ALONE) -> Record:
    """Return the record of a run that has just started."""
    first = info["parent"]["epochs"] if info["parent"] else 0
    return {
        "schema_version": records.SCHEMA_VERSION,
        "id": name,
        "status": "running",
        "started": started,
        "segments": [_begin_segment(started, first, info["backend"], info["device_used"], ranks)],
        **info,
        **collect_environment(),
        **NO_OUTCOME,
    }


def _begin_segment(started: str, epoch: int, backend: str, device: str, ranks: Ranks) -> Segment:
    """Return the segment of a training by these processes."""
    return {
        "started": started,
        "epoch": epoch,
        "backend": backend,
        "device": device,
        "ranks": ranks.size,
        "hosts": list(dict.fromkeys(ranks.hosts)),
        "mpi": ranks.library,
        "places": [*ranks.places] or [f"{backend} on {device}"],
    }


def complete_record(
    info: RunInfo, started: float, ended: float, *, metrics: records.Metrics, fingerprint: str
) -> Record:
    """Return the record of a completed training that has no folder; times are seconds since 1970."""
    begin, end = (_format_time(datetime.fromtimestamp(seconds, UTC)) for seconds in (started, ended))
    outcome: RunOutcome = {**NO_OUTCOME, "ended": end, "metrics": metrics, "fingerprint": fingerprint}
    return {**_begin_record("training", info, begin), "status": "completed", **outcome}


def _read_resumable(folder: Path) -> Record:
    """Read the record of a run that can be resumed; raise DataError or ConfigError if it cannot."""
    run = RunFolder(folder)
    record = run.record
    if record["status"] == "completed":
        hint = f"--extend {folder} --epochs N goes on for N more epochs, as a new run"
        raise ConfigError(f"{folder}: is complete: nothing is left to resume: {hint}")
    run.check_specification()
    record["id"] = folder.resolve().name  # the folder may have been renamed since
    return record


def make_run_id() -> str:
    """Return a name from the UTC time and random digits: sortable, and unique within a second."""
    return f"{clock.now():%Y%m%dT%H%M%SZ}-{files.draw_name()[:6]}"


def _format_time(time: datetime | None = None) -> str:
    """Return a time, by default the current one, in ISO 8601 to the millisecond, as in a record."""
    return (time or clock.now()).isoformat(timespec="milliseconds")


def _folder_identity(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder, which a later one of that name has not; None if it is missing."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
