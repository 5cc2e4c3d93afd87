"""Reading and writing of named arrays in the safetensors format.

A file holds the length of its header in eight bytes, the header as JSON, and the numbers; see
https://huggingface.co/docs/safetensors.
"""

import json
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from xpnet._lib.files import make_read_error
from xpnet.errors import DataError

CODES = {"|b1": "BOOL"} | {
    np.dtype(f"<{name}").str: f"{name[0].upper()}{8 * int(name[1])}"
    for name in ("i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8")
}
"""The format's names of NumPy's dtypes, such as F32 of "<f4"."""


def to_little_endian(array: np.ndarray) -> np.ndarray:
    """Return `array` in little-endian byte order and C order; a copy only if needed."""
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def encode_tensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a .safetensors file, which depend on nothing but the arguments.

    The writer of the safetensors library does not keep the order of the metadata.

    Raises
    ------
    ValueError
        The format does not support the name or the dtype of an array.
    """
    # Sorting by item size keeps each array aligned.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    whole = {name: to_little_endian(arrays[name]) for name in names}
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, array in whole.items():
        if array.dtype.str not in CODES or name in header:
            msg = f"{name!r} of dtype {array.dtype}: has no place in a .safetensors file"
            raise ValueError(msg)
        begin, offset = offset, offset + array.nbytes
        code, shape = CODES[array.dtype.str], list(array.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, offset]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(array.data for array in whole.values())])


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Open a .safetensors file with ``safetensors.safe_open``, after checking its header.

    Raises
    ------
    DataError
        The file is missing, cannot be read or is damaged.
    """
    expected = "expected a .safetensors file"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError.at(path, f"not a file: {expected}")
        path.open("rb").close()  # for the reason of an error, which is wrong in that of `safe_open`
    except PermissionError as error:
        raise make_read_error(path, error, expected) from error
    except (OSError, ValueError) as error:
        raise DataError.at(path, f"no such file: {expected}") from error
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except OSError as error:
        raise DataError.at(path, f"cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise DataError.at(path, f"not a complete .safetensors file ({reason})") from error


def read_arrays(path: Path, file: Any, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return arrays of an open file, as writable copies.

    Raises
    ------
    DataError
        NumPy does not have a dtype, or cannot hold a shape.
    """
    arrays = {}
    for name in names:
        where, code = f"{path}: {json.dumps(name)[:60]}", file.get_slice(name).get_dtype()
        if code not in CODES.values():
            raise DataError.at(where, f"expected one of {', '.join(CODES.values())}, got {code}")
        try:
            arrays[name] = np.array(file.get_tensor(name), order="C")
        except (ValueError, OverflowError) as error:  # more or longer axes than NumPy supports
            raise DataError.at(where, f"cannot be read ({error})") from error
    return arrays
