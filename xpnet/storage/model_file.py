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

import contextlib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xpnet._lib.files import save
from xpnet._typing import Array, as_array
from xpnet.errors import DataError
from xpnet.nn.architecture import Network
from xpnet.nn.columns import NO_COLUMNS, Columns
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.layers import BatchNorm, Layer, Linear, Parameters, RunningStatistics
from xpnet.storage.tensors import TensorFile, dtype_code, encode_tensors, open_tensors, to_little_endian

FORMAT_VERSION = "1"
TENSORS = {
    "layers": ("weight", "bias"),
    "norms": ("weight", "bias", "running_mean", "running_var"),
}
"""Tensors of a layer, and of the batch normalisation that follows it, in the order of `fingerprint`."""
STATISTICS = ("normalization.shift", "normalization.scale")
NORMALIZATIONS = ("scale", "standardize", "none")

_KEY = re.compile(r"(layers|norms)\.(0|[1-9][0-9]{0,5})\.(\w+)")
_UNUSED = re.compile(r"norms\.[0-9]+\.num_batches_tracked")
"""The batch counter of PyTorch's batch normalisation, which inference does not use."""
_EXPECTED = (
    "expected layers.0.weight (outputs, inputs), layers.0.bias (outputs), layers.1.weight ..., "
    "and with batch normalisation norms.0.weight, .bias, .running_mean, .running_var (outputs) ..."
)

Tensors = Mapping[str, np.ndarray]
"""Tensors of a layer or of a batch normalisation, by name."""
Shapes = Mapping[str, tuple[int, ...]]
Codes = Mapping[str, str]
"""Dtypes by tensor name, as written in the file: F32, F64."""


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A network as stored in a file.

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
    norms
        With batch normalisation, one mapping per hidden layer: weight, bias, running_mean and
        running_var, each (outputs,) and of the layers' dtype; or empty.
    activation
        Of the hidden layers: a name in ``functional.ACTIVATIONS``.
    columns
        The names of the features and classes, if they have names.

    Raises
    ------
    ValueError
        The parts are inconsistent.
    """

    layers: Sequence[Tensors]
    sizes: tuple[int, ...]
    normalize: str = "scale"
    normalization: Tensors = field(default_factory=dict)
    norms: Sequence[Tensors] = ()
    activation: str = "relu"
    columns: Columns = NO_COLUMNS

    def __post_init__(self) -> None:
        tensors = _name_tensors(self)
        shapes = {name: array.shape for name, array in tensors.items()}
        codes = {name: dtype_code(array.dtype) for name, array in tensors.items()}
        sizes = _check_tensors(shapes, codes, self.activation, self.normalize)
        if sizes != tuple(self.sizes):
            msg = f"sizes: expected {sizes}, which the weights have, got {self.sizes}"
            raise ValueError(msg)

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]

    @property
    def network(self) -> Network:
        """The architecture, without settings of the training: the file does not hold them."""
        return Network(tuple(self.sizes), self.activation, batch_norm=bool(self.norms))


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
        "normalize": model.normalize,
    }
    if (columns := model.columns.to_json()) is not None:
        metadata["columns"] = columns
    return encode_tensors(_name_tensors(model), metadata)


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
        try:
            return _read_model(file)
        except ValueError as error:
            msg = f"{path}: {error}"
            raise DataError(msg) from None


def fingerprint(layers: Sequence[Tensors], norms: Sequence[Tensors] = ()) -> str:
    """Return the SHA-256 of the parameters, in hexadecimal.

    Hashed are, layer by layer, weight and bias, then weight, bias, running_mean and running_var of the
    batch normalisation that follows, if any: each as little-endian bytes in C order in its own dtype.
    Statistics of the inputs are not included.

    Raises
    ------
    ValueError
        A tensor is missing or unknown.
    """
    tensors = _name_parameters(layers, norms)
    _raise_first(_find_name_problems(tensors))
    digest = hashlib.sha256()
    for key in _parameter_names(tensors):
        digest.update(to_little_endian(tensors[key]).tobytes())
    return digest.hexdigest()


# Conversion from and to the parameters of a training


def split_layers(
    parameters: Sequence[Layer], statistics: Sequence[RunningStatistics] = ()
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """Split host parameters of `xpnet.nn.network` into the layers and norms of a model file.

    Raises
    ------
    ValueError
        The numbers of statistics and batch normalisations differ.
    """
    normalized = [layer for layer in parameters if isinstance(layer, BatchNorm)]
    layers = [
        {"weight": np.asarray(layer.weight), "bias": np.reshape(np.asarray(layer.bias), -1)}
        for layer in parameters
        if isinstance(layer, Linear)
    ]
    norms = [
        {
            name: np.reshape(np.asarray(array), -1)
            for name, array in zip(TENSORS["norms"], (*layer, *running), strict=True)
        }
        for layer, running in zip(normalized, statistics, strict=True)
    ]
    return layers, norms


def join_layers(model: SavedModel) -> tuple[Parameters, list[RunningStatistics]]:
    """Return host parameters and running statistics for `xpnet.nn.network`: the inverse of `split_layers`."""
    parameters: Parameters = []
    statistics = []
    for index, layer in enumerate(model.layers):
        parameters.append(Linear(as_array(layer["weight"]), _as_column(layer["bias"])))
        if index < len(model.norms):
            gamma, beta, mean, variance = (_as_column(model.norms[index][name]) for name in TENSORS["norms"])
            parameters.append(BatchNorm(gamma, beta))
            statistics.append(RunningStatistics(mean, variance))
    return parameters, statistics


def _as_column(values: np.ndarray) -> Array:
    """Return (n,) values in shape (n, 1)."""
    return as_array(values.reshape(-1, 1))


def _name_parameters(layers: Sequence[Tensors], norms: Sequence[Tensors]) -> dict[str, np.ndarray]:
    """Return the tensors of layers and norms by their names in the file."""
    return {
        f"{kind}.{index}.{name}": array
        for kind, parts in (("layers", layers), ("norms", norms))
        for index, part in enumerate(parts)
        for name, array in part.items()
    }


def _name_tensors(model: SavedModel) -> dict[str, np.ndarray]:
    """Return all tensors of the file by their names."""
    normalization = {f"normalization.{name}": array for name, array in model.normalization.items()}
    return normalization | _name_parameters(model.layers, model.norms)


def _read_model(file: TensorFile) -> SavedModel:
    """Read the model of an open file, after checking shapes and dtypes."""
    slices = {name: file.get_slice(name) for name in file.keys() if not _UNUSED.fullmatch(name)}  # noqa: SIM118 - not a mapping
    shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    codes = {name: part.get_dtype() for name, part in slices.items()}
    metadata = file.metadata() or {}
    activation, normalize = metadata.get("activation", "relu"), metadata.get("normalize", "scale")
    sizes = _check_tensors(shapes, codes, activation, normalize)
    _raise_first(_find_metadata_problems(metadata, sizes))  # which may be incomplete
    tensors = {name: _read_tensor(file, name) for name in slices}

    def parts(kind: str) -> list[dict[str, np.ndarray]]:
        return [
            {name: tensors[f"{kind}.{index}.{name}"] for name in TENSORS[kind]}
            for index in range(_count_parts(shapes, kind))
        ]

    normalization = {name.partition(".")[2]: tensors[name] for name in STATISTICS if name in tensors}
    columns = Columns.from_json(metadata.get("columns"), sizes[0], sizes[-1])
    return SavedModel(parts("layers"), sizes, normalize, normalization, parts("norms"), activation, columns)


def _read_tensor(file: TensorFile, name: str) -> np.ndarray:
    """Read a tensor of an open file; raise ValueError for non-finite numbers and negative variances."""
    array = np.array(file.get_tensor(name), order="C")
    if bad := array.size - np.count_nonzero(np.isfinite(array)):
        msg = f"{name}: {bad} of its {array.size} numbers are NaN or infinite"
        raise ValueError(msg)
    if name.endswith(".running_var") and (bad := np.count_nonzero(array < 0)):
        msg = f"{name}: {bad} of its {array.size} variances are negative"
        raise ValueError(msg)
    return array


# Checks of names, shapes, dtypes and metadata, before any number is read


def _check_tensors(shapes: Shapes, codes: Codes, activation: str, normalize: str) -> tuple[int, ...]:
    """Check a model's tensors; return the number of features, then the units of each layer.

    Raises
    ------
    ValueError
        The tensors do not form a network, or the activation or normalization is unknown.
    """
    _raise_first(_find_name_problems(shapes))
    _raise_first(_find_layer_problems(shapes, codes))
    _raise_first(_find_input_problems(shapes, codes, activation, normalize))
    weights = [shapes[f"layers.{index}.weight"] for index in range(_count_parts(shapes, "layers"))]
    return (weights[0][1], *(units for units, _ in weights))


def _raise_first(problems: Iterable[str]) -> None:
    """Raise ValueError for the first problem, if any."""
    for problem in problems:
        raise ValueError(problem)


def _count_parts(keys: Iterable[str], kind: str) -> int:
    """Return the number of layers or norms: the highest index plus one."""
    matches = filter(None, map(_KEY.fullmatch, keys))
    return max((int(match[2]) + 1 for match in matches if match[1] == kind), default=0)


def _parameter_names(keys: Collection[str]) -> Iterator[str]:
    """Yield the parameter names of the network that `keys` belong to, in the order of `fingerprint`.

    Batch normalisation follows every hidden layer, or none.
    """
    layers, norms = (_count_parts(keys, kind) for kind in TENSORS)
    for index in range(layers):
        for kind in ("layers", "norms") if norms and index < layers - 1 else ("layers",):
            yield from (f"{kind}.{index}.{name}" for name in TENSORS[kind])


# Each generator yields problems and is not resumed after the first: later checks rely on earlier ones.


def _find_name_problems(names: Collection[str]) -> Iterator[str]:
    for key in names:
        match = _KEY.fullmatch(key)
        if key not in STATISTICS and not (match and match[3] in TENSORS[match[1]]):
            yield f"unknown tensor {json.dumps(key)}: {_EXPECTED}"
    layers, norms = (_count_parts(names, kind) for kind in TENSORS)
    if not layers:
        yield f"holds no layers: {_EXPECTED}"
    if norms >= layers:
        yield (
            f"norms.{norms - 1}: expected batch normalisation behind hidden layers alone, "
            f"of which there are {layers - 1}, counted from 0"
        )
    for key in _parameter_names(names):
        if key not in names:
            more = " and batch normalisation" if norms else ""
            yield f"{key}: missing, though the file has layer {layers - 1}{more}"


def _find_layer_problems(shapes: Shapes, codes: Codes) -> Iterator[str]:
    weights = [shapes[f"layers.{index}.weight"] for index in range(_count_parts(shapes, "layers"))]
    for index, weight in enumerate(weights):
        if len(weight) != 2 or min(weight) < 1:
            yield f"layers.{index}.weight: expected shape (outputs, inputs), got {weight}"
        if index and weight[1] != (units := weights[index - 1][0]):
            yield (
                f"layers.{index}.weight: expected {units} inputs, which layer {index - 1} puts out, "
                f"got {weight[1]}"
            )
    keys = sorted(_parameter_names(shapes))
    for key in keys:
        kind, layer, name = key.split(".")
        expected = weights[int(layer)][: 2 if (kind, name) == ("layers", "weight") else 1]
        if shapes[key] != expected:
            yield f"{key}: expected shape {expected}, got {shapes[key]}"
        if codes[key] not in {"F32", "F64"}:
            yield f"{key}: expected dtype F32 or F64 (float32, float64), got {codes[key]}"
        if codes[key] != codes[keys[0]]:
            yield f"{key}: expected dtype {codes[keys[0]]} as in the other tensors, got {codes[key]}"


def _find_input_problems(shapes: Shapes, codes: Codes, activation: str, normalize: str) -> Iterator[str]:
    for name, value, choices in (
        ("activation", activation, ACTIVATIONS),
        ("normalize", normalize, NORMALIZATIONS),
    ):
        if value not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, got {json.dumps(value)[:60]}"
    features = shapes["layers.0.weight"][1]
    for key in STATISTICS if normalize == "standardize" or not shapes.keys().isdisjoint(STATISTICS) else ():
        if key not in shapes:
            yield f"{key}: missing, though needed to normalize inputs ({normalize})"
        if codes[key] != "F64" or shapes[key] not in ((), (features,)):
            yield (
                f"{key}: expected F64 of shape () or ({features},), got {codes[key]} of shape {shapes[key]}"
            )


def _find_metadata_problems(metadata: Mapping[str, str], sizes: tuple[int, ...]) -> Iterator[str]:
    version = metadata.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        yield (
            f"format_version: expected {FORMAT_VERSION}, got {json.dumps(version)}: "
            "a newer xpnet may have written this file"
        )
    for key, expected in {"sizes": list(sizes), "classes": sizes[-1]}.items():
        value: object = None
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(metadata.get(key, json.dumps(expected)))
        if value != expected:
            text = json.dumps(metadata[key])[:60]
            yield f"{key} in the metadata: expected {expected} as in the tensors, got {text}"
