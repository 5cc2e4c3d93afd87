"""Reading and checking of a run's record: run.json and metrics.jsonl."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, TypeGuard, cast

from xpnet._lib.files import read_regular_file
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
"""Summary of repeated trainings, in the folder that holds their runs."""

RECORD_LIMIT, METRICS_LIMIT = 8 * 2**20, 256 * 2**20
"""Maximum sizes of run.json and metrics.jsonl, in bytes."""
NESTING = 20
"""Maximum nesting depth of objects and lists in a file."""

CURVES = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
"""The metrics of an epoch."""


class DataInfo(TypedDict, total=False):
    """The data set of a run; older records may lack the counts."""

    name: Required[str]
    sha256: Required[str]
    training_samples: int
    test_samples: int
    features: int
    classes: int
    feature_names: list[str]
    class_names: list[str]


class RunInfo(TypedDict):
    """The part of a run's record that the caller of `Run.start` provides.

    Attributes
    ----------
    command
        The words of the command line.
    config
        Every setting, as `xpnet.config.to_json` returns them.
    device_requested
        As in --device: auto, cpu, cuda, cuda:N.
    device_reason
        The reason if another device than the requested one is used, else None.
    """

    command: list[str]
    config: dict[str, object]
    seed: int
    device_requested: str
    device_used: str
    device_reason: str | None
    backend: str
    data: DataInfo


class Outcome(TypedDict):
    """The part of a run's record that is set when the run ends."""

    ended: str | None
    metrics: dict[str, float | list[float | None] | None] | None
    fingerprint: str | None
    error: str | None


class Record(RunInfo, Environment, Outcome):
    """The content of run.json.

    The caller provides `RunInfo`, `Run.start` the remaining keys. `Run.finish` sets metrics (numbers, or
    lists of numbers by class; None in place of non-finite ones), fingerprint (SHA-256 of the parameters)
    and error. Times are in ISO 8601, UTC.

    Attributes
    ----------
    schema_version
        Increased when a key is removed or changes its meaning.
    id
        The name of the run's folder.
    status
        The status of a killed run stays "running".
    resumed
        The times at which the run was resumed.
    """

    schema_version: int
    id: str
    status: Literal["running", "completed", "interrupted", "failed"]
    started: str
    resumed: list[str]


Rule = tuple[Callable[[object], bool], str]
"""A predicate of values, and its description for messages."""


def is_number(value: object) -> TypeGuard[float]:
    """Return True if a JSON value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar_or_list(value: object) -> bool:
    """Return True if a JSON value is a scalar or a list of scalars."""
    items = value if isinstance(value, list) else [value]
    return not any(isinstance(item, list | dict) for item in items)


def _list_of(rule: Rule, expected: str) -> Rule:
    return lambda value: isinstance(value, list) and all(map(rule[0], value)), expected


def _or_null(rule: Rule) -> Rule:
    return lambda value: value is None or rule[0](value), f"{rule[1]} or null"


_TEXT: Rule = (lambda value: isinstance(value, str), "a string")
_TEXTS, _TEXT_OR_NULL = _list_of(_TEXT, "a list of strings"), _or_null(_TEXT)
_NUMBER_OR_NULL = _or_null((is_number, "a number"))
_NUMBERS = _list_of(_NUMBER_OR_NULL, "a list of numbers")
_OBJECT: Rule = (
    lambda value: isinstance(value, dict) and all(map(_is_scalar_or_list, value.values())),
    "an object of plain values",
)
_METRIC = _or_null((lambda value: is_number(value) or _NUMBERS[0](value), "a number, a list of numbers"))

_RULES: Mapping[str, Rule] = {
    "schema_version": (lambda value: value == SCHEMA_VERSION, str(SCHEMA_VERSION)),
    "status": (lambda value: value in STATUSES, f"one of {', '.join(STATUSES)}"),
    **dict.fromkeys(("started", "device_requested", "device_used", "backend", "python", "platform"), _TEXT),
    **dict.fromkeys(("ended", "device_reason", "fingerprint", "error"), _TEXT_OR_NULL),
    **dict.fromkeys(("command", "resumed"), _TEXTS),
    **dict.fromkeys(("config", "data", "versions"), _OBJECT),
    "git": _or_null(_OBJECT),
    "metrics": _or_null((lambda value: isinstance(value, dict), "an object")),
}
_CONFIG_RULES = {"hidden": _or_null(_NUMBERS), "arithmetic": _TEXT_OR_NULL, "dtype": _TEXT_OR_NULL}
_DATA_RULES = {"name": _TEXT, "sha256": _TEXT, "features": _NUMBER_OR_NULL, "classes": _NUMBER_OR_NULL}
_ROW_RULES = dict.fromkeys(("epoch", "seconds", *CURVES), _NUMBER_OR_NULL)


def read_run(folder: Path) -> Record:
    """Read and check the record in the folder of a run.

    Keys that older versions did not write are added with the value None, or an empty list; CSV files of runs
    before 0.2 are read by the rule of 0.1.0. Numbers that are not finite, or too large for a float, become
    None.

    Raises
    ------
    DataError
        The folder holds no run.json, or one that is damaged or of another schema version.
    """
    path = folder / RECORD_FILE
    values = read_json(path, "not a run record", "expected a folder of a run")
    values.setdefault("resumed", [])
    for name in _RULES:
        values.setdefault(name, None)
    _check_values(path, "", values, _RULES)
    record = cast("Record", values)
    if str(record["config"].get("data")).lower().endswith((".csv", ".csv.gz")):
        record["config"].setdefault("columns", "0.1.0")
    _check_values(path, "config.", record["config"], _CONFIG_RULES)
    _check_values(path, "data.", record["data"], _DATA_RULES)
    metrics = record["metrics"] or {}
    _check_values(path, "metrics.", metrics, dict.fromkeys(metrics, _METRIC))
    return record


def read_json(path: Path, problem: str, hint: str) -> dict[str, object]:
    """Return the JSON object in a file, with None for non-finite numbers.

    Raises
    ------
    DataError
        The file cannot be read (the message ends with `hint`), or holds no JSON object (with `problem`).
    """
    value = _parse_object(read_regular_file(path, RECORD_LIMIT, hint))
    if value is None:
        raise DataError.at(path, f"{problem}: expected a JSON object")
    return value


def read_metrics(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the first rows of a metrics.jsonl, by default all; an empty list if the file does not exist.

    Epoch, seconds and the metrics in CURVES are numbers or None. An incomplete last line, left by a crash,
    is ignored.

    Raises
    ------
    DataError
        The file cannot be read, or one of these lines is damaged.
    """
    if not os.path.lexists(path):
        return []
    lines = read_regular_file(path, METRICS_LIMIT, "expected a metrics.jsonl").split(b"\n")
    if _parse_object(lines[-1]) is None:
        del lines[-1]
    rows = []
    for number, text in enumerate(lines[:limit], start=1):
        row = _parse_object(text)
        if row is None:
            quoted = json.dumps(text[:60].decode(errors="replace"))
            raise DataError.at(path, f"line {number}: expected a JSON object, got {quoted}")
        _check_values(path, f"line {number}: ", row, _ROW_RULES)
        rows.append(row)
    return rows


def replace_nonfinite(value: object, levels: int = NESTING) -> object:
    """Return a JSON value with None for numbers that are not finite or too large for a float.

    Raises
    ------
    ValueError
        Objects and lists are nested more than `levels` deep.
    """
    if isinstance(value, int | float):
        return value if abs(value) <= sys.float_info.max else None
    if not isinstance(value, Mapping | list | tuple):
        return value
    if levels == 0:
        msg = f"more than {NESTING} objects inside each other"
        raise ValueError(msg)
    if isinstance(value, Mapping):
        return {key: replace_nonfinite(item, levels - 1) for key, item in value.items()}
    return [replace_nonfinite(item, levels - 1) for item in value]


def _parse_object(text: bytes) -> dict[str, object] | None:
    """Parse a JSON object, with null for non-finite numbers; return None for anything else."""
    try:
        value = replace_nonfinite(json.loads(text.decode()))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _check_values(path: Path, where: str, values: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    """Raise DataError for the first value that breaks its rule; `where` stands before its name."""
    for name, (holds, expected) in rules.items():
        if not holds(value := values.get(name)):
            quoted = json.dumps(name)[1:-1]  # escapes control characters
            raise DataError.at(path, f"{where}{quoted}: expected {expected}, got {json.dumps(value)[:60]}")
