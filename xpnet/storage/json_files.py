"""JSON objects of a run's files, read strictly: as every other reader of JSON understands them."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from xpnet._lib.files import read_regular_file
from xpnet.errors import DataError

RECORD_LIMIT = 8 * 2**20
"""Maximum size of a file that is one JSON object, in bytes."""


def read_json(path: Path, problem: str, hint: str) -> dict[str, object]:
    """Return the JSON object in a file.

    Raises
    ------
    DataError
        The file cannot be read (the message ends with `hint`), or holds no JSON object (with `problem`); or a
        key in it occurs twice, or a number is not finite.
    """
    value = parse_object(path, read_regular_file(path, RECORD_LIMIT, hint))
    if value is None:
        raise DataError.at(path, f"{problem}: expected a JSON object")
    return value


def parse_object(where: object, text: bytes) -> dict[str, object] | None:
    """Parse a JSON object; return None for anything else.

    Raises
    ------
    DataError
        A key occurs twice, of which other readers may take either value, or a number is not finite or too
        large for a float.
    """

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value in pairs:
            quoted = json.dumps(key)[:60]
            if key in values:
                raise DataError.at(where, f"the key {quoted} occurs twice: expected it once")
            if replace_nonfinite(value) != value:
                raise DataError.at(where, f"{quoted}: expected finite numbers, got {json.dumps(value)[:60]}")
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


def digest_record(record: Mapping[str, object]) -> str:
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
