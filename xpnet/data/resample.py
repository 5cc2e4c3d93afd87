"""Pixels of images on the device: backward warping with bilinear interpolation, and thicker or thinner lines.

Sampling positions are computed in floating point and rounded to 1/128 pixel; all else is exact, in integers.
"""

from collections.abc import Callable

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic

STEPS = 128
"""Positions per pixel. Two sums of pixels times steps (255 · 128 < 2^15) then fit one int32."""

_STEP_BITS = 7
_HALF = 1 << (2 * _STEP_BITS - 1)
_LANES = 0x00FF00FF  # two pixels in one int32, 16 bits apart


def build_smoother(ops: Arithmetic, across: Array, down: Array, amplitude: float) -> Callable[[Array], Array]:
    """Return the function that filters noise into displacements, in steps, times 128 · ``amplitude``.

    ``across`` (width, width) and ``down`` (height, height) are symmetric filter matrices. The function
    takes integers (width, 2, m, height) and returns displacements (2, m, height, width).
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
    """Return the function that warps m images.

    It takes images (m, height, width) uint8, transforms (2, m, 3) and displacements in steps
    (2, m, height, width) or None. With a, b, c = transforms[0, i] the pixel (X, Y), counted from the
    centre of image i, is sampled at column a X + b Y + c + displacements[0, i] / 128; transforms[1] and
    displacements[1] give the row likewise. Pixels outside the image are 0.
    """
    xp = ops.xp

    def constant(values: list[float], *shape: int) -> Array:
        return xp.reshape(xp.asarray(values, dtype=ops.dtype, device=ops.device), shape)

    columns = constant([x - (width - 1) / 2 for x in range(width)], 1, 1, 1, width)
    rows = constant([y - (height - 1) / 2 for y in range(height)], 1, 1, height, 1)
    # Positions count from the border of zeros around an image, to which positions further out are clipped.
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
    stride = width + 1

    def zeros(*shape: int) -> Array:
        return xp.zeros(shape, dtype=xp.int32, device=ops.device)

    rows = xp.concat([zeros(m, height, 1), xp.astype(images, xp.int32)], axis=2)
    rows = xp.concat([zeros(m, 1, stride), rows], axis=1)
    flat = xp.concat([xp.reshape(rows, (-1,)), zeros(2 * stride + 2)])
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

    def zeros(*shape: int) -> Array:
        return xp.zeros(shape, dtype=xp.int16, device=ops.device)

    pixels = xp.astype(images, xp.int16)  # the largest product is 255 times 128
    rows = xp.concat([zeros(m, height, 1), pixels, zeros(m, height, 1)], axis=2)
    columns = xp.concat([zeros(m, 1, width), pixels, zeros(m, 1, width)], axis=1)
    left, right, above, below = rows[:, :, :-2], rows[:, :, 2:], columns[:, :-2, :], columns[:, 2:, :]
    thickness = xp.reshape(thickness, (m, 1, 1))
    most = xp.maximum(xp.maximum(left, right), xp.maximum(above, below))
    least = xp.minimum(xp.minimum(left, right), xp.minimum(above, below))
    contrast = xp.where(thickness > 0, xp.maximum(most, pixels) - pixels, pixels - xp.minimum(least, pixels))
    change = (contrast * thickness + STEPS // 2) >> _STEP_BITS
    return xp.astype(pixels + change, xp.uint8)
