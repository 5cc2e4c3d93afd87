"""Reading of CSV files: in each row a label and features, separated by commas, semicolons or tabs.

Pieces of whole lines are read by NumPy if they hold pixels, else by pandas, each the faster one there. One
that both refuse is read again cell by cell, with Python's ``csv``, to find its first defect. So are those of
a table with columns of text, or of which some are left out.
"""

import csv
import io
import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xpnet._lib.text import did_you_mean, format_names, pluralize, quote, shorten
from xpnet._typing import Function, HostArray
from xpnet.data.table import LabelCodes, Table, check_memory, open_data_file
from xpnet.data.texts import MISSING, NUMBER, TableOptions, TextCodes, mean_hint
from xpnet.errors import DataError, setting
from xpnet.nn.columns import LONGEST_NAMES, NO_COLUMNS, Columns

PIECE_SIZE = 1 << 23
LONGEST_LINE = 1 << 24
MOST_COLUMNS = 1 << 20
_WIDE = 4096  # the number of columns from which NumPy is faster than pandas, which converts them one by one
# As pandas reads them, which does so only where a whole piece of a column is booleans.
_BOOLEANS = {"True": 1.0, "TRUE": 1.0, "true": 1.0, "False": 0.0, "FALSE": 0.0, "false": 0.0}
_NO_TEXT = {*MISSING, "inf", "-inf"}
_LABEL_NAMES = ("label", "target", "class")  # the names by which the column of the labels is found
_PIXEL_NAME = re.compile(r"(?:(?:pixel|pix|px)[ _.-]?)?\d+(?:[x_ .-]\d+)?", re.ASCII | re.IGNORECASE)

CodedBlock = tuple[list[int], HostArray]
"""The codes of m labels, if there are any, and features (m, features)."""


def read_csv(path: Path, options: TableOptions, texts: AbstractSet[int] = frozenset()) -> Table:
    """Read a CSV file, gzipped or not, with a header or not.

    The features are uint8 if they are pixels, else float64, with NaN for missing values that are to be
    replaced. Without labels, which a file to predict need not have, y is -1. The columns with the places
    `texts` are of text; the file is read again with those that it shows to be.

    Raises
    ------
    DataError
        The columns are not as expected, or the first defect: its line and its column, from 1.
    """
    if texts and options.encode == "none":
        options = options._replace(missing="mean")  # the text is what the table is refused for
    codes = []
    blocks = []
    lines = []
    rows = 0
    with open_data_file(path) as file:
        pieces = _read_pieces(path, file)
        line, text = next((piece for piece in pieces if piece[1].strip(b" \n")), (0, b""))
        if not text:
            raise DataError(f"{path}: is empty")
        rest = text.lstrip(b" \n")
        line += text.count(b"\n", 0, len(text) - len(rest))
        first, _, others = rest.partition(b"\n")
        layout = _Layout(path, line, first, options, texts)
        for number, piece in chain([(line + 1, others) if layout.names else (line, rest)], pieces):
            more, block = _read_block(layout, number, piece)
            if layout.found:
                return read_csv(path, options, texts | layout.found)
            codes += more
            blocks.append(np.ascontiguousarray(block))
            lines.append(_number_rows(number, piece, len(block)))
            rows += len(block)
            # A row also has a code and the number of its line.
            check_memory(path, rows * (len(layout.features) * (1 if layout.pixels else 8) + 24))
    if not rows:
        raise DataError(f"{path}: has a header but no rows")
    place = layout.label or 0
    names = layout.names
    unknown = np.full(rows, -1, np.int32), None
    y, classes = unknown if layout.label is None else layout.labels.finish(codes, path)
    columns = Columns(position=place, classes=classes)
    if names and options.columns != "0.1.0":
        columns = replace(columns, features=tuple(names[i] for i in layout.features), label=names[place])
    note = (
        pluralize(len(layout.features), f"{'pixel' if layout.pixels else 'feature'} column") + layout.reason
    )
    note += f", label column {quote(names[place]) if names else place + 1}"
    words = {names[i] if names else str(i + 1): layout.texts[i] for i in layout.features if i in layout.texts}
    return Table(np.concatenate(blocks), y, str(path), str(path), columns, note, np.concatenate(lines), words)


def _number_rows(first: int, text: bytes, rows: int) -> HostArray:
    """Return the numbers of the lines of a piece that are rows, not blank. `first` is that of the first."""
    if text.count(b"\n") + (not text.endswith(b"\n")) == rows:
        return np.arange(first, first + rows)
    return first + np.flatnonzero([bool(line.strip()) for line in text.split(b"\n")])


def _read_pieces(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield pieces of whole lines, each with the number of its first line, from 1."""
    number, size = 1, 0
    while text := file.read(PIECE_SIZE):
        rest = file.readline(LONGEST_LINE)
        text += rest
        size += len(text)
        check_memory(path, size)  # of a compressed file, which may unpack to far more than it has
        if number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")  # the byte-order mark
        if b"\0" in text:
            raise DataError(f"{path}: is not a CSV file, nor any text in UTF-8")
        if len(rest) == LONGEST_LINE:
            raise DataError(f"{path}: has a line of more than {LONGEST_LINE} bytes")
        yield number, text.replace(b"\r\n", b"\n")
        number += text.count(b"\n")


class _Layout:
    """The columns of a file by its first line that is not blank, and what its rows have shown so far.

    Attributes
    ----------
    names
        The names of all columns; None without a header.
    width
        The number of columns.
    label
        The place of the label's column, from 0; None if there is none.
    features
        The places of the features, in their order, those of text last.
    texts, found
        By their places, the numbers of the texts of columns that are text or left out, and the features that
        rows have shown to be text besides.
    pixels, reason
        True as long as all features can be pixels, and then the first reason why they are none.
    """

    def __init__(
        self, path: Path, line: int, text: bytes, options: TableOptions, texts: AbstractSet[int]
    ) -> None:
        unquoted = re.sub(rb'"[^"]*"', b"", text).decode(errors="replace")
        self.delimiter = next((mark for mark in "\t;," if mark in unquoted), ",")
        if unquoted.count(self.delimiter) >= MOST_COLUMNS:
            raise DataError(f"{path}: has more than {MOST_COLUMNS} columns")
        cells = _split_line(path, line, text, self.delimiter)
        self.names = names = cells if _is_header(cells, options) else None
        known = options.known or NO_COLUMNS
        predicted = options.predicted
        self.width = width = len(cells)
        if names and options.columns != "0.1.0":
            _check_names(path, names)
        options.check_dropped(path, names or ())
        places = [place for place in range(width) if not (names and names[place] in options.drop)]
        self.label = None if len(places) == predicted else _find_label(path, names, width, options)
        places = sorted([place for place in places if place != self.label], key=texts.__contains__)
        if known.features and (names or known.dropped or known.categories):
            places = [places[i] for i in known.order([names[place] for place in places if names], path)]
        if predicted not in (None, len(places)):
            problem = f"has {width} columns, the network takes {predicted} features"
            raise DataError(f"{path}: {problem}: expected {predicted} columns, or one more with the label")
        texts = texts or {*places[len(places) - len(known.categories) :]}
        others = {*range(width)} - {*places, self.label}
        self.texts = {place: TextCodes() for place in texts | others}
        self.found = set[int]()
        self.pixels = math.isqrt(len(places)) ** 2 == len(places)
        self.pixels &= not names or all(_PIXEL_NAME.fullmatch(names[place]) for place in places)
        if options.columns != "auto":
            self.pixels = options.columns != "features"
        self.pixels &= not texts
        self.path = path
        self.options = options
        self.features = places
        self.reason = ""
        self.labels = LabelCodes(options.known, allow_new=predicted is None)


def _is_header(cells: list[str], options: TableOptions) -> bool:
    """Return True if the cells are names: no numbers, or features counted from 0 or 1 beside the label."""
    if not any(map(NUMBER.fullmatch, cells)):
        return True
    known = options.known or NO_COLUMNS
    labels = {*_LABEL_NAMES, options.label, known.label}
    if options.columns == "0.1.0" and not NUMBER.fullmatch(cells[0]):
        labels.add(cells[0].lower())
    counted = [cell for cell in cells if cell not in labels and cell.lower() not in labels]
    is_complete = len(counted) == len(cells) - 1
    is_complete |= len(counted) == options.predicted and known.features in (None, tuple(cells))
    is_counted = counted in [[str(first + i) for i in range(len(counted))] for first in (0, 1)]
    return (is_complete and is_counted) or sorted(counted) == sorted(known.features or ())


def _check_names(path: Path, names: list[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if "" in names:
        problem = "has no name: name it, or remove it if it only counts the rows"
        raise DataError.at(path, problem, column=names.index("") + 1)
    if count > 1:
        raise DataError(f"{path}: has {count} columns named {format_names([name])}: rename them")
    if sum(map(len, names)) > LONGEST_NAMES:
        raise DataError(f"{path}: the names of its columns have more than {LONGEST_NAMES} characters")


def _find_label(path: Path, names: list[str] | None, width: int, options: TableOptions) -> int:
    """Return the place of the label's column: that of the training, or by `--label`, or by its name."""
    known, wanted = options.known or NO_COLUMNS, options.label
    if width < 2:
        problem = "has one column; a row is a label and its features, separated by commas, semicolons or tabs"
        raise DataError(f"{path}: {problem}")
    if names and known.label in names:
        return names.index(known.label)
    if (options.known or wanted is None) and (names is None or options.columns == "0.1.0"):
        return min(known.position, width - 1)
    if wanted and wanted.isdecimal() and 1 <= int(wanted) <= width:
        return int(wanted) - 1
    if names and wanted in names:
        return names.index(wanted)
    sought = _LABEL_NAMES if wanted is None else (wanted.lower(),)
    places = [i for i, name in enumerate(names or ()) if name.lower() in sought]
    if len(places) == 1:
        return places[0]
    problem = f"has {'two columns' if places else 'no column'} named {wanted or 'label, target or class'}"
    problem += did_you_mean(wanted or "", names or ())
    hint = f"{setting('label')} takes the name or the number of one of its {width} columns"
    raise DataError(f"{path}: {problem}: {hint}{f': {format_names(names)}' if names else ''}")


def _read_block(layout: _Layout, line: int, text: bytes) -> CodedBlock:
    """Read a piece of whole lines, the first of which has the number `line`."""
    codes, x = _read_at_once(layout, text) or _read_cells(layout, line, text)
    if layout.pixels and x.dtype != np.uint8:
        is_pixel = (x >= 0) & (x <= 255) & (x == np.floor(x)) & (layout.options.columns != "0.1.0")
        if is_pixel.all():
            return codes, x.astype(np.uint8)
        layout.pixels = False
        row, feature = np.argwhere(~is_pixel)[0]
        layout.reason = f" ({x[row, feature]:g} in column {layout.features[feature] + 1} is no pixel)"
    return codes, x


def _read_at_once(layout: _Layout, text: bytes) -> CodedBlock | None:
    """Read a piece by NumPy or pandas; None if neither reads it, or a number is infinite or missing."""
    is_unclosed = b'"' in text and any(row.count(b'"') % 2 for row in text.split(b"\n"))
    if layout.texts or b"\r" in text or is_unclosed:
        return None  # the two disagree about line breaks in quotes, which are refused
    readers: list[Function] = [_read_by_numpy] if layout.pixels else []
    if layout.options.columns != "pixels":
        readers.append(_read_by_pandas)
    for read in readers:
        with suppress(ValueError, TypeError, OverflowError, Warning), warnings.catch_warnings(action="error"):
            codes, x = read(layout, text)
            refused = ~np.isfinite(x) if layout.options.missing == "error" else np.isinf(x)
            if not refused.any():
                return codes, x
    return None


def _read_by_numpy(layout: _Layout, text: bytes, dtype: type[np.generic] = np.uint8) -> CodedBlock:
    """Read rows of numbers. Raise ValueError, or warn (old NumPy, of 1.5 as uint8), for anything else."""
    labels: list[str] = []

    def take_label(cell: str) -> int:
        labels.append(cell.strip())
        return 0

    converters: Any = None if layout.label is None else {layout.label: take_label}
    lines = text.decode().split("\n")
    cells: HostArray = np.loadtxt(lines, dtype, None, layout.delimiter, converters, ndmin=2, quotechar='"')
    if cells.shape[1] != layout.width:
        raise ValueError
    return layout.labels.encode(labels), cells[:, layout.features]


def _read_by_pandas(layout: _Layout, text: bytes) -> CodedBlock:
    """Read rows of numbers, perhaps with missing values. Raise ValueError or a warning for anything else."""
    import pandas as pd

    if layout.width >= _WIDE:
        return _read_by_numpy(layout, text, np.float64)
    fills, mark = layout.options.missing != "error", layout.delimiter.encode()
    if fills and any(row.count(mark) != layout.width - 1 for row in text.split(b"\n") if row.strip(b" ")):
        raise ValueError  # pandas takes what a short row lacks for missing values, and warns of a long row
    form: dict[str, Any] = {"sep": layout.delimiter, "names": range(layout.width), "header": None}
    form |= {"index_col": False, "na_filter": fills, "keep_default_na": False}
    dtypes = defaultdict(lambda: np.float64, {layout.label: object})
    form |= {"na_values": dict.fromkeys(layout.features, MISSING), "dtype": dtypes}
    if np.lib.NumpyVersion(pd.__version__) < "3.1.0":
        form["float_precision"] = "round_trip"
    frame = pd.read_csv(io.BytesIO(text), **form)
    labels = () if layout.label is None else map(str.strip, frame[layout.label])
    return layout.labels.encode(labels), frame[layout.features].to_numpy(np.float64)


def _read_cells(layout: _Layout, line: int, piece: bytes) -> CodedBlock:
    """Read rows cell by cell. Raise DataError for the first defect, unless text is found."""
    codes, rows, defect = [], [], None
    for number, text in enumerate(piece.split(b"\n"), line):
        if not text.strip(b" \r"):
            continue
        cells = _split_line(layout.path, number, text, layout.delimiter)
        if len(cells) != layout.width:
            problem = f"has {len(cells)} values, the first line has {layout.width}"
            raise DataError.at(layout.path, problem, line=number)
        rows.append([0.0] * layout.width)
        for column, cell in enumerate(cells):
            try:
                if column == layout.label:
                    codes += layout.labels.encode([cell])
                elif column in layout.texts:
                    rows[-1][column] = layout.texts[column].encode(cell)
                else:
                    rows[-1][column] = _parse_number(layout.options, cell)
            except ValueError as error:
                may_be_text = column != layout.label and layout.options.known is None
                if may_be_text and not NUMBER.fullmatch(cell) and cell not in _NO_TEXT:
                    layout.found.add(column)
                name = f" ({shorten(layout.names[column])})" if layout.names else ""
                defect = defect or DataError.at(layout.path, error, line=number, column=f"{column + 1}{name}")
    if defect and not layout.found:
        raise defect
    return codes, np.array(rows).reshape(-1, layout.width)[:, layout.features]


def _split_line(path: Path, number: int, line: bytes, delimiter: str) -> list[str]:
    """Return the cells of a line, without blanks around them."""
    try:
        text = line.removesuffix(b"\r").decode()
        if "\r" not in text and text.count('"') % 2 == 0:
            return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
        problem = "has a line break inside a cell, or quotes that do not match"
    except (UnicodeDecodeError, csv.Error) as error:
        problem = "is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    raise DataError.at(path, problem, line=number)


def _parse_number(options: TableOptions, cell: str) -> float:
    """Return a feature, NaN for a missing one. Raise ValueError with the problem for anything else."""
    pixels, is_missing = options.columns == "pixels", cell in MISSING
    if is_missing and options.missing != "error" and not pixels:
        return math.nan
    value = float(cell) if NUMBER.fullmatch(cell) else _BOOLEANS.get(cell, math.nan)
    if math.isfinite(value) and not (pixels and (value < 0 or value > 255 or value % 1)):
        return value
    kind, hint = "a finite number", mean_hint() * is_missing
    if pixels:
        kind, hint = "a pixel, a whole number from 0 to 255", "; --features reads other numbers"
    raise ValueError(f"{quote(cell)} is not {kind}{hint}" if cell else f"is empty{hint}")
