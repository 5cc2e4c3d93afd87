"""Which tensors and metadata make a model file: names, shapes and dtypes, before any number is read.

`xpnet.storage.model_file` describes the format. Dtypes are the strings of the file: F32, F64.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Mapping

from xpnet.nn.functional import ACTIVATIONS

FORMAT_VERSION = "1"
TENSORS = {
    "layers": ("weight", "bias"),
    "norms": ("weight", "bias", "running_mean", "running_var"),
}
"""The tensors of a layer, and those of the batch normalisation behind it, in the order in which
`xpnet.storage.model_file.fingerprint` takes them."""
STATISTICS = ("shift", "scale")
NORMALIZATIONS = ("scale", "standardize", "none")

_STATISTICS_KEYS = [f"normalization.{name}" for name in STATISTICS]
_KEY = re.compile(r"(layers|norms)\.(0|[1-9][0-9]{0,5})\.(\w+)")
_UNUSED = "num_batches_tracked"
"""PyTorch's batch normalisation counts its batches, but uses the count for nothing."""
_EXPECTED = (
    "expected layers.0.weight (outputs, inputs), layers.0.bias (outputs), layers.1.weight ..., "
    "and with batch normalisation norms.0.weight, .bias, .running_mean, .running_var (outputs) ..."
)

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Codes = Mapping[str, str]
_Found = dict[int, dict[str, Shape]]


class MisfitError(Exception):
    """Why tensors or metadata are not those of a network."""


def network(shapes: Shapes, codes: Codes) -> tuple[tuple[int, ...], int]:
    """Return features and units of each layer, and how many batch normalisations there are.

    Raises
    ------
    MisfitError
        The tensors are not those of one network.

    """
    layers, norms = _by_index(shapes)
    shaped = [(layer["weight"], layer["bias"]) for layer in _complete(layers)]
    _check_layers(shaped)
    units = [weight[0] for weight, _ in shaped]
    _check_norms(norms, units[:-1])
    _check_dtypes(codes)
    return (shaped[0][0][1], *units), len(norms)


def _by_index(shapes: Shapes) -> tuple[_Found, _Found]:
    """Return the shapes of layers and of norms by index and name; refuse any other key."""
    found: dict[str, _Found] = {kind: {} for kind in TENSORS}
    for key, shape in shapes.items():
        match = _KEY.fullmatch(key)
        if match and match[3] in TENSORS[match[1]]:
            found[match[1]].setdefault(int(match[2]), {})[match[3]] = shape
        elif not (match and _is_unused(match)) and key not in _STATISTICS_KEYS:
            msg = f"unknown tensor {json.dumps(key)}: {_EXPECTED}"
            raise MisfitError(msg)
    if not found["layers"]:
        msg = f"holds no layers: {_EXPECTED}"
        raise MisfitError(msg)
    return found["layers"], found["norms"]


def _is_unused(match: re.Match[str]) -> bool:
    return match[1] == "norms" and match[3] == _UNUSED


def _complete(layers: _Found) -> list[dict[str, Shape]]:
    """Return the layers in order; refuse gaps."""
    for index in range(max(layers) + 1):
        for name in TENSORS["layers"]:
            if name not in layers.get(index, {}):
                msg = f"layers.{index}.{name}: missing, though the file has layer {max(layers)}"
                raise MisfitError(msg)
    return [layers[index] for index in sorted(layers)]


def _check_layers(layers: list[tuple[Shape, Shape]]) -> None:
    for index, (weight, bias) in enumerate(layers):
        if len(weight) != 2 or min(weight) < 1:
            msg = f"layers.{index}.weight: expected shape (outputs, inputs), got {weight}"
            raise MisfitError(msg)
        if bias != weight[:1]:
            msg = f"layers.{index}.bias: expected shape {weight[:1]}, got {bias}"
            raise MisfitError(msg)
    for index, ((before, _), (after, _)) in enumerate(itertools.pairwise(layers), start=1):
        if after[1] != before[0]:
            msg = (
                f"layers.{index}.weight: expected {before[0]} inputs, which layer {index - 1} "
                f"puts out, got {after[1]}"
            )
            raise MisfitError(msg)


def _check_norms(found: _Found, hidden: list[int]) -> None:
    """Refuse batch normalisation unless there is none, or one behind each hidden layer."""
    if not found:
        return
    if max(found) >= len(hidden):
        index, name = max(found), next(iter(found[max(found)]))
        msg = (
            f"norms.{index}.{name}: expected batch normalisation behind hidden layers alone, "
            f"of which there are {len(hidden)}, counted from 0"
        )
        raise MisfitError(msg)
    for index, units in enumerate(hidden):
        for name in TENSORS["norms"]:
            shape = found.get(index, {}).get(name)
            if shape is None:
                msg = (
                    f"norms.{index}.{name}: missing, though the network has batch normalisation "
                    f"and {len(hidden)} hidden layers"
                )
                raise MisfitError(msg)
            if shape != (units,):
                msg = f"norms.{index}.{name}: expected shape {(units,)}, got {shape}"
                raise MisfitError(msg)


def _check_dtypes(codes: Codes) -> None:
    first: str | None = None
    for name, code in sorted(codes.items()):
        match = _KEY.fullmatch(name)
        if match is None or _is_unused(match):
            continue
        if code not in {"F32", "F64"}:
            msg = f"{name}: expected dtype F32 or F64 (float32, float64), got {code}"
            raise MisfitError(msg)
        first = first or code
        if code != first:
            msg = f"{name}: expected dtype {first} as in the other tensors, got {code}"
            raise MisfitError(msg)


def check_metadata(metadata: Mapping[str, str], sizes: tuple[int, ...]) -> None:
    """Raise MisfitError if what the metadata say contradicts the tensors; they may say less."""
    version = metadata.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        msg = (
            f"format_version: expected {FORMAT_VERSION}, got {json.dumps(version)}: "
            "a newer xpnet may have written this file"
        )
        raise MisfitError(msg)
    expected = {"sizes": list(sizes), "classes": sizes[-1]}
    for key, value in expected.items():
        found: object = None
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(metadata.get(key, json.dumps(value)))
        if found != value:
            msg = f"{key} in the metadata: expected {value} as in the tensors, got "
            raise MisfitError(msg + json.dumps(metadata[key])[:60])


def check_activation(activation: str) -> None:
    """Raise MisfitError unless hidden layers can have this activation."""
    if activation not in ACTIVATIONS:
        msg = f"activation: expected one of {', '.join(ACTIVATIONS)}, got "
        raise MisfitError(msg + json.dumps(activation)[:60])


def check_normalization(normalize: str, shapes: Shapes, codes: Codes, features: int) -> None:
    """Raise MisfitError unless the statistics of the inputs are those that `normalize` needs."""
    if normalize not in NORMALIZATIONS:
        msg = f"normalize: expected one of {', '.join(NORMALIZATIONS)}, got "
        raise MisfitError(msg + json.dumps(normalize)[:60])
    names = _STATISTICS_KEYS
    present = [name for name in names if name in shapes]
    if present != names and (present or normalize == "standardize"):
        absent = next(name for name in names if name not in shapes)
        msg = f"{absent}: missing, though needed to normalize inputs ({normalize})"
        raise MisfitError(msg)
    for name in present:
        if codes[name] != "F64" or shapes[name] not in ((), (features,)):
            msg = (
                f"{name}: expected F64 of shape () or ({features},), "
                f"got {codes[name]} of shape {shapes[name]}"
            )
            raise MisfitError(msg)
