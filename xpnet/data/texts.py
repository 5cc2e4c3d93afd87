"""Text and other columns of tables that are no numbers as they stand: options, codes and advice."""

import re
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from xpnet._lib.text import format_names, pluralize, quote, shorten
from xpnet._typing import HostArray, Names
from xpnet.errors import DataError, in_words, setting
from xpnet.nn.columns import Columns, Texts

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
# The cells of a table that stand for a missing value.
MISSING = ("", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "NULL", "null", "None", "?")
MOST_CATEGORIES = 50
MANY_VALUES, FEW_SAMPLES = 100, 10
_KINDS = {
    "dates, of which (pandas.to_datetime(column) - pandas.Timestamp('2000-01-01')).dt.days makes numbers": (
        r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?([./-])\d\d?\2\d{2,4}([T ].*)?"
    ),
    "decimal commas, which pandas.read_csv(path, sep=';', decimal=',') reads": r"[-+]?\d+,\d+",
}
"""Kinds of text, with what to do, and their forms."""
_COUNTS = re.compile(r"(?i:id|uuid|index|unnamed: 0)|.+(?:[ _.-](?i:id)|I[dD])")
"""The names of columns that count the rows."""


class TableOptions(NamedTuple):
    """Options for reading a table, most of them settings."""

    label: str | None = None  # the name of the label's column, or its number, from 1
    columns: str = "auto"  # as in the setting; or "any": pixels if all numbers can be, whatever their columns
    missing: str = "error"
    drop: Names = ()
    encode: str = "none"
    unknown: str = "error"
    test_split: float | None = None
    known: Columns | None = None  # the columns of the training, if the table is another one
    predicted: int | None = None  # the network's number of features, for a table that may have no labels

    @classmethod
    def of(cls, known: Columns, **options: Any) -> Self:
        """Return the options for other tables than that of the training, with its columns."""
        missing = "mean" if known.means else "error"
        return cls(missing=missing, drop=known.dropped, known=known, **options)

    def check_dropped(self, where: object, names: Sequence[str]) -> None:
        """Raise DataError if a training has no column of a name that is to be left out."""
        if not self.known and (absent := [name for name in self.drop if name not in names]):
            raise DataError(f"{where}: has no column named {format_names(absent)}")


class TextCodes(dict[str, int]):
    """Numbers the texts of a column, all missing ones as an empty one."""

    def encode(self, text: str) -> int:
        """Return the number of a text."""
        return self.setdefault("" if text in MISSING else text, len(self))


def mean_hint() -> str:
    """Return the setting that takes missing values."""
    return f"; {setting('missing', 'mean')} puts the mean of the column in its place"


def check_texts(where: object, texts: Texts, encode: str) -> None:
    """Check the columns of text of a training: all of them must be encoded.

    Raises
    ------
    DataError
        There are others: the line names all of them, by kind, and says what to do.
    """
    listed, others = [], []
    for name, words in texts.items():
        given = [word for word in words if word]
        if encode == "onehot" and len(given) <= MOST_CATEGORIES:
            continue
        kinds = (kind for kind, form in _KINDS.items() if all(map(re.compile(form).fullmatch, given)))
        odd = next((word for word in given if not NUMBER.fullmatch(word)), "")
        kind = next(kinds, f"{pluralize(len(given), 'value')}, as {quote(odd)}")
        others += [name] if kind in _KINDS or len(given) > MOST_CATEGORIES else []
        listed.append(f"{shorten(name)} ({kind})")
    if listed:
        raise DataError(
            f"{where}: columns that are no numbers: {', '.join(listed)}: {setting('encode', 'onehot')} takes "
            f"up to {MOST_CATEGORIES} texts a column, {name_dropped(others or [*texts])} leaves columns out, "
            f"{setting('missing', 'category')} takes missing values"
        )


def name_dropped(names: Sequence[str]) -> str:
    """Return the setting that leaves columns out."""
    return setting("drop") + in_words(f" {shlex.join(names)}", f"={[*names]}")


def count_note(x: HostArray, columns: Columns) -> str | None:
    """Return a note on columns that may count the rows: by their names, or of sorted whole numbers."""
    found = []
    for name, column in zip(columns.features or (), x.T, strict=False):
        is_sorted = bool((column == np.floor(column)).all() and (column[1:] >= column[:-1]).all())
        if _COUNTS.fullmatch(name) or (is_sorted and len(np.unique(column)) >= MANY_VALUES):
            found.append(name)
    if not found:
        return None
    return f"{format_names(found)} may only count the rows: {name_dropped(found)} leaves such columns out"


def quantity_note(labels: HostArray) -> str | None:
    """Return a note if labels (m,) that are numbers have more than 100 values, most with under 10 samples."""
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    if len(counts) <= MANY_VALUES or np.median(counts) >= FEW_SAMPLES:
        return None
    found = f"the labels have {len(counts)} values, most of them with fewer than {FEW_SAMPLES} samples"
    return f"{found}; xpnet is for classification only: if they are quantities, bin them"
