"""What run.json and metrics.jsonl of a run say, checked for a report."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from xpnet.errors import DataError
from xpnet.storage.record import METRICS_FILE, RECORD_FILE, read_metrics, read_run

CURVES = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
FIGURES = ("test_loss", "validation_accuracy", "train_accuracy", "epochs", "seconds")
"""What a report takes of the metrics in run.json."""
LONGEST = 300
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class Story:
    """A run as its record tells it.

    Attributes
    ----------
    name
        Of the run's folder.
    record
        The content of run.json; what a report uses of it has the right types.
    curves
        For each name in CURVES the (epoch, value) pairs, without those that are not finite.

    """

    name: str
    record: Mapping[str, Any]
    curves: Mapping[str, list[tuple[float, float]]]


def read_story(folder: Path) -> Story:
    """Return what the record in the folder of a run says.

    Raises
    ------
    DataError
        run.json or metrics.jsonl is missing or damaged.

    """
    record = read_run(folder)
    _check(folder / RECORD_FILE, record, _RULES, "")
    _check(folder / RECORD_FILE, record["data"], _DATA_RULES, "data.")
    _check(folder / RECORD_FILE, record["metrics"] or {}, _METRIC_RULES, "metrics.")
    return Story(folder.resolve().name, record, _curves(folder / METRICS_FILE))


def shown(value: object) -> str:
    """Return a value of a record for people to read."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    items = value if isinstance(value, list) else [value]
    text = " ".join(map(str, items)) or "none"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def finite(value: object) -> float | None:
    """Return a number of a record, or None for one that is not finite, or for none."""
    if value is None:
        return None
    if not _is_number(value):
        msg = f"expected a number, got {_quoted(value)}"
        raise DataError(msg)
    try:
        number = float(cast("float", value))
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_plain, value.values()))


def _is_plain(value: object) -> bool:
    """Return whether a value is a single one, or a list of such."""
    items = value if isinstance(value, list) else [value]
    return not any(isinstance(item, list | dict) for item in items)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


Rules = Mapping[str, tuple[Callable[[object], bool], str]]

_TEXT = (_is_text, "a string")
_OPTIONAL_TEXT = (lambda value: value is None or _is_text(value), "a string or null")
_OBJECT = (_is_object, "an object of plain values")
_OPTIONAL_OBJECT = (lambda value: value is None or _is_object(value), _OBJECT[1])
_RULES: Rules = {
    "status": _TEXT,
    "started": _TEXT,
    "ended": _OPTIONAL_TEXT,
    "command": (_is_list, "a list of strings"),
    "config": _OBJECT,
    "data": _OBJECT,
    "device_requested": _TEXT,
    "device_used": _TEXT,
    "device_reason": _OPTIONAL_TEXT,
    "backend": _TEXT,
    "python": _TEXT,
    "platform": _TEXT,
    "versions": _OBJECT,
    "git": _OPTIONAL_OBJECT,
    "metrics": (lambda value: value is None or isinstance(value, dict), "an object or null"),
    "fingerprint": _OPTIONAL_TEXT,
    "error": _OPTIONAL_TEXT,
}
_DATA_RULES: Rules = {"name": _TEXT, "sha256": _TEXT}
_METRIC_RULES: Rules = dict.fromkeys(
    FIGURES, (lambda value: value is None or _is_number(value), "a number or null")
)


def _check(path: Path, values: Mapping[str, Any], rules: Rules, where: str) -> None:
    for key, (holds, expected) in rules.items():
        if not holds(values.get(key)):
            msg = f"{path}: {where}{key}: expected {expected}, got {_quoted(values.get(key))}"
            raise DataError(msg)


def _curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the curves in metrics.jsonl; without that file, none: a run can stop before its first row."""
    rows = read_metrics(path) if path.exists() else []
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
    for number, row in enumerate(rows, start=1):
        epoch = _number(path, number, row, "epoch")
        for name, points in curves.items():
            value = _number(path, number, row, name)
            if epoch is not None and value is not None:
                points.append((epoch, value))
    return curves


def _number(path: Path, line: int, row: Mapping[str, Any], key: str) -> float | None:
    try:
        return finite(row.get(key))
    except DataError as error:
        msg = f"{path}: line {line}: {key}: {error}"
        raise DataError(msg) from None


def _quoted(value: object) -> str:
    try:
        return json.dumps(value)[:60]
    except RecursionError:
        return "lists within lists"
