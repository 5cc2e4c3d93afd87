"""The names of a table's columns and classes, which a network keeps from its training."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from xpnet._lib.text import format_names
from xpnet._typing import HostArray
from xpnet.errors import DataError

LONGEST_NAMES = 1 << 20  # the most characters of all names together


@dataclass(frozen=True)
class Columns:
    """The columns of a table; those of arrays have no names."""

    # The names of the features, in the order of the network's inputs.
    features: tuple[str, ...] | None = None
    label: str | None = None  # the name of the label's column
    position: int = 0  # the place of the label's column among all, from 0
    classes: tuple[str, ...] | None = None  # the names of the classes, sorted; None if labels are numbers
    # The numbers that replace missing values, one a feature; None if these are refused.
    means: tuple[float, ...] | None = None

    def class_name(self, number: int) -> int | str:
        """Return the name of a class, or its number if it has no name."""
        return number if self.classes is None else self.classes[number]

    def order(self, names: Sequence[str], where: object) -> list[int]:
        """Return the place of each feature among `names`, the features of another table.

        Raises
        ------
        DataError
            The tables have different names.
        """
        places, expected = {name: place for place, name in enumerate(names)}, self.features or ()
        differences = {
            "without": [name for name in expected if name not in places],
            "with": [name for i, name in enumerate(names) if places[name] != i or name not in set(expected)],
        }
        if texts := [f"{word} {format_names(them)}" for word, them in differences.items() if them]:
            raise DataError.at(where, f"its columns are not those of the training: {', '.join(texts)}")
        return [places[name] for name in expected]

    def fill_missing(self, x: HostArray) -> HostArray:
        """Return features (m, features) with the means, if there are such, in place of NaN."""
        missing = np.isnan(x) if self.means is not None and x.dtype.kind == "f" else np.False_
        return np.where(missing, np.asarray(self.means, x.dtype), x) if missing.any() else x

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
            values: dict[str, Any] = dict(json.loads(text or "{}").items())
            lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
            columns = cls(**values | lists)
            names, means = columns.features or ("",) * features, columns.means or (0.0,) * features
            classes_names = columns.classes or ("",) * classes
            is_valid = (len(names), len(classes_names), len(means)) == (features, classes, features)
            is_valid &= all(isinstance(name, str) for name in (*names, *classes_names, columns.label or ""))
            is_valid &= all(map(math.isfinite, means)) and 0 <= columns.position <= features
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            is_valid = False
        if not is_valid:
            msg = f"columns in the metadata: expected the names of {features} features and {classes} classes"
            raise ValueError(msg)
        return columns


NO_COLUMNS = Columns()  # the columns of arrays
