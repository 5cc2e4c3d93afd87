"""Fast reading of CSV files of labels and features, with the exact place of a defect.

pandas converts a table column by column, which is slow for hundreds of short columns. Therefore pandas
is given the cells one per line, as a single column in file order, and the result is reshaped into rows;
the number of cells in each line is checked beforehand. Threads read the parts of a large file in
parallel: the tokenizer of pandas releases the GIL. A file that fails is read a second time, to find
the first defect.
"""

import csv
import functools
import io
import math
import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpnet.data.csv_layout import NUMBER, CsvLayout, format_cell, read_chunks, read_layout
from xpnet.data.source import check_memory
from xpnet.data.table import LABEL_RULE, LARGEST_LABEL, PIXEL_RULE, Table
from xpnet.errors import DataError

Cells: TypeAlias = NDArray[np.uint8 | np.float64]  # (rows, columns)

_CACHED_CELLS = 1 << 17
_ONE_CELL_A_LINE = bytes.maketrans(b",", b"\n")
_DECIMAL_FEATURE = re.compile(rb",[ \t\"]*[-+]?\d*(?:\.\d|\d\.|\d[eE])")
_QUOTED = re.compile(rb'(?m)(^|,)[ \t]*"([^",\r\n]*)"[ \t]*(?=[,\r\n]|\Z)')
_BLANK_LINES = re.compile(rb"(?m)^[ \t\r]*\n")
_NOT_FINITE = {b"nan", b"inf", b"infinity"}


class _InvalidCellsError(Exception):
    """A part of the file is invalid; `_raise_first_defect` finds the defect."""


class _CellStream:
    """A file object for pandas with the cells of `texts`, one per line, after basic checks."""

    def __init__(self, layout: CsvLayout, texts: Iterator[bytes], dtype: type[np.generic]) -> None:
        self.layout, self.texts, self.dtype = layout, texts, np.dtype(dtype)
        self.count = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        raise StopIteration

    def read(self, _size: int) -> bytes:
        for text in self.texts:
            if cells := self._check(text):
                return cells
        return b""

    def _check(self, text: bytes) -> bytes:
        width = self.layout.width
        if b'"' in text:
            text = _QUOTED.sub(rb"\1\2", text)
        if not _has_width(text, width):
            text = _BLANK_LINES.sub(b"", text)
            if text and not _has_width(text, width):
                raise _InvalidCellsError
        if b"\0" in text or (self.dtype == np.uint8 and not _is_safe_for_uint8(text)):
            raise _InvalidCellsError
        self.count += width * text.count(b"\n")
        check_memory(self.layout.path, self.count * self.dtype.itemsize)
        return text.translate(_ONE_CELL_A_LINE)


def read_csv(path: Path) -> Table:
    """Read a CSV file, gzipped or not, with a header or not: the label, then the features.

    If every feature is a whole number, the features must be pixels from 0 to 255 and are returned as
    uint8. If any has a decimal point or an exponent, they are returned as float64.

    Raises
    ------
    DataError
        The first defect in the file, with its line and its column, both from 1.
    """
    x, y = _read_table(read_layout(path))
    return Table(x, y[:, 0], f"{path}", f"{path}")


def read_csv_rows(path: Path, features: int) -> tuple[NDArray[np.generic], NDArray[np.int32] | None]:
    """Read a CSV file of `features` columns, or of one more, which is the label; see `read_csv`.

    Return features (m, features) and labels (m,) or None. Without labels, the features are uint8 if all
    are whole numbers from 0 to 255, else float64.

    Raises
    ------
    DataError
        The number of columns differs, or the first defect in the file.
    """
    layout = read_layout(path, features)
    x, y = _read_table(layout)
    if layout.labelled:
        return x, y[:, 0]
    whole = x.dtype == np.uint8 or (x.min() >= 0 and x.max() <= 255 and (x == np.floor(x)).all())
    return x.astype(np.uint8, copy=False) if whole else x, None


def _read_table(layout: CsvLayout) -> tuple[Cells, NDArray[np.int32]]:
    """Return the features (m, features) and the labels, (m, 1), or (m, 0) without labels."""
    with suppress(_InvalidCellsError):
        return _parse_table(layout, np.uint8, pixels=True)
    pixels = layout.labelled and not _has_decimal_feature(layout)
    if pixels:
        _raise_first_defect(layout, pixels=True)  # else labels are above 255 or written as decimals
    try:
        return _parse_table(layout, np.float64, pixels=pixels)
    except _InvalidCellsError as error:
        _raise_first_defect(layout, pixels=pixels)
        raise DataError.at(layout.path, "is not a table of numbers") from error


def _parse_table(
    layout: CsvLayout, dtype: type[np.uint8 | np.float64], *, pixels: bool
) -> tuple[Cells, NDArray[np.int32]]:
    """Parse the whole file as cells of `dtype`; return the features as uint8 if `pixels`.

    Raises
    ------
    _InvalidCellsError
        A cell is invalid.
    """
    import pandas as pd  # noqa: F401 (imported before the threads start)

    def read(part: tuple[int, int]) -> Cells:
        return _parse_rows(layout, read_chunks(layout, *part), dtype, pixels=pixels)

    with ThreadPoolExecutor(len(layout.parts)) as pool:
        blocks = list(pool.map(read, layout.parts))
    first = int(layout.labelled)
    y = np.concatenate([block[:, :first] for block in blocks]).astype(np.int32)
    x = np.empty((len(y), layout.width - first), np.uint8 if pixels else np.float64)
    start = 0
    while blocks:
        block = blocks.pop(0)
        x[start : start + len(block)] = block[:, first:]
        start += len(block)
    return x, y


def _parse_rows(
    layout: CsvLayout,
    texts: Generator[bytes, None, None],
    dtype: type[np.uint8 | np.float64],
    *,
    pixels: bool,
) -> Cells:
    """Parse rows of label and features, (m, width) of `dtype`.

    Raises
    ------
    _InvalidCellsError
        A line of another width, a cell that is not a `dtype`, or a label or feature out of range.
    """
    import pandas as pd

    with closing(texts):
        cells = _CellStream(layout, texts, dtype)
        try:
            column = pd.read_csv(
                cells,  # type: ignore[call-overload]
                header=None,
                dtype=dtype,
                na_filter=False,
                skip_blank_lines=False,
                quoting=csv.QUOTE_NONE,
                **_float_options(pd.__version__),
            )
            rows: Cells = column.to_numpy().reshape(-1, layout.width)
        except pd.errors.EmptyDataError:  # also raised for an empty first cell
            rows = np.empty((0, layout.width), dtype)
        except (ValueError, OverflowError, TypeError) as error:
            raise _InvalidCellsError from error
    if rows.size != cells.count:
        raise _InvalidCellsError
    if dtype is np.float64 and rows.size:
        y, x = rows[:, : layout.labelled], rows[:, layout.labelled :]
        if not (np.isfinite(rows.min()) and np.isfinite(rows.max())):
            raise _InvalidCellsError
        if ((y != np.floor(y)) | (y < 0) | (y > LARGEST_LABEL)).any():
            raise _InvalidCellsError
        if pixels and (x.min() < 0 or x.max() > 255):
            raise _InvalidCellsError
    return rows


def _float_options(pandas_version: str) -> dict[str, str]:
    """Return the option for correctly rounded floats, which pandas 3.1 and later always returns."""
    major, minor = map(int, pandas_version.split(".")[:2])
    return {"float_precision": "round_trip"} if (major, minor) < (3, 1) else {}


@functools.cache
def _pandas_wraps_integers() -> bool:
    """Return True if this pandas, such as one before 3.1, reads 256 as the uint8 0."""
    import pandas as pd

    try:
        pd.read_csv(io.StringIO("256"), header=None, dtype=np.uint8)
    except ValueError:
        return False
    return True


def _is_safe_for_uint8(text: bytes) -> bool:
    """Return True if the text holds no decimal or large number that pandas would wrap to a uint8."""
    return not _may_be_decimal(text) and not (_pandas_wraps_integers() and _may_exceed_uint8(text))


def _may_be_decimal(text: bytes) -> bool:
    """Return True if a text has a decimal point or an exponent."""
    return b"." in text or b"e" in text or b"E" in text


def _may_exceed_uint8(text: bytes) -> bool:
    """Return True if a cell has a minus sign, four digits, or three digits above 255."""
    if b"-" in text:
        return True
    characters = np.frombuffer(text, np.uint8)
    digit = characters >= ord("0")
    three = digit[:-2] & digit[1:-1] & digit[2:]
    hundreds, tens, ones = characters[:-2], characters[1:-1], characters[2:]
    above_255 = (hundreds > ord("2")) | (
        (hundreds == ord("2")) & ((tens > ord("5")) | ((tens == ord("5")) & (ones > ord("5"))))
    )
    return bool((three[:-1] & digit[3:]).any() or (three & above_255).any())


def _has_width(text: bytes, width: int) -> bool:
    """Return True if every line has `width` cells; lines are counted in cache-sized blocks."""
    characters = np.frombuffer(text, np.uint8)
    bounds = np.concatenate([[0], np.flatnonzero(characters == ord("\n")) + 1])
    count = max(1, _CACHED_CELLS // width)
    for first in range(0, len(bounds) - 1, count):
        lines = bounds[first : first + count + 1]
        start, stop = lines[0], lines[-1]
        commas = (characters[start:stop] == ord(",")).view(np.uint8)
        if (np.add.reduceat(commas, lines[:-1] - start, dtype=np.uint32) != width - 1).any():
            return False
    return True


def _has_decimal_feature(layout: CsvLayout) -> bool:
    """Return True if a feature in the file has a decimal point or an exponent."""
    with closing(read_chunks(layout, layout.start)) as texts:
        return any(_DECIMAL_FEATURE.search(text) for text in texts if _may_be_decimal(text))


def _raise_first_defect(layout: CsvLayout, *, pixels: bool) -> None:
    """Raise DataError for the first defect in the file, if any."""
    number = layout.line
    with closing(read_chunks(layout, layout.start)) as texts:
        for text in texts:
            try:
                _parse_rows(layout, (text for _ in range(1)), np.float64, pixels=pixels)
            except _InvalidCellsError:
                for at, line in enumerate(text.split(b"\n"), number):
                    _raise_line_defect(layout, at, line, pixels=pixels)
            number += text.count(b"\n")


def _raise_line_defect(layout: CsvLayout, number: int, line: bytes, *, pixels: bool) -> None:
    """Raise DataError for the first defect in a line, if any."""
    if not line.strip():
        return
    cells = [cell.strip() for cell in _QUOTED.sub(rb"\1\2", line).split(b",")]
    if len(cells) != layout.width:
        problem = f"has {len(cells)} values, the first line has {layout.width}"
        raise DataError.at(layout.path, problem, line=number)
    for column, cell in enumerate(cells):
        if defect := _describe_defect(layout, cell, column, pixels=pixels):
            name = f" ({layout.names[column]})" if layout.names else ""
            raise DataError.at(layout.path, defect, line=number, column=f"{column + 1}{name}")


def _describe_defect(layout: CsvLayout, cell: bytes, column: int, *, pixels: bool) -> str | None:
    """Return the defect of a cell, None if it is valid."""
    value = float(cell) if NUMBER.fullmatch(cell) else None
    if not layout.labelled:
        finite = value is not None and math.isfinite(value)
        return None if finite else f"'{format_cell(cell)}' is not a finite number"
    label = column == 0
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
