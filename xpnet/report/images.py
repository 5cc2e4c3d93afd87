"""Small images inside the page, as data addresses that hold a PNG."""

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALLEST_SIDE = 8
"""Fewer features than its square are taken for a table, not for pixels."""
LARGEST_SIDE = 64
"""Larger images are reduced to this side."""

POSITIVE, NEGATIVE = (59, 130, 246), (234, 110, 40)
"""Colours of weights, for light and dark pages alike; the magnitude is the opacity."""


def image_side(features: int) -> int | None:
    """Return the side of the square image that the features are taken for, or None."""
    side = math.isqrt(features)
    return side if side >= SMALLEST_SIDE and side * side == features else None


def no_image(features: int) -> str:
    """Return why `features` are not taken for an image."""
    return (
        f"{features} feature{'s' * (features != 1)} are no square image "
        f"of at least {SMALLEST_SIDE} × {SMALLEST_SIDE} pixels"
    )


def ink_image(pixels: NDArray[np.generic], full: float) -> str:
    """Return (features,) pixels as an image, white on black; `full` is white, and 0 or less is black."""
    levels = np.clip(pixels.astype(np.float64) * (255.0 / full), 0.0, 255.0)
    return _address(_square(levels), {})


def weight_image(weights: NDArray[np.floating]) -> str:
    """Return (features,) weights as an image: the sign is the colour, the magnitude the opacity."""
    largest = float(np.max(np.abs(weights))) or 1.0
    image = _square(128.0 + weights.astype(np.float64) / largest * 127.0)
    image.putpalette([part for value in range(256) for part in (POSITIVE if value >= 128 else NEGATIVE)])
    opacities = bytes(min(255, abs(value - 128) * 2) for value in range(256))
    return _address(image, {"transparency": opacities})


def _square(levels: NDArray[np.float64]) -> Image.Image:
    """Return levels from 0 to 255 as a grey image, no larger than LARGEST_SIDE."""
    side = math.isqrt(levels.size)
    image = Image.fromarray(np.rint(levels).astype(np.uint8).reshape(side, side))
    if side > LARGEST_SIDE:
        return image.resize((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
    return image


def _address(image: Image.Image, options: dict[str, bytes]) -> str:
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
