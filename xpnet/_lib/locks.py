"""Locks between processes, which the system releases when their holder ends, however it ends."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

if sys.platform != "win32":
    import fcntl

WAIT = 0.2
"""Seconds in which a lock can be taken whose holder is just removing the file."""
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of file systems without locks."""


class Lock:
    """A lock on a file that is there for nothing else. At most one is held on a path at a time.

    A file that a killed process left behind is not locked: only an open one is. On a file system
    without locks there is no protection, and that is not an error.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        self._path, self._lock, self._file = path, lock, path.stat()

    @classmethod
    def take(cls, path: Path, wait: float = WAIT) -> Self | None:
        """Return the lock on `path`, making the file if need be; None if it is held for so many seconds.

        Raises
        ------
        OSError
            The file can be neither made nor opened.
        """
        lock = FileLock(path, wait, poll_interval=0.01, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        return cls(path, lock)

    def release(self) -> None:
        """Remove the file and let go of the lock, if it is still held."""
        with suppress(OSError):
            if self._lock.is_locked and os.path.samestat(self._file, self._path.stat()):
                if sys.platform == "win32":  # it removes no open file; elsewhere the lock outlasts the file
                    self._lock.release()
                self._path.unlink()
        self._lock.release()


def is_locked(path: Path) -> bool:
    """Return whether the lock on `path` is held, or may be, without removing the file."""
    if not path.is_file():
        return False
    try:
        with FileLock(path, blocking=False, fallback_to_soft=False):
            return False
    except Timeout:
        return True
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
    if sys.platform != "win32":
        # FileLock opens the file for writing, which is not allowed in runs of other users.
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    return True
