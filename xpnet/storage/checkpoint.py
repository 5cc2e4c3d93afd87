"""Snapshots: the state of a training that can be resumed, in one .safetensors file.

The file holds arrays by name, and facts as JSON in its metadata. A new snapshot takes the place of
the one before in one step, when it is whole on the disk. A checksum over all of it tells when the
disk has changed a bit: a training resumed from that would end with other bits, and nobody would know.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet._lib.files import unwritable, write_atomic
from xpnet.errors import DataError
from xpnet.storage.tensors import DTYPES, little_endian, opened, to_bytes

FORMAT = "xpnet-snapshot"
FORMAT_VERSION = "1"

Arrays = Mapping[str, np.ndarray]


def save_snapshot(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write arrays and facts to `path`: completely, or the snapshot that is there stays.

    Arrays may have any shape and be bool, integers or floats of 16 to 64 bits. Facts are what JSON
    can hold; floats read back exactly, NaN and infinities too.

    Raises
    ------
    ConfigError
        The file cannot be written.
    ValueError, TypeError
        An array has another dtype, or a fact is not for JSON.

    """
    text = json.dumps(dict(facts))
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "facts": text,
        "checksum": _checksum(arrays, text),
    }
    try:
        write_atomic(path, to_bytes(arrays, metadata))
    except OSError as error:
        raise unwritable(path, error) from error


def load_snapshot(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the facts in a snapshot; the arrays are the caller's to change.

    Raises
    ------
    DataError
        The file is missing or damaged, or no snapshot.

    """
    with opened(path) as file:
        metadata = file.metadata() or {}
        _check_format(path, metadata)
        text = metadata.get("facts", "")
        arrays = {name: _array(path, file, name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if metadata.get("checksum") != _checksum(arrays, text):
        msg = f"{path}: damaged: its content is not what was written (the checksum differs)"
        raise DataError(msg)
    return arrays, _facts(path, text)


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    expected = {"format": FORMAT, "format_version": FORMAT_VERSION}
    for key, value in expected.items():
        if metadata.get(key) != value:
            found = json.dumps(metadata.get(key))[:60]
            msg = (
                f"{path}: not a checkpoint of a training that this xpnet can resume: "
                f"{key}: expected {value}, got {found}"
            )
            raise DataError(msg)


def _array(path: Path, file: Any, name: str) -> np.ndarray:
    code = file.get_slice(name).get_dtype()
    if code not in DTYPES:
        msg = f"{path}: {json.dumps(name)[:60]}: expected one of {', '.join(DTYPES)}, got {code}"
        raise DataError(msg)
    try:
        return np.array(file.get_tensor(name), order="C")
    except (ValueError, OverflowError) as error:  # more axes or longer ones than NumPy has
        msg = f"{path}: {json.dumps(name)[:60]}: cannot be read ({error})"
        raise DataError(msg) from error


def _facts(path: Path, text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        msg = f"{path}: facts in the metadata: expected a JSON object, got {json.dumps(text)[:60]}"
        raise DataError(msg)
    return facts


def _checksum(arrays: Arrays, text: str) -> str:
    """Return the CRC-32 of the facts, and of names, dtypes, shapes and numbers of the arrays."""
    checksum = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = little_endian(arrays[name])
        checksum = zlib.crc32(json.dumps([name, array.dtype.str, array.shape]).encode(), checksum)
        checksum = zlib.crc32(array.data, checksum)
    return f"{checksum:08x}"


# Parameters and states of optimisers, as arrays with names


def flatten(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    """Return the arrays in a tree of lists, tuples and named tuples, by the way to them.

    The array at ``tree[0].weight`` is named ``<prefix>.0.weight``. None, and what is empty, leaves no
    trace.

    Raises
    ------
    TypeError
        The tree holds something else.

    """
    if tree is None:
        return {}
    if isinstance(tree, np.ndarray | np.generic):
        return {prefix: np.asarray(tree)}
    found: dict[str, np.ndarray] = {}
    for name, part in _parts(prefix, tree):
        found |= flatten(name, part)
    return found


def unflatten(prefix: str, like: Any, arrays: Arrays) -> Any:
    """Return a tree as `like`, with the arrays that `flatten` gave these names.

    Raises
    ------
    DataError
        An array is missing, has another shape or dtype than that in `like`, or is one too many.
    TypeError
        `like` holds something else than lists, tuples, named tuples, host arrays and None.

    """
    tree = _filled(prefix, like, arrays)
    known = flatten(prefix, like)
    for name in sorted(arrays):
        if (name == prefix or name.startswith(f"{prefix}.")) and name not in known:
            msg = f"{json.dumps(name)[:60]} in the checkpoint: this training has no such array"
            raise DataError(msg)
    return tree


def _filled(prefix: str, like: Any, arrays: Arrays) -> Any:
    if like is None:
        return None
    if isinstance(like, np.ndarray | np.generic):
        return _checked(prefix, like, arrays)
    parts = [_filled(name, part, arrays) for name, part in _parts(prefix, like)]
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def _checked(name: str, like: np.ndarray | np.generic, arrays: Arrays) -> np.ndarray:
    found = arrays.get(name)
    if found is None:
        msg = f"{name}: missing in the checkpoint, though this training has it"
        raise DataError(msg)
    if (found.dtype, found.shape) != (like.dtype, like.shape):
        msg = (
            f"{name} in the checkpoint: expected {like.dtype} of shape {like.shape}, "
            f"got {found.dtype} of shape {found.shape}"
        )
        raise DataError(msg)
    return found


def _parts(prefix: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, list | tuple):
        msg = f"{prefix}: expected host arrays in lists and tuples, got {type(tree).__name__}"
        raise TypeError(msg)
    keys = getattr(tree, "_fields", range(len(tree)))
    return ((f"{prefix}.{key}", part) for key, part in zip(keys, tree, strict=True))
