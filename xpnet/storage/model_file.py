"""Model files: the parameters of a network as .safetensors, and their fingerprint.

The tensors carry PyTorch's names and shapes, so that any tool reads them: ``layers.0.weight``
(outputs, inputs), ``layers.0.bias`` (outputs), ``layers.1.weight`` and so on, all float32 or all
float64. Batch normalisation of the output Z of hidden layer i, before the activation, is stored as
``norms.i.weight`` (gamma), ``norms.i.bias`` (beta), ``norms.i.running_mean`` and
``norms.i.running_var`` (unbiased), each (outputs of layer i,) and of the layers' dtype:

    Y = weight (Z - running_mean) / √(running_var + 1e-5) + bias

If the inputs are normalized by statistics of the training data, these are stored in float64:
``normalization.shift`` and ``normalization.scale``, each () or (features,).
The metadata are five strings: ``format_version``, ``sizes`` (JSON, inputs first),
``classes``, ``activation`` (of the hidden layers; without it, relu) and ``normalize``; ``columns``,
a JSON object, if the features or classes of the training have names; and ``specification``, the version of
the specification that the training followed (docs/reproducibility.md), unless it was in native arithmetic.
"""

import hashlib
import json
import re
import stat
import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, pairwise, takewhile, zip_longest
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from safetensors import SafetensorError, safe_open

from xpnet._lib.files import make_read_error
from xpnet._lib.text import align, join_lines
from xpnet._typing import Array, Arrays, HostArray, Json, Shape, Values
from xpnet.config.settings import Normalize
from xpnet.errors import DataError
from xpnet.nn.architecture import Network
from xpnet.nn.columns import NO_COLUMNS, Columns
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.inputs import Normalization
from xpnet.nn.layers import BatchNorm, Linear, Parameters, RunningStatistics

FORMAT_VERSION, PLAIN_VERSION = 3, 2
"""That of networks with columns that are encoded or left out, and that of others.

Version 1 lacked the version of the specification."""
TENSORS = {"layers": ("weight", "bias"), "norms": ("weight", "bias", "running_mean", "running_var")}
"""Tensors of a layer, and of the batch normalisation that follows it, in the order of `fingerprint`."""
STATISTICS = ("normalization.shift", "normalization.scale")

_UNUSED = re.compile(r"norms\.[0-9]+\.num_batches_tracked")
"""The batch counter of PyTorch's batch normalisation, which inference does not use."""
_LAYOUT = (
    "a model file has layers.0.weight (outputs, inputs), layers.0.bias (outputs), layers.1.weight ..., with "
    "batch normalisation of hidden layers norms.0.weight, .bias, .running_mean, .running_var (outputs) ..."
)

Tensors = Mapping[str, HostArray]
"""Tensors by name: of a layer, of a batch normalisation, or of a file."""
Entry = tuple[str, Shape]
"""The dtype of a tensor, F32 or F64, and its shape."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network, with host arrays.

    Attributes
    ----------
    parameters
        The layers, all of one dtype, float32 or float64.
    statistics
        The running statistics of each batch normalisation, of that dtype too.
    normalization
        The normalisation of the inputs.
    activation
        Of the hidden layers: a name in ``functional.ACTIVATIONS``.
    columns
        The names of the features and classes, if they have names.
    specification
        The version of the specification that the training followed; None if it is unknown, or of native
        arithmetic.
    """

    parameters: Parameters
    statistics: list[RunningStatistics]
    normalization: Normalization
    activation: str = "relu"
    columns: Columns = NO_COLUMNS
    specification: int | None = None

    @property
    def layers(self) -> list[Tensors]:
        """The tensors of each layer, by name: weight (outputs, inputs) and bias (outputs,)."""
        linears = (layer for layer in self.parameters if isinstance(layer, Linear))
        return [{"weight": np.asarray(weight), "bias": _as_row(bias)} for weight, bias in linears]

    @property
    def norms(self) -> list[Tensors]:
        """The tensors of each batch normalisation, by name, each (outputs,)."""
        norms = (layer for layer in self.parameters if isinstance(layer, BatchNorm))
        arrays = ((*norm, *running) for norm, running in zip(norms, self.statistics, strict=True))
        return [dict(zip(TENSORS["norms"], map(_as_row, each), strict=True)) for each in arrays]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features, then the units of each layer. The last is the number of classes."""
        weights = [layer["weight"].shape for layer in self.layers]
        return (weights[0][1], *(units for units, _ in weights))

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the parameters."""
        return fingerprint(self.layers, self.norms)

    @property
    def architecture(self) -> Network:
        """The architecture, without settings of the training: the file does not hold them."""
        return Network(self.sizes, self.activation, batch_norm=bool(self.statistics))


def describe_layers(model: TrainedNetwork) -> str:
    """Return a table of the layers: the shape of their outputs for m rows, and their parameters."""
    table, total = [("layer", "output", "parameters"), ("input", f"(m, {model.sizes[0]})", "")], 0
    for index, (layer, units) in enumerate(zip(model.layers, model.sizes[1:], strict=True)):
        counts = {"linear": sum(array.size for array in layer.values())}
        is_hidden = index < len(model.layers) - 1
        if is_hidden and model.statistics:
            counts["batch norm"] = 2 * units
        counts[model.activation if is_hidden else "softmax"] = 0
        total += sum(counts.values())
        table += [(name, f"(m, {units})", f"{number:,}" if number else "") for name, number in counts.items()]
    return "\n".join(align([*table, ("total", "", f"{total:,}")], left=2))


# Writing and reading files


def encode_model(model: TrainedNetwork, version: int = PLAIN_VERSION) -> bytes:
    """Return the bytes of the .safetensors file of `model`, which depend on nothing but the arguments."""
    if model.columns.categories or model.columns.dropped:
        version = FORMAT_VERSION
    metadata = {"format_version": str(version), "sizes": json.dumps(model.sizes)}
    metadata |= {"classes": str(model.classes), "activation": model.activation}
    metadata["normalize"] = model.normalization.kind
    if columns := model.columns.to_json():
        metadata["columns"] = columns
    if model.specification and version > 1:
        metadata["specification"] = str(model.specification)
    return encode_tensors(name_tensors(model), metadata)


def name_tensors(model: TrainedNetwork) -> dict[str, HostArray]:
    """Return the tensors of a model file by their names."""
    statistics = model.normalization.shift, model.normalization.scale
    tensors = dict(zip(STATISTICS, map(np.asarray, statistics), strict=True))
    for kind, parts in ("layers", model.layers), ("norms", model.norms):
        for index, part in enumerate(parts):
            tensors |= {f"{kind}.{index}.{name}": array for name, array in part.items()}
    return tensors


def load_model(path: Path) -> TrainedNetwork:
    """Return the checked model in a .safetensors file.

    Files of other tools with the tensors of this module are accepted. Missing metadata are inferred from
    the tensors; ``normalize`` defaults to "scale", and ``activation`` to "relu".

    Raises
    ------
    DataError
        The file is missing, damaged or of a newer format, its tensors do not form a network, a number is not
        finite, a variance is negative, or metadata contradict the tensors.
    """
    with open_tensors(path) as file:
        names = [name for name in file.keys() if not _UNUSED.fullmatch(name)]  # noqa: SIM118 - not a mapping
        metadata = {"activation": "relu", "normalize": "scale"} | (file.metadata() or {})
        version = metadata.get("format_version", "1")
        if version.isdecimal():
            DataError.refuse_newer(path, "format version", version, FORMAT_VERSION)
        slices = {name: file.get_slice(name) for name in names}
        entries = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
        for problem in _find_layout_problems(entries, metadata):  # before any number is read
            raise DataError(f"{path}: {problem}")
        tensors = read_arrays(path, file, names)
    for name, array in tensors.items():
        allowed = np.where(array < 0, np.nan, array) if name.endswith(".running_var") else array
        if bad := array.size - np.count_nonzero(np.isfinite(allowed)):
            problem = f"{name}: {bad} of its {array.size} numbers are NaN, infinite or negative variances"
            raise DataError(f"{path}: {problem}")
    try:
        return _build_model(tensors, metadata)
    except ValueError as error:  # of the columns
        raise DataError(f"{path}: {error}") from None


def fingerprint(layers: Sequence[Tensors], norms: Sequence[Tensors] = ()) -> str:
    """Return the SHA-256 of the parameters, in hexadecimal.

    Hashed are, layer by layer, weight and bias, then weight, bias, running_mean and running_var of the
    batch normalisation that follows, if any: each as little-endian bytes in C order in its own dtype.
    Statistics of the inputs are not included.
    """
    digest = hashlib.sha256()
    for parts in zip_longest(layers, norms):
        for part, names in zip(parts, TENSORS.values(), strict=True):
            for name in names if part else ():
                digest.update(to_little_endian(part[name]).tobytes())
    return digest.hexdigest()


def _build_model(tensors: Tensors, metadata: Values) -> TrainedNetwork:
    """Build the model in a file. Raise ValueError if its columns do not fit."""

    def take(kind: str, index: int) -> Arrays:
        arrays = (tensors[f"{kind}.{index}.{name}"] for name in TENSORS[kind])
        return [array.reshape(len(array), -1) for array in arrays]

    parameters: Parameters = []
    statistics = []
    for index in range(len(_weight_names(tensors))):
        parameters.append(Linear(*take("layers", index)))
        if f"norms.{index}.weight" in tensors:
            gamma, beta, *running = take("norms", index)
            parameters.append(BatchNorm(gamma, beta))
            statistics.append(RunningStatistics(*running))
    normalize = metadata["normalize"]
    factor = 1.0 / 255.0 if normalize == "scale" else 1.0
    shift, scale = tensors.get(STATISTICS[0], np.zeros(())), tensors.get(STATISTICS[1], np.asarray(factor))
    normalization = Normalization(cast("Normalize", normalize), shift, scale)
    model = TrainedNetwork(parameters, statistics, normalization, metadata["activation"])
    features, *_, classes = model.sizes
    columns = Columns.from_json(metadata.get("columns"), features, classes)
    version = metadata.get("specification")
    return replace(model, columns=columns, specification=int(version) if version else None)


def _as_row(values: Array) -> HostArray:
    """Return (n, 1) values in shape (n,)."""
    return np.asarray(values).reshape(-1)


# Checks of names, shapes, dtypes and metadata


def _weight_names(names: Container[str]) -> list[str]:
    """Return those of `names` that are weights of the layers 0, 1 and so on, without a gap."""
    return list(takewhile(names.__contains__, map("layers.{}.weight".format, count())))


def _find_layout_problems(entries: Mapping[str, Entry], metadata: Values) -> Iterator[str]:
    """Yield problems. The caller does not resume after the first, on whose absence later checks rely."""
    weights = {name: entries.get(name, ("", ())) for name in ["layers.0.weight", *_weight_names(entries)[1:]]}
    for name, (dtype, shape) in weights.items():
        if dtype not in ("F32", "F64") or len(shape) != 2 or 0 in shape:
            actual = _describe(entries.get(name))
            yield f"{name}: expected F32 or F64 of shape (outputs, inputs), got {actual}: {_LAYOUT}"
    dtype, (_, features) = weights["layers.0.weight"]
    sizes = [features, *(shape[0] for _, shape in weights.values())]
    has_norms = any(name.startswith("norms.") for name in entries)  # after every hidden layer, or none
    layout: dict[str, Entry] = {}
    for index, (inputs, units) in enumerate(pairwise(sizes)):
        layout[f"layers.{index}.weight"] = dtype, (units, inputs)
        layout[f"layers.{index}.bias"] = dtype, (units,)
        if has_norms and index < len(sizes) - 2:
            layout |= {f"norms.{index}.{name}": (dtype, (units,)) for name in TENSORS["norms"]}
    if metadata["normalize"] == "standardize" or not entries.keys().isdisjoint(STATISTICS):
        scalar, vector = ("F64", ()), ("F64", (features,))
        layout |= {name: scalar if entries.get(name) == scalar else vector for name in STATISTICS}
    for name in (*layout, *entries):
        expected, actual = (_describe(tensors.get(name)) for tensors in (layout, entries))
        if expected != actual:
            yield f"{json.dumps(name)[:60]}: expected {expected}, got {actual}: {_LAYOUT}"
    yield from _find_metadata_problems(metadata, sizes)


def _find_metadata_problems(metadata: Values, sizes: Sequence[int]) -> Iterator[str]:
    for name, choices in ("activation", ACTIVATIONS), ("normalize", get_args(Normalize)):
        if (text := metadata[name]) not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, got {json.dumps(text)[:60]}"
    for name in ("format_version", "specification"):
        if not re.fullmatch("[1-9][0-9]{0,8}", text := metadata.get(name, "1")):
            yield f"{name} in the metadata: expected a whole number, got {json.dumps(text)[:60]}"
    for name, expected in ("sizes", json.dumps(sizes)), ("classes", str(sizes[-1])):
        if (text := metadata.get(name, expected)).replace(" ", "") != expected.replace(" ", ""):
            yield f"{name} in the metadata: expected {expected}, got {json.dumps(text)[:60]}"


def _describe(entry: Entry | None) -> str:
    return "no such tensor" if entry is None else f"{entry[0]} of shape {entry[1]}"


# Named arrays in the safetensors format, see https://huggingface.co/docs/safetensors

CODES = {"|b1": "BOOL"} | {
    np.dtype(f"<{name}").str: f"{name[0].upper()}{8 * int(name[1])}"
    for name in ("i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8")
}
"""The format's names of NumPy's dtypes, such as F32 of "<f4"."""


def to_little_endian(array: HostArray) -> HostArray:
    """Return `array` in little-endian byte order and C order, a copy only if needed."""
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def encode_tensors(arrays: Tensors, metadata: Values) -> bytes:
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
    header: Json = {"__metadata__": metadata}
    offset = 0
    for name, array in whole.items():
        if array.dtype.str not in CODES or name in header:
            raise ValueError(f"{name!r} of dtype {array.dtype}: has no place in a .safetensors file")
        begin, offset = offset, offset + array.nbytes
        code = CODES[array.dtype.str]
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [begin, offset]}
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
            raise DataError(f"{path}: not a file: {expected}")
        path.open("rb").close()  # for the reason of an error, which is wrong in that of `safe_open`
    except PermissionError as error:
        raise make_read_error(path, error, expected) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no such file: {expected}") from error
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise DataError(f"{path}: not a complete .safetensors file ({join_lines(error)})") from error


def read_arrays(path: Path, file: Any, names: Iterable[str]) -> dict[str, HostArray]:
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
            raise DataError(f"{where}: expected one of {', '.join(CODES.values())}, got {code}")
        try:
            arrays[name] = np.array(file.get_tensor(name), order="C")
        except (ValueError, OverflowError) as error:  # more or longer axes than NumPy supports
            raise DataError(f"{where}: cannot be read ({error})") from error
    return arrays
