"""Locks between processes, which the system lifts when their holder ends, however it ends."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

if sys.platform == "win32":
    import msvcrt

    def _hold(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _hold(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_ATTEMPTS = 100


class Lock:
    """A lock on a file that is there for nothing else. At most one is held on a path at a time.

    A file that a killed process left behind is not locked: only an open one is. On a file system
    that knows no locks there is no protection, and that is not an error.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Return the lock on `path`, making the file if need be; None if somebody holds it.

        Raises
        ------
        OSError
            The file can be neither made nor opened.
        """
        for _ in range(_ATTEMPTS):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            lock = cls(path, descriptor)
            if _is_taken(descriptor):
                lock._close()
                return None
            if _is_at(descriptor, path):
                return lock
            # Its holder has released and removed it since it was opened.
            lock._close()
        return None

    def release(self) -> None:
        """Remove the file and let go of the lock, if it is still held."""
        if self._descriptor is None:
            return
        own = _is_at(self._descriptor, self._path)
        # Windows removes no open file. Elsewhere nobody may lock it before it is gone.
        if sys.platform == "win32":
            self._close()
        if own:
            with suppress(OSError):
                self._path.unlink()
        self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(path: Path) -> bool:
    """Return whether somebody holds the lock on `path`, without making or removing the file."""
    for mode in (os.O_RDWR, os.O_RDONLY):  # a network file system locks only what can be written
        try:
            descriptor = os.open(path, mode | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return False
        except OSError:
            continue
        try:
            return _is_taken(descriptor)
        finally:
            os.close(descriptor)
    return True


def _is_taken(descriptor: int) -> bool:
    try:
        _hold(descriptor)
    except OSError as error:
        return error.errno in _TAKEN
    return False


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
