"""Reads a table of label, feature, feature, … quickly, and finds the exact defect if it has one.

pandas converts a table column by column, and hundreds of short columns cost more than their cells.
So the cells go to it one a line, as a single column in file order, and are folded into rows
afterwards; that every line of the file holds the same number of cells is checked on the way. Two
or more threads read a part of the file each: the tokenizer releases the interpreter lock. Only a
file that fails is read again, to name what is wrong with it.
"""

import csv
import functools
import gzip
import io
import math
import os
import re
import sys
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from xpnet.data.source import check_memory, reading
from xpnet.data.table import LABEL_RULE, LARGEST_LABEL, PIXEL_RULE, Table
from xpnet.errors import DataError

PIECE = 1 << 18
SMALLEST_PART = 2 << 20
LONGEST_LINE = 16 << 20
_CACHED_CELLS = 1 << 17
_WORKERS = min(4, os.cpu_count() or 1)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ONE_CELL_A_LINE = bytes.maketrans(b",", b"\n")
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_DECIMAL_FEATURE = re.compile(rb",[ \t\"]*[-+]?\d*(?:\.\d|\d\.|\d[eE])")
_QUOTED = re.compile(rb'(?m)(^|,)"([^",\r\n]*)"(?=[,\r\n])')
_BLANK_LINES = re.compile(rb"(?m)^[ \t\r]*\n")
_NOT_FINITE = {b"nan", b"inf", b"infinity"}


@dataclass(frozen=True)
class _Form:
    """What a table's first lines tell about the others."""

    path: Path
    names: tuple[str, ...]  # of the columns; empty without a header
    width: int
    decimal: bool  # the first row has a feature with a decimal point or an exponent
    start: int  # where the first row is, in bytes of the decompressed file
    line: int  # its number, from 1

    def at(self, line: int, column: int) -> str:
        name = f" ({self.names[column]})" if self.names else ""
        return f"{self.path}, line {line}, column {column + 1}{name}"


class _Refused(Exception):  # noqa: N818
    """A part of the file is not as it should be; what is wrong in it is not known yet."""


class _Cells:
    """A file for pandas: the cells of `texts`, one a line, in bytes that it takes as they are."""

    def __init__(self, form: _Form, texts: Iterator[bytes], dtype: type[np.generic]) -> None:
        self.form, self.texts, self.item_size = form, texts, np.dtype(dtype).itemsize
        self.guarded = dtype is np.uint8 and _pandas_wraps_integers()
        self.count = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        raise StopIteration

    def read(self, _size: int) -> bytes:
        for text in self.texts:
            if cells := self._checked(text):
                return cells
        return b""

    def _checked(self, text: bytes) -> bytes:
        width = self.form.width
        if b'"' in text:
            text = _QUOTED.sub(rb"\1\2", text)
        if not _has_width(text, width):
            text = _BLANK_LINES.sub(b"", text)
            if text and not _has_width(text, width):
                raise _Refused
        if self.guarded and _may_exceed_uint8(text):
            raise _Refused
        self.count += width * text.count(b"\n")
        check_memory(self.form.path, self.count * self.item_size)
        return text.translate(_ONE_CELL_A_LINE)


def read_csv(path: Path) -> Table:
    """Read a CSV file, gzipped or not, with a header or not: the label, then the features.

    If every feature is a whole number, they are pixels, from 0 to 255, and come back as uint8. A
    decimal point or an exponent in any feature makes the table float64.

    Raises
    ------
    DataError
        The first defect in the file, with its line and its column, both from 1.

    """
    form, parts = _form(path)
    if not form.decimal:
        try:
            return _table(form, parts, np.uint8, pixels=True)
        except _Refused:
            pass
    pixels = not form.decimal and not _has_decimal_feature(form)
    if pixels:
        _diagnose(form, pixels=True)  # else the labels are above 255, or written as decimals
    try:
        return _table(form, parts, np.float64, pixels=pixels)
    except _Refused as error:
        _diagnose(form, pixels=pixels)
        msg = f"{form.path}: is not a table of numbers"
        raise DataError(msg) from error


def _form(path: Path) -> tuple[_Form, list[tuple[int, int]]]:
    """Read the first two lines that are not blank, and cut the rows into parts to read at once."""
    with reading(path) as file:
        start = len(_BYTE_ORDER_MARK) if file.read(3) == _BYTE_ORDER_MARK else 0
        file.seek(start)
        found: list[tuple[int, int, bytes]] = []
        number = 0
        while len(found) < 2 and (line := file.readline(LONGEST_LINE)):
            number += 1
            if b"\0" in line:
                _not_text(path)
            if len(line) == LONGEST_LINE:
                _too_long(path)
            if line.strip():
                found.append((number, start, line))
            start += len(line)
        form = _form_of(path, found)
        return form, _parts(file, form.start, path.stat().st_size)


def _form_of(path: Path, found: list[tuple[int, int, bytes]]) -> _Form:
    if not found:
        msg = f"{path}: is empty"
        raise DataError(msg)
    number, _, line = found[0]
    cells = [cell.strip() for cell in line.split(b",")]
    try:
        names = tuple(cell.decode().strip('"') for cell in cells)
    except UnicodeDecodeError as error:
        msg = f"{path}, line {number}: is not text in UTF-8"
        raise DataError(msg) from error
    if len(cells) < 2:
        msg = f"{path}, line {number}: has one column; a row is a label and its features, separated by commas"
        raise DataError(msg)
    header = _is_header(cells)
    if header and len(found) == 1:
        msg = f"{path}: has a header but no rows"
        raise DataError(msg)
    shown = tuple(_shown(name.encode()) for name in names) if header else ()
    number, start, line = found[1 if header else 0]
    decimal = _DECIMAL_FEATURE.search(line) is not None
    return _Form(path, shown, len(cells), decimal, start, number)


def _parts(file: BinaryIO, start: int, size: int) -> list[tuple[int, int]]:
    """Cut a file at line ends into a part for each thread; gzip can only be read in one."""
    if isinstance(file, gzip.GzipFile):
        return [(start, sys.maxsize)]
    count = max(1, min(_WORKERS, (size - start) // SMALLEST_PART))
    cuts = [start]
    for part in range(1, count):
        file.seek(start + (size - start) * part // count)
        file.readline(LONGEST_LINE)
        cuts.append(max(cuts[-1], file.tell()))
    return list(zip(cuts, [*cuts[1:], sys.maxsize], strict=True))


def _texts(path: Path, start: int, stop: int = sys.maxsize) -> Generator[bytes, None, None]:
    """Yield the lines between two positions in pieces of whole lines, the last one ended."""
    rest = b""
    with reading(path) as file:
        file.seek(start)
        while piece := file.read(min(PIECE, stop - start)):
            start += len(piece)
            if b"\0" in piece:
                _not_text(path)
            text = rest + piece
            end = text.rfind(b"\n") + 1
            rest = text[end:]
            if len(rest) > LONGEST_LINE:
                _too_long(path)
            if end:
                yield text[:end]
    if rest:
        yield rest + b"\n"


def _is_header(cells: list[bytes]) -> bool:
    """Tell column names from a row: names are no numbers, or count up after the label's name."""
    numbers = [_NUMBER.fullmatch(cell) is not None for cell in cells]
    if numbers[0]:
        return False
    counted = [[b"%d" % (start + i) for i in range(len(cells) - 1)] for start in (0, 1)]
    return not any(numbers) or cells[1:] in counted


def _table(
    form: _Form, parts: list[tuple[int, int]], dtype: type[np.uint8 | np.float64], *, pixels: bool
) -> Table:
    """Parse the whole file as cells of `dtype`; features come out as uint8 if `pixels`.

    Raises
    ------
    _Refused
        The file holds something else.

    """
    import pandas as pd  # noqa: F401 (loads before the threads start)

    def read(part: tuple[int, int]) -> NDArray[np.generic]:
        return _parse(form, _texts(form.path, *part), dtype, pixels=pixels)

    with ThreadPoolExecutor(len(parts)) as pool:
        blocks = list(pool.map(read, parts))
    kind = np.uint8 if pixels else np.float64
    y = np.concatenate([block[:, 0] for block in blocks]).astype(np.int32)
    x = np.empty((len(y), form.width - 1), kind)
    blocks.reverse()
    start = 0
    while blocks:
        block = blocks.pop()
        x[start : start + len(block)] = block[:, 1:]
        start += len(block)
    return Table(x, y, f"{form.path}", f"{form.path}")


def _parse(
    form: _Form,
    texts: Generator[bytes, None, None],
    dtype: type[np.uint8 | np.float64],
    *,
    pixels: bool,
) -> NDArray[np.generic]:
    """Return rows of label and features, (m, width) of `dtype`.

    Raises
    ------
    _Refused
        A line of another width, a cell that is no `dtype`, a label or a feature out of range.

    """
    import pandas as pd

    with closing(texts):
        cells = _Cells(form, texts, dtype)
        try:
            column = pd.read_csv(
                cells,  # type: ignore[call-overload]
                header=None,
                dtype=dtype,
                na_filter=False,
                skip_blank_lines=False,
                quoting=csv.QUOTE_NONE,
                **_exact_floats(pd.__version__),
            )
            rows: NDArray[np.generic] = column.to_numpy().reshape(-1, form.width)
        except pd.errors.EmptyDataError:  # raised for an empty first cell, too
            rows = np.empty((0, form.width), dtype)
        except (ValueError, OverflowError, TypeError) as error:
            raise _Refused from error
    if rows.size != cells.count:
        raise _Refused
    if dtype is np.float64 and rows.size:
        y, x = rows[:, 0], rows[:, 1:]
        finite = np.isfinite(rows.min()) and np.isfinite(rows.max())
        if not finite or (y != np.floor(y)).any() or y.min() < 0 or y.max() > LARGEST_LABEL:
            raise _Refused
        if pixels and (x.min() < 0 or x.max() > 255):
            raise _Refused
    return rows


def _exact_floats(pandas_version: str) -> dict[str, str]:
    """Return the option for correctly rounded floats; from 3.1 pandas has no other converter."""
    major, minor = map(int, pandas_version.split(".")[:2])
    return {"float_precision": "round_trip"} if (major, minor) < (3, 1) else {}


@functools.cache
def _pandas_wraps_integers() -> bool:
    """Tell whether this pandas, as before 3.1, reads 256 as the uint8 0 instead of refusing it."""
    import pandas as pd

    try:
        pd.read_csv(io.StringIO("256"), header=None, dtype=np.uint8)
    except ValueError:
        return False
    return True


def _may_exceed_uint8(text: bytes) -> bool:
    """Tell whether a cell has a minus sign, four digits, or three that are above 255."""
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
    """Tell whether every line holds `width` cells, a cache's worth of lines at a time."""
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


def _has_decimal_feature(form: _Form) -> bool:
    with closing(_texts(form.path, form.start)) as texts:
        marked = (text for text in texts if any(mark in text for mark in (b".", b"e", b"E")))
        return any(_DECIMAL_FEATURE.search(text) for text in marked)


def _diagnose(form: _Form, *, pixels: bool) -> None:
    """Raise the DataError that names the first defect in the file, if it has one."""
    number = form.line
    with closing(_texts(form.path, form.start)) as texts:
        for text in texts:
            try:
                _parse(form, (text for _ in range(1)), np.float64, pixels=pixels)
            except _Refused:
                _diagnose_lines(form, text.split(b"\n"), number, pixels=pixels)
            number += text.count(b"\n")


def _diagnose_lines(form: _Form, lines: Iterable[bytes], first: int, *, pixels: bool) -> None:
    """Raise the DataError that names the first defect in `lines`, numbered from `first`."""
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        cells = _QUOTED.sub(rb"\1\2", line + b"\n").split(b",")
        if len(cells) != form.width:
            msg = f"{form.path}, line {number}: has {len(cells)} values, the first line has {form.width}"
            raise DataError(msg)
        for column, cell in enumerate(cells):
            if defect := _defect(cell.strip(), label=column == 0, pixels=pixels):
                msg = f"{form.at(number, column)}: {defect}"
                raise DataError(msg)


def _defect(cell: bytes, *, label: bool, pixels: bool) -> str | None:
    """Say what is wrong with a cell, or None."""
    rule = LABEL_RULE if label else PIXEL_RULE if pixels else "a feature is a number"
    if not _NUMBER.fullmatch(cell):
        finite = cell.lstrip(b"+-").lower() not in _NOT_FINITE
        found = f"'{_shown(cell)}' is not a {'' if finite else 'finite '}number"
        return f"{found if cell else 'is empty'}: {rule}"
    value = float(cell)
    if label and not (value.is_integer() and 0 <= value <= LARGEST_LABEL):
        return f"label {_shown(cell)}: {rule}"
    if not label and pixels and not 0 <= value <= 255:
        return (
            f"{_shown(cell)} is outside 0 to 255: {rule}; write numbers that are not pixels with a"
            " decimal point"
        )
    return None if math.isfinite(value) else f"{_shown(cell)} is too large for float64"


def _shown(cell: bytes) -> str:
    """Return a cell for a message: short, on one line, whatever its bytes are."""
    text = cell[:160].decode(errors="backslashreplace")
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _not_text(path: Path) -> NoReturn:
    msg = f"{path}: is not a CSV file, nor any text in UTF-8"
    raise DataError(msg)


def _too_long(path: Path) -> NoReturn:
    msg = f"{path}: has a line of more than {LONGEST_LINE} bytes"
    raise DataError(msg)
