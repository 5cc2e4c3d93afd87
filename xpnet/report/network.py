"""The network encoded for the script of the page."""

import base64
from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from xpnet.data.datasets import Dataset
from xpnet.nn.functional import LEAK
from xpnet.nn.layers import EPSILON
from xpnet.report.images import explain_no_image, image_side
from xpnet.storage.model_file import SavedModel

WEIGHT_LIMIT = 2_000_000
"""The largest size of the float32 weights, in bytes, for which a page contains the network."""
MOST_BARS = 20
"""The largest number of classes that the field for drawing shows bars for."""


def explain_no_drawing(model: SavedModel, data: Dataset) -> str | None:
    """Return the reason why a page has no field to draw in; None if it has one."""
    size = sum(4 * layer["weight"].size for layer in model.layers)
    if image_side(data.features) is None:
        return explain_no_image(data.features)
    if data.x_test.dtype != np.uint8 and float(data.x_test.min()) < 0:
        return "the features are not ink on an empty field, for some are below 0"
    if model.classes > MOST_BARS:
        return f"the network tells {model.classes} classes, and there is room for {MOST_BARS}"
    if size > WEIGHT_LIMIT:
        limit = f"{WEIGHT_LIMIT / 1e6:.0f} MB"
        return f"the network's weights take {size / 1e6:.1f} MB, and a page holds up to {limit}"
    if any(np.abs(weight).max() > np.finfo(np.float32).max for weight, _ in _fold_batch_norm(model)):
        return "some of the network's weights are too large for float32"
    return None


def full_ink(data: Dataset) -> float:
    """Return the value of a feature at full ink; an empty field has 0."""
    x = data.x_test
    return 255.0 if x.dtype == np.uint8 else float(x.max()) or 1.0


def encode_network(model: SavedModel, data: Dataset) -> dict[str, object]:
    """Return the network as a JSON object for the page's script, with the side and the full ink of images.

    The inputs are (raw - shift) · scale, and each layer computes Z = W A + b, with the activation between
    layers. Batch normalisation by running statistics is linear, so it is folded into W and b. W is float32,
    the rest float64, all as little-endian bytes in base64.
    """
    normalization = model.normalization
    network = {
        "activation": model.activation,
        "leak": LEAK,
        "shift": _encode_numbers(np.atleast_1d(normalization.shift), "<f8"),
        "scale": _encode_numbers(np.atleast_1d(normalization.scale), "<f8"),
        "layers": [
            {"weight": _encode_numbers(weight, "<f4"), "bias": _encode_numbers(bias, "<f8")}
            for weight, bias in _fold_batch_norm(model)
        ],
    }
    return {"side": image_side(data.features), "full": full_ink(data), "network": network}


def _fold_batch_norm(model: SavedModel) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Yield W (units, inputs) and b (units,) of each layer, with its batch normalisation folded in."""
    for layer, norm in zip_longest(model.layers, model.norms):
        weight, bias = layer["weight"], layer["bias"]
        if norm is not None:
            gamma, beta, mean, variance = (
                norm[name].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
            )
            gain = gamma / np.sqrt(variance + EPSILON)
            weight, bias = weight * gain[:, None], (bias - mean) * gain + beta
        yield weight, bias


def _encode_numbers(values: NDArray[np.generic], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()
