"""Reads a table of many samples, with or without labels, for a network that is trained already."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.csv import LONGEST_LINE, read_csv
from xpnet.data.idx import TYPES, read_idx
from xpnet.data.npy import read_npy
from xpnet.data.npz import read_member
from xpnet.data.source import GZIP_MAGIC, check_memory, reading
from xpnet.data.table import Table, features, labels
from xpnet.errors import DataError

FORMS = ".csv, .csv.gz, .npy, .npz and IDX files"
"""What is read, in words."""


class Rows(NamedTuple):
    """Samples from a file of many."""

    x: NDArray[np.generic]  # (m, features)
    labels: NDArray[np.int32] | None  # (m,), if the file has them


def is_table(path: Path) -> bool:
    """Tell whether a file is read as a table: by its name, or as IDX or gzip by its first bytes."""
    if path.name.lower().endswith((".csv", ".csv.gz", ".npy", ".npz")):
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(3)
    except OSError:
        return False
    is_idx = len(start) == 3 and start.startswith(b"\0\0") and start[2] in TYPES
    return is_idx or start.startswith(GZIP_MAGIC)


def read_rows(path: Path, expected: int) -> Rows:
    """Return the samples in a table.

    Parameters
    ----------
    path
        A CSV file, gzipped or not, of features, or of labels and features; a .npy or IDX file of
        features; or an .npz archive with x_test (and y_test), or x (and y), or a single array.
    expected
        How many features a sample should have: it tells whether a CSV file has labels.

    Raises
    ------
    DataError
        The file is missing, damaged, or none of these.

    """
    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            return _csv_rows(path, expected)
        if name.endswith(".npz"):
            return _npz_rows(path)
        read = read_npy if name.endswith(".npy") else read_idx
        return Rows(features(*read(path), path), None)
    except MemoryError as error:
        msg = f"{path}: does not fit in this machine's memory: split it"
        raise DataError(msg) from error


def _csv_rows(path: Path, expected: int) -> Rows:
    with reading(path) as file:
        first = next(_lines(path, file), None)
        if first is None:
            msg = f"{path}: is empty"
            raise DataError(msg)
        columns = first[1].count(b",") + 1
        if columns == expected:
            file.seek(0)
            return Rows(_unlabelled(path, file, expected), None)
    if columns != expected + 1:
        msg = (
            f"{path}: has {columns} columns, the network takes {expected} features: "
            f"expected {expected} columns, or {expected + 1} with the label first"
        )
        raise DataError(msg)
    table = read_csv(path)
    return Rows(table.x, table.y)


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, and their numbers from 1."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            msg = f"{path}, line {number}: has more than {LONGEST_LINE} bytes"
            raise DataError(msg)
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield number, text


def _unlabelled(path: Path, file: BinaryIO, expected: int) -> NDArray[np.generic]:
    """Return the rows of a CSV file of features: whole numbers from 0 to 255 as pixels, else float64."""
    rows: list[NDArray[np.float64]] = []
    for index, (number, line) in enumerate(_lines(path, file)):
        cells = [cell.strip(b' \t\r\n"') for cell in line.split(b",")]
        if index == 0 and _is_header(cells):
            continue
        if len(cells) != expected:
            msg = f"{path}, line {number}: has {len(cells)} values, the first line has {expected}"
            raise DataError(msg)
        rows.append(np.array(_numbers(path, number, cells)))
        if len(rows) % 1024 == 0:
            check_memory(path, 2 * rows[0].nbytes * len(rows))
    if not rows:
        msg = f"{path}: has a header but no rows"
        raise DataError(msg)
    x = np.stack(rows)
    pixels = x.min() >= 0 and x.max() <= 255 and bool((x == np.floor(x)).all())
    return x.astype(np.uint8) if pixels else x


def _is_header(cells: list[bytes]) -> bool:
    """Tell column names from a row: names are no numbers, or they count up."""
    counted = [[b"%d" % (first + index) for index in range(len(cells))] for first in (0, 1)]
    return cells in counted or not any(map(_is_number, cells))


def _is_number(cell: bytes) -> bool:
    try:
        return math.isfinite(float(cell)) and b"_" not in cell
    except ValueError:
        return False


def _numbers(path: Path, line: int, cells: list[bytes]) -> list[float]:
    """Return the cells as finite numbers; raise DataError over the first that is none."""
    with suppress(ValueError):
        values = list(map(float, cells))
        if all(map(math.isfinite, values)) and b"_" not in b"".join(cells):
            return values
    column, cell = next((at, cell) for at, cell in enumerate(cells, 1) if not _is_number(cell))
    shown = cell[:40].decode(errors="backslashreplace")
    msg = f"{path}, line {line}, column {column}: {shown!r} is not a finite number"
    raise DataError(msg)


def _npz_rows(path: Path) -> Rows:
    with reading(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                key, label_key = _keys(path, names)
                x_from, y_from = f"{path}, {key}", f"{path}, {label_key}"
                x = features(*read_member(path, archive, key), x_from)
                if label_key not in names:
                    return Rows(x, None)
                y = labels(*read_member(path, archive, label_key), y_from)
        except zipfile.BadZipFile as error:
            msg = f"{path}: is not an intact .npz archive ({error})"
            raise DataError(msg) from error
    table = Table(x, y, x_from, y_from)
    return Rows(table.x, table.y)


def _keys(path: Path, names: list[str]) -> tuple[str, str]:
    """Return the names that features and labels have, or would have, in an archive."""
    for key, label_key in (("x_test", "y_test"), ("x", "y")):
        if key in names:
            return key, label_key
    if len(names) == 1:
        return names[0], "y"
    found = ", ".join(sorted(names)[:8]).encode("unicode_escape").decode() or "nothing"
    msg = f"{path}: expected x_test, or x, or a single array (found: {found})"
    raise DataError(msg)
