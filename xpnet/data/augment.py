"""Data augmentation: random shift, rotation, scaling, shear, elastic deformation and thickness of images.

Elastic deformation follows Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural
networks applied to visual document analysis". This module draws the random numbers and computes the affine
transforms on the host, by + - * and division of NumPy's float64 alone, which are bit-identical on every
machine; ``xpnet.data.resample`` computes the pixels on the device.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.arithmetic import random
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import block_bounds
from xpnet.arithmetic.host import gaussian_matrix, sine_and_cosine
from xpnet.config.settings import DISTORTIONS, AugmentationSettings
from xpnet.data.resample import STEPS, build_smoother, build_warper, thicken
from xpnet.errors import ConfigError

Augmenter = Callable[[Array, NDArray[np.integer], int], Array]
"""Computes the augmented pixels from pixels, uint8 (m, height · width) on the device, the samples' indices
(m,) in the data set, on the host, and the epoch."""
CHUNK = 64
"""Default number of images per call: the temporaries of 64 MNIST images fit a processor's cache."""
FULL_STRENGTH = 256
"""The distortions are scaled by whole numbers of 1/256."""
ELASTIC_SIGMA = 4.0
"""Default of the standard deviation of the Gaussian, in pixels."""

_WORDS = 5
"""Random words of a sample for its transform; then comes one for the thickness, if that changes, and each
further one holds four numbers of noise."""


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


def is_augmented(settings: AugmentationSettings) -> bool:
    """Return True if any amount is not 0, so that variants differ from their image."""
    return any(getattr(settings, name) for name in DISTORTIONS)


def build_fade(fade_epochs: int, epochs: int) -> Callable[[int], int]:
    """Return the function that gives the strength of the distortions in an epoch, in 1/256.

    Epochs count from 1. In the last ``fade_epochs`` of ``epochs`` it falls linearly, by
    1 / (``fade_epochs`` + 1) an epoch and rounded down; it is full before, and stays as it is afterwards.
    """

    def strength(epoch: int) -> int:
        left = max(epochs - epoch, 0) + 1
        return FULL_STRENGTH * min(left, fade_epochs + 1) // (fade_epochs + 1)

    return strength


def build_augmenter(
    ops: Arithmetic,
    settings: AugmentationSettings,
    height: int,
    width: int,
    seed: int,
    from_host: Callable[[NDArray[np.generic]], Array],
    strength: Callable[[int], int] = lambda _: FULL_STRENGTH,
    chunk: int = CHUNK,
) -> Augmenter:
    """Return the function that augments the images of an epoch.

    Each amount is drawn uniformly from [-limit, limit], with the limit in the settings. An image is sheared,
    scaled and rotated about its centre, and then shifted. The elastic deformation is added to that: a pixel
    is fetched from d pixels further, where d across and d down are ``augment_elastic_alpha`` times a field of
    numbers uniform in [-1, 1), one a pixel, filtered with a Gaussian of standard deviation
    ``augment_elastic_sigma`` whose weights add up to 1 (cut off beyond four standard deviations, zeros
    outside the image: SciPy's ``gaussian_filter(mode="constant")``). Far from the edges d has the standard
    deviation 0.163 alpha / sigma: 1.4 pixels with the alpha of 34 and sigma of 4 that suit MNIST. At last
    lines become thicker or thinner (``resample.thicken``). All amounts and numbers are scaled by the
    ``strength`` in the epoch, in 1/256.

    The augmented sample depends only on the seed, the epoch and the sample's index: not on the rest of
    the batch, on ``chunk`` (the number of images computed in one call), or on earlier calls. In
    reproducible arithmetic its bytes are the same on every backend.
    """
    xp, n = ops.xp, height * width
    sigma = settings.augment_elastic_sigma or ELASTIC_SIGMA
    across, down = (from_host(gaussian_matrix(size, sigma)) for size in (width, height))
    amplitude = settings.augment_elastic_alpha * random.NOISE_STEP
    smooth = build_smoother(ops, across, down, amplitude)
    warp = build_warper(ops, height, width)

    def make_variants(rows: Array, indices: NDArray[np.integer], epoch: int) -> Array:
        drawn = draw_distortions(settings, height, width, seed, epoch, indices, strength(epoch))
        field = None if drawn.noise is None else smooth(from_host(drawn.noise))
        images = warp(xp.reshape(rows, (-1, height, width)), from_host(drawn.transforms), field)
        if drawn.thickness is not None:
            images = thicken(ops, images, from_host(drawn.thickness))
        return xp.reshape(images, (-1, n))

    def augment(rows: Array, indices: NDArray[np.integer], epoch: int, /) -> Array:
        bounds = block_bounds(len(indices), chunk)
        parts = [make_variants(rows[start:stop, :], indices[start:stop], epoch) for start, stop in bounds]
        return parts[0] if len(parts) == 1 else xp.concat(parts)

    return augment


class Distortions(NamedTuple):
    """The distortions of m images."""

    transforms: NDArray[np.float64]  # (2, m, 3), of compute_transforms
    noise: NDArray[np.int16] | None  # (width, 2, m, height); None without elastic deformation
    thickness: NDArray[np.int16] | None  # (m,) in 1/128 pixel; None if it does not change


def draw_distortions(
    settings: AugmentationSettings,
    height: int,
    width: int,
    seed: int,
    epoch: int,
    indices: NDArray[np.integer],
    strength: int = FULL_STRENGTH,
) -> Distortions:
    """Return the distortions of the samples with these (m,) indices.

    The first 5 random words of a sample give shift across, shift down, rotation, scale and shear, from -1
    to 1, and with ``augment_thickness`` the next gives the thickness. The rest hold signed 16-bit integers,
    4 per word from the lowest bits up: (width, 2, height), where the axis of length 2 holds displacements
    across and down. All are multiplied by ``strength`` / 256, the integers rounded down.
    """
    first = _WORDS + (settings.augment_thickness > 0)
    elastic, fields = settings.augment_elastic_alpha > 0, 2 * height * width
    count = first + (-(-fields // 4) if elastic else 0)
    words = random.words_per_index(seed, random.Purpose.AUGMENT, count, epoch=epoch, indices=indices)
    amounts = (2.0 * random.uniform(words[:, :first]) - 1.0) * (strength / FULL_STRENGTH)
    transforms = compute_transforms(settings, height, width, amounts[:, :_WORDS])
    noise = thickness = None
    if first > _WORDS:
        thickness = np.floor(amounts[:, _WORDS] * settings.augment_thickness * STEPS).astype(np.int16)
    if elastic:
        noise = words[:, first:].astype("<u8", copy=False).view("<i2")[:, :fields]
        if strength < FULL_STRENGTH:
            noise = noise.astype(np.int32) * strength // FULL_STRENGTH
        noise = np.moveaxis(noise.reshape(-1, width, 2, height), 0, 2)
        noise = np.ascontiguousarray(noise, dtype=np.int16)
    return Distortions(transforms, noise, thickness)


def compute_transforms(
    settings: AugmentationSettings, height: int, width: int, amounts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the inverse affine transforms (2, m, 3) for (m, 5) amounts in [-1, 1).

    With a, b, c = result[0] and (X, Y) a pixel's position relative to the image's centre, Y downwards, the
    pixel is sampled at column a X + b Y + c, counted from 0; result[1] gives the row. This inverts

        (X, Y) -> T R S K (X, Y),  K = [1, -k; 0, 1],  S = s,  R = [cos θ, sin θ; -sin θ, cos θ]

    the shear k, the scale s, the counter-clockwise rotation θ and the shift T by t.
    """
    across, down, rotation, scale, shear = amounts.T
    sine, cosine = sine_and_cosine(settings.augment_rotate * rotation)
    size = 1.0 + settings.augment_scale * scale
    y = np.stack([sine / size, cosine / size])
    x = np.stack([y[1], -y[0]]) + settings.augment_shear * shear * y
    centre = np.reshape([(width - 1) / 2, (height - 1) / 2], (2, 1))
    matrix = np.stack([x, y])  # (2, 2, m)
    moved = matrix[:, 0] * (settings.augment_shift * across) + matrix[:, 1] * (settings.augment_shift * down)
    return np.stack([matrix[:, 0], matrix[:, 1], centre - moved], axis=-1)
