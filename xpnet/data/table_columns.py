"""The settings of a table, and the places of its label and its features."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xpnet.errors import DataError
from xpnet.nn.columns import LONGEST_NAMES, NO_COLUMNS, Columns, format_names

LABEL_NAMES = ("label", "target", "class")  # the names by which the column of the labels is found


class TableOptions(NamedTuple):
    """Options for reading a table."""

    label: str | None = None  # the name of the label's column, or its number, from 1
    columns: str = "auto"
    """As in the setting; or "any": pixels if all numbers can be, whatever their columns."""
    missing: str = "error"  # as in the setting
    known: Columns | None = None  # the columns of the training, if the table is another one
    # The number of the network's features if the table is to be predicted: it may have no labels.
    predicted: int | None = None


DEFAULTS = TableOptions()


def find_columns(
    path: Path, names: Sequence[str] | None, width: int, options: TableOptions
) -> tuple[int | None, list[int]]:
    """Return the place of the label's column, from 0, if there is one, and those of the features, in order.

    Raises
    ------
    DataError
        The names are not different or not those of the training, or no column, or several, can be the label.
    """
    known, predicted, is_old = options.known or NO_COLUMNS, options.predicted, options.columns == "0.1.0"
    if names and not is_old:
        _check_names(path, names)
    has_label = width != predicted
    if predicted is not None and names and known.features:
        has_label = known.label in names or width == predicted + 1
    if has_label and width < 2:
        problem = "has one column; a row is a label and its features, separated by commas, semicolons or tabs"
        raise DataError.at(path, problem)
    label = None
    if has_label and names and known.label in names:
        label = names.index(known.label)
    elif has_label and (options.known or options.label is None) and (names is None or is_old):
        label = min(known.position, width - 1)
    elif has_label:
        label = _find_label(path, names or [""] * width, options.label)
    places = [place for place in range(width) if place != label]
    if names and known.features:
        places = [places[i] for i in known.order([names[place] for place in places], path)]
    if predicted not in (None, len(places)):
        problem = f"has {width} columns, the network takes {predicted} features"
        raise DataError.at(path, f"{problem}: expected {predicted} columns, or one more with the label")
    return label, places


def _check_names(path: Path, names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if "" in names:
        problem = "has no name: name it, or remove it if it only counts the rows"
        raise DataError.at(path, problem, column=names.index("") + 1)
    if count > 1:
        raise DataError.at(path, f"has {count} columns named {format_names([name])}: rename them")
    if sum(map(len, names)) > LONGEST_NAMES:
        raise DataError.at(path, f"the names of its columns have more than {LONGEST_NAMES} characters")


def _find_label(path: Path, names: Sequence[str], wanted: str | None) -> int:
    """Return the place of the label's column: the one with the name or number `wanted`, or named label."""
    if wanted is not None and wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    if wanted in names:
        return names.index(wanted)
    places = [i for i, name in enumerate(names) if name.lower() in LABEL_NAMES and wanted is None]
    if len(places) == 1:
        return places[0]
    problem = f"has {'two columns' if places else 'no column'} named {wanted or 'label, target or class'}"
    hint = f"--label takes the name or the number of one of its {len(names)} columns"
    raise DataError.at(path, f"{problem}: {hint}{f': {format_names(names)}' if any(names) else ''}")
