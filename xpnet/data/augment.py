"""Data augmentation: random shift, rotation, scaling, shear and elastic deformation of images.

Elastic deformation follows Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural
networks applied to visual document analysis". ``xpnet.data.distort`` draws the random numbers on the host,
``xpnet.data.resample`` computes the pixels on the device.

Importing this module loads no array library, so that settings can be checked without one.
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
"""Default number of images per call: the temporaries of 64 MNIST images fit a processor's cache."""


def square_side(features: int, *, pixels: bool) -> int:
    """Return the side, in pixels, of square images with that many features.

    ``pixels`` is True if the features are whole numbers from 0 to 255.

    Raises
    ------
    ConfigError
        The features are not pixels, or their number is not a square.
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
    """A function that augments the images of an epoch."""

    def __call__(self, rows: Array, indices: "NDArray[np.int64]", epoch: int, /) -> Array:
        """Return augmented pixels, uint8 (m, height · width), of such pixels on the device.

        ``indices`` (m,), on the host, are the samples' indices in the data set.
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
    """Return the function that augments the images of an epoch.

    The augmented sample depends only on the seed, the epoch and the sample's index: not on the rest of
    the batch, on ``chunk`` (the number of images computed in one call), or on earlier calls. In
    reproducible arithmetic its bytes are the same on every backend.
    """
    from xpnet.arithmetic.host import gaussian_matrix
    from xpnet.data import distort, resample

    xp, n = ops.xp, height * width
    across, down = (from_host(gaussian_matrix(size, augmentation.elastic_sigma)) for size in (width, height))
    amplitude = augmentation.elastic_alpha * distort.NOISE_STEP
    smooth = resample.build_smoother(ops, across, down, amplitude)
    warp = resample.build_warper(ops, height, width)

    def make_variants(rows: Array, indices: "NDArray[np.int64]", epoch: int) -> Array:
        transforms, noise = distort.draw_distortions(augmentation, height, width, seed, epoch, indices)
        field = None if noise is None else smooth(from_host(noise))
        images = xp.reshape(rows, (-1, height, width))
        return xp.reshape(warp(images, from_host(transforms), field), (-1, n))

    def augment(rows: Array, indices: "NDArray[np.int64]", epoch: int, /) -> Array:
        parts = [
            make_variants(rows[start:stop, :], indices[start:stop], epoch)
            for start, stop in block_bounds(len(indices), chunk)
        ]
        return parts[0] if len(parts) == 1 else xp.concat(parts)

    return augment
