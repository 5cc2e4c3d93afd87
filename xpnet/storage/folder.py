"""The folder of a run: its files, each read when it is needed, and strictly; its lock, and its name.

A folder takes its name atomically, also that of a run that it replaces; what killed processes leave behind is
put back or deleted.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet._lib import files
from xpnet._typing import Json
from xpnet.config import TrainConfig, from_json
from xpnet.errors import ConfigError, DataError, setting
from xpnet.storage import record as records
from xpnet.storage.locks import Lock, is_locked

if TYPE_CHECKING:
    from xpnet.storage.model_file import TrainedNetwork


STARTING, REPLACED = ".starting-", ".replaced-"
"""Beginnings of the names of a folder that becomes a run, of its lock, and of the run that it replaces."""
IN_USE = "another process is working on this run: wait until it has ended"


class RunFolder:
    """The files of a run.

    Reading a property raises DataError if its file is missing or damaged.

    Attributes
    ----------
    path
        The path of the folder.
    """

    is_whole = False  # True if the history may have no incomplete last line

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def content(self) -> Json:
        """The content of run.json as it is."""
        return records.read_content(self.path)

    @cached_property
    def record(self) -> records.Record:
        """The content of run.json, checked, with the keys that an older xpnet did not write."""
        return records.check_run(self.path, self.content)

    @cached_property
    def config(self) -> TrainConfig:
        """The settings of the training."""
        return from_json(self.record["config"], str(self.path / records.RECORD_FILE))

    @cached_property
    def history(self) -> list[Json]:
        """The rows of metrics.jsonl; none if it does not exist."""
        return records.read_metrics(self.path / records.METRICS_FILE, ended=self.is_whole)

    @cached_property
    def model(self) -> "TrainedNetwork":
        """The network, which may lack a fingerprint in the record only if the run is not completed.

        Raises
        ------
        DataError
            It is missing or damaged, or is not the one that the record names.
        """
        from xpnet.storage.model_file import load_model  # loads NumPy, which lists do not need

        model = load_model(self.path / records.MODEL_FILE)
        fingerprint, is_complete = model.fingerprint, self.record["status"] == "completed"
        expected = self.record["fingerprint"] or ("none" if is_complete else fingerprint)
        if fingerprint != expected:
            difference = f"its model has the fingerprint {fingerprint[:16]}…, run.json says {expected[:16]}…"
            remedy = "predict and evaluate take the .safetensors file all the same"
            raise DataError(f"{self.path}: {difference}: {remedy}")
        return model

    @property
    def checkpoint(self) -> Path:
        """The path of the last checkpoint, which may not exist."""
        return self.path / records.CHECKPOINT_FILE

    @cached_property
    def progress(self) -> Json:
        """The facts in the last checkpoint: epoch, batch, rows, seconds and best epoch."""
        from xpnet.storage.checkpoint import load_checkpoint

        return load_checkpoint(self.checkpoint)[1]

    @property
    def epochs(self) -> int:
        """The number of epochs in the last checkpoint."""
        return int(self.progress["epoch"])

    @property
    def initial_epoch(self) -> int:
        """The number of epochs of the state that the training began with."""
        parent = self.record["parent"]
        return parent["epochs"] if parent else 0

    @property
    def parent(self) -> "RunFolder | None":
        """The run that this one extends, perhaps moved beside it; None if it extends none."""
        parent = self.record["parent"]
        if parent is None:
            return None
        folder = Path(parent["run"])
        return RunFolder(folder if folder.exists() else self.path.resolve().parent / folder.name)

    def kept(self, epoch: int) -> Path:
        """Return the path of the checkpoint that was kept after an epoch, if it was."""
        return self.path / records.KEPT_CHECKPOINT.format(epoch)

    @property
    def files(self) -> list[Path]:
        """The files whose digests the record holds: history, model and checkpoints."""
        names = records.METRICS_FILE, records.MODEL_FILE, records.CHECKPOINT_FILE
        kept = sorted(self.path.glob(records.KEPT_CHECKPOINT.format("[0-9]*")))
        return [path for path in (*(self.path / name for name in names), *kept) if path.is_file()]

    def describe_files(self) -> Json:
        """Return size and SHA-256 of the record, history, model and checkpoints, by path."""
        return describe_files(self.path / records.RECORD_FILE, *self.files)

    def check_files(self, remedy: str) -> None:
        """Check that the data of the training are in files; the message ends with the `remedy`.

        Raises
        ------
        DataError
            It was trained from Python on arrays.
        """
        if self.record["data"].get("source") == "arrays":
            raise DataError(f"{self.path}: was trained on arrays in Python, which are in no file: {remedy}")

    def check_specification(self) -> None:
        """Check that the training followed this version of the specification, or was in native arithmetic.

        Raises
        ------
        ConfigError
            It followed another one, so that going on with it would mix the bits of two.
        """
        from xpnet.arithmetic import SPECIFICATION_VERSION  # loads NumPy, which lists do not need

        version, writer = self.record["specification_version"], self.record["versions"].get("xpnet")
        if version not in (None, SPECIFICATION_VERSION):
            remedy = f"expected version {SPECIFICATION_VERSION}: use the xpnet that trained it"
            remedy += f", {writer}" if writer else ""
            raise ConfigError(f"{self.path}: follows version {version} of the specification, {remedy}")

    def find_other_data(self, name: str, sha256: str) -> str | None:
        """Describe the data of the training if data of this name and digest are others; else return None."""
        data = self.record["data"]
        if sha256 == data["sha256"]:
            return None
        original = f"{data['name']} with SHA-256 {data['sha256'][:16]}…"
        return f"was trained on other data: {original}, found {name} with {sha256[:16]}…"


def describe_files(*paths: Path) -> Json:
    """Return size and SHA-256 of those files that exist, by path, for the ranks of an MPI job to compare."""
    return {str(p): f"{p.stat().st_size} bytes, SHA-256 {digest_file(p)}" for p in paths if p.is_file()}


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Its lock and its name


def acquire_lock(folder: Path) -> Lock:
    """Lock a run's folder.

    Raises
    ------
    ConfigError
        Another process holds the lock, or it cannot be created.
    """
    lock = Lock.take(folder / records.LOCK_FILE)
    if not lock:
        raise ConfigError(f"{folder}: {IN_USE}")
    return lock


def take_name(prepared: Path, folder: Path, *, overwrite: bool) -> None:
    """Rename the folder `prepared` to `folder`, which is free, or a run that `overwrite` allows to replace.

    Renaming onto a folder that holds files fails, so that only one of two concurrent runs succeeds.

    Raises
    ------
    ConfigError
        The folder may not be replaced, or another run has just taken the name.
    """
    remedy = f"choose another {setting('name')}, or replace it with {setting('overwrite')}"
    taken = ConfigError(f"{folder}: exists already: {remedy}")
    if os.path.lexists(folder):
        if not overwrite:
            raise taken
        if folder.is_symlink() or not (folder / records.RECORD_FILE).is_file():
            problem = f"not a run (no {records.RECORD_FILE} in it), so {setting('overwrite')} leaves it alone"
            raise ConfigError(f"{folder}: {problem}")
        acquire_lock(folder).release()
    aside = get_aside(prepared)
    try:
        if overwrite and folder.exists():
            files.change(folder.rename, aside)
        files.change(prepared.rename, folder)
    except BaseException as error:
        if aside.exists() and not folder.exists():
            files.change(aside.rename, folder)
        if isinstance(error, OSError) and error.errno in {errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY}:
            raise taken from error
        raise
    files.sync_folder(folder.parent)
    # The new run is in place; files of the old one that cannot be deleted are left behind.
    files.remove_folder(aside)


def get_aside(prepared: Path) -> Path:
    """Return the folder to which the run is moved that `prepared` replaces."""
    return prepared.with_name(prepared.name.replace(STARTING, REPLACED))


def find_displaced(out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each run that a killed process had moved aside to replace it, and the folder that was its own."""
    for aside in sorted(out.glob(f"{REPLACED}*")):
        prepared = aside.with_name(aside.name.replace(REPLACED, STARTING))
        with suppress(DataError):
            name = str(records.read_run(prepared if prepared.exists() else aside)["id"])
            is_free = Path(name).name == name and not os.path.lexists(out / name)
            if is_free and not is_locked(prepared.with_suffix(".lock")):
                yield aside, out / name


def clean_up(out: Path, own: Path) -> None:
    """Put back the runs that killed processes had moved aside, and delete what else they left in `out`.

    On a file system without locks, on which the lock of the folder `own` is not seen, everything stays.
    """
    if not is_locked(own.with_suffix(".lock")):
        return
    for aside, folder in find_displaced(out):
        with suppress(OSError):  # another process has just done so
            files.change(aside.rename, folder)
    for path in (*out.glob(f"{STARTING}*"), *out.glob(f"{REPLACED}*")):
        prepared = out / path.name.replace(REPLACED, STARTING).removesuffix(".lock")
        lock, aside = prepared.with_suffix(".lock"), get_aside(prepared)
        if is_locked(lock) or (prepared.exists() and aside.exists()):
            continue
        with suppress(ConfigError):
            # Held while it deletes: a start makes the lock file a moment before it locks it.
            if held := Lock.take(lock):
                files.remove_folder(prepared)
                files.remove_folder(aside)
                held.release()
