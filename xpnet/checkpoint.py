"""Model files: the parameters of a network as .safetensors, and their fingerprint.

The tensors carry PyTorch's names and shapes, so that any tool reads them: ``layers.0.weight``
(outputs, inputs), ``layers.0.bias`` (outputs), ``layers.1.weight`` and so on, all float32 or all
float64. Where the inputs are normalized by statistics of the training data, these stand beside
them in float64: ``normalization.shift`` and ``normalization.scale``, each () or (features,).
The file's metadata are four strings: ``format_version``, ``sizes`` (JSON, inputs first),
``classes`` and ``normalize``.
"""

import contextlib
import hashlib
import itertools
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from xpnet.errors import DataError
from xpnet.files import unwritable, write_atomic

FORMAT_VERSION = "1"
PARAMETERS = ("weight", "bias")
"""The tensors of a layer, in the order in which `fingerprint` takes them."""
STATISTICS = ("shift", "scale")
NORMALIZATIONS = ("scale", "standardize", "none")

_DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_KEY = re.compile(r"layers\.(0|[1-9][0-9]{0,5})\.(\w+)")
_EXPECTED = "expected layers.0.weight (outputs, inputs), layers.0.bias (outputs), layers.1.weight"

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A network as it stands in a file.

    Attributes
    ----------
    layers
        One mapping per layer: weight (outputs, inputs) and bias (outputs,), all of one dtype,
        float32 or float64.
    sizes
        Features, then the units of each layer; the last is the number of classes.
    normalize
        scale, standardize or none, as in the settings of a training.
    normalization
        Statistics of the inputs: shift and scale, float64, each () or (features,); or empty.

    Raises
    ------
    ValueError
        The parts do not fit each other.
    """

    layers: Sequence[Mapping[str, np.ndarray]]
    sizes: tuple[int, ...]
    normalize: str = "scale"
    normalization: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in _tensors(self).items()}
        dtypes = {name: array.dtype.newbyteorder("<") for name, array in _tensors(self).items()}
        codes = {name: _CODES.get(dtype, str(dtype)) for name, dtype in dtypes.items()}
        try:
            sizes = _sizes(shapes, codes)
            _check_normalization(self.normalize, shapes, codes, sizes[0])
        except _MisfitError as error:
            raise ValueError(str(error)) from None
        if sizes != tuple(self.sizes):
            msg = f"sizes: expected {sizes}, which the weights have, got {self.sizes}"
            raise ValueError(msg)

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]


class _MisfitError(Exception):
    """Why tensors or metadata are not those of a network."""


def save_model(path: Path, model: SavedModel) -> None:
    """Write `model` to `path`: completely, or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    try:
        write_atomic(path, to_bytes(model))
    except OSError as error:
        raise unwritable(path, error) from error


def to_bytes(model: SavedModel) -> bytes:
    """Return the content of the file of `model`: the same bytes for the same model.

    The format is that of https://huggingface.co/docs/safetensors: the length of the header, the
    header as JSON, the tensors. The library's own writer shuffles the metadata, hence this one.
    """
    arrays = {name: _little_endian(array) for name, array in _tensors(model).items()}
    # Wide numbers first keeps every tensor aligned to its own width.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {
        "__metadata__": {
            "format_version": FORMAT_VERSION,
            "sizes": json.dumps(list(model.sizes)),
            "classes": str(model.classes),
            "normalize": model.normalize,
        }
    }
    offset = 0
    for name in names:
        array = arrays[name]
        header[name] = {
            "dtype": _CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(arrays[n].tobytes() for n in names)])


def load_model(path: Path) -> SavedModel:
    """Return the model in a .safetensors file, every part of it checked.

    Any tool's file with the tensors of this module will do. Metadata that it lacks are read off the
    tensors; without ``normalize``, the inputs are taken to be scaled ("scale").

    Raises
    ------
    DataError
        The file is missing or damaged, its tensors are not those of one network, a number is not
        finite, or metadata disagree with the tensors.
    """
    if not path.is_file():
        problem = "not a file" if path.exists() else "no such file"
        msg = f"{path}: {problem}: expected a .safetensors file"
        raise DataError(msg)
    try:
        with safe_open(path, "numpy") as file:
            return _read(file)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})"
        raise DataError(msg) from error
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        msg = f"{path}: not a complete .safetensors file ({reason})"
        raise DataError(msg) from error
    except _MisfitError as error:
        msg = f"{path}: {error}"
        raise DataError(msg) from None


def fingerprint(layers: Sequence[Mapping[str, np.ndarray]]) -> str:
    """Return the SHA-256 of the parameters, in hexadecimal.

    Layer by layer, the tensors in the order of `PARAMETERS`, each as little-endian bytes in C order
    in its own dtype. Statistics of the inputs are not part of it.

    Raises
    ------
    ValueError
        A layer holds a tensor that has no place in that order.
    """
    digest = hashlib.sha256()
    for index, layer in enumerate(layers):
        if strangers := sorted(set(layer) - set(PARAMETERS)):
            msg = f"layer {index}: expected tensors {', '.join(PARAMETERS)}, got {strangers}"
            raise ValueError(msg)
        for name in PARAMETERS:
            digest.update(_little_endian(layer[name]).tobytes())
    return digest.hexdigest()


def _little_endian(array: np.ndarray) -> np.ndarray:
    """Return `array` in little-endian C order; its dtype then equals the one in `_CODES`."""
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def _tensors(model: SavedModel) -> dict[str, np.ndarray]:
    """Return the tensors of the file by their names."""
    tensors = {f"normalization.{name}": array for name, array in model.normalization.items()}
    for index, layer in enumerate(model.layers):
        tensors |= {f"layers.{index}.{name}": array for name, array in layer.items()}
    return tensors


def _read(file: Any) -> SavedModel:
    """Return the model of an open file; shapes and dtypes are checked before any number is read."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    codes = {name: part.get_dtype() for name, part in slices.items()}
    sizes = _sizes(shapes, codes)
    metadata = file.metadata() or {}
    _check_metadata(metadata, sizes)
    normalize = metadata.get("normalize", "scale")
    _check_normalization(normalize, shapes, codes, sizes[0])

    def tensor(name: str) -> np.ndarray:
        array = np.array(file.get_tensor(name), order="C")
        if bad := array.size - np.count_nonzero(np.isfinite(array)):
            msg = f"{name}: {bad} of its {array.size} numbers are NaN or infinite"
            raise _MisfitError(msg)
        return array

    layers = [
        {name: tensor(f"layers.{index}.{name}") for name in PARAMETERS}
        for index in range(len(sizes) - 1)
    ]
    normalization = {
        name: tensor(f"normalization.{name}")
        for name in STATISTICS
        if f"normalization.{name}" in shapes
    }
    return SavedModel(layers, sizes, normalize, normalization)


def _sizes(shapes: Mapping[str, Shape], codes: Mapping[str, str]) -> tuple[int, ...]:
    """Return features and units of each layer; raise _MisfitError unless the tensors chain."""
    layers = list(_layers(shapes))
    for index, (weight, bias) in enumerate(layers):
        if len(weight) != 2 or min(weight) < 1:
            msg = f"layers.{index}.weight: expected shape (outputs, inputs), got {weight}"
            raise _MisfitError(msg)
        if bias != weight[:1]:
            msg = f"layers.{index}.bias: expected shape {weight[:1]}, got {bias}"
            raise _MisfitError(msg)
    for index, ((before, _), (after, _)) in enumerate(itertools.pairwise(layers), start=1):
        if after[1] != before[0]:
            msg = (
                f"layers.{index}.weight: expected {before[0]} inputs, which layer {index - 1} "
                f"puts out, got {after[1]}"
            )
            raise _MisfitError(msg)
    _check_dtypes(codes)
    return (layers[0][0][1], *(weight[0] for weight, _ in layers))


def _layers(shapes: Mapping[str, Shape]) -> Iterator[tuple[Shape, Shape]]:
    """Yield the shapes of weight and bias of each layer; raise _MisfitError over any other key."""
    found: dict[int, dict[str, Shape]] = {}
    for key, shape in shapes.items():
        match = _KEY.fullmatch(key)
        if match and match[2] in PARAMETERS:
            found.setdefault(int(match[1]), {})[match[2]] = shape
        elif key not in {f"normalization.{name}" for name in STATISTICS}:
            msg = f"unknown tensor {json.dumps(key)}: {_EXPECTED} ..."
            raise _MisfitError(msg)
    if not found:
        msg = f"holds no layers: {_EXPECTED} ..."
        raise _MisfitError(msg)
    for index in range(max(found) + 1):
        for name in PARAMETERS:
            if name not in found.get(index, {}):
                msg = f"layers.{index}.{name}: missing, though the file has layer {max(found)}"
                raise _MisfitError(msg)
        yield found[index]["weight"], found[index]["bias"]


def _check_dtypes(codes: Mapping[str, str]) -> None:
    first: str | None = None
    for name, code in sorted(codes.items()):
        if not name.startswith("layers."):
            continue
        if code not in _DTYPES:
            msg = f"{name}: expected dtype F32 or F64 (float32, float64), got {code}"
            raise _MisfitError(msg)
        first = first or code
        if code != first:
            msg = f"{name}: expected dtype {first} as in the other tensors, got {code}"
            raise _MisfitError(msg)


def _check_metadata(metadata: Mapping[str, str], sizes: tuple[int, ...]) -> None:
    version = metadata.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        msg = (
            f"format_version: expected {FORMAT_VERSION}, got {json.dumps(version)}: "
            "a newer xpnet may have written this file"
        )
        raise _MisfitError(msg)
    expected = {"sizes": list(sizes), "classes": sizes[-1]}
    for key, value in expected.items():
        found: object = None
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(metadata.get(key, json.dumps(value)))
        if found != value:
            msg = f"{key} in the metadata: expected {value} as in the tensors, got "
            raise _MisfitError(msg + json.dumps(metadata[key])[:60])


def _check_normalization(
    normalize: str, shapes: Mapping[str, Shape], codes: Mapping[str, str], features: int
) -> None:
    if normalize not in NORMALIZATIONS:
        msg = f"normalize: expected one of {', '.join(NORMALIZATIONS)}, got "
        raise _MisfitError(msg + json.dumps(normalize)[:60])
    names = [f"normalization.{name}" for name in STATISTICS]
    present = [name for name in names if name in shapes]
    if present != names and (present or normalize == "standardize"):
        absent = next(name for name in names if name not in shapes)
        msg = f"{absent}: missing, though needed to normalize inputs ({normalize})"
        raise _MisfitError(msg)
    for name in present:
        if codes[name] != "F64" or shapes[name] not in ((), (features,)):
            msg = (
                f"{name}: expected F64 of shape () or ({features},), "
                f"got {codes[name]} of shape {shapes[name]}"
            )
            raise _MisfitError(msg)
