"""The network as the page holds it: what its script computes with."""

import base64
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.datasets import Dataset
from xpnet.inference.predictor import model_normalization
from xpnet.nn.functional import LEAK
from xpnet.nn.layers import EPSILON
from xpnet.report.images import image_side, no_image
from xpnet.storage.model_file import SavedModel

WEIGHT_LIMIT = 2_000_000
"""Bytes of float32 weights, above which a page does without the network."""
MOST_BARS = 20
"""Classes up to which there is a bar for each while drawing."""


def no_drawing(model: SavedModel, data: Dataset) -> str | None:
    """Return why a page has no field to draw in, or None if it has one."""
    size = sum(4 * layer["weight"].size for layer in model.layers)
    if image_side(data.features) is None:
        return no_image(data.features)
    if data.x_test.dtype != np.uint8 and float(data.x_test.min()) < 0:
        return "the features are not ink on an empty field, for some are below 0"
    if model.classes > MOST_BARS:
        return f"the network tells {model.classes} classes, and there is room for {MOST_BARS}"
    if size > WEIGHT_LIMIT:
        return (
            f"the network's weights take {size / 1e6:.1f} MB, and a page holds up to "
            f"{WEIGHT_LIMIT / 1e6:.0f} MB"
        )
    if any(np.abs(weight).max() > np.finfo(np.float32).max for weight, _ in _linear(model)):
        return "some of the network's weights are too large for float32"
    return None


def full_ink(data: Dataset) -> float:
    """Return the feature that full ink has; an empty field has 0."""
    x = data.x_test
    return 255.0 if x.dtype == np.uint8 else float(x.max()) or 1.0


def embedded(model: SavedModel, data: Dataset) -> dict[str, Any]:
    """Return the network for the page's script as JSON can hold it, with the side and the full ink of images.

    Its inputs are (raw - shift) · scale, and each layer then is Z = W A + b with an activation between
    two. Batch normalisation by running statistics is linear, so it goes into W and b. W is float32,
    all else float64; all are little-endian bytes in base64.
    """
    normalization = model_normalization(model)
    network = {
        "activation": model.activation,
        "leak": LEAK,
        "shift": _numbers(np.atleast_1d(normalization.shift), "<f8"),
        "scale": _numbers(np.atleast_1d(normalization.scale), "<f8"),
        "layers": [
            {"weight": _numbers(weight, "<f4"), "bias": _numbers(bias, "<f8")}
            for weight, bias in _linear(model)
        ],
    }
    return {"side": image_side(data.features), "full": full_ink(data), "network": network}


def _linear(model: SavedModel) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Yield W and b of each layer, with the batch normalisation behind it folded in."""
    for layer, norm in zip_longest(model.layers, model.norms):
        weight, bias = layer["weight"], layer["bias"]
        if norm is not None:
            gamma, beta, mean, variance = (
                norm[name].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
            )
            gain = gamma / np.sqrt(variance + EPSILON)
            weight, bias = weight * gain[:, None], (bias - mean) * gain + beta
        yield weight, bias


def _numbers(values: NDArray[np.generic], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()
