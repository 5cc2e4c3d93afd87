"""Opens a data file, plain or gzipped, reads or maps its values, and names what is wrong with it."""

import gzip
import math
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.machine import available_memory
from xpnet.data.memmap import map_values, should_map
from xpnet.data.table import format_shape
from xpnet.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
MAPPING_HINT = "uncompressed IDX or .npy files of pixels need not fit"
MAX_EXPANSION = 1032
"""Deflate cannot expand its input more than this many times (zlib technical notes)."""


@contextmanager
def open_data_file(path: Path, expected: str = "a file") -> Iterator[BinaryIO]:
    """Open `path` for reading; gzip is recognised by its content and decompressed on the way.

    `expected` names what `path` should be, in messages.

    Raises
    ------
    DataError
        From opening and from any read inside the block: a missing or unreadable file, a folder,
        and gzip data that is cut short or damaged.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise DataError.at(path, f"is {kind}, {expected} was expected")
        with path.open("rb") as file:
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast("BinaryIO", unpacked)
            else:
                yield file
    except EOFError as error:
        raise DataError.at(path, "the gzip data ends too early: download the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError.at(
            path, f"the gzip data is damaged ({' '.join(str(error).split())}): download the file again"
        ) from error
    except FileNotFoundError as error:
        raise DataError.at(path, "no such file") from error
    except OSError as error:
        raise DataError.at(path, f"cannot be read ({error.strerror or error})") from error


def read_values(
    file: IO[bytes],
    where: str | Path,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    stored: int,
    *,
    may_map: bool = True,
) -> NDArray[np.generic]:
    """Return the values of an array that make up the rest of `file`: in order, 1-D, native.

    Many values that need no conversion, in a file that is not compressed, are a read-only map of the
    file and need not fit in memory.

    Parameters
    ----------
    file
        A file after its header, opened by `open_data_file`, or a member of an archive.
    where
        Its name for messages.
    shape, dtype
        What the header says.
    stored
        The bytes of the file, or of the whole archive, on the disk.
    may_map
        False where the caller changes the order of the values.

    Raises
    ------
    DataError
        Fewer or more bytes than the header says, or more than the file can hold, or more than this
        machine's memory where they are not mapped. A damaged or hostile header costs no memory.
    """
    declared, start = math.prod(shape) * dtype.itemsize, file.tell()
    packed = not isinstance(file, BufferedReader)
    if declared > stored * (MAX_EXPANSION if packed else 1):
        raise DataError.at(
            where,
            f"its header announces {declared} bytes of values,"
            f" {stored} {'compressed ' if packed else ''}bytes cannot hold them",
        )
    if may_map and not packed and should_map(dtype, declared, start):
        follow = stored - start
        if follow == declared:
            return map_values(file, start, declared, dtype)
    else:
        check_memory(where, declared)
        buffer, follow = np.empty(declared, np.uint8), 0
        while count := file.readinto(buffer[follow : follow + (1 << 20)].data):  # type: ignore[attr-defined]
            follow += count
        if follow == declared and not file.read(1):
            return buffer.view(dtype).astype(dtype.newbyteorder("="), copy=False)
    problem = f"only {follow} follow" if follow < declared else "more follow"
    raise DataError.at(where, f"its sizes {format_shape(shape)} take {declared} bytes, {problem}")


def check_memory(where: str | Path, declared: int) -> None:
    """Refuse more bytes of values than this process may use, where the system tells.

    Raises
    ------
    DataError
        `declared` is more than the memory of the machine or the container.
    """
    memory = available_memory()
    if memory is not None and declared > memory > 0:
        raise DataError.at(
            where,
            f"holds {declared} bytes of values, this machine has {memory} bytes of memory: {MAPPING_HINT}",
        )
