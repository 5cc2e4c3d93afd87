"""Data augmentation: random shift, rotation, scaling, shear, elastic deformation and thickness of images.

Elastic deformation follows Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural
networks applied to visual document analysis". Random numbers are drawn and affine transforms computed on the
host, by + - * and division of NumPy's float64 alone, which are bit-identical on every machine; pixels are
computed on the device.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from xpnet._typing import Array, HostArray
from xpnet.arithmetic import random
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import block_bounds
from xpnet.arithmetic.host import gaussian_matrix, sine_and_cosine
from xpnet.config.settings import DISTORTIONS, AugmentationSettings
from xpnet.errors import ConfigError, setting

Augmenter = Callable[[Array, HostArray, int], Array]
"""Computes the augmented pixels from pixels, uint8 (m, height · width) on the device, the samples' indices
(m,) in the data set, on the host, and the epoch."""
CHUNK = 64
"""The number of images per call: the temporaries of 64 MNIST images fit a processor's cache."""
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
        problem = "needs images of pixels, whole numbers from 0 to 255; the data hold decimals"
        raise ConfigError(f"{setting('augment_*')}: {problem}")
    side = math.isqrt(features)
    if side * side != features:
        raise ConfigError(f"{setting('augment_*')}: needs square images; {features} features make no square")
    return side


def is_augmented(settings: AugmentationSettings) -> bool:
    """Return True if any amount is not 0, so that variants differ from their image."""
    return any(getattr(settings, name) for name in DISTORTIONS)


def build_fade(fade_epochs: int, epochs: int) -> Callable[[int], int]:
    """Return the function that gives the strength of the distortions in an epoch, in 1/256.

    Epochs count from 1. In the last ``fade_epochs`` of ``epochs`` it falls linearly, by
    1 / (``fade_epochs`` + 1) an epoch and rounded down; it is full before, and stays as it is afterwards.
    """
    steps = fade_epochs + 1
    return lambda epoch: FULL_STRENGTH * min(max(epochs - epoch, 0) + 1, steps) // steps


def build_augmenter(
    ops: Arithmetic,
    settings: AugmentationSettings,
    side: int,
    seed: int,
    from_host: Callable[[HostArray], Array],
    strength: Callable[[int], int] = lambda _: FULL_STRENGTH,
) -> Augmenter:
    """Return the function that augments the images of an epoch.

    Each amount is drawn uniformly from [-limit, limit], with the limit in the settings. An image is sheared,
    scaled and rotated about its centre, and then shifted. The elastic deformation is added to that: a pixel
    is fetched from d pixels further, where d across and d down are ``augment_elastic_alpha`` times a field of
    numbers uniform in [-1, 1), one a pixel, filtered with a Gaussian of standard deviation
    ``augment_elastic_sigma`` whose weights add up to 1 (cut off beyond four standard deviations, zeros
    outside the image: SciPy's ``gaussian_filter(mode="constant")``). Far from the edges d has the standard
    deviation 0.163 alpha / sigma: 1.4 pixels with the alpha of 34 and sigma of 4 that suit MNIST. At last
    lines become thicker or thinner (``thicken``). All amounts and numbers are scaled by the
    ``strength`` in the epoch, in 1/256.

    The augmented sample depends only on the seed, the epoch and the sample's index: not on the rest of the
    batch, on the number of images computed in one call, or on earlier calls. In reproducible arithmetic its
    bytes are the same on every backend.
    """
    xp = ops.xp
    gaussian = from_host(gaussian_matrix(side, settings.augment_elastic_sigma or ELASTIC_SIGMA))
    smooth = build_smoother(ops, gaussian, settings.augment_elastic_alpha * random.NOISE_STEP)
    warp = build_warper(ops, side)

    def make_variants(rows: Array, indices: HostArray, epoch: int) -> Array:
        drawn = draw_distortions(settings, side, seed, epoch, indices, strength(epoch))
        transforms, noise, thickness = (None if array is None else from_host(array) for array in drawn)
        field = None if noise is None else smooth(noise)
        images = warp(xp.reshape(rows, (-1, side, side)), transforms, field)
        if thickness is not None:
            images = thicken(ops, images, thickness)
        return xp.reshape(images, rows.shape)

    def augment(rows: Array, indices: HostArray, epoch: int, /) -> Array:
        bounds = block_bounds(len(indices), CHUNK)
        parts = [make_variants(rows[start:stop, :], indices[start:stop], epoch) for start, stop in bounds]
        return parts[0] if len(parts) == 1 else xp.concat(parts)

    return augment


def draw_distortions(
    settings: AugmentationSettings,
    side: int,
    seed: int,
    epoch: int,
    indices: HostArray,
    strength: int = FULL_STRENGTH,
) -> "tuple[HostArray, HostArray | None, HostArray | None]":
    """Return the distortions of the samples with these (m,) indices: transforms, noise and thickness.

    The transforms are those of `compute_transforms`, (2, m, 3). The noise, (columns, 2, m, rows), is None
    without elastic deformation, and the thickness, (m,) in 1/128 pixel, None if it does not change.

    The first 5 random words of a sample give shift across, shift down, rotation, scale and shear, from -1
    to 1, and with ``augment_thickness`` the next gives the thickness. The rest hold signed 16-bit integers,
    4 per word from the lowest bits up: (columns, 2, rows), where the axis of length 2 holds displacements
    across and down. All are multiplied by ``strength`` / 256, the integers rounded down.
    """
    first = _WORDS + (settings.augment_thickness > 0)
    elastic, fields = settings.augment_elastic_alpha > 0, 2 * side * side
    count = first + (-(-fields // 4) if elastic else 0)
    words = random.words_per_index(seed, random.Purpose.AUGMENT, count, epoch=epoch, indices=indices)
    amounts = (2.0 * random.uniform(words[:, :first]) - 1.0) * (strength / FULL_STRENGTH)
    transforms = compute_transforms(settings, side, amounts[:, :_WORDS])
    noise = thickness = None
    if first > _WORDS:
        thickness = np.floor(amounts[:, _WORDS] * settings.augment_thickness * STEPS).astype(np.int16)
    if elastic:
        noise = words[:, first:].astype("<u8", copy=False).view("<i2")[:, :fields]
        if strength < FULL_STRENGTH:
            noise = noise.astype(np.int32) * strength // FULL_STRENGTH
        noise = np.moveaxis(noise.reshape(-1, side, 2, side), 0, 2)
        noise = np.ascontiguousarray(noise, dtype=np.int16)
    return transforms, noise, thickness


def compute_transforms(settings: AugmentationSettings, side: int, amounts: HostArray) -> HostArray:
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
    matrix = np.stack([x, y])  # (2, 2, m)
    moved = matrix[:, 0] * (settings.augment_shift * across) + matrix[:, 1] * (settings.augment_shift * down)
    return np.stack([matrix[:, 0], matrix[:, 1], (side - 1) / 2 - moved], axis=-1)


# Pixels on the device: backward warping with bilinear interpolation, and thicker or thinner lines
#
# Sampling positions are floats, rounded to 1/128 pixel; all else is exact, in integers.

STEPS = 128
"""Positions per pixel. Two sums of pixels times steps (255 · 128 < 2^15) then fit one int32."""

_STEP_BITS = 7
_HALF = 1 << (2 * _STEP_BITS - 1)
_LANES = 0x00FF00FF  # two pixels in one int32, 16 bits apart


def build_smoother(ops: Arithmetic, gaussian: Array, amplitude: float) -> Callable[[Array], Array]:
    """Return the function that filters noise into displacements, in steps, times 128 · ``amplitude``.

    ``gaussian`` (side, side) is a symmetric filter matrix. The function takes integers (columns, 2, m, rows)
    and returns displacements (2, m, rows, columns).
    """
    xp = ops.xp
    gaussian = xp.astype(gaussian, ops.dtype)
    across_filter, down_filter = ops.operand(gaussian * (amplitude * STEPS)), ops.operand(gaussian)

    def smooth(noise: Array) -> Array:
        side, two, m, _ = noise.shape
        columns = xp.reshape(xp.astype(noise, ops.dtype), (-1, side))
        columns = xp.reshape(ops.matmul(columns, down_filter), (side, -1))
        return xp.reshape(ops.matmul(ops.transpose(columns), across_filter), (two, m, side, side))

    return smooth


def build_warper(ops: Arithmetic, side: int) -> Callable[[Array, Array, Array | None], Array]:
    """Return the function that warps m images.

    It takes images (m, side, side) uint8, transforms (2, m, 3) and displacements in steps
    (2, m, side, side) or None. With a, b, c = transforms[0, i] the pixel (X, Y), counted from the
    centre of image i, is sampled at column a X + b Y + c + displacements[0, i] / 128; transforms[1] and
    displacements[1] give the row likewise. Pixels outside the image are 0.
    """
    xp = ops.xp
    columns = xp.reshape(ops.array([x - (side - 1) / 2 for x in range(side)]), (1, 1, 1, side))
    rows = xp.matrix_transpose(columns)
    # Positions count from the border of zeros around an image, to which positions further out are clipped.
    last = STEPS * (side + 1.0)

    def warp(images: Array, transforms: Array, displacements: Array | None) -> Array:
        transforms = xp.astype(transforms, ops.dtype) * float(STEPS)
        a, b, c = (xp.reshape(transforms[:, :, k], (2, -1, 1, 1)) for k in range(3))
        across, down = a * columns + (c + (STEPS + 0.5)), b * rows
        steps = across + down if displacements is None else displacements + across + down
        steps = xp.minimum(xp.maximum(steps, 0.0), last)
        return _interpolate(ops, images, xp.astype(steps, xp.int32))  # rounds down

    return warp


def _interpolate(ops: Arithmetic, images: Array, steps: Array) -> Array:
    """Return images (m, height, width) sampled at columns and rows (2, m, height, width), in steps.

    Interpolation is bilinear, and halves round up. Positions count from the border of zeros around the
    image, and must not be outside of it.
    """
    xp = ops.xp
    m, height, width = images.shape
    squares, stride = _pack_neighbours(ops, images)
    whole, rest = steps >> _STEP_BITS, steps & (STEPS - 1)
    first = xp.arange(m, dtype=xp.int32, device=ops.device) * ((height + 1) * stride)
    corner = whole[1, ...] * stride + whole[0, ...] + xp.reshape(first, (m, 1, 1))
    square = xp.take(squares, xp.reshape(corner, (-1,)), axis=0)
    square = xp.reshape(square, (m, height, width))
    left, right = square & _LANES, (square >> 8) & _LANES
    both = left * STEPS + (right - left) * rest[0, ...]  # the upper row, and 2^16 times the lower
    upper, lower = both & 0xFFFF, both >> 16
    total = upper * STEPS + (lower - upper) * rest[1, ...]
    return xp.astype((total + _HALF) >> (2 * _STEP_BITS), xp.uint8)


def _pack_neighbours(ops: Arithmetic, images: Array) -> tuple[Array, int]:
    """Pack every pixel with its neighbours to the right and below into an int32; return these and the stride.

    The bytes, lowest first, are the pixel, its right neighbour, the pixel below, and the right neighbour
    of that. One zero precedes each row, and one row of zeros each image; they serve as the border after
    the previous row or image too.
    """
    xp = ops.xp
    m, height, width = images.shape
    stride, zeros = width + 1, partial(xp.zeros, dtype=xp.int32, device=ops.device)
    rows = xp.concat([zeros((m, height, 1)), xp.astype(images, xp.int32)], axis=2)
    rows = xp.concat([zeros((m, 1, stride)), rows], axis=1)
    flat = xp.concat([xp.reshape(rows, (-1,)), zeros((2 * stride + 2,))])
    pairs = flat[:-1] + (flat[1:] << 8)
    return pairs[:-stride] + (pairs[stride:] << 16), stride  # the sign is a bit of the highest byte


def thicken(ops: Arithmetic, images: Array, thickness: Array) -> Array:
    """Return images (m, height, width) uint8 with bright lines that are thicker or thinner at each edge.

    The thickness (m,) int16 is in 1/128 pixel, from -128 to 128. With a thickness k, a pixel P becomes
    P + (max - P) k / 128 for k > 0 and P + (P - min) k / 128 for k < 0, rounded, halves up, where max and
    min are those of the pixel and its four neighbours, 0 outside the image. So 128 is the dilation, and -128
    the erosion, of grey images with a cross (Serra 1982, "Image analysis and mathematical morphology").
    """
    xp = ops.xp
    m, height, width = images.shape
    zeros = partial(xp.zeros, dtype=xp.int16, device=ops.device)
    pixels = xp.astype(images, xp.int16)  # the largest product is 255 times 128
    rows = xp.concat([zeros((m, height, 1)), pixels, zeros((m, height, 1))], axis=2)
    columns = xp.concat([zeros((m, 1, width)), pixels, zeros((m, 1, width))], axis=1)
    left = rows[:, :, :-2]
    right = rows[:, :, 2:]
    above = columns[:, :-2, :]
    below = columns[:, 2:, :]
    thickness = xp.reshape(thickness, (m, 1, 1))
    most = xp.maximum(xp.maximum(left, right), xp.maximum(above, below))
    least = xp.minimum(xp.minimum(left, right), xp.minimum(above, below))
    contrast = xp.where(thickness > 0, xp.maximum(most, pixels) - pixels, pixels - xp.minimum(least, pixels))
    change = (contrast * thickness + STEPS // 2) >> _STEP_BITS
    return xp.astype(pixels + change, xp.uint8)
