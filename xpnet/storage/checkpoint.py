"""Checkpoints: the state of a training run that can be resumed, in one .safetensors file.

The file holds named arrays, and facts (counters, best values so far) as JSON in its metadata. A new
checkpoint replaces the previous one atomically. A checksum detects changed bits, from which a resumed run
would silently compute other parameters.
"""

import json
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from xpnet._lib.tree import leaves_by_path, tree_map
from xpnet._typing import HostArray, Json, Values
from xpnet.errors import DataError
from xpnet.storage.model_file import Tensors, encode_tensors, open_tensors, read_arrays, to_little_endian
from xpnet.storage.record import is_number

FORMAT, FORMAT_VERSION = "xpnet-snapshot", 2
"""Version 1 lacked the version of the specification."""

RESTART = "remove the file, and --resume starts from the first epoch"

_UNUSABLE = "not a checkpoint of a training that this xpnet can resume"
_MANY = 1 << 53


def encode_checkpoint(
    arrays: Tensors, facts: Values, specification: int | None = None, version: int = FORMAT_VERSION
) -> bytes:
    """Return the content of a checkpoint, which depends on nothing but the arguments.

    Arrays may have any shape; their dtype is bool, an integer type, or a float of 16 to 64 bits. Facts are
    JSON values; floats read back exactly, including NaN and infinities. ``specification`` is the version of
    the specification that the arithmetic follows, if it follows one.

    Raises
    ------
    ValueError, TypeError
        An array has another dtype, or a fact is no JSON value.
    """
    text = json.dumps(facts)
    metadata = {"format": FORMAT, "format_version": str(version), "facts": text}
    if specification and version > 1:
        metadata["specification"] = str(specification)
    return encode_tensors(arrays, {**metadata, "checksum": _compute_checksum(arrays, text)})


def load_checkpoint(path: Path) -> tuple[dict[str, HostArray], Json]:
    """Return the arrays, which are writable copies, and the facts of a checkpoint.

    Among the facts are epoch, batch and rows, counts from 0; seconds; and best, the best epoch with its
    accuracy and loss.

    Raises
    ------
    DataError
        The file is missing, damaged or not a checkpoint.
    """
    with open_tensors(path) as file:
        metadata = file.metadata() or {}
        version = metadata.get("format_version", "")
        if metadata.get("format") != FORMAT or not version.isdecimal():
            raise DataError(f"{path}: {_UNUSABLE}")
        DataError.refuse_newer(path, "format version", version, FORMAT_VERSION)
        text = metadata.get("facts", "")
        arrays = read_arrays(path, file, file.keys())
    if metadata.get("checksum") != _compute_checksum(arrays, text):
        raise DataError(f"{path}: damaged: its content is not what was written (the checksum differs)")
    facts = _parse_facts(text)
    if not facts:
        raise DataError(f"{path}: {_UNUSABLE} (its facts are {json.dumps(text[:60])})")
    return arrays, facts


def read_progress(path: Path) -> Json | None:
    """Return the facts of a checkpoint without its arrays, None if there is none, or a damaged one."""
    with suppress(DataError), open_tensors(path) as file:
        return _parse_facts((file.metadata() or {}).get("facts", ""))
    return None


def _parse_facts(text: str) -> Json | None:
    """Return the facts of a training, None for any other text."""
    with suppress(ValueError, RecursionError, LookupError, TypeError):
        facts: Json = json.loads(text)
        epoch = facts["epoch"]
        rows = facts["rows"]
        best_epoch, *best = facts["best"]
        counts = epoch, rows, best_epoch, facts["batch"]
        is_valid = all(type(count) is int and 0 <= count < _MANY for count in counts) and len(best) == 2
        is_valid &= all(map(is_number, (*best, facts["seconds"]))) and 0 <= facts["seconds"] < _MANY
        if is_valid and best_epoch <= epoch and rows <= epoch + 1:
            return facts
    return None


def _compute_checksum(arrays: Tensors, text: str) -> str:
    """Return the CRC-32 of the facts and of the arrays' names, dtypes, shapes and values, in hexadecimal."""
    checksum = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = to_little_endian(arrays[name])
        checksum = zlib.crc32(json.dumps([name, array.dtype.str, array.shape]).encode(), checksum)
        checksum = zlib.crc32(array.data, checksum)
    return f"{checksum:08x}"


# Parameters and optimiser states from named arrays


def unflatten(path: Path, prefix: str, like: object, arrays: Tensors, remedy: str = RESTART) -> Any:
    """Return a tree of the structure of `like` from named arrays: the inverse of `leaves_by_path`.

    `path` names the checkpoint in messages, which end with the `remedy`.

    Raises
    ------
    DataError
        An array is missing, is unexpected, or differs in shape or dtype from that in `like`.
    """
    expected = leaves_by_path(prefix, like)
    names = {name for name in arrays if name == prefix or name.startswith(f"{prefix}.")}
    for name in sorted(names.union(expected)):
        wanted, actual = (_describe(named.get(name)) for named in (expected, arrays))
        if wanted != actual:
            where = f"{path}: not a checkpoint of this training: {json.dumps(name)[:60]}"
            raise DataError(f"{where}: expected {wanted}, got {actual}: {remedy}")
    remaining = iter(expected)
    return tree_map(lambda _: arrays[next(remaining)], like)


def _describe(array: "HostArray | None") -> str:
    """Return dtype and shape of an array, for messages."""
    return "no such array" if array is None else f"{array.dtype} of shape {array.shape}"
