"""Reads .npy files, the format of ``numpy.save``, without trusting their headers and without pickles."""

import tokenize
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format  # noqa: A004 (NumPy's name)
from numpy.typing import NDArray

from xpnet.data.source import read_values, reading
from xpnet.data.table import Table, read_table
from xpnet.errors import DataError

KEYS = ("x_train", "y_train", "x_test", "y_test")
_HEADER_ERRORS = (
    ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError,
)  # fmt: skip


def read_npy_folder(folder: Path) -> tuple[Table, Table]:
    """Read x_train.npy, y_train.npy, x_test.npy and y_test.npy of `folder` into (train, test).

    Raises
    ------
    DataError
        A file is missing, damaged, holds Python objects, or does not go with the others.

    """
    paths = {key: folder / f"{key}.npy" for key in KEYS}
    missing = [path.name for path in paths.values() if not path.exists()]
    if missing:
        names = ", ".join(path.name for path in paths.values())
        msg = f"{folder}: has no {', '.join(missing)}; it needs {names}"
        raise DataError(msg)
    return (
        read_table(read_npy, paths["x_train"], paths["y_train"]),
        read_table(read_npy, paths["x_test"], paths["y_test"]),
    )


def read_npy(path: Path) -> tuple[NDArray[np.generic], tuple[int, ...]]:
    """Read or map one .npy file: its values in a native type, and its shape.

    Raises
    ------
    DataError
        A damaged header, Python objects, or a shape that disagrees with the bytes that follow.

    """
    with reading(path) as file:
        shape, fortran, dtype = read_header(file, path)
        values = read_values(file, path, shape, dtype, may_map=not fortran)
    return (values.reshape(shape[::-1]).T if fortran else values), shape


def read_header(file: IO[bytes], where: str | Path) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read the header of a .npy file: shape, whether in Fortran order, and a type of plain numbers.

    Raises
    ------
    DataError
        A damaged header, Python objects, or another type that is no number of at most 64 bits.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = format.read_magic(file)
            if version != (1, 0):
                msg = f"{where}: .npy version {version} is not that of a plain array"
                raise DataError(msg)
            shape, fortran, dtype = format.read_array_header_1_0(file)
    except _HEADER_ERRORS as error:
        msg = f"{where}: its .npy header is damaged"
        raise DataError(msg) from error
    if dtype.hasobject:
        msg = f"{where}: holds Python objects, which are never loaded: save numbers"
        raise DataError(msg)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        msg = f"{where}: its type {dtype} is neither an integer nor a float of 64 bits"
        raise DataError(msg)
    if min(shape, default=0) < 0:
        msg = f"{where}: its shape {shape} is not possible"
        raise DataError(msg)
    return shape, fortran, dtype
