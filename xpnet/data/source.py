"""Opening of data files, plain or gzipped, and the check that their values fit in memory."""

import gzip
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from xpnet._lib.machine import available_memory
from xpnet.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
MAPPING_HINT = "uncompressed IDX or .npy files of pixels need not fit"


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
            yield cast("BinaryIO", gzip.GzipFile(fileobj=file)) if packed else file
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


def check_memory(where: str | Path, declared: int, hint: str = MAPPING_HINT) -> None:
    """Raise DataError if values of `declared` bytes exceed the available memory, as far as that is known.

    Raises
    ------
    DataError
        `declared` is more than the memory of the machine or the container.
    """
    memory = available_memory()
    if memory is not None and declared > memory > 0:
        problem = f"holds {declared} bytes of values, this machine has {memory} bytes of memory: {hint}"
        raise DataError.at(where, problem)
