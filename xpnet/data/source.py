"""Opening of data files, plain or gzipped, and reading or mapping of their values."""

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
"""Maximum expansion factor of deflate (zlib technical notes)."""


@contextmanager
def open_data_file(path: Path, expected: str = "a file") -> Iterator[BinaryIO]:
    """Open `path` for reading; gzip is recognised by its content and decompressed.

    `expected` describes the file in messages.

    Raises
    ------
    DataError
        The file is missing, unreadable or not a regular file, or its gzip data are truncated or damaged;
        also raised while reading in the block.
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
    """Read the values of an array from the rest of `file`, 1-D, in native byte order.

    Large values that need no conversion, in a file that is not compressed, are returned as a read-only
    memory map, and need not fit in memory.

    Parameters
    ----------
    file
        A file after its header, opened by `open_data_file`, or a member of an archive.
    where
        The name of the file, for messages.
    shape, dtype
        Those in the header.
    stored
        Size of the file, or of the whole archive, on the disk, in bytes.
    may_map
        False if the caller changes the order of the values.

    Raises
    ------
    DataError
        The number of bytes contradicts the header, or values that are not mapped exceed the available
        memory. Sizes in the header are checked before memory is allocated.
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
    """Raise DataError if values of `declared` bytes exceed the available memory, as far as that is known.

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
