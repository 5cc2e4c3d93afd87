"""Features with their labels, the checks of both, and the opening of their files."""

import gzip
import math
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Self, cast

import numpy as np

from xpnet._lib.machine import available_memory
from xpnet._lib.text import format_names, format_shape, join_lines, quote, shorten
from xpnet._typing import HostArray, Names
from xpnet.data.texts import MISSING, NUMBER, TableOptions, check_texts
from xpnet.errors import DataError, setting
from xpnet.nn.columns import LONGEST_NAMES, NO_COLUMNS, Columns, Texts
from xpnet.nn.inputs import flush_subnormals

ROLES = ("x_train", "y_train", "x_test", "y_test")
LARGEST_LABEL = 65535
LABEL_RULE = f"a label is a whole number from 0 to {LARGEST_LABEL}"
CLASSES_ONLY = "; xpnet is for classification only: round numbers, or bin them"
PIXEL_RULE = "a pixel is a whole number from 0 to 255"
_ROWS_AT_ONCE = 1024

Source = tuple[HostArray, str]
"""An array as it was read, and its file for messages."""


@dataclass(frozen=True)
class Table:
    """Samples as rows: features `x` (m, features), labels `y` (m,), and their files for messages."""

    x: HostArray  # uint8, float32 or float64, C-contiguous, perhaps a map of a file
    y: HostArray  # int32
    x_from: str
    y_from: str
    columns: Columns = NO_COLUMNS
    note: str = ""  # what was read, in words
    lines: "HostArray | None" = None  # of a CSV file, int64 from 1, in which the samples stand
    texts: Texts = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            samples, labels = f"{len(self.x)} samples", f"{len(self.y)} labels"
            msg = f"{self.x_from} holds {samples}, {self.y_from} holds {labels}: they must be as many"
            raise DataError(msg)

    def fit(self, options: TableOptions) -> Self:
        """Return the training rows as numbers, and with columns that keep their means and categories.

        A mean is fl(fsum(x) / n) of the n numbers of its column.

        Raises
        ------
        DataError
            Text is not to be encoded, or is missing and no category; or a column of numbers has none.
        """
        check_texts(self.x_from, self.texts, options.encode)
        if self.texts and not self.columns.features:
            raise DataError(f"{self.x_from}: columns of text need names, all different, to be encoded")
        numbers, texts = np.split(self.x.T, [self.x.shape[1] - len(self.texts)])
        means = []
        for place, column in enumerate(numbers if options.missing != "error" else ()):
            values = flush_subnormals(column[~np.isnan(column)]).tolist()
            if not values:
                name = shorten(self.columns.features[place]) if self.columns.features else place + 1
                raise DataError(f"{self.x_from}: feature {name} has no value in the training rows: remove it")
            means.append(math.fsum(values) / len(values))
        categories, absent = {}, set() if options.missing == "category" else {""}
        for (name, words), codes in zip(self.texts.items(), texts, strict=True):
            found = {word for word, code in words.items() if code in codes}
            categories[name] = tuple(sorted(found - absent))
        columns = replace(self.columns, means=tuple(means) or None, categories=categories)
        columns = replace(columns, dropped=options.drop, zeros=options.unknown == "zeros")
        return replace(self, columns=columns).encode(columns)

    def encode(self, columns: Columns) -> Self:
        """Return the rows as the features of a training's columns; errors as in ``Columns.encode``."""
        return replace(self, x=columns.encode(self.x, self.texts, self.x_from, self.lines), texts={})


class LabelCodes(dict[str, int]):
    """Numbers the labels of a table that is read in pieces: whole numbers, or text, but not both.

    Parameters
    ----------
    known
        The columns of the training, whose labels are of the same kind, if the table is another one.
    allow_new
        True if text may also be a class that the training does not have.
    """

    def __init__(self, known: Columns | None, *, allow_new: bool) -> None:
        self._numeric = None if known is None else known.classes is None
        self._classes = None if known is None or allow_new else known.classes

    def encode(self, labels: Iterable[str]) -> list[int]:
        """Return a code for each label. Raise ValueError for the first one that is not allowed."""
        return [self[label] for label in labels]

    def finish(self, codes: list[int], where: str | Path) -> tuple[HostArray, Names | None]:
        """Return the number of each label from its code, and the names of the classes if they are text.

        Raises
        ------
        DataError
            There are too many classes, or their names are too long together.
        """
        if self._numeric:
            return np.array([int(float(name)) for name in self], np.int32)[codes], None
        classes = self._classes or tuple(sorted(self))
        if sum(map(len, classes)) > LONGEST_NAMES or len(classes) > LARGEST_LABEL + 1:
            problem = f"{len(classes)} classes, whose names are too long together: are these the labels?"
            raise DataError(f"{where}: {problem}")
        places = {name: number for number, name in enumerate(classes)}
        return np.array([places[name] for name in self], np.int32)[codes], classes

    def __missing__(self, label: str) -> int:
        number = NUMBER.fullmatch(label)
        if self._numeric is None and label not in MISSING:
            self._numeric = number is not None
        if self._numeric:
            value = float(label) if number else -1.0
            is_allowed = 0 <= value <= LARGEST_LABEL and value % 1 == 0
            rule = LABEL_RULE if value % 1 == 0 else LABEL_RULE + CLASSES_ONLY
        else:
            classes = self._classes
            is_allowed = label in classes if classes else not number and label not in MISSING
            rule = f"the classes are {format_names(classes)}" if classes else "a label is text here"
        if not is_allowed:
            raise ValueError(f"label {quote(label)}: {rule}" if label else f"is empty: {rule}")
        return self.setdefault(label, len(self))


def make_table(x: Source, y: Source) -> Table:
    """Return the table of features and labels as they were read, after checks of both."""
    return Table(as_features(*x), as_labels(*y), x[1], y[1])


def as_features(
    values: HostArray, where: object, *, fills: bool = False, hint: str = "", names: Sequence[str] = ()
) -> HostArray:
    """Return checked features as rows (m, features), uint8 pixels or finite float32 or float64.

    Parameters
    ----------
    values
        Booleans, integers or floats (m, ...), of which all axes but the first are flattened.
    where
        The file and the array in it, for messages, in which rows and columns count from 1.
    fills, hint
        True if NaN is to be filled in later, and allowed; else the end of its message.
    names
        The names of the columns, if they have any, in place of their numbers.

    Raises
    ------
    DataError
        The array is empty or 1-D, or holds integers that are not pixels, NaN or infinity.
    """
    if values.ndim < 2:
        needed = "features need at least 2 (samples, values): are these the labels?"
        raise DataError(f"{where}: {values.ndim} dimension, {needed}")
    if values.size == 0:
        raise DataError(f"{where}: holds no values (its shape is {format_shape(values.shape)})")
    rows = values.reshape(len(values), -1)
    if rows.dtype.kind in "iu" and rows.dtype != np.uint8:
        problem = f"is outside 0 to 255: {PIXEL_RULE}; store other numbers as float32 or float64"
        refuse_first(where, rows, names, lambda part: (part < 0) | (part > 255), problem)
    elif rows.dtype.kind == "f":
        rows = rows.astype(np.float64 if rows.dtype.itemsize > 4 else np.float32, copy=False)
        if not (np.isfinite(rows.min()) and np.isfinite(rows.max())):
            refuse_first(where, rows, names, np.isinf, "is not a finite number")
            if not fills:
                refuse_first(where, rows, names, np.isnan, f"is not a finite number{hint}")
        return np.ascontiguousarray(rows)
    return np.ascontiguousarray(rows, dtype=np.uint8)


def as_labels(values: HostArray, where: object) -> HostArray:
    """Return checked labels of shape (m,) or (m, 1) as int32 (m,).

    Raises
    ------
    DataError
        The shape differs, or a label is negative, not whole or above 65535.
    """
    if values.ndim != 1 and values.shape[1:] != (1,):
        shape = format_shape(values.shape)
        raise DataError(f"{where}: its shape is {shape}, labels have one dimension: are these the features?")
    column = values.reshape(-1)
    allowed = (column >= 0) & (column <= LARGEST_LABEL)
    if column.dtype.kind == "f":
        allowed &= column == np.floor(column)
    if not allowed.all():
        row = int(allowed.argmin())
        hint = CLASSES_ONLY if float(column[row]) % 1 > 0 else ""
        raise DataError.at(where, f"label {column[row]}: {LABEL_RULE}{hint}", row=row + 1)
    return column.astype(np.int32)


def scale_note(x: HostArray) -> str | None:
    """Return advice if the features of a table (samples, features) differ in scale, else None.

    They do if the standard deviations of the features that are not constant differ by a factor of more than
    10, in samples of up to ten million values. Images are no tables: uint8, or squares of 8 times 8 features
    or more that are all from 0 to 1, or whole numbers from 0 to 255.
    """
    if x.dtype == np.uint8 or not x.size:
        return None
    rows = np.asarray(x[:: math.ceil(x.size / 10_000_000)], dtype=np.float64)
    side, largest = math.isqrt(x.shape[1]), rows.max()
    whole = largest <= 255 and np.array_equal(rows, np.rint(rows))
    if side >= 8 and side * side == x.shape[1] and rows.min() >= 0 and (whole or largest <= 1):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        deviations = rows.std(axis=0)[rows.max(axis=0) > rows.min(axis=0)]
    if not (deviations.size and deviations.max() > 10 * deviations.min()):
        return None
    extremes = f"standard deviations from {deviations.min():.3g} to {deviations.max():.3g}"
    remedy = f"use {setting('normalize', 'standardize')}, or {setting('recipe', 'tabular')}"
    return f"the features differ in scale ({extremes}): {remedy}"


def refuse_first(
    where: object, rows: HostArray, names: Sequence[str], wrong: Callable[..., HostArray], problem: str
) -> None:
    """Raise DataError for the first value for which `wrong` holds, if any does. Rows are read in blocks."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        defects = np.argwhere(wrong(rows[start : start + _ROWS_AT_ONCE]))
        if len(defects):
            row, column = (defects[0] + (start, 0)).tolist()
            name = quote(names[column]) if names else column + 1
            raise DataError.at(where, f"{rows[row, column]} {problem}", row=row + 1, column=name)


# Opening of files

GZIP_MAGIC = b"\x1f\x8b"
_EXCEL = "an Excel file: pandas.read_excel(path"
_UTF_16 = "text in UTF-16: pandas.read_csv(path, sep=None, engine='python', encoding='utf-16'"
FOREIGN = {b"PK\3\4": _EXCEL, b"\xd0\xcf\x11\xe0": _EXCEL, b"\xff\xfe": _UTF_16, b"\xfe\xff": _UTF_16}
FOREIGN[b"PAR1"] = "a Parquet file: pandas.read_parquet(path"
"""What files of other formats begin with, and the function of pandas that reads them."""
MAPPING_HINT = "uncompressed IDX or .npy files of pixels need not fit"


@contextmanager
def open_data_file(path: Path, expected: str = "a file") -> Iterator[BinaryIO]:
    """Open `path` for reading. Gzip is recognised by its content and decompressed.

    `expected` describes the file in messages.

    Raises
    ------
    DataError
        The file is missing, unreadable or not a regular file, or its gzip data are truncated or damaged;
        also raised while reading in the block.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise DataError(f"{path}: is {kind}, {expected} was expected")
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            other = FOREIGN.get(start) or FOREIGN.get(start[:2])
            if other and path.suffix.lower() != ".npz":
                raise DataError(f"{path}: is {other}).to_csv('new.csv', index=False) makes a CSV file of it")
            yield cast("BinaryIO", gzip.GzipFile(fileobj=file)) if start.startswith(GZIP_MAGIC) else file
    except EOFError as error:
        raise DataError(f"{path}: the gzip data ends too early: download the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        problem = f"the gzip data is damaged ({join_lines(error)}): download the file again"
        raise DataError(f"{path}: {problem}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def refuse_foreign(path: Path) -> None:
    """Raise DataError for a file of another program."""
    if path.is_file():
        with open_data_file(path):
            pass


def check_memory(where: str | Path, declared: int, hint: str = MAPPING_HINT) -> None:
    """Raise DataError if values of `declared` bytes exceed the available memory, as far as that is known.

    Raises
    ------
    DataError
        `declared` is more than the memory of the machine or the container.
    """
    memory = available_memory()
    if memory and declared > memory > 0:
        problem = f"holds {declared} bytes of values, this machine has {memory} bytes of memory: {hint}"
        raise DataError(f"{where}: {problem}")
