"""Reading of CSV files: in each row a label and features, separated by commas, semicolons or tabs.

A file is read in pieces of whole lines: pixels by NumPy's ``loadtxt``, other numbers by pandas, each the
faster one there, and strict. A piece that they refuse is read again cell by cell, with Python's ``csv``, to
find its first defect.
"""

import csv
import io
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xpnet.data.source import check_memory, open_data_file
from xpnet.data.table import MISSING, NUMBER, LabelCodes, Table
from xpnet.data.table_columns import DEFAULTS, LABEL_NAMES, TableOptions, find_columns
from xpnet.errors import DataError
from xpnet.nn.columns import NO_COLUMNS, Columns, quote, shorten

PIECE_SIZE, LONGEST_LINE, MOST_COLUMNS = 1 << 22, 1 << 24, 1 << 20
_PIXEL_NAME = re.compile(r"(?:(?:pixel|pix|px)[ _.-]?)?\d+(?:[x_ .-]\d+)?", re.ASCII | re.IGNORECASE)
# The number of columns from which NumPy is faster than pandas, which converts columns one by one.
_WIDE = 4096

# The codes of the labels of some rows, none without labels, and the features (m, features).
Block = tuple[list[int], NDArray[Any]]


@dataclass
class _Layout:
    """The columns of a file, and what its rows have shown so far."""

    path: Path
    options: TableOptions
    delimiter: str
    names: list[str] | None  # of all columns, if there is a header
    width: int
    label: int | None  # the place of the label's column, from 0
    features: list[int]  # the places of the features, in their order
    pixels: bool  # True as long as all features can be pixels
    labels: LabelCodes
    reason: str = ""  # why the features are no pixels

    def defect(self, problem: object, line: int, column: int | None = None) -> DataError:
        """Return the error for a line, or for a cell of it."""
        place: dict[str, object] = {"line": line}
        if column is not None:
            place["column"] = f"{column + 1} ({shorten(self.names[column])})" if self.names else column + 1
        return DataError.at(self.path, problem, **place)


def read_csv(path: Path, options: TableOptions = DEFAULTS) -> Table:
    """Read a CSV file, gzipped or not, with a header or not.

    The features are uint8 if they are pixels, else float64, with NaN for missing values that are to be
    replaced. Without labels, which a file to predict need not have, y is -1.

    Raises
    ------
    DataError
        The columns are not as expected, or the first defect: its line and its column, from 1.
    """
    with open_data_file(path) as file:
        pieces = _read_pieces(path, file)
        line, text = next((piece for piece in pieces if piece[1].strip(b" \r\n")), (0, b""))
        if not text:
            raise DataError.at(path, "is empty")
        start = re.match(rb"(?:[ \r]*\n)*", text).end()  # type: ignore[union-attr]
        end = text.find(b"\n", start) + 1 or len(text)
        line += text.count(b"\n", 0, start)
        layout = _read_layout(path, line, text[start:end].strip(b"\r\n"), options)
        if layout.names:
            line, start = line + 1, end
        codes, blocks, rows = [], [], 0
        for number, piece in chain([(line, text[start:])], pieces):
            more, block = _read_block(layout, number, piece)
            codes += more
            blocks.append(block)
            rows += len(block)
            check_memory(path, rows * len(layout.features) * (1 if layout.pixels else 8))
    if not rows:
        raise DataError.at(path, "has a header but no rows")
    x = np.empty((rows, len(layout.features)), np.uint8 if layout.pixels else np.float64)
    while blocks:
        x[rows - len(blocks[-1]) : rows] = blocks[-1]
        rows -= len(blocks.pop())
    y, classes = np.full(len(x), -1, np.int32), None
    if layout.label is not None:
        y, classes = layout.labels.finish(codes, path)
    return Table(x, y, str(path), str(path), *_describe(layout, classes))


def _describe(layout: _Layout, classes: tuple[str, ...] | None) -> tuple[Columns, str]:
    """Return the columns to remember, and what they were read as, in words."""
    names, place = layout.names, layout.label or 0
    columns = Columns(position=place, classes=classes)
    if names and layout.options.columns != "0.1.0":
        columns = replace(columns, features=tuple(names[i] for i in layout.features), label=names[place])
    count, kind = len(layout.features), "pixel" if layout.pixels else "feature"
    kind = f"{count} {kind} column{'s' * (count != 1)}{layout.reason}"
    return columns, f"{kind}, label column {quote(names[place]) if names else place + 1}"


def _read_pieces(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield pieces of whole lines, each with the number of its first line, from 1."""
    number = 1
    while text := file.read(PIECE_SIZE):
        rest = file.readline(LONGEST_LINE)
        text += rest
        if number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")  # the byte-order mark
        if b"\0" in text:
            raise DataError.at(path, "is not a CSV file, nor any text in UTF-8")
        if len(rest) == LONGEST_LINE:
            raise DataError.at(path, f"has a line of more than {LONGEST_LINE} bytes")
        yield number, text
        number += text.count(b"\n")


def _read_layout(path: Path, line: int, text: bytes, options: TableOptions) -> _Layout:
    """Return the layout from the first line that is not blank."""
    unquoted = re.sub(rb'"[^"]*"', b"", text).decode(errors="replace")
    delimiter = next((mark for mark in "\t;," if mark in unquoted), ",")
    if unquoted.count(delimiter) >= MOST_COLUMNS:
        raise DataError.at(path, f"has more than {MOST_COLUMNS} columns")
    cells = _split_line(path, line, text, delimiter)
    names = cells if _is_header(cells, options) else None
    label, places = find_columns(path, names, len(cells), options)
    pixels = math.isqrt(len(places)) ** 2 == len(places)
    pixels &= names is None or all(_PIXEL_NAME.fullmatch(names[place]) for place in places)
    if options.columns != "auto":
        pixels = options.columns != "features"
    known = options.known
    numeric = None if known is None else known.classes is None
    codes = LabelCodes(numeric=numeric, classes=known.classes if known and options.predicted else None)
    return _Layout(path, options, delimiter, names, len(cells), label, places, pixels, codes)


def _is_header(cells: list[str], options: TableOptions) -> bool:
    """Return True if the cells are names: no numbers, or features counted from 0 or 1 beside the label."""
    if not any(map(NUMBER.fullmatch, cells)):
        return True
    known, is_old = options.known or NO_COLUMNS, options.columns == "0.1.0"
    labels = {*LABEL_NAMES, options.label, known.label}
    if is_old and not NUMBER.fullmatch(cells[0]):
        labels.add(cells[0].lower())
    counted = [cell for cell in cells if cell not in labels and cell.lower() not in labels]
    is_unlabelled = len(counted) == options.predicted and known.features in (None, tuple(cells))
    is_complete = len(counted) == len(cells) - 1 or is_unlabelled
    return is_complete and counted in [[str(first + i) for i in range(len(counted))] for first in (0, 1)]


def _read_block(layout: _Layout, line: int, piece: bytes) -> Block:
    """Read a piece of whole lines, the first of which has the number `line`."""
    text, fills = piece.replace(b"\r\n", b"\n") if b"\r" in piece else piece, layout.options.missing == "mean"
    while b"\n\n" in text:
        text = text.replace(b"\n\n", b"\n")
    text = text.lstrip(b"\n")
    if not text.strip(b" \n"):
        return [], np.empty((0, len(layout.features)), np.uint8)
    readers: list[Callable[[_Layout, bytes], Block]] = [partial(_read_by_numpy, np.uint8)] * layout.pixels
    if layout.options.columns != "pixels":
        readers.append(_read_by_pandas if layout.width < _WIDE else partial(_read_by_numpy, np.float64))
    # The readers disagree about line breaks in quotes, which are refused.
    if b"\r" in text or (b'"' in text and any(line.count(b'"') % 2 for line in text.split(b"\n"))):
        readers.clear()
    for read in readers:
        with suppress(ValueError, TypeError, OverflowError, Warning):
            codes, x = read(layout, text)
            if np.isfinite(x).all() or (fills and not np.isinf(x).any()):
                break
    else:
        codes, x = _read_cells(layout, line, piece)
    if layout.pixels and x.dtype != np.uint8:
        wrong = np.argwhere(~((x >= 0) & (x <= 255) & (x == np.floor(x))))
        layout.pixels = not len(wrong) and layout.options.columns != "0.1.0"
        if layout.pixels:
            return codes, x.astype(np.uint8)
        row, feature = wrong[0] if len(wrong) else (0, 0)
        layout.reason = f" ({x[row, feature]:g} in column {layout.features[feature] + 1} is no pixel)"
    return codes, x


def _read_by_numpy(dtype: type[np.generic], layout: _Layout, text: bytes) -> Block:
    """Read rows of numbers; ValueError or a warning for anything else."""
    labels: list[str] = []

    def take_label(cell: str) -> int:
        labels.append(cell.strip())
        return 0

    form: dict[str, Any] = {"delimiter": layout.delimiter, "quotechar": '"', "comments": None, "ndmin": 2}
    form["converters"] = None if layout.label is None else {layout.label: take_label}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # an old NumPy reads 1.5 as the integer 1
        cells: NDArray[np.generic] = np.loadtxt(text.decode().split("\n"), dtype, **form)
    if cells.shape[1] != layout.width:
        raise ValueError
    return layout.labels.encode(labels), cells[:, layout.features]


def _read_by_pandas(layout: _Layout, text: bytes) -> Block:
    """Read rows of numbers, perhaps with missing values; ValueError or a warning for anything else."""
    import pandas as pd

    form: dict[str, Any] = {"names": range(layout.width), "header": None, "index_col": False}
    form |= {"sep": layout.delimiter, "skip_blank_lines": False, "na_filter": False}
    form["dtype"] = defaultdict(lambda: np.float64, {layout.label: object})
    if np.lib.NumpyVersion(pd.__version__) < "3.1.0":
        form["float_precision"] = "round_trip"
    if layout.options.missing == "mean":
        marks = {line.count(layout.delimiter.encode()) for line in text.removesuffix(b"\n").split(b"\n")}
        if marks != {layout.width - 1}:
            raise ValueError  # pandas takes what a short row lacks for missing values
        form |= {"na_filter": True, "keep_default_na": False}
        form["na_values"] = dict.fromkeys(layout.features, MISSING)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # of a long row
        frame = pd.read_csv(io.BytesIO(text), **form)
    labels = () if layout.label is None else map(str.strip, frame[layout.label])
    return layout.labels.encode(labels), frame[layout.features].to_numpy(np.float64)


def _read_cells(layout: _Layout, line: int, piece: bytes) -> Block:
    """Read rows cell by cell; DataError for the first defect."""
    codes, rows = [], []
    for number, text in enumerate(piece.split(b"\n"), line):
        if not text.strip(b" \r"):
            continue
        cells = _split_line(layout.path, number, text.removesuffix(b"\r"), layout.delimiter)
        if len(cells) != layout.width:
            problem = f"has {len(cells)} values, the first line has {layout.width}"
            raise layout.defect(problem, number)
        rows.append([0.0] * layout.width)
        for column, cell in enumerate(cells):
            try:
                if column == layout.label:
                    codes += layout.labels.encode([cell])
                else:
                    rows[-1][column] = _parse_number(layout.options, cell)
            except ValueError as error:
                raise layout.defect(error, number, column) from None
    return codes, np.array(rows).reshape(-1, layout.width)[:, layout.features]


def _split_line(path: Path, number: int, line: bytes, delimiter: str) -> list[str]:
    """Return the cells of a line, without blanks around them."""
    problem = "has a line break inside a cell, or quotes that do not match"
    with suppress(csv.Error):
        try:
            text = line.decode()
            if "\r" not in text and text.count('"') % 2 == 0:
                return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
        except UnicodeDecodeError:
            problem = "is not text in UTF-8"
    raise DataError.at(path, problem, line=number)


def _parse_number(options: TableOptions, cell: str) -> float:
    """Return a feature, NaN for a missing one; ValueError with the problem for anything else."""
    pixels = options.columns == "pixels"
    if cell in MISSING and options.missing == "mean" and not pixels:
        return math.nan
    value = float(cell) if NUMBER.fullmatch(cell) else math.nan
    if math.isfinite(value) and not (pixels and (value < 0 or value > 255 or value % 1)):
        return value
    hint = "; --features reads other numbers" if pixels else ""
    if cell in MISSING and not pixels:
        hint = "; --missing mean puts the mean of the column in its place"
    kind = "a pixel, a whole number from 0 to 255" if pixels else "a finite number"
    msg = f"{quote(cell)} is not {kind}{hint}" if cell else f"is empty{hint}"
    raise ValueError(msg)
