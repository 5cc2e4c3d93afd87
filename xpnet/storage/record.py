"""The record of a run, run.json and metrics.jsonl: what it holds, and its reading and checking."""

import copy
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from inspect import formatannotation
from pathlib import Path
from typing import Literal, Required, TypedDict, TypeGuard, cast, get_type_hints

from xpnet._lib.files import read_regular_file
from xpnet._lib.kinds import check_arguments, matches
from xpnet._typing import Json, Values
from xpnet.errors import DataError
from xpnet.storage.environment import Environment
from xpnet.storage.schemas import select_keys

RECORD_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
MODEL_FILE = "model.safetensors"
CHECKPOINT_FILE = "checkpoint.safetensors"
LOCK_FILE = ".lock"
REPORT_FILE = "report.html"
KEPT_CHECKPOINT = "checkpoint-{}.safetensors"
"""The name of a checkpoint that is kept, by its epoch."""
SUMMARY_FILE = "summary.json"
"""Summary of repeated trainings, in the folder that holds their runs."""

RECORD_LIMIT, METRICS_LIMIT = 8 * 2**20, 256 * 2**20
"""Maximum sizes of a file that is one JSON object and of metrics.jsonl, in bytes."""

Metrics = dict[str, float | list[float | None] | None]
"""Numbers, or lists of numbers by class; None in place of non-finite ones."""

CURVES = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "validation_score")
"""The metrics of an epoch."""


class DataInfo(TypedDict, total=False):
    """The data set of a run; older records may lack the counts.

    Attributes
    ----------
    source
        "arrays" of a training from Python, whose data are in no file.
    largest_class
        The number of training samples of the class that has the most.
    weights_sha256
        The SHA-256 of the weights of the training samples, (m,) little-endian float64, if they have some.
    """

    name: Required[str]
    sha256: Required[str]
    source: Literal["arrays"]
    weights_sha256: str
    training_samples: int
    validation_samples: int
    test_samples: int
    features: int
    classes: int
    largest_class: int
    feature_names: list[str]
    class_names: list[str]


class ParentInfo(TypedDict):
    """The run that another extends: folder, start, epochs, fingerprint, and digest of its last checkpoint."""

    run: str
    started: str
    epochs: int
    fingerprint: str
    checkpoint_sha256: str | None  # None in records of xpnet 0.2


class Segment(TypedDict):
    """A part of a training, from its start or resumption to its end or the next segment.

    Attributes
    ----------
    started
        Its start, in ISO 8601, UTC.
    epoch
        The number of epochs completed before it; None in records of schema versions 1 and 2.
    backend, device
        The array library and the device that computed it.
    ranks, hosts
        The number of processes that shared it, and the names of their machines.
    mpi
        The MPI library that connected them; None of a single process.
    places
        The library and the device of each process; not in records before schema version 4.
    """

    started: str
    epoch: int | None
    backend: str
    device: str
    ranks: int
    hosts: list[str]
    mpi: str | None
    places: list[str]


class RunInfo(TypedDict):
    """The part of a run's record that the caller of `WritableRun.start` provides.

    Attributes
    ----------
    command
        The words of the command line.
    config
        Every setting, as `xpnet.config.to_json` returns them.
    parent
        The run that this one extends, or None.
    init_from_sha256
        The SHA-256 of the model file that the training started from, or None.
    specification_version
        The version of the specification that the arithmetic follows, docs/reproducibility.md; None for
        native arithmetic.
    device_requested
        As in --device: auto, cpu, cuda, cuda:N, gpu, gpu:N.
    device_reason
        The reason if another device than the requested one is used, else None.
    """

    command: list[str]
    config: dict[str, object]
    seed: int
    parent: ParentInfo | None
    init_from_sha256: str | None
    specification_version: int | None
    device_requested: str
    device_used: str
    device_reason: str | None
    backend: str
    data: DataInfo


class RunOutcome(TypedDict):
    """The part of a run's record that is set when the run ends.

    Attributes
    ----------
    digests
        The SHA-256 of the run's files, by name; "run.json" has that of `digest_record`. None in records of
        schema versions 1 and 2.
    """

    ended: str | None
    metrics: Metrics | None
    fingerprint: str | None
    error: str | None
    digests: dict[str, str] | None


class Record(RunInfo, Environment, RunOutcome):
    """The content of run.json.

    The caller provides `RunInfo`, `WritableRun.start` the remaining keys. `WritableRun.finish` sets metrics
    (numbers, or lists of numbers by class; None in place of non-finite ones), fingerprint (SHA-256 of the
    parameters) and error. Times are in ISO 8601, UTC.

    Attributes
    ----------
    schema_version
        Each version has the settings and keys of `list_keys`. Version 1 has `git`, the commit of xpnet's
        checkout, in place of working_folder_commit and xpnet_commit; versions 1 and 2 have `resumed`, the
        times at which the run was resumed, in place of segments, and neither digests nor a
        specification_version.
    id
        The name of the run's folder.
    status
        The status of a killed run stays "running".
    segments
        The parts of the training: one, and one more for each time that it was resumed.
    """

    schema_version: Literal[1, 2, 3, 4]
    id: str
    status: Literal["running", "completed", "interrupted", "failed"]
    started: str
    segments: list[Segment]


SCHEMA_VERSION: Literal[4] = 4
_KINDS = get_type_hints(Record) | {"data": dict[str, object], "id": object}
_KINDS |= {"parent": dict[str, object] | None, "segments": list[dict[str, object]]}
"""The types of the values in run.json."""
_ROW_KINDS = dict.fromkeys(("epoch", "seconds", *CURVES), float | None) | {"fingerprint": str | None}


def is_number(value: object) -> TypeGuard[float]:
    """Return True if a JSON value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_commits(record: Record) -> Json:
    """Return the commits of the working folder and of xpnet as text by their keys; "none" without one.

    Records of schema version 1 have xpnet's alone.
    """
    texts = {}
    for name in ("working_folder_commit", "xpnet_commit"):
        git = record[name] or {"commit": "none"}
        changes = ", with changed or touched files" if git.get("dirty") else ""
        texts[name] = f"{git.get('commit')}{changes}"
    if record["schema_version"] == 1:
        del texts["working_folder_commit"]
    return texts


@check_arguments
def read_run(folder: Path) -> Record:
    """Read and check the record in the folder of a run.

    To records of schema versions 1 and 2 the keys of version 3 are added, see `_upgrade`; those of version 4
    may be absent. CSV files of runs before 0.2 are read by the rule of 0.1.0.

    Raises
    ------
    DataError
        The folder holds no run.json, or one that is damaged or of another schema version.
    """
    return check_run(folder, read_content(folder))


def read_content(folder: Path) -> Json:
    """Return the content of the run.json in a folder, as it is; errors as in `read_run`."""
    hint = "expected a folder of a run"
    if os.path.isfile(folder / SUMMARY_FILE):  # noqa: PTH113 - false after an error
        hint = f"expected the folder of one run, and {folder} holds several"
    return read_json(folder / RECORD_FILE, "not a run record", hint)


def check_run(folder: Path, content: Json) -> Record:
    """Return the content of a run.json as the record of a run; errors as in `read_run`."""
    path, values = folder / RECORD_FILE, copy.deepcopy(content)
    version = values.get("schema_version")
    if is_number(version):
        DataError.refuse_newer(path, "schema version", version, SCHEMA_VERSION)
    schema = max(version, 3) if version in (1, 2, 3) else SCHEMA_VERSION
    kinds = select_keys(schema, "record", _KINDS)
    for name in kinds:
        values.setdefault(name, None)
    if version in (1, 2):
        _upgrade(path, values)
    _check_values(path, "", values, kinds)
    record = cast("Record", values)
    if not record["segments"]:
        raise DataError(f"{path}: segments: expected at least one, got []")
    segment_kinds = select_keys(schema, "segment", get_type_hints(Segment))
    for number, segment in enumerate(record["segments"]):
        _check_values(path, f"segments[{number}].", segment, segment_kinds)
    facts = {name: kind for name, kind in get_type_hints(DataInfo).items() if name in record["data"]}
    _check_values(path, "data.", record["data"], {"name": str, "sha256": str, **facts})
    if record["parent"] is not None:
        record["parent"].setdefault("checkpoint_sha256", None)
        parent_kinds = select_keys(schema, "parent", get_type_hints(ParentInfo))
        _check_values(path, "parent.", record["parent"], parent_kinds)
    if str(record["config"].get("data")).lower().endswith((".csv", ".csv.gz")):
        record["config"].setdefault("columns", "0.1.0")
    return record


def _upgrade(path: Path, values: Json) -> None:
    """Add to a record of schema version 1 or 2 the keys of later ones; the old keys stay.

    All versions of xpnet that wrote them followed version 1 of the specification.
    """
    for name in ("segments", "digests", "specification_version"):
        if values[name] is not None:
            version = values["schema_version"]
            raise DataError(f"{path}: {name}: expected none in a record of schema version {version}")
    if values["schema_version"] == 1:
        values["xpnet_commit"] = values.get("git")
    resumed = values.setdefault("resumed", [])
    _check_values(path, "", values, {"resumed": list[str], "config": dict[str, object]})
    values["specification_version"] = None if values["config"].get("arithmetic") == "native" else 1
    place = {"backend": values["backend"], "device": values["device_used"]}
    place |= {"ranks": 1, "hosts": [], "mpi": None}
    values["segments"] = [{"started": time, "epoch": None, **place} for time in (values["started"], *resumed)]


@check_arguments
def read_metrics(path: Path, limit: int | None = None, *, ended: bool = False) -> list[Json]:
    """Return the first rows of a metrics.jsonl, by default all; an empty list if the file does not exist.

    Epoch, seconds and the metrics in CURVES are numbers or None. An incomplete last line, left by a crash,
    is ignored; the history of a training that has ended has none.

    Raises
    ------
    DataError
        The file cannot be read, or one of these lines is damaged: no JSON object, with a key that occurs
        twice, or with a number that is not finite.
    """
    if not os.path.lexists(path):
        return []
    lines = read_regular_file(path, METRICS_LIMIT, "expected a metrics.jsonl").split(b"\n")
    if ended and lines[-1]:
        raise DataError.at(path, "expected a line break at its end", line=len(lines))
    if parse_object(path, lines[-1]) is None:
        del lines[-1]
    rows = []
    for number, text in enumerate(lines[:limit], start=1):
        row = parse_object(f"{path}, line {number}", text)
        if row is None:
            quoted = json.dumps(text[:60].decode(errors="replace"))
            raise DataError(f"{path}: line {number}: expected a JSON object, got {quoted}")
        _check_values(path, f"line {number}: ", row, _ROW_KINDS)
        rows.append(row)
    return rows


def _check_values(path: Path, where: str, values: Values, kinds: Values) -> None:
    """Raise DataError for the first value that is not of its type; `where` stands before its name."""
    for name, kind in kinds.items():
        if not matches(value := values.get(name), kind):
            expected = formatannotation(kind).replace("Literal", "one of ")
            raise DataError(f"{path}: {where}{name}: expected {expected}, got {json.dumps(value)[:60]}")


# JSON objects, read strictly: as every other reader of JSON understands them


def read_json(path: Path, problem: str, hint: str) -> Json:
    """Return the JSON object in a file.

    Raises
    ------
    DataError
        The file cannot be read (the message ends with `hint`), or holds no JSON object (with `problem`); or a
        key in it occurs twice, or a number is not finite.
    """
    value = parse_object(path, read_regular_file(path, RECORD_LIMIT, hint))
    if value is None:
        raise DataError(f"{path}: {problem}: expected a JSON object")
    return value


def parse_object(where: object, text: bytes) -> Json | None:
    """Parse a JSON object; return None for anything else.

    Raises
    ------
    DataError
        A key occurs twice, of which other readers may take either value, or a number is not finite or too
        large for a float.
    """

    def collect(pairs: list[tuple[str, object]]) -> Json:
        values = {}
        for key, value in pairs:
            if key in values:
                raise DataError(f"{where}: the key {json.dumps(key)[:60]} occurs twice: expected it once")
            if replace_nonfinite(value) != value:
                problem = f"expected finite numbers, got {json.dumps(value)[:60]}"
                raise DataError(f"{where}: {json.dumps(key)[:60]}: {problem}")
            values[key] = value
        return values

    try:
        value = json.loads(text.decode(), object_pairs_hook=collect)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def replace_nonfinite(value: object) -> object:
    """Return a JSON value with None for numbers that are not finite or too large for a float."""
    if isinstance(value, int | float):
        return value if abs(value) <= sys.float_info.max else None
    if isinstance(value, Mapping):
        return {key: replace_nonfinite(item) for key, item in value.items()}
    return [replace_nonfinite(item) for item in value] if isinstance(value, list | tuple) else value


def digest_record(record: Values) -> str:
    """Return the SHA-256 of a record without its own digest, in hexadecimal.

    It is that of the record as JSON in ASCII with sorted keys and separators without spaces, as of
    ``json.dumps``.
    """
    digests = record.get("digests")
    if isinstance(digests, Mapping):
        others = {name: digest for name, digest in digests.items() if name != "run.json"}
        record = {**record, "digests": others}
    text = json.dumps(replace_nonfinite(record), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
