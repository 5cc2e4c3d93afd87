"""The settings and keys of each schema version of a record, from schemas.json."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def list_keys(version: int, part: str) -> list[str]:
    """Return the names that records of a schema version have in a part.

    The parts are "settings", the keys of config; "record", "data", "parent" and "segment". Data lack those
    that do not apply. scripts/schemas.py writes the file.
    """
    schemas = json.loads(Path(__file__).with_name("schemas.json").read_text(encoding="utf-8"))
    return list(schemas[str(int(version))][part])


def select_keys(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of run.json: the keys that the schema version of a record has."""

    def select(values: Mapping[str, Any], part: str) -> dict[str, Any]:
        known = list_keys(record["schema_version"], part)
        return {name: value for name, value in values.items() if name in known}

    content = select(record, "record") | {"config": select(record["config"], "settings")}
    return content | {"parent": select(record["parent"], "parent")} if record["parent"] else content
