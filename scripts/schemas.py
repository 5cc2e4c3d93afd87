"""Writes xpnet/storage/schemas.json: the settings and keys of a run's record, by schema version.

The package and the page of examples/browser read it. Those of the newest version, SCHEMA_VERSION of
xpnet/storage/record.py, are those of the code; those of the earlier ones stay as they are. A released version
never gains a name (tests/storage/test_schemas.py compares tests/fixtures): the next name begins a new one.
"""

import json
from dataclasses import fields
from typing import get_type_hints

from checkout import ROOT
from shared import write_generated

from xpnet.config import TrainConfig
from xpnet.storage import record

FILE = ROOT / "xpnet" / "storage" / "schemas.json"
PARTS = {
    "record": record.Record,
    "data": record.DataInfo,
    "parent": record.ParentInfo,
    "segment": record.Segment,
}


def content() -> str:
    """Return the content of the file: a line for each part of each version."""
    schemas = json.loads(FILE.read_text(encoding="utf-8"))
    names = {"settings": [each.name for each in fields(TrainConfig)]}
    names |= {part: [*get_type_hints(kind)] for part, kind in PARTS.items()}
    schemas[str(record.SCHEMA_VERSION)] = {part: sorted(each) for part, each in names.items()}
    versions = []
    for version, parts in schemas.items():
        lines = (f'    "{part}": {json.dumps(each)}' for part, each in parts.items())
        versions.append(f'  "{version}": {{\n' + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(versions) + "\n}\n"


if __name__ == "__main__":
    write_generated(FILE, content())
    print(FILE)
