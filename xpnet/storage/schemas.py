"""The settings and keys of each schema version of a record, from schemas.json."""

import json
from functools import cache
from pathlib import Path

from xpnet._typing import Json, Values


@cache
def list_keys(version: int, part: str) -> list[str]:
    """Return the names that records of a schema version have in a part.

    The parts are "settings", the keys of config; "record", "data", "parent" and "segment". Data lack those
    that do not apply. scripts/schemas.py writes the file.
    """
    schemas = json.loads(Path(__file__).with_name("schemas.json").read_text(encoding="utf-8"))
    return list(schemas[str(int(version))][part])


def select_keys(version: int, part: str, values: Values) -> Json:
    """Return those values whose names records of a schema version have in a part."""
    known = list_keys(version, part)
    return {name: value for name, value in values.items() if name in known}


def select_content(record: Values) -> Json:
    """Return the content of run.json: the keys that the schema version of a record has."""
    version, parent = record["schema_version"], record["parent"]
    content = select_keys(version, "record", record)
    content["config"] = select_keys(version, "settings", record["config"])
    return content | {"parent": select_keys(version, "parent", parent)} if parent else content
