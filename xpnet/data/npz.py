"""Reads an .npz archive of four arrays without trusting its headers and without pickles."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet.data.npy import KEYS, read_header
from xpnet.data.source import check_memory, check_size, fill, reading
from xpnet.data.table import Table, features, labels
from xpnet.errors import DataError


def read_npz(path: Path) -> tuple[Table, Table]:
    """Read x_train, y_train, x_test and y_test from `path` into (train, test).

    Raises
    ------
    DataError
        Not a zip file, a missing key, an object array, a damaged member, or arrays that do not
        go together.

    """
    with reading(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = set(archive.namelist())
                missing = [key for key in KEYS if f"{key}.npy" not in names]
                if missing:
                    found = ", ".join(sorted(name.removesuffix(".npy") for name in names)[:8])
                    msg = (
                        f"{path}: has no {', '.join(missing)}; it needs {', '.join(KEYS)}"
                        f" (found: {found.encode('unicode_escape').decode() or 'nothing'})"
                    )
                    raise DataError(msg)
                arrays = {key: read_member(path, archive, key) for key in KEYS}
        except zipfile.BadZipFile as error:
            msg = f"{path}: is not an intact .npz archive ({error})"
            raise DataError(msg) from error
    return _pair(path, arrays, "train"), _pair(path, arrays, "test")


def _pair(path: Path, arrays: dict[str, tuple[NDArray[np.generic], tuple[int, ...]]], half: str) -> Table:
    x_from, y_from = f"{path}, x_{half}", f"{path}, y_{half}"
    x, y = arrays.pop(f"x_{half}"), arrays.pop(f"y_{half}")
    return Table(features(*x, x_from), labels(*y, y_from), x_from, y_from)


def read_member(
    path: Path, archive: zipfile.ZipFile, key: str
) -> tuple[NDArray[np.generic], tuple[int, ...]]:
    """Return the array `key` and its shape, read piece by piece after its header is checked."""
    where = f"{path}, {key}"
    info = archive.getinfo(f"{key}.npy")
    try:
        with archive.open(info) as member:
            shape, fortran, dtype = read_header(member, where)
            declared = math.prod(shape) * dtype.itemsize
            follow = info.file_size - member.tell()
            if declared != follow:
                msg = f"{where}: its shape {shape} takes {declared} bytes, the archive holds {follow}"
                raise DataError(msg)
            stored = min(info.compress_size, path.stat().st_size)
            check_size(where, declared, stored, packed=info.compress_type != zipfile.ZIP_STORED)
            check_memory(where, declared)
            buffer = np.empty(declared, np.uint8)
            if fill(member, buffer.data) < declared:
                msg = f"{where}: ends too early"
                raise DataError(msg)
            member.read(1)
    except (EOFError, zlib.error) as error:
        msg = f"{where}: the compressed data is damaged"
        raise DataError(msg) from error
    except (NotImplementedError, RuntimeError) as error:
        msg = f"{where}: cannot be unpacked ({error})"
        raise DataError(msg) from error
    values = buffer.view(dtype).astype(dtype.newbyteorder("="), copy=False)
    if fortran:
        values = values.reshape(shape[::-1]).T
    return values, shape
