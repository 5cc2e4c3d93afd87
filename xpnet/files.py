"""Files that are either complete or absent."""

import contextlib
import os
from pathlib import Path

from xpnet.errors import ConfigError


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash, finds the old content or the new.

    The bytes go to a temporary file in the same folder, reach the disk, and take the name in one
    step. Whatever stops the writing, Ctrl-C included, leaves no temporary file and no change.

    Raises
    ------
    OSError
        The folder is missing or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def unwritable(path: Path, error: OSError) -> ConfigError:
    """Return the one-line error for a file or folder that could not be written."""
    reason = error.strerror or type(error).__name__
    return ConfigError(
        f"{path}: cannot be written ({reason}): free some space or choose another folder"
    )


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, on the systems that can open a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
