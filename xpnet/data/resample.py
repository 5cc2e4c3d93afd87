"""Images resampled on the device: backward warping with bilinear interpolation.

Where a pixel comes from is computed in floating point and rounded to 1/128 pixel; from there on all is
whole numbers, and exact.
"""

from collections.abc import Callable

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic

STEPS = 128
"""Places between two pixels. Two sums of pixels times steps (255 · 128 < 2^15) then fit one int32."""

_STEP_BITS = 7
_HALF = 1 << (2 * _STEP_BITS - 1)
_LANES = 0x00FF00FF  # two pixels in one int32, 16 bits apart


def build_smoother(ops: Arithmetic, across: Array, down: Array, amplitude: float) -> Callable[[Array], Array]:
    """Return the function from noise to displacements in steps: filtered, times 128 · ``amplitude``.

    ``across`` (width, width) and ``down`` (height, height) are symmetric filter matrices. The function
    takes (width, 2, m, height) integers and returns (2, m, height, width), the 2 untouched.
    """
    xp = ops.xp
    across_filter = ops.operand(xp.astype(across, ops.dtype) * (amplitude * STEPS))
    down_filter = ops.operand(xp.astype(down, ops.dtype))

    def smooth(noise: Array) -> Array:
        width, two, m, height = noise.shape
        columns = xp.reshape(xp.astype(noise, ops.dtype), (-1, height))
        columns = xp.reshape(ops.matmul(columns, down_filter), (width, -1))
        return xp.reshape(ops.matmul(ops.transpose(columns), across_filter), (two, m, height, width))

    return smooth


def build_warper(ops: Arithmetic, height: int, width: int) -> Callable[[Array, Array, Array | None], Array]:
    """Return the function that fetches every pixel of m images from elsewhere in its image.

    It takes images (m, height, width) uint8, transforms (2, m, 3) and displacements in steps
    (2, m, height, width) or None. With a, b, c = transforms[0, i] the pixel (X, Y), counted from the
    centre of image i, comes from column a X + b Y + c + displacements[0, i] / 128; transforms[1] and
    displacements[1] give the row likewise. Outside the images is 0.
    """
    xp = ops.xp

    def constant(values: list[float], *shape: int) -> Array:
        return xp.reshape(xp.asarray(values, dtype=ops.dtype, device=ops.device), shape)

    columns = constant([x - (width - 1) / 2 for x in range(width)], 1, 1, 1, width)
    rows = constant([y - (height - 1) / 2 for y in range(height)], 1, 1, height, 1)
    # Counted from the border of zeros around an image, where whatever is further away comes from too.
    last = constant([STEPS * (width + 1.0), STEPS * (height + 1.0)], 2, 1, 1, 1)

    def warp(images: Array, transforms: Array, displacements: Array | None) -> Array:
        transforms = xp.astype(transforms, ops.dtype) * float(STEPS)
        a, b, c = (xp.reshape(transforms[:, :, k], (2, -1, 1, 1)) for k in range(3))
        across, down = a * columns + (c + (STEPS + 0.5)), b * rows
        steps = across + down if displacements is None else displacements + across + down
        steps = xp.minimum(xp.maximum(steps, 0.0), last)
        return _interpolate(ops, images, xp.astype(steps, xp.int32))  # rounds down

    return warp


def _interpolate(ops: Arithmetic, images: Array, steps: Array) -> Array:
    """Return the pixels of (m, height, width) images at (2, m, height, width) columns and rows in steps.

    Between pixels they are interpolated linearly across and down, and rounded, halves up. A place is
    counted from the border of zeros around the image, of which it must not be outside.
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
    """Return every pixel with its three neighbours to the right and below in one int32, and the stride.

    From the lowest byte: the pixel, the right one, the pixel below, the one right of that. Each row of
    an image has one zero before it, and each image one row of zeros; what lies after a row or an image
    is the zero of the next one.
    """
    xp = ops.xp
    m, height, width = images.shape
    stride = width + 1

    def zeros(*shape: int) -> Array:
        return xp.zeros(shape, dtype=xp.int32, device=ops.device)

    rows = xp.concat([zeros(m, height, 1), xp.astype(images, xp.int32)], axis=2)
    rows = xp.concat([zeros(m, 1, stride), rows], axis=1)
    flat = xp.concat([xp.reshape(rows, (-1,)), zeros(2 * stride + 2)])
    pairs = flat[:-1] + (flat[1:] << 8)
    return pairs[:-stride] + (pairs[stride:] << 16), stride  # bits: the sign is one of them
