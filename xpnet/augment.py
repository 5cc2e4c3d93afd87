"""Variants of images, made anew for every epoch: shifted, turned, scaled, slanted, bent.

Elastic deformation is that of Simard, Steinkraus and Platt 2003, "Best practices for convolutional
neural networks applied to visual document analysis". ``xpnet.distort`` draws the random numbers on the
host, ``xpnet.resample`` computes the pixels on the device.

This module loads no array library by itself, so that settings can be checked without one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array
from xpnet.blocks import block_bounds
from xpnet.errors import ConfigError

CHUNK = 64
"""Images computed in one call, unless the caller knows better: the temporaries of 64 MNIST images stay
in the cache of a processor."""


class Limits(NamedTuple):
    """What a setting may be."""

    lowest: float
    highest: float
    unit: str


LIMITS = {
    "shift": Limits(0.0, 1000.0, "pixels"),
    "rotate": Limits(0.0, 180.0, "degrees"),
    "scale": Limits(0.0, 0.9, "a share of the size"),
    "shear": Limits(0.0, 10.0, "pixels sideways per pixel of height"),
    "elastic_alpha": Limits(0.0, 10000.0, "pixels"),
    "elastic_sigma": Limits(0.1, 100.0, "pixels"),
}


@dataclass(frozen=True)
class Augmentation:
    """How far images are distorted. Every amount is uniform between its negative and itself.

    An image is slanted, scaled and turned about its centre, and then shifted. The elastic deformation
    is added to that: each pixel is fetched from d pixels further, where d across and d down are
    ``elastic_alpha`` times a field of numbers uniform in [-1, 1), one a pixel, filtered with a
    Gaussian of standard deviation ``elastic_sigma`` whose weights add up to 1 (cut off beyond four
    standard deviations, zeros outside the image: SciPy's ``gaussian_filter(mode="constant")``). Far
    from the edges d has the standard deviation 0.163 alpha / sigma: 1.4 pixels with the alpha of 34 and
    sigma of 4 that suit MNIST.

    Raises
    ------
    ConfigError
        A setting is no number or out of range.
    """

    shift: float = 0.0
    """Pixels, across and down."""

    rotate: float = 0.0
    """Degrees."""

    scale: float = 0.0
    """Share of the size: 0.1 makes images up to 10 % smaller or larger."""

    shear: float = 0.0
    """Pixels sideways per pixel of height."""

    elastic_alpha: float = 0.0
    """Pixels by which the filtered field is multiplied; 0 leaves the deformation out."""

    elastic_sigma: float = 4.0
    """Standard deviation, in pixels, of the Gaussian that filters the field."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if expected := problem(field.name, value):
                msg = f"{flag(field.name)}: {expected}, got {value!r}"
                raise ConfigError(msg)

    @property
    def enabled(self) -> bool:
        """Whether any variant differs from its image."""
        amounts = (self.shift, self.rotate, self.scale, self.shear, self.elastic_alpha)
        return any(amount > 0 for amount in amounts)


def problem(name: str, value: object) -> str | None:
    """Return what was expected of the setting ``name``, if ``value`` is something else."""
    lowest, highest, unit = LIMITS[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and lowest <= value <= highest:  # type: ignore[operator]
        return None
    return f"expected a number from {lowest:g} to {highest:g} ({unit})"


def flag(name: str) -> str:
    """Return the command-line flag of the setting ``name``."""
    return "--augment-" + name.replace("_", "-")


def square_side(features: int, *, pixels: bool) -> int:
    """Return height and width of square images with so many features.

    ``pixels`` says whether the features are whole numbers from 0 to 255.

    Raises
    ------
    ConfigError
        The features are no pixels, or do not make a square.
    """
    if not pixels:
        msg = "--augment-*: needs images of pixels, whole numbers from 0 to 255; the data hold decimals"
        raise ConfigError(msg)
    side = math.isqrt(features)
    if side * side != features:
        msg = f"--augment-*: needs square images; {features} features make no square"
        raise ConfigError(msg)
    return side


Augmenter = Callable[[Array, Array, int], Array]
"""(rows, indices, epoch) -> rows: (m, height · width) uint8 pixels on the device, the samples' (m,)
int64 indices in the data set on the host (NumPy), the epoch -> the variants, of the rows' shape."""


def augmenter(
    ops: Arithmetic,
    augmentation: Augmentation,
    height: int,
    width: int,
    seed: int,
    from_host: Callable[[Array], Array],
    chunk: int = CHUNK,
) -> Augmenter:
    """Return the function that makes the variants of images in an epoch.

    The variant of a sample follows from the seed, the epoch and the sample's index, and from nothing
    else: neither the rest of the batch nor ``chunk``, the number of images computed in one call, nor
    what was computed before. In reproducible arithmetic its bytes are the same on every backend.
    """
    from xpnet import distort, resample

    xp, n = ops.xp, height * width
    elastic = augmentation.elastic_alpha > 0
    across, down = (
        from_host(distort.gaussian_matrix(size, augmentation.elastic_sigma))
        for size in (width, height)
    )
    amplitude = augmentation.elastic_alpha * distort.NOISE_STEP
    smooth = resample.smoother(ops, across, down, amplitude)
    warp = resample.warper(ops, height, width)

    def variants(rows: Array, indices: Array, epoch: int) -> Array:
        draws = distort.draw(augmentation, height, width, seed, epoch, indices)
        field = smooth(from_host(draws.noise)) if elastic else None
        images = xp.reshape(rows, (-1, height, width))
        return xp.reshape(warp(images, from_host(draws.transforms), field), (-1, n))

    def augment(rows: Array, indices: Array, epoch: int) -> Array:
        parts = [
            variants(rows[start:stop, :], indices[start:stop], epoch)
            for start, stop in block_bounds(len(indices), chunk)
        ]
        return parts[0] if len(parts) == 1 else xp.concat(parts)

    return augment
