"""File locks between processes, which the system releases when their process ends."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from xpnet._lib import files
from xpnet._lib.files import make_write_error

if sys.platform != "win32":
    import fcntl

WAIT = 0.2
"""Seconds to wait for a lock whose holder is just removing the file."""
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Error numbers of file systems without locks."""


class Lock:
    """An exclusive lock on a lock file.

    A lock file that a killed process left behind is not locked. On a file system without locks, taking a
    lock always succeeds.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        self._path = path.absolute()
        self._lock = lock
        self._file = path.stat()

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Lock `path`, creating the file if needed; return None if it stays locked for `WAIT` seconds.

        A symbolic link is replaced.

        Raises
        ------
        ConfigError
            The file can be neither created nor opened.
        """
        lock = FileLock(path, WAIT, poll_interval=0.01, thread_local=False, fallback_to_soft=False)
        try:
            path.parent.stat()  # a folder that was moved away must not be made again
            if path.is_symlink():  # to a file that is no lock of xpnet's
                files.change(path.unlink)
            lock.acquire()
        except Timeout:
            # Those who ask whether it is locked hold it for a moment, shared.
            return None if is_locked(path) else cls.take(path)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise make_write_error(path, error) from error
        return cls(path, lock)

    @property
    def is_replaced(self) -> bool:
        """True if another process has a lock file of its own in the place of this one."""
        with suppress(OSError):
            return not os.path.samestat(self._file, self._path.stat())
        return False

    def release(self) -> None:
        """Remove the file and release the lock, if it is still held."""
        with suppress(OSError):
            if self._lock.is_locked and not self.is_replaced:
                if sys.platform == "win32":  # where open files cannot be removed
                    self._lock.release()
                files.change(self._path.unlink)
        self._lock.release()


def is_locked(path: Path) -> bool:
    """Return True if `path` is locked, or may be; the file is neither written nor removed."""
    if not path.is_file():
        return False
    try:
        if sys.platform == "win32":
            with FileLock(path, blocking=False, fallback_to_soft=False):
                return False
        with path.open("rb") as file:
            # Shared, because NFS has exclusive locks only of files that are open for writing.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except OSError as error:
        return error.errno not in UNSUPPORTED
