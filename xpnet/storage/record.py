"""The record of a run, run.json and metrics.jsonl: read and checked here, and nowhere else."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from xpnet._lib.files import read_regular
from xpnet.errors import DataError
from xpnet.storage.provenance import Environment

SCHEMA_VERSION = 1
STATUSES = ("running", "completed", "interrupted", "failed")

RECORD_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
MODEL_FILE = "model.safetensors"
CHECKPOINT_FILE = "checkpoint.safetensors"
LOCK_FILE = ".lock"
SUMMARY_FILE = "summary.json"
"""What several trainings that belong together leave in the folder around theirs."""

RECORD_LIMIT, METRICS_LIMIT = 8 * 2**20, 256 * 2**20
"""Bytes that run.json and metrics.jsonl may have."""
NESTING = 20
"""Levels of objects and lists inside each other that a file may have."""

CURVES = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
"""The metrics of an epoch."""


class RunInfo(TypedDict):
    """What the caller knows when a run starts."""

    command: list[str]
    """The command line, a word an item."""
    config: dict[str, Any]
    """Every setting, as `xpnet.config.resolved` returns them."""
    seed: int
    device_requested: str
    """As in --device: auto, cpu, cuda, cuda:N."""
    device_used: str
    device_reason: str | None
    """Why the device used is not the one requested; None where it is."""
    backend: str
    data: dict[str, Any]
    """The data set: sha256, name and counts."""


class Record(RunInfo, Environment):
    """The content of run.json.

    `RunInfo` comes from the caller; `Run.start` adds the rest, and `Run.finish` the metrics, the fingerprint
    (SHA-256 of the parameters), and why the run failed.
    """

    schema_version: int
    """Grows when a key changes its meaning or goes."""
    id: str
    """The name of the run's folder."""
    status: Literal["running", "completed", "interrupted", "failed"]
    """A run that was killed stays "running"."""
    started: str
    """ISO 8601, UTC."""
    resumed: list[str]
    """When it went on after it had been stopped, each time."""
    ended: str | None
    metrics: dict[str, Any] | None
    fingerprint: str | None
    error: str | None


Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is as expected, and how a message names what is expected."""


def is_number(value: object) -> bool:
    """Return whether a value of a file is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: object) -> bool:
    """Return whether a value is a single one, or a list of such."""
    items = value if isinstance(value, list) else [value]
    return not any(isinstance(item, list | dict) for item in items)


def _list_of(rule: Rule, expected: str) -> Rule:
    return lambda value: isinstance(value, list) and all(map(rule[0], value)), expected


def _or_null(rule: Rule) -> Rule:
    return lambda value: value is None or rule[0](value), f"{rule[1]} or null"


_TEXT: Rule = (lambda value: isinstance(value, str), "a string")
_TEXTS = _list_of(_TEXT, "a list of strings")
_NUMBER: Rule = (is_number, "a number")
_NUMBERS = _list_of(_or_null(_NUMBER), "a list of numbers")
_OBJECT: Rule = (
    lambda value: isinstance(value, dict) and all(map(_is_plain, value.values())),
    "an object of plain values",
)
_METRIC: Rule = (
    lambda value: value is None or is_number(value) or _NUMBERS[0](value),
    "a number, a list of numbers or null",
)

_RULES: Mapping[str, Rule] = {
    "schema_version": (lambda value: value == SCHEMA_VERSION, str(SCHEMA_VERSION)),
    "status": (lambda value: value in STATUSES, f"one of {', '.join(STATUSES)}"),
    **dict.fromkeys(("started", "device_requested", "device_used", "backend", "python", "platform"), _TEXT),
    **dict.fromkeys(("ended", "device_reason", "fingerprint", "error"), _or_null(_TEXT)),
    **dict.fromkeys(("command", "resumed"), _TEXTS),
    **dict.fromkeys(("config", "data", "versions"), _OBJECT),
    "git": _or_null(_OBJECT),
    "metrics": _or_null((lambda value: isinstance(value, dict), "an object")),
}
_CONFIG_RULES: Mapping[str, Rule] = {
    "hidden": _or_null(_NUMBERS),
    **dict.fromkeys(("arithmetic", "dtype"), _or_null(_TEXT)),
}
_DATA_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("name", "sha256"), _TEXT),
    **dict.fromkeys(("features", "classes"), _or_null(_NUMBER)),
}
_ROW_RULES: Mapping[str, Rule] = dict.fromkeys(("epoch", "seconds", *CURVES), _or_null(_NUMBER))


def read_run(folder: Path) -> Record:
    """Return the record in the folder of a run, with all that anybody uses of it as `Record` has it.

    Keys that older versions did not write are there, as null or empty. Numbers that are not finite, or that
    no float can hold, become null.

    Raises
    ------
    DataError
        The folder holds no run.json, or one that is damaged or of another schema version.
    """
    path = folder / RECORD_FILE
    record = read_object(path, "not a run record", "expected a folder of a run")
    record.setdefault("resumed", [])
    for name in _RULES:
        record.setdefault(name, None)
    _check(f"{path}: ", record, _RULES)
    _check(f"{path}: config.", record["config"], _CONFIG_RULES)
    _check(f"{path}: data.", record["data"], _DATA_RULES)
    metrics = record["metrics"] or {}
    _check(f"{path}: metrics.", metrics, dict.fromkeys(metrics, _METRIC))
    return cast("Record", record)


def read_object(path: Path, problem: str, hint: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises
    ------
    DataError
        There is no such file (then the message gives the hint), or it holds something else (the problem).
    """
    value = _parsed(read_regular(path, RECORD_LIMIT, hint))
    if value is None:
        msg = f"{path}: {problem}: expected a JSON object"
        raise DataError(msg)
    return value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl, none if there is no such file, as a run may not have logged any.

    Epoch, seconds and the metrics in CURVES are numbers or null.

    Raises
    ------
    DataError
        The file cannot be read, or a line in it is damaged, except that a crash may have torn the last.
    """
    return [row for _, row in read_lines(path)]


def read_lines(path: Path, limit: int | None = None) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the first rows, by default all, each as text and as an object, as `read_metrics` does.

    Raises
    ------
    DataError
        As in `read_metrics`.
    """
    if not os.path.lexists(path):
        return []
    lines = read_regular(path, METRICS_LIMIT, "expected a metrics.jsonl").split(b"\n")
    if _parsed(lines[-1]) is None:
        del lines[-1]
    rows = []
    for number, text in enumerate(lines[:limit], start=1):
        row = _parsed(text)
        if row is None:
            shown = json.dumps(text[:60].decode(errors="replace"))
            msg = f"{path}: line {number}: expected a JSON object, got {shown}"
            raise DataError(msg)
        _check(f"{path}: line {number}: ", row, _ROW_RULES)
        rows.append((text, row))
    return rows


def finite(value: Any, levels: int = NESTING) -> Any:
    """Return a JSON value with null for each number that is not finite or that no float can hold.

    Raises
    ------
    ValueError
        Objects and lists are nested more than so many levels deep.
    """
    if isinstance(value, int | float):
        return value if abs(value) <= sys.float_info.max else None
    if not isinstance(value, Mapping | list | tuple):
        return value
    if levels == 0:
        msg = f"more than {NESTING} objects inside each other"
        raise ValueError(msg)
    if isinstance(value, Mapping):
        return {key: finite(item, levels - 1) for key, item in value.items()}
    return [finite(item, levels - 1) for item in value]


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a text holds, as `finite` leaves it; None if it holds anything else."""
    try:
        value = finite(json.loads(text.decode()))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _check(where: str, values: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    for name, (holds, expected) in rules.items():
        if not holds(value := values.get(name)):
            shown = json.dumps(name)[1:-1]  # a name of a file has no control characters in a message
            msg = f"{where}{shown}: expected {expected}, got {json.dumps(value)[:60]}"
            raise DataError(msg)
