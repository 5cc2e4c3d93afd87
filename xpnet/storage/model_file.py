"""Model files: the parameters of a network as .safetensors, and their fingerprint.

The tensors carry PyTorch's names and shapes, so that any tool reads them: ``layers.0.weight``
(outputs, inputs), ``layers.0.bias`` (outputs), ``layers.1.weight`` and so on, all float32 or all
float64. With batch normalisation, that of hidden layer i (layer i has put out Z, and the activation
is still to come) is ``norms.i.weight`` (gamma), ``norms.i.bias`` (beta), ``norms.i.running_mean``
and ``norms.i.running_var`` (unbiased), each (outputs of layer i) and of the layers' dtype:

    Y = weight (Z - running_mean) / √(running_var + 1e-5) + bias

Where the inputs are normalized by statistics of the training data, these stand beside the rest in
float64: ``normalization.shift`` and ``normalization.scale``, each () or (features,).
The file's metadata are five strings: ``format_version``, ``sizes`` (JSON, inputs first),
``classes``, ``activation`` (of the hidden layers; without it, relu) and ``normalize``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xpnet._lib.files import unwritable, write_atomic
from xpnet.errors import DataError
from xpnet.nn.architecture import Network
from xpnet.nn.layers import BatchNorm, Layer, Linear, Parameters, Statistics
from xpnet.storage import model_layout
from xpnet.storage.model_layout import (
    FORMAT_VERSION,
    NORMALIZATIONS,
    STATISTICS,
    TENSORS,
    MisfitError,
)
from xpnet.storage.tensors import code, little_endian, opened
from xpnet.storage.tensors import to_bytes as file_bytes

__all__ = [
    "NORMALIZATIONS",
    "SavedModel",
    "fingerprint",
    "load_model",
    "parameters_of",
    "save_model",
    "saved_layers",
    "to_bytes",
]

Tensors = Mapping[str, np.ndarray]
"""The tensors of a layer, or of a batch normalisation, by their names in the file."""


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
    norms
        With batch normalisation, one mapping per hidden layer: weight, bias, running_mean and
        running_var, each (outputs,) and of the layers' dtype; or empty.
    activation
        Of the hidden layers: a name in ``functional.ACTIVATIONS``.

    Raises
    ------
    ValueError
        The parts do not fit each other.

    """

    layers: Sequence[Tensors]
    sizes: tuple[int, ...]
    normalize: str = "scale"
    normalization: Tensors = field(default_factory=dict)
    norms: Sequence[Tensors] = ()
    activation: str = "relu"

    def __post_init__(self) -> None:
        tensors = _tensors(self)
        shapes = {name: array.shape for name, array in tensors.items()}
        codes = {name: code(array.dtype) for name, array in tensors.items()}
        try:
            sizes, _ = model_layout.network(shapes, codes)
            model_layout.check_activation(self.activation)
            model_layout.check_normalization(self.normalize, shapes, codes, sizes[0])
        except MisfitError as error:
            raise ValueError(str(error)) from None
        if sizes != tuple(self.sizes):
            msg = f"sizes: expected {sizes}, which the weights have, got {self.sizes}"
            raise ValueError(msg)

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]

    @property
    def network(self) -> Network:
        """What the network computes; the file does not tell how it was trained."""
        return Network(tuple(self.sizes), self.activation, batch_norm=bool(self.norms))


# To the file and back


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
    """Return the content of the file of `model`: the same bytes for the same model."""
    metadata = {
        "format_version": FORMAT_VERSION,
        "sizes": json.dumps(list(model.sizes)),
        "classes": str(model.classes),
        "activation": model.activation,
        "normalize": model.normalize,
    }
    return file_bytes(_tensors(model), metadata)


def load_model(path: Path) -> SavedModel:
    """Return the model in a .safetensors file, every part of it checked.

    Any tool's file with the tensors of this module will do. Metadata that it lacks are read off the
    tensors; without ``normalize``, the inputs are taken to be scaled ("scale"), and without
    ``activation`` the hidden layers to have ReLU ("relu").

    Raises
    ------
    DataError
        The file is missing or damaged, its tensors are not those of one network, a number is not
        finite, a variance is negative, or metadata disagree with the tensors.

    """
    with opened(path) as file:
        try:
            return _read(file)
        except MisfitError as error:
            msg = f"{path}: {error}"
            raise DataError(msg) from None


def fingerprint(layers: Sequence[Tensors], norms: Sequence[Tensors] = ()) -> str:
    """Return the SHA-256 of the parameters, in hexadecimal.

    Layer by layer its weight and bias, and with batch normalisation then weight, bias, running_mean
    and running_var of the norm behind it; each as little-endian bytes in C order in its own dtype.
    Statistics of the inputs are not part of it.

    Raises
    ------
    ValueError
        A layer or norm holds a tensor that has no place in that order, or there is not one norm for
        each hidden layer.

    """
    if norms and len(norms) != len(layers) - 1:
        msg = f"norms: expected {len(layers) - 1}, one for each hidden layer, got {len(norms)}"
        raise ValueError(msg)
    digest = hashlib.sha256()
    for index, layer in enumerate(layers):
        _digest(digest, "layers", index, layer)
        if index < len(norms):
            _digest(digest, "norms", index, norms[index])
    return digest.hexdigest()


def _digest(digest: Any, kind: str, index: int, tensors: Tensors) -> None:
    if strangers := sorted(set(tensors) - set(TENSORS[kind])):
        where, known = f"{kind.removesuffix('s')} {index}", ", ".join(TENSORS[kind])
        msg = f"{where}: expected tensors {known}, got {strangers}"
        raise ValueError(msg)
    for name in TENSORS[kind]:
        digest.update(little_endian(tensors[name]).tobytes())


# To the parameters of a training and back


def saved_layers(
    parameters: Sequence[Layer], statistics: Sequence[Statistics] = ()
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """Return the layers and norms of a file, from host arrays as `xpnet.nn.network` has them.

    Raises
    ------
    ValueError
        There are not as many statistics as batch normalisations.

    """
    normalized = [layer for layer in parameters if isinstance(layer, BatchNorm)]
    layers = [
        {"weight": layer.weight, "bias": layer.bias.reshape(-1)}
        for layer in parameters
        if isinstance(layer, Linear)
    ]
    norms = [
        {name: array.reshape(-1) for name, array in zip(TENSORS["norms"], (*layer, *running), strict=True)}
        for layer, running in zip(normalized, statistics, strict=True)
    ]
    return layers, norms


def parameters_of(model: SavedModel) -> tuple[Parameters, list[Statistics]]:
    """Return parameters and running statistics as `xpnet.nn.network` has them, as host arrays."""
    parameters: Parameters = []
    statistics = []
    for index, layer in enumerate(model.layers):
        parameters.append(Linear(layer["weight"], _column(layer["bias"])))
        if index < len(model.norms):
            gamma, beta, mean, variance = (_column(model.norms[index][name]) for name in TENSORS["norms"])
            parameters.append(BatchNorm(gamma, beta))
            statistics.append(Statistics(mean, variance))
    return parameters, statistics


def _column(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 1)


def _tensors(model: SavedModel) -> dict[str, np.ndarray]:
    """Return the tensors of the file by their names."""
    tensors = {f"normalization.{name}": array for name, array in model.normalization.items()}
    for kind, parts in (("layers", model.layers), ("norms", model.norms)):
        for index, part in enumerate(parts):
            tensors |= {f"{kind}.{index}.{name}": array for name, array in part.items()}
    return tensors


def _read(file: Any) -> SavedModel:
    """Return the model of an open file; shapes and dtypes are checked before any number is read."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    codes = {name: part.get_dtype() for name, part in slices.items()}
    sizes, norms = model_layout.network(shapes, codes)
    metadata = file.metadata() or {}
    model_layout.check_metadata(metadata, sizes)
    normalize, activation = metadata.get("normalize", "scale"), metadata.get("activation", "relu")
    model_layout.check_activation(activation)
    model_layout.check_normalization(normalize, shapes, codes, sizes[0])

    def parts(kind: str, count: int) -> list[dict[str, np.ndarray]]:
        return [
            {name: _numbers(file, f"{kind}.{index}.{name}") for name in TENSORS[kind]}
            for index in range(count)
        ]

    normalization = {
        name: _numbers(file, f"normalization.{name}")
        for name in STATISTICS
        if f"normalization.{name}" in shapes
    }
    return SavedModel(
        parts("layers", len(sizes) - 1),
        sizes,
        normalize,
        normalization,
        parts("norms", norms),
        activation,
    )


def _numbers(file: Any, name: str) -> np.ndarray:
    """Return a tensor of an open file; raise MisfitError over numbers that no network can have."""
    array = np.array(file.get_tensor(name), order="C")
    if bad := array.size - np.count_nonzero(np.isfinite(array)):
        msg = f"{name}: {bad} of its {array.size} numbers are NaN or infinite"
        raise MisfitError(msg)
    if name.endswith(".running_var") and (bad := np.count_nonzero(array < 0)):
        msg = f"{name}: {bad} of its {array.size} variances are negative"
        raise MisfitError(msg)
    return array
