"""Opens a data file, plain or gzipped, and names what is wrong with it."""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from xpnet.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
MAX_EXPANSION = 1032
"""Deflate cannot expand its input more than this many times (zlib technical notes)."""


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for reading; gzip is recognised by its content and decompressed on the way.

    Raises
    ------
    DataError
        From opening and from any read inside the block: a missing or unreadable file, a folder,
        and gzip data that is cut short or damaged.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            msg = f"{path}: is {kind}, a file was expected"
            raise DataError(msg)
        with path.open("rb") as file:
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast("BinaryIO", unpacked)
            else:
                yield file
    except EOFError as error:
        msg = f"{path}: the gzip data ends too early: download the file again"
        raise DataError(msg) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        msg = f"{path}: the gzip data is damaged ({_reason(error)}): download the file again"
        raise DataError(msg) from error
    except FileNotFoundError as error:
        msg = f"{path}: no such file or folder"
        raise DataError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})"
        raise DataError(msg) from error


def check_size(where: str | Path, declared: int, stored: int, *, packed: bool) -> None:
    """Refuse `declared` bytes of values that `stored` bytes of a file cannot hold.

    Called before anything is allocated for them, so a damaged or hostile header costs nothing.

    Raises
    ------
    DataError
        The values cannot fit in the file, or not in this machine's memory.
    """
    if declared > stored * (MAX_EXPANSION if packed else 1):
        msg = (
            f"{where}: its header announces {declared} bytes of values,"
            f" {stored} {'compressed ' if packed else ''}bytes cannot hold them"
        )
        raise DataError(msg)
    check_memory(where, declared)


def check_memory(where: str | Path, declared: int) -> None:
    """Refuse more bytes of values than the machine has memory, where the system tells.

    Raises
    ------
    DataError
        `declared` is more than the physical memory.
    """
    if not hasattr(os, "sysconf"):
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if declared > memory > 0:
        msg = (
            f"{where}: holds {declared} bytes of values, this machine has {memory} bytes of memory"
        )
        raise DataError(msg)


def fill(file: IO[bytes], target: memoryview) -> int:
    """Read from `file` until `target` is full or the file ends; return how many bytes came."""
    filled = 0
    while filled < len(target):
        count = file.readinto(target[filled : filled + (1 << 20)])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
