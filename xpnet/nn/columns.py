"""How the columns of a table become the inputs of a network, which keeps it from its training."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeAlias, get_type_hints

import numpy as np

from xpnet._lib.kinds import matches
from xpnet._lib.text import format_names, quote, shorten
from xpnet._typing import HostArray, Names
from xpnet.errors import DataError, setting

LONGEST_NAMES = 1 << 20  # the most characters of all names together
Texts: TypeAlias = Mapping[str, Mapping[str, int]]
"""By the name of each column of text, which are the last, the number of each text in it, "" if missing."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table: numbers, then text that is encoded; those of arrays have no names."""

    # The names of the columns that are features: of numbers, and then of text.
    features: Names | None = None
    label: str | None = None  # the name of the label's column
    position: int = 0  # the place of the label's column among all, from 0
    classes: Names | None = None  # the names of the classes, sorted; None if labels are numbers
    # The numbers that replace missing ones, one a column of numbers; None if these are refused.
    means: tuple[float, ...] | None = None
    dropped: Names = ()  # the names of columns that are left out
    # The categories of each column of text, sorted. Each is an input: 1 in its rows, else 0.
    categories: Mapping[str, Names] = field(default_factory=dict)
    zeros: bool = False  # True if text that is no category is 0 in all of them; else it is refused

    @property
    def inputs(self) -> Names | None:
        """The names of the network's inputs: of numbers, and then column=text of each category."""
        if not self.categories:
            return self.features
        ones = (f"{name}={text}" for name, texts in self.categories.items() for text in texts)
        return (*(self.features or ())[: -len(self.categories)], *ones)

    def class_name(self, number: int) -> int | str:
        """Return the name of a class, or its number if it has no name."""
        return number if self.classes is None else self.classes[number]

    def order(self, names: Sequence[str], where: object) -> list[int]:
        """Return the place of each feature among `names`, the columns of another table.

        Raises
        ------
        DataError
            The tables have different names.
        """
        places, expected = {name: place for place, name in enumerate(names)}, self.features or ()
        known = {*expected, *self.dropped}
        differences = {
            "without": [name for name in expected if name not in places],
            "with": [name for i, name in enumerate(names) if places[name] != i or name not in known],
        }
        if texts := [f"{word} {format_names(them)}" for word, them in differences.items() if them]:
            raise DataError(f"{where}: its columns are not those of the training: {', '.join(texts)}")
        return [places[name] for name in expected]

    def encode(self, x: HostArray, texts: Texts, where: object, lines: Any = None) -> HostArray:
        """Return the inputs (m, inputs) of a table (m, features), with the means in place of NaN.

        In messages, rows have these `lines` (m,) of the file `where`, or are counted.

        Raises
        ------
        DataError
            Text is none of the categories.
        """
        count = x.shape[1] - len(texts)
        numbers = x[:, :count]
        if self.means is not None and x.dtype.kind == "f":
            numbers = np.where(np.isnan(numbers), np.asarray(self.means, x.dtype), numbers)
        parts = [numbers]
        for codes, (name, categories) in zip(x.T[count:], self.categories.items(), strict=True):
            words = np.array([*texts[name]], object)[codes.astype(np.int64)]
            ones = words[:, np.newaxis] == np.array(categories, object)
            known = ones.any(axis=1)
            if not (self.zeros or known.all()):
                row = int(known.argmin())
                remedy = setting("unknown", "zeros") if words[row] else setting("missing", "category")
                place = {"row": row + 1} if lines is None else {"line": lines[row]}
                hint = f"training with {remedy} takes it"
                problem = f"{quote(words[row])} is none of the categories {format_names(categories)}: {hint}"
                raise DataError.at(where, problem, **place, column=shorten(name))
            parts.append(ones)
        return np.hstack(parts) if texts else numbers

    def to_json(self) -> str | None:
        """Return the columns as a JSON object; None if nothing is known of them."""
        values = {name: value for name, value in asdict(self).items() if value}
        return json.dumps(values) if values else None

    @classmethod
    def from_json(cls, text: str | None, features: int, classes: int) -> Self:
        """Return the columns of a table of so many features and classes from the text of `to_json`.

        Raises
        ------
        ValueError
            It is another text.
        """
        try:
            values = json.loads(text or "{}")
            lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
            texts = {name: tuple(each) for name, each in values.get("categories", {}).items()}
            columns = cls(**values | lists | {"categories": texts})
            ones = sum(map(len, texts.values()))
            found = columns.inputs or range(features), columns.classes or range(classes)
            means = columns.means or (0.0,) * (features - ones)
            is_valid = (*map(len, found), len(means)) == (features, classes, features - ones)
            kinds = get_type_hints(cls).items()
            is_valid &= all(matches(getattr(columns, name), kind) for name, kind in kinds)
            is_valid &= all(map(math.isfinite, means)) and len(columns.features or texts) >= len(texts)
            is_valid &= 0 <= columns.position <= features + len(columns.dropped)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            is_valid = False
        if not is_valid:
            msg = f"columns in the metadata: expected the names of {features} features and {classes} classes"
            raise ValueError(msg)
        return columns


NO_COLUMNS = Columns()  # the columns of arrays
