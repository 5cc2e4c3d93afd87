"""Variants of images, made anew for every epoch: shifted, turned, scaled, slanted, bent.

Elastic deformation is that of Simard, Steinkraus and Platt 2003, "Best practices for convolutional
neural networks applied to visual document analysis". ``xpnet.data.distort`` draws the random numbers on the
host, ``xpnet.data.resample`` computes the pixels on the device.

This module loads no array library by itself, so that settings can be checked without one.
"""

import math
from typing import TYPE_CHECKING, Protocol

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import block_bounds
from xpnet.config.augmentation import Augmentation
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

CHUNK = 64
"""Images computed in one call, unless the caller knows better: the temporaries of 64 MNIST images stay
in the cache of a processor."""


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


class Augmenter(Protocol):
    """The function that makes the variants of images in an epoch."""

    def __call__(self, rows: Array, indices: "NDArray[np.int64]", epoch: int, /) -> Array:
        """Return the variants of (m, height · width) uint8 pixels on the device, of the same shape.

        ``indices`` (m,), on the host, are those of the samples in the data set.
        """


def build_augmenter(
    ops: Arithmetic,
    augmentation: Augmentation,
    height: int,
    width: int,
    seed: int,
    from_host: "Callable[[NDArray[np.generic]], Array]",
    chunk: int = CHUNK,
) -> Augmenter:
    """Return the function that makes the variants of images in an epoch.

    The variant of a sample follows from the seed, the epoch and the sample's index, and from nothing
    else: neither the rest of the batch nor ``chunk``, the number of images computed in one call, nor
    what was computed before. In reproducible arithmetic its bytes are the same on every backend.
    """
    from xpnet.arithmetic.host import gaussian_matrix
    from xpnet.data import distort, resample

    xp, n = ops.xp, height * width
    across, down = (from_host(gaussian_matrix(size, augmentation.elastic_sigma)) for size in (width, height))
    amplitude = augmentation.elastic_alpha * distort.NOISE_STEP
    smooth = resample.build_smoother(ops, across, down, amplitude)
    warp = resample.build_warper(ops, height, width)

    def make_variants(rows: Array, indices: "NDArray[np.int64]", epoch: int) -> Array:
        draws = distort.draw_distortions(augmentation, height, width, seed, epoch, indices)
        field = None if draws.noise is None else smooth(from_host(draws.noise))
        images = xp.reshape(rows, (-1, height, width))
        return xp.reshape(warp(images, from_host(draws.transforms), field), (-1, n))

    def augment(rows: Array, indices: "NDArray[np.int64]", epoch: int, /) -> Array:
        parts = [
            make_variants(rows[start:stop, :], indices[start:stop], epoch)
            for start, stop in block_bounds(len(indices), chunk)
        ]
        return parts[0] if len(parts) == 1 else xp.concat(parts)

    return augment
