"""Bounded reading of regular files, and atomic writing."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xpnet._typing import Result
from xpnet.errors import ConfigError, DataError


def change(call: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Return the result of a call that writes, syncs, renames or removes; there are no other such calls.

    A simulation of disks takes its place: other modules call it as ``files.change``.
    """
    return call(*arguments, **options)


def remove_folder(path: Path) -> None:
    """Remove a folder, as far as that is possible."""
    change(shutil.rmtree, path, ignore_errors=True)


def draw_name() -> str:
    """Return a name that no other file has."""
    return os.urandom(8).hex()


def read_regular_file(path: Path, limit: int, hint: str) -> bytes:
    """Return the content of a regular file, of the size that it has when it is opened.

    Symbolic links are followed. Other files are refused: opening a FIFO blocks, and a device such as
    /dev/zero has no end.

    Parameters
    ----------
    path
        The file.
    limit
        Maximum size, in bytes.
    hint
        The end of messages, such as "expected a folder of a run".

    Raises
    ------
    DataError
        The file is missing, unreadable, too large, or not a regular file.
    """
    try:
        # Non-blocking, because of FIFOs; on Windows without translation of line ends. A NUL in the path
        # raises ValueError.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: is not a regular file: {hint}")
            if status.st_size > limit:
                raise DataError(f"{path}: has {status.st_size} bytes, more than {limit}: {hint}")
            return file.read(status.st_size)
    except (OSError, ValueError) as error:
        raise make_read_error(path, error, hint) from error


def read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, none if it is no regular file or cannot be read."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(size)
    return b""


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: readers see the old content or the new, even after a crash.

    The bytes are written to a temporary file in the same folder, synced, and renamed; a link is replaced. On
    any exception, KeyboardInterrupt included, the temporary file is deleted and `path` is unchanged.

    Raises
    ------
    OSError
        The folder is missing or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{draw_name()}.tmp")
    try:
        with change(temporary.open, "xb") as file:
            _write(file, data)
        change(temporary.replace, path)
    except BaseException:
        change(temporary.unlink, missing_ok=True)
        raise
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Write and sync `data` at the end of a file, which may not be a symbolic link, creating it if needed.

    Raises
    ------
    OSError
        The file cannot be written, or the disk is full.
    """
    flags, is_new = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), not path.exists()
    with os.fdopen(change(os.open, path, flags, 0o666), "ab") as file:
        _write(file, data)
    if is_new:
        sync_folder(path.parent)


def _write(file: Any, data: bytes, *, sync: bool = True) -> None:
    change(file.write, data)
    file.flush()
    if sync:
        change(os.fsync, file.fileno())


def sync_folder(path: Path) -> None:
    """Sync the names in a folder, as after a file was renamed there, where the system can open folders."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            change(os.fsync, folder)
        finally:
            os.close(folder)


def save(path: Path, data: bytes, *, is_named: bool = True) -> None:
    """Write `data` to a path that the user names; raise ConfigError if that fails.

    Symbolic links are followed. A file is replaced by `write_atomic`; a character device, or a FIFO with a
    reader, is written to. A path that xpnet chooses, without `is_named`, is replaced in any case.
    """
    try:
        if is_named and path.exists() and not path.is_file():
            _write_special(path, data)
        else:
            write_atomic(Path(os.path.realpath(path)) if is_named else path, data)
    except (OSError, ValueError) as error:
        raise make_write_error(path, error) from error


def _write_special(path: Path, data: bytes) -> None:
    """Write to a character device or a FIFO; raise for others, and if the FIFO has no reader."""
    if path.is_block_device():
        raise ValueError
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "wb") as file:
        if os.name == "posix":
            os.set_blocking(descriptor, True)
        _write(file, data, sync=False)


def make_read_error(path: Path, error: OSError | ValueError, hint: str) -> DataError:
    """Return the one-line error, which ends with `hint`, for a file or folder that cannot be read."""
    reason = error.strerror if isinstance(error, OSError) else "not a path"
    return DataError(f"{path}: cannot be read ({reason}): {hint}")


def make_write_error(path: Path, error: OSError | ValueError) -> ConfigError:
    """Return the one-line error for a file or folder that cannot be written."""
    reason = getattr(error, "strerror", "not the path of a file") or type(error).__name__
    return ConfigError(f"{path}: cannot be written ({reason}): free some space or choose another path")
