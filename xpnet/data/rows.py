"""Reading of samples, with or without labels, for inference."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.array_files import IDX_TYPES, read_array, read_npz
from xpnet.data.csv import TableOptions, read_csv
from xpnet.data.source import GZIP_MAGIC
from xpnet.data.table import as_features, make_table
from xpnet.errors import DataError
from xpnet.nn.columns import NO_COLUMNS, Columns

FILE_FORMATS = ".csv, .csv.gz, .npy, .npz and IDX files"
"""The formats of tables, for messages."""


class Rows(NamedTuple):
    """Samples of a table."""

    x: NDArray[np.generic]  # (m, features)
    labels: NDArray[np.int32] | None  # (m,); None if the file has none


def is_table(path: Path) -> bool:
    """Return True if a file is a table, by its name, or by the first bytes of IDX and gzip."""
    if path.name.lower().endswith((".csv", ".csv.gz", ".npy", ".npz")):
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(3)
    except OSError:
        return False
    is_idx = len(start) == 3 and start.startswith(b"\0\0") and start[2] in IDX_TYPES
    return is_idx or start.startswith(GZIP_MAGIC)


def read_rows(path: Path, expected: int, columns: Columns = NO_COLUMNS) -> Rows:
    """Read the samples of a table.

    Parameters
    ----------
    path
        A CSV file, gzipped or not, of features, or of labels and features; a .npy or IDX file of
        features; or an .npz archive with x_test (and y_test), or x (and y), or a single array.
    expected
        The number of features of a sample; a CSV file with one more column has labels.
    columns
        The columns of the training, to which those of a CSV file must belong.

    Raises
    ------
    DataError
        The file is missing, damaged, or of another format.
    """
    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            return _read_csv_rows(path, expected, columns)
        if name.endswith(".npz"):
            return _read_npz_rows(path)
        return Rows(as_features(*read_array(path)), None)
    except MemoryError as error:
        raise DataError.at(path, "does not fit in this machine's memory: split it") from error


def _read_csv_rows(path: Path, expected: int, columns: Columns) -> Rows:
    """Read samples, and labels if present, from a CSV file."""
    missing = "error" if columns.means is None else "mean"
    table = read_csv(path, TableOptions(None, "any", missing, known=columns, predicted=expected))
    if columns.means is not None:
        np.copyto(table.x, columns.means, where=np.isnan(table.x), casting="unsafe")
    return Rows(table.x, None if table.y[0] < 0 else table.y)


def _read_npz_rows(path: Path) -> Rows:
    """Read samples, and labels if present, from an .npz archive."""

    def choose(keys: list[str]) -> list[str]:
        names = ["x_test", "x", *(keys if len(keys) == 1 else ())]
        key = next((name for name in names if name in keys), "")
        return [name for name in (key, {"x_test": "y_test", "x": "y"}.get(key)) if name in keys]

    x, *labels = read_npz(path, "x_test, or x, or a single array", choose)
    if not labels:
        return Rows(as_features(*x), None)
    table = make_table(x, *labels)
    return Rows(table.x, table.y)
