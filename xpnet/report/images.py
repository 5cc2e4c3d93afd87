"""Small images inside the page, as data URLs of PNG files."""

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALLEST_SIDE = 8
"""The smallest side of an image; fewer features than its square are not treated as pixels."""
LARGEST_SIDE = 64
"""The side to which larger images are reduced."""

POSITIVE, NEGATIVE = (59, 130, 246), (234, 110, 40)
"""Colours of weights, for light and dark pages alike; the magnitude is the opacity."""


def image_side(features: int) -> int | None:
    """Return the side of the square image with so many features; None if they form no such image."""
    side = math.isqrt(features)
    return side if side >= SMALLEST_SIDE and side * side == features else None


def explain_no_image(features: int) -> str:
    """Return the reason why `features` are not treated as an image."""
    size = f"{SMALLEST_SIDE} × {SMALLEST_SIDE}"
    return f"{features} feature{'s' * (features != 1)} are no square image of at least {size} pixels"


def draw_ink_image(pixels: NDArray[np.generic], full: float) -> str:
    """Return (features,) pixels as a data URL, white on black: `full` is white, 0 or less is black."""
    levels = np.clip(pixels.astype(np.float64) * (255.0 / full), 0.0, 255.0)
    return _encode_data_url(_make_grey_image(levels), {})


def draw_weight_image(weights: NDArray[np.floating]) -> str:
    """Return (features,) weights as a data URL: the sign sets the colour, the magnitude the opacity."""
    largest = float(np.max(np.abs(weights))) or 1.0
    image = _make_grey_image(128.0 + weights.astype(np.float64) / largest * 127.0)
    image.putpalette([part for value in range(256) for part in (POSITIVE if value >= 128 else NEGATIVE)])
    opacities = bytes(min(255, abs(value - 128) * 2) for value in range(256))
    return _encode_data_url(image, {"transparency": opacities})


def _make_grey_image(levels: NDArray[np.float64]) -> Image.Image:
    """Return (side²,) grey levels from 0 to 255 as a square image, reduced to LARGEST_SIDE if larger."""
    side = math.isqrt(levels.size)
    image = Image.fromarray(np.rint(levels).astype(np.uint8).reshape(side, side))
    if side > LARGEST_SIDE:
        return image.resize((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
    return image


def _encode_data_url(image: Image.Image, options: dict[str, bytes]) -> str:
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
