"""The record of a run, run.json and metrics.jsonl, read and checked."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from xpnet._lib.files import read_regular
from xpnet.errors import DataError
from xpnet.storage.provenance import Environment

SCHEMA_VERSION = 1


RECORD_FILE = "run.json"


METRICS_FILE = "metrics.jsonl"


MODEL_FILE = "model.safetensors"


CHECKPOINT_FILE = "checkpoint.safetensors"


LOCK_FILE = ".lock"


RECORD_LIMIT, METRICS_LIMIT = 8 * 2**20, 256 * 2**20
"""Bytes that run.json and metrics.jsonl may have."""


class Given(TypedDict):
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


class Outcome(TypedDict, total=False):
    """What the caller knows when a run ends."""

    metrics: dict[str, Any]
    """At least train_loss, train_accuracy, test_accuracy and test_accuracy_per_class."""
    fingerprint: str
    """SHA-256 of the parameters, as `xpnet.storage.model_file.fingerprint` returns it."""
    error: str
    """Why the run failed."""


class Record(Given, Environment):
    """The content of run.json.

    `Given` comes from the caller; `Run.start` adds the rest, and `Run.finish` the outcome.
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


def read_run(folder: Path) -> Record:
    """Return the record in the folder of a run.

    Raises
    ------
    DataError
        The folder holds no run.json, or one that is damaged or of another schema version.

    """
    path = folder / RECORD_FILE
    record = _object(read_regular(path, RECORD_LIMIT, "expected a folder of a run"))
    if record is None:
        msg = f"{path}: not a run record: expected a JSON object"
        raise DataError(msg)
    if record.get("schema_version") != SCHEMA_VERSION:
        found = json.dumps(record.get("schema_version"))[:60]
        msg = f"{path}: schema_version: expected {SCHEMA_VERSION}, got {found}"
        raise DataError(msg)
    return cast("Record", record)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, without a last line that a crash has torn.

    Raises
    ------
    DataError
        The file is missing, or a line in it is damaged.

    """
    return [row for _, row in _rows(path, _metrics(path), None)]


def _metrics(path: Path) -> bytes:
    return read_regular(path, METRICS_LIMIT, "expected a metrics.jsonl")


def _rows(path: Path, content: bytes, limit: int | None) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the rows of a metrics.jsonl, or the first of them, each as text and as object."""
    *complete, last = content.split(b"\n")
    rows = []
    for number, text in enumerate(complete[:limit], start=1):
        row = _object(text)
        if row is None:
            msg = f"{path}: line {number}: expected a JSON object, got {_shown(text)}"
            raise DataError(msg)
        rows.append((text, row))
    unfinished = _object(last)
    return rows if unfinished is None else [*rows, (last, unfinished)][:limit]


def _finite(value: Any) -> Any:
    """Return `value` with null for each float that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _object(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `text` holds, or None if it holds anything else."""
    try:
        value = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _shown(text: bytes) -> str:
    """Return a damaged line for a message: on one line, and short."""
    return json.dumps(text[:60].decode(errors="replace"))
