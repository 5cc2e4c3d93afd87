"""Small images inside the page, as data URLs of PNG files, and the network for the field to draw in."""

import base64
import io
import math
import re
from itertools import zip_longest

import numpy as np
from PIL import Image

from xpnet._typing import HostArray, Json
from xpnet.data.datasets import Dataset
from xpnet.nn.layers import EPSILON
from xpnet.storage.model_file import TENSORS, TrainedNetwork

SMALLEST_SIDE = 8
"""The smallest side of an image; fewer features than its square are not treated as pixels."""
LARGEST_SIDE = 64
"""The side to which larger images are reduced."""
WEIGHT_LIMIT = 2_000_000
"""The largest size of the float32 weights, in bytes, for which a page contains the network."""
MOST_BARS = 20
"""The largest number of classes that the field for drawing shows bars for."""

POSITIVE, NEGATIVE = (59, 130, 246), (234, 110, 40)
"""Colours of weights, for light and dark pages alike; the magnitude is the opacity."""


def image_side(data: Dataset) -> int | None:
    """Return the side of the square images that the samples are, None if they are none.

    Features whose names differ in more than their digits, unlike pixel0 and pixel1, are no pixels.
    """
    side = math.isqrt(data.features)
    is_table = len({re.sub(r"\d", "", name) for name in data.columns.features or ()}) > 1
    return side if side >= SMALLEST_SIDE and side * side == data.features and not is_table else None


def draw_ink_image(pixels: HostArray, full: float) -> str:
    """Return (features,) pixels as a data URL, white on black: `full` is white, 0 or less is black."""
    levels = np.clip(pixels.astype(np.float64) * (255.0 / full), 0.0, 255.0)
    return _encode_data_url(_make_grey_image(levels))


def draw_weight_image(weights: HostArray) -> str:
    """Return (features,) weights as a data URL: the sign sets the colour, the magnitude the opacity."""
    largest = float(np.max(np.abs(weights))) or 1.0
    image = _make_grey_image(128.0 + weights.astype(np.float64) / largest * 127.0)
    image.putpalette([part for value in range(256) for part in (POSITIVE if value >= 128 else NEGATIVE)])
    opacities = bytes(min(255, abs(value - 128) * 2) for value in range(256))
    return _encode_data_url(image, transparency=opacities)


def _make_grey_image(levels: HostArray) -> Image.Image:
    """Return (side²,) grey levels from 0 to 255 as a square image, reduced to LARGEST_SIDE if larger."""
    side = math.isqrt(levels.size)
    image = Image.fromarray(np.rint(levels).astype(np.uint8).reshape(side, side))
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX, reducing_gap=None)
    return image


def _encode_data_url(image: Image.Image, **options: bytes) -> str:
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def can_draw(model: TrainedNetwork, data: Dataset) -> bool:
    """Return True if a page of images has a field to draw in: they are ink, and the network fits."""
    is_ink = data.x_test.dtype == np.uint8 or float(data.x_test.min()) >= 0
    size = sum(4 * layer["weight"].size for layer in model.layers)
    return is_ink and model.classes <= MOST_BARS and size <= WEIGHT_LIMIT


def full_ink(data: Dataset) -> float:
    """Return the value of a feature at full ink. An empty field has 0."""
    return 255.0 if data.x_test.dtype == np.uint8 else float(data.x_test.max()) or 1.0


def encode_network(model: TrainedNetwork, data: Dataset) -> Json:
    """Return the network as a JSON object for the page's script, with the side and the full ink of images.

    The inputs are (raw - shift) · scale, and each layer computes Z = W A + b, with the activation between
    layers. Batch normalisation by running statistics is linear, so it is folded into W and b. W is float32,
    the rest float64, all as little-endian bytes in base64.
    """
    layers = []
    for layer, norm in zip_longest(model.layers, model.norms):
        weight, bias = layer["weight"], layer["bias"]
        if norm:
            gamma, beta, mean, variance = (norm[name].astype(np.float64) for name in TENSORS["norms"])
            gain = gamma / np.sqrt(variance + EPSILON)
            weight, bias = weight * gain[:, None], (bias - mean) * gain + beta
        layers.append({"weight": _encode_numbers(weight, "<f4"), "bias": _encode_numbers(bias, "<f8")})
    statistics = model.normalization.shift, model.normalization.scale
    shift, scale = (_encode_numbers(np.atleast_1d(statistic), "<f8") for statistic in statistics)
    network = {"activation": model.activation, "shift": shift, "scale": scale, "layers": layers}
    return {"side": image_side(data), "full": full_ink(data), "network": network}


def _encode_numbers(values: HostArray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()
