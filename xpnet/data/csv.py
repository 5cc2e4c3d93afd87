"""Reads a table of label, feature, feature, … piece by piece, and names the first defect if it has one.

NumPy converts a piece that holds nothing but numbers, commas and line ends; quotes and spaces around cells
are removed first. Only a file that fails is read again, to name what is wrong with it.
"""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.text import plain
from xpnet.data.source import check_memory, reading
from xpnet.data.table import LABEL_RULE, LARGEST_LABEL, PIXEL_RULE, Table
from xpnet.errors import DataError

PIECE = 1 << 18
LONGEST_LINE = 16 << 20
NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_DECIMAL_FEATURE = re.compile(rb",[ \t\"]*[-+]?\d*(?:\.\d|\d\.|\d[eE])")
_DIGITS, _NUMBERS = b"0123456789,\n", b"0123456789,\n+-.eE"
_QUOTED = re.compile(rb'".*"', re.DOTALL)
_NO_TEXT = "is not a CSV file, nor any text in UTF-8"
_NOT_FINITE = {b"nan", b"inf", b"infinity"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class _Form:
    """The form of a table, as its first lines have it."""

    path: Path
    labelled: bool  # the first column is the label
    names: tuple[str, ...]  # of the columns, for messages; perhaps empty
    width: int
    start: int  # where the first row is, in bytes of the decompressed file
    line: int  # its number, from 1


class _Rows(NamedTuple):
    """The rows in a piece of a table."""

    x: NDArray[np.generic]  # (m, features): uint8 if they may be pixels, else float64
    y: NDArray[np.int32]  # (m, 1), or (m, 0) without labels
    decimal: bool  # whether they make the whole table float64


class _NoTableError(Exception):
    """A piece of the file is not as it should be; what is wrong in it is not known yet."""


def read_csv(path: Path) -> Table:
    """Read a CSV file, gzipped or not, with a header or not: the label, then the features.

    If every feature is a whole number, they are pixels, from 0 to 255, and come back as uint8. A
    decimal point or an exponent in any feature makes the table float64.

    Raises
    ------
    DataError
        The first defect in the file, with its line and its column, both from 1.
    """
    x, y = _read(_read_form(path, None))
    return Table(x, y[:, 0], f"{path}", f"{path}")


def read_csv_rows(path: Path, features: int) -> tuple[NDArray[np.generic], NDArray[np.int32] | None]:
    """Read a CSV file with so many features, as `read_csv` does if it has one more column: the labels.

    Without labels, the features come back as uint8 if all are whole numbers from 0 to 255, else as float64.

    Raises
    ------
    DataError
        Another number of columns, or the first defect in the file.
    """
    form = _read_form(path, features)
    x, y = _read(form)
    return x, y[:, 0] if form.labelled else None


def _read_form(path: Path, features: int | None) -> _Form:
    """Read the first two lines that are not blank.

    Parameters
    ----------
    path
        The file.
    features
        How many features a row has: in a table with so many columns there are no labels. None if the first
        column is the label, however many there are.

    Raises
    ------
    DataError
        The file is empty, no text, or has another number of columns.
    """
    lines: list[tuple[int, int, bytes]] = []  # their numbers from 1, positions and bytes
    with reading(path) as file:
        start = len(_BYTE_ORDER_MARK) if file.read(3) == _BYTE_ORDER_MARK else 0
        file.seek(start)
        number = 1
        while len(lines) < 2 and (line := _read_line(path, file)):
            if line.strip():
                lines.append((number, start, line))
            number, start = number + 1, start + len(line)
    if not lines:
        raise DataError.at(path, "is empty")
    cells = [cell.strip(b' \t\r\n"') for cell in lines[0][2].split(b",")]
    width = len(cells)
    if features is not None and width not in (features, features + 1):
        raise DataError.at(
            path,
            f"has {width} columns, the network takes {features} features: "
            f"expected {features} columns, or {features + 1} with the label first",
        )
    labelled = width != features
    if labelled:
        _check_text(path, *lines[0])
    header = _is_header(cells, labelled=labelled)
    if header and len(lines) == 1:
        raise DataError.at(path, "has a header but no rows")
    number, start, _ = lines[header]
    return _Form(path, labelled, tuple(map(format_cell, cells)) if header else (), width, start, number)


def _check_text(path: Path, number: int, _: int, line: bytes) -> None:
    """Refuse a file that is no text, or whose first line is no label with features."""
    if b"\0" in line:
        raise DataError.at(path, _NO_TEXT)
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise DataError.at(path, "is not text in UTF-8", line=number) from error
    if b"," not in line:
        problem = "has one column; a row is a label and its features, separated by commas"
        raise DataError.at(path, problem, line=number)


def _is_header(cells: list[bytes], *, labelled: bool) -> bool:
    """Tell column names from a row: the label's is no number, the others are none either, or count up."""
    labels, features = cells[:labelled], cells[labelled:]
    counted = [[b"%d" % (first + i) for i in range(len(features))] for first in (0, 1)]
    return not any(map(NUMBER.fullmatch, labels)) and (
        features in counted or not any(map(NUMBER.fullmatch, features))
    )


def _pieces(form: _Form) -> Iterator[bytes]:
    """Yield the rows in pieces of whole lines."""
    with reading(form.path) as file:
        file.seek(form.start)
        while piece := file.read(PIECE):
            yield piece + _read_line(form.path, file)


def _read_line(path: Path, file: BinaryIO) -> bytes:
    line = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        too_long = f"has a line of more than {LONGEST_LINE} bytes"
        raise DataError.at(path, _NO_TEXT if b"\0" in line else too_long)
    return line


def _cells(line: bytes) -> list[bytes]:
    """Return the cells of a line without the spaces and the quotes around them."""
    cells = map(bytes.strip, line.split(b","))
    return [cell[1:-1].strip() if _QUOTED.fullmatch(cell) else cell for cell in cells]


def _read(form: _Form) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return the features (m, features) and the labels, (m, 1), or (m, 0) without labels."""
    blocks: list[_Rows] = []
    size = 0
    with suppress(_NoTableError):
        for text in _pieces(form):
            blocks.append(_parse(form, text))
            size += blocks[-1].x.nbytes
            check_memory(form.path, size)
        pixels = not any(block.decimal for block in blocks)
        if not pixels or all(block.x.dtype == np.uint8 for block in blocks):
            return _joined(blocks, np.uint8 if pixels else np.float64)
    _raise_first_defect(form)
    raise DataError.at(form.path, "is not a table of numbers")


def _joined(blocks: list[_Rows], dtype: type[np.generic]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return all features and labels; the list is emptied, so that they need not fit in memory twice."""
    y = np.concatenate([block.y for block in blocks])
    x = np.empty((len(y), blocks[0].x.shape[1]), dtype)
    start = 0
    while blocks:
        block = blocks.pop(0).x
        x[start : start + len(block)] = block
        start += len(block)
    return x, y


def _parse(form: _Form, text: bytes) -> _Rows:
    """Return the rows in whole lines; raise _NoTableError if they hold anything else."""
    text = text.replace(b"\r\n", b"\n").replace(b", ", b",")
    if text.translate(None, _NUMBERS):
        text = b"\n".join(b",".join(_cells(line)) for line in text.split(b"\n"))
    lines = list(filter(None, text.split(b"\n")))
    if {line.count(b",") for line in lines} - {form.width - 1} or text.translate(None, _NUMBERS):
        raise _NoTableError
    # NumPy takes "-" for the integer 0, and cuts those that are too large for 64 bits.
    values = _numbers(lines, np.float64 if text.translate(None, _DIGITS) else np.int64)
    if values.dtype == np.int64 and values.max(initial=0) > LARGEST_LABEL:
        values = _numbers(lines, np.float64)
    if values.size != form.width * len(lines) or not np.isfinite(values).all():
        raise _NoTableError
    rows = values.reshape(-1, form.width)
    y, x = rows[:, : form.labelled], rows[:, form.labelled :]
    if ((y < 0) | (y > LARGEST_LABEL) | (y % 1 != 0)).any():
        raise _NoTableError
    pixels = x.min(initial=0) >= 0 and x.max(initial=0) <= 255
    decimal = _has_decimal_feature(text) if form.labelled else not pixels or bool((x % 1 != 0).any())
    x = x.astype(np.uint8 if pixels and not decimal else np.float64)
    return _Rows(x, y.astype(np.int32), decimal)


def _numbers(lines: list[bytes], dtype: type[np.generic]) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return np.fromstring(b",".join(lines), dtype, sep=",")
        except (ValueError, DeprecationWarning) as error:  # of older versions of NumPy
            raise _NoTableError from error


def _has_decimal_feature(text: bytes) -> bool:
    may_have = b"." in text or b"e" in text or b"E" in text
    return may_have and _DECIMAL_FEATURE.search(text) is not None


def _raise_first_defect(form: _Form) -> None:
    """Raise the DataError that names the first defect in the file, if it has one."""
    pixels = form.labelled and not any(map(_has_decimal_feature, _pieces(form)))
    number = form.line
    for text in _pieces(form):
        refused = True
        with suppress(_NoTableError):
            refused = _parse(form, text).x.dtype != np.uint8 and pixels
        for at, line in enumerate(text.split(b"\n") if refused else (), number):
            _check_line(form, at, line, pixels=pixels)
        number += text.count(b"\n")


def _check_line(form: _Form, number: int, line: bytes, *, pixels: bool) -> None:
    """Raise the DataError that names the first defect in a line, if it has one."""
    if not line.strip():
        return
    cells = _cells(line)
    if len(cells) != form.width:
        problem = f"has {len(cells)} values, the first line has {form.width}"
        raise DataError.at(form.path, problem, line=number)
    for column, cell in enumerate(cells):
        if defect := _defect(cell, label=form.labelled and column == 0, pixels=pixels):
            name = f" ({form.names[column]})" if form.names else ""
            raise DataError.at(form.path, defect, line=number, column=f"{column + 1}{name}")


def _defect(cell: bytes, *, label: bool, pixels: bool) -> str | None:
    """Return what is wrong with a cell, or None."""
    value = float(cell) if NUMBER.fullmatch(cell) else None
    rule = LABEL_RULE if label else PIXEL_RULE if pixels else "a feature is a number"
    if value is None:
        kind = "finite number" if cell.lstrip(b"+-").lower() in _NOT_FINITE else "number"
        return f"'{format_cell(cell)}' is not a {kind}: {rule}" if cell else f"is empty: {rule}"
    if label and not (value.is_integer() and 0 <= value <= LARGEST_LABEL):
        return f"label {format_cell(cell)}: {rule}"
    if not label and pixels and not 0 <= value <= 255:
        return (
            f"{format_cell(cell)} is outside 0 to 255: {rule}; write numbers that are not pixels with a"
            " decimal point"
        )
    return None if math.isfinite(value) else f"{format_cell(cell)} is too large for float64"


def format_cell(cell: bytes) -> str:
    """Return a cell for a message: short, on one line, whatever its bytes are."""
    text = plain(cell[:160].decode(errors="backslashreplace"))
    return text if len(text) <= 40 else f"{text[:40]}…"
