"""The folder of a run: its lock, taking its name, replacing a run, and what killed processes leave behind."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xpnet._lib.locks import Lock, is_locked
from xpnet.errors import ConfigError, DataError
from xpnet.storage import record as records

STARTING, REPLACED = ".starting-", ".replaced-"
"""Beginnings of the names of a folder that becomes a run, of its lock, and of the run that it replaces."""


def acquire_lock(folder: Path) -> Lock:
    """Lock a run's folder.

    Raises
    ------
    ConfigError
        Another process holds the lock, or it cannot be created.
    """
    lock = Lock.take(folder / records.LOCK_FILE)
    if lock is None:
        raise ConfigError.at(folder, "another process is working on this run: wait until it has ended")
    return lock


def take_name(prepared: Path, folder: Path, *, overwrite: bool) -> None:
    """Rename the folder `prepared` to `folder`, which is free, or a run that `overwrite` allows to replace.

    Renaming onto a folder that holds files fails, so that only one of two concurrent runs succeeds.

    Raises
    ------
    ConfigError
        The folder may not be replaced, or another run has just taken the name.
    """
    taken = ConfigError.at(folder, "exists already: choose another --name, or replace it with --overwrite")
    if os.path.lexists(folder):
        if not overwrite:
            raise taken
        if folder.is_symlink() or not (folder / records.RECORD_FILE).is_file():
            problem = f"not a run (no {records.RECORD_FILE} in it), so --overwrite leaves it alone"
            raise ConfigError.at(folder, problem)
        acquire_lock(folder).release()
    aside = get_aside(prepared)
    try:
        if overwrite and folder.exists():
            folder.rename(aside)
        prepared.rename(folder)
    except BaseException as error:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        if isinstance(error, OSError) and error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise taken from error
        raise
    # The new run is in place; files of the old one that cannot be deleted are left behind.
    shutil.rmtree(aside, ignore_errors=True)


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
            aside.rename(folder)
    for path in (*out.glob(f"{STARTING}*"), *out.glob(f"{REPLACED}*")):
        prepared = out / path.name.replace(REPLACED, STARTING).removesuffix(".lock")
        lock, aside = prepared.with_suffix(".lock"), get_aside(prepared)
        if is_locked(lock) or (prepared.exists() and aside.exists()):
            continue
        with suppress(ConfigError):
            # Held while it deletes: a start makes the lock file a moment before it locks it.
            if held := Lock.take(lock):
                shutil.rmtree(prepared, ignore_errors=True)
                shutil.rmtree(aside, ignore_errors=True)
                held.release()
