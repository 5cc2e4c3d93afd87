"""Reading of .npy files and .npz archives, without trust in their headers and without pickles."""

import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format  # noqa: A004 (NumPy's name)

from xpnet.data.source import open_data_file, read_values
from xpnet.data.table import ROLES, Table, Values, make_halves
from xpnet.errors import DataError

_HEADER_ERRORS = (
    ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError,
)  # fmt: skip


def read_npy_folder(folder: Path) -> tuple[Table, Table]:
    """Read x_train.npy, y_train.npy, x_test.npy and y_test.npy of `folder` into (train, test).

    Raises
    ------
    DataError
        A file is missing, damaged or holds Python objects, or the files do not match.
    """
    return make_halves(read_npy(folder / f"{role}.npy") for role in ROLES)


def read_npz(path: Path) -> tuple[Table, Table]:
    """Read x_train, y_train, x_test and y_test of the archive `path` into (train, test).

    Raises
    ------
    DataError
        The file is not a zip file, an array is missing, damaged or holds Python objects, or the arrays
        do not match.
    """
    with open_archive(path) as archive:
        missing = [role for role in ROLES if role not in archive.keys]
        if missing:
            raise DataError.at(
                path, f"has no {', '.join(missing)}; it needs {', '.join(ROLES)} (found: {archive.contents})"
            )
        return make_halves(map(archive.read, ROLES))


def read_npy(path: Path) -> Values:
    """Read or map a .npy file, in native byte order.

    Raises
    ------
    DataError
        The header is damaged, the array holds Python objects, or its shape contradicts the number of bytes.
    """
    with open_data_file(path) as file:
        return _read_array(file, str(path), path.stat().st_size)


def _read_array(file: IO[bytes], where: str, stored: int) -> Values:
    """Read an array in .npy format from a file of `stored` bytes."""
    shape, fortran, dtype = _read_header(file, where)
    values = read_values(file, where, shape, dtype, stored, may_map=not fortran)
    return Values(values.reshape(shape[::-1]).T if fortran else values, shape, where)


def _read_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read the header of a .npy file: shape, True if in Fortran order, and dtype.

    Raises
    ------
    DataError
        The header is damaged, or the dtype is not boolean, integer or float of at most 64 bits.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            version = format.read_magic(file)
            if version != (1, 0):
                raise DataError.at(where, f".npy version {version} is not that of a plain array")
            shape, fortran, dtype = format.read_array_header_1_0(file)
    except _HEADER_ERRORS as error:
        raise DataError.at(where, "its .npy header is damaged") from error
    if dtype.hasobject:
        raise DataError.at(where, "holds Python objects, which are never loaded: save numbers")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError.at(where, f"its type {dtype} is neither an integer nor a float of 64 bits")
    if min(shape, default=0) < 0:
        raise DataError.at(where, f"its shape {shape} is not possible")
    return shape, fortran, dtype


@dataclass(frozen=True)
class NpzArchive:
    """An open .npz archive."""

    path: Path
    file: zipfile.ZipFile

    @property
    def keys(self) -> list[str]:
        """The names of the arrays."""
        return [name.removesuffix(".npy") for name in self.file.namelist() if name.endswith(".npy")]

    @property
    def contents(self) -> str:
        """The first names in the archive, for messages."""
        return ", ".join(sorted(self.keys)[:8]) or "nothing"

    def read(self, key: str) -> Values:
        """Return the array `key`, read piece by piece after its header is checked.

        Raises
        ------
        DataError
            The array is damaged, of an unsupported kind, or too large.
        """
        where = f"{self.path}, {key}"
        try:
            with self.file.open(f"{key}.npy") as member:
                return _read_array(member, where, self.path.stat().st_size)
        except (EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
            raise DataError.at(where, f"cannot be unpacked ({error or 'its data end too early'})") from error


@contextmanager
def open_archive(path: Path) -> Iterator[NpzArchive]:
    """Open an .npz archive.

    Raises
    ------
    DataError
        The archive is missing or damaged; also raised while reading in the block.
    """
    with open_data_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield NpzArchive(path, archive)
        except zipfile.BadZipFile as error:
            raise DataError.at(path, f"is not an intact .npz archive ({error})") from error
