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
``classes``, ``activation`` (of the hidden layers; without it, relu) and ``normalize``; and ``columns``,
a JSON object, if the features or classes of the training have names.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import cast

import numpy as np

from xpnet._lib.files import save
from xpnet._typing import Array, as_array
from xpnet.errors import DataError
from xpnet.nn.architecture import Network
from xpnet.nn.columns import NO_COLUMNS, Columns
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.inputs import Kind, Normalization
from xpnet.nn.layers import BatchNorm, Linear, Parameters, RunningStatistics
from xpnet.storage.tensors import encode_tensors, open_tensors, read_arrays, to_little_endian

FORMAT_VERSION = "1"
TENSORS = {"layers": ("weight", "bias"), "norms": ("weight", "bias", "running_mean", "running_var")}
"""Tensors of a layer, and of the batch normalisation that follows it, in the order of `fingerprint`."""
STATISTICS = ("normalization.shift", "normalization.scale")
NORMALIZATIONS = ("scale", "standardize", "none")
PIXEL_SCALE = 1.0 / 255.0
"""Factor of the inputs in files with the normalization "scale" that do not hold it."""

_KEY = re.compile(r"(layers|norms)\.(0|[1-9][0-9]{0,5})\.\w+")
_UNUSED = re.compile(r"norms\.[0-9]+\.num_batches_tracked")
"""The batch counter of PyTorch's batch normalisation, which inference does not use."""
_EXPECTED = (
    "expected layers.0.weight (outputs, inputs), layers.0.bias (outputs), layers.1.weight ..., and with "
    "batch normalisation of hidden layers norms.0.weight, .bias, .running_mean, .running_var (outputs) ..."
)

Tensors = Mapping[str, np.ndarray]
"""Tensors by name: of a layer, of a batch normalisation, or of a file."""


@dataclass(frozen=True, eq=False)
class SavedModel:
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
    """

    parameters: Parameters
    statistics: list[RunningStatistics]
    normalization: Normalization
    activation: str = "relu"
    columns: Columns = NO_COLUMNS

    @property
    def layers(self) -> list[Tensors]:
        """The tensors of each layer, by name: weight (outputs, inputs) and bias (outputs,)."""
        linears = (layer for layer in self.parameters if isinstance(layer, Linear))
        return [{"weight": np.asarray(weight), "bias": _as_row(bias)} for weight, bias in linears]

    @property
    def norms(self) -> list[Tensors]:
        """The tensors of each batch normalisation, by name, each (outputs,)."""
        norms = (layer for layer in self.parameters if isinstance(layer, BatchNorm))
        pairs = zip(norms, self.statistics, strict=True)
        return [
            dict(zip(TENSORS["norms"], map(_as_row, (*norm, *running)), strict=True))
            for norm, running in pairs
        ]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features, then the units of each layer; the last is the number of classes."""
        weights = [layer["weight"].shape for layer in self.layers]
        return (weights[0][1], *(units for units, _ in weights))

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]

    @property
    def network(self) -> Network:
        """The architecture, without settings of the training: the file does not hold them."""
        return Network(self.sizes, self.activation, batch_norm=bool(self.statistics))


# Writing and reading files


def save_model(path: Path, model: SavedModel) -> None:
    """Write `model` to `path`, atomically.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    save(path, encode_model(model))


def encode_model(model: SavedModel) -> bytes:
    """Return the bytes of the .safetensors file of `model`, which depend on nothing else."""
    metadata = {
        "format_version": FORMAT_VERSION,
        "sizes": json.dumps(list(model.sizes)),
        "classes": str(model.classes),
        "activation": model.activation,
        "normalize": model.normalization.kind,
    }
    if (columns := model.columns.to_json()) is not None:
        metadata["columns"] = columns
    statistics = np.asarray(model.normalization.shift), np.asarray(model.normalization.scale)
    tensors = dict(zip(STATISTICS, statistics, strict=True))
    for kind, parts in ("layers", model.layers), ("norms", model.norms):
        for index, part in enumerate(parts):
            tensors |= {f"{kind}.{index}.{name}": array for name, array in part.items()}
    return encode_tensors(tensors, metadata)


def load_model(path: Path) -> SavedModel:
    """Read and check the model in a .safetensors file.

    Files of other tools with the tensors of this module are accepted. Missing metadata are inferred from
    the tensors; ``normalize`` defaults to "scale", and ``activation`` to "relu".

    Raises
    ------
    DataError
        The file is missing or damaged, its tensors do not form a network, a number is not finite, a
        variance is negative, or metadata contradict the tensors.
    """
    with open_tensors(path) as file:
        names = [name for name in file.keys() if not _UNUSED.fullmatch(name)]  # noqa: SIM118 - not a mapping
        metadata = {"activation": "relu", "normalize": "scale"} | (file.metadata() or {})
        for problem in _find_name_problems(names):  # before any number is read
            raise DataError.at(path, problem)
        tensors = read_arrays(path, file, names)
    for problem in _find_problems(tensors, metadata):
        raise DataError.at(path, problem)
    try:
        return _build_model(tensors, metadata)
    except ValueError as error:  # of the columns
        raise DataError.at(path, error) from None


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


def _build_model(tensors: Tensors, metadata: Mapping[str, str]) -> SavedModel:
    """Build the model in a file; raise ValueError if its columns do not fit."""
    parameters: Parameters = []
    statistics = []
    for index in range(_count_parts(tensors, "layers")):
        weight, bias = (tensors[f"layers.{index}.{name}"] for name in TENSORS["layers"])
        parameters.append(Linear(as_array(weight), _as_column(bias)))
        if f"norms.{index}.weight" in tensors:
            columns = (_as_column(tensors[f"norms.{index}.{name}"]) for name in TENSORS["norms"])
            gamma, beta, mean, variance = columns
            parameters.append(BatchNorm(gamma, beta))
            statistics.append(RunningStatistics(mean, variance))
    normalize = metadata["normalize"]
    defaults = 0.0, PIXEL_SCALE if normalize == "scale" else 1.0
    pairs = zip(STATISTICS, defaults, strict=True)
    shift, scale = (tensors.get(name, np.asarray(default)) for name, default in pairs)
    normalization = Normalization(cast("Kind", normalize), shift, scale)
    model = SavedModel(parameters, statistics, normalization, metadata["activation"])
    features, *_, classes = model.sizes
    return replace(model, columns=Columns.from_json(metadata.get("columns"), features, classes))


def _as_column(values: np.ndarray) -> Array:
    """Return (n,) values in shape (n, 1)."""
    return as_array(values.reshape(-1, 1))


def _as_row(values: Array) -> np.ndarray:
    """Return (n, 1) values in shape (n,)."""
    return np.asarray(values).reshape(-1)


# Checks of names, shapes, dtypes, numbers and metadata


def _count_parts(keys: Iterable[str], kind: str) -> int:
    """Return the number of layers or norms: the highest index plus one."""
    matches = filter(None, map(_KEY.fullmatch, keys))
    return max((int(match[2]) + 1 for match in matches if match[1] == kind), default=0)


def _parameter_names(keys: Collection[str]) -> Iterator[str]:
    """Yield the parameter names of the network that `keys` belong to, in the order of `fingerprint`.

    Batch normalisation follows every hidden layer, or none.
    """
    layers, norms = _count_parts(keys, "layers") or 1, _count_parts(keys, "norms")
    for index in range(layers):
        for kind in ("layers", "norms") if norms and index < layers - 1 else ("layers",):
            yield from (f"{kind}.{index}.{name}" for name in TENSORS[kind])


# Each generator yields problems and is not resumed after the first: later checks rely on earlier ones.


def _find_name_problems(names: Collection[str]) -> Iterator[str]:
    for key in _parameter_names(names):
        if key not in names:
            yield f"{key}: missing: {_EXPECTED}"
    known = {*_parameter_names(names), *STATISTICS}
    for key in names:
        if key not in known:
            yield f"unknown tensor {json.dumps(key)}: {_EXPECTED}"


def _find_problems(tensors: Tensors, metadata: Mapping[str, str]) -> Iterator[str]:
    weights = [tensors[f"layers.{index}.weight"] for index in range(_count_parts(tensors, "layers"))]
    for index, weight in enumerate(weights):
        if weight.ndim != 2 or weight.size == 0:
            yield f"layers.{index}.weight: expected shape (outputs, inputs), got {weight.shape}"
    sizes = [weights[0].shape[1], *map(len, weights)]
    yield from _find_metadata_problems(metadata, sizes)
    if metadata["normalize"] == "standardize" or not tensors.keys().isdisjoint(STATISTICS):
        for key in STATISTICS:
            if key not in tensors:
                yield f"{key}: missing, though needed to normalize inputs ({metadata['normalize']})"
    yield from _find_shape_problems(tensors, sizes)
    for key, array in tensors.items():
        if bad := array.size - np.count_nonzero(np.isfinite(array)):
            yield f"{key}: {bad} of its {array.size} numbers are NaN or infinite"
        if key.endswith(".running_var") and (bad := np.count_nonzero(array < 0)):
            yield f"{key}: {bad} of its {array.size} variances are negative"


def _find_metadata_problems(metadata: Mapping[str, str], sizes: Sequence[int]) -> Iterator[str]:
    for name, choices in ("activation", ACTIVATIONS), ("normalize", NORMALIZATIONS):
        if (text := metadata[name]) not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, got {json.dumps(text)[:60]}"
    values = {"format_version": FORMAT_VERSION, "sizes": json.dumps(sizes), "classes": str(sizes[-1])}
    for name, expected in values.items():
        if (text := metadata.get(name, expected)).replace(" ", "") != expected.replace(" ", ""):
            yield f"{name} in the metadata: expected {expected}, got {json.dumps(text)[:60]}"


def _find_shape_problems(tensors: Tensors, sizes: Sequence[int]) -> Iterator[str]:
    """Yield the problems of shapes and dtypes: one dtype for all parameters, float64 for the statistics."""
    dtype = tensors["layers.0.weight"].dtype
    if dtype not in (np.float32, np.float64):
        yield f"layers.0.weight: expected float32 or float64, got {dtype}"
    for key, array in tensors.items():
        expected, shapes = np.dtype(np.float64), [(), (sizes[0],)]
        if match := _KEY.fullmatch(key):
            layer, expected = int(match[2]), dtype
            is_weight = key == f"layers.{layer}.weight"
            shapes = [(sizes[layer + 1], sizes[layer]) if is_weight else (sizes[layer + 1],)]
        if array.dtype != expected or array.shape not in shapes:
            choices = " or ".join(map(str, shapes))
            yield f"{key}: expected {expected} of shape {choices}, got {array.dtype} of shape {array.shape}"
