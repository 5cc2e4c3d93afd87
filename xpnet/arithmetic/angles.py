"""Inverse trigonometric functions, elementwise in float64: quotients and tables of pairs."""

from math import inf

from xpnet._typing import Array
from xpnet.arithmetic.elementary import polynomial, round_to_whole
from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.pairs import (
    ARCTAN_STEPS,
    HALF_PI,
    PI,
    Pair,
    divide,
    look_up,
    odd,
    plus,
    root,
    scale,
    special,
    split,
    two_product,
    two_sum,
)


@odd((inf, HALF_PI[0]))
def atan(ops: FullRange, size: Array) -> Array:
    """Return the arc tangent."""
    one, zero = ops.xp.ones_like(size), ops.xp.zeros_like(size)
    return _angle(ops, (size, zero), (one, zero))


def atan2(ops: FullRange, y: Array, x: Array) -> Array:
    """Return the angle of the point (x, y)."""
    xp = ops.xp
    one, zero, above, beside = xp.ones_like(y), xp.zeros_like(y), xp.abs(y), xp.abs(x)
    is_far = (above == inf) | (beside == inf)
    n, d = (xp.where(is_far, xp.where(z == inf, one, zero), z) for z in (above, beside))
    d = xp.where((n == 0) & (d == 0), one, d)
    result = _angle(ops, (n, zero), (xp.where(xp.signbit(x), -d, d), zero))
    result = xp.where(xp.signbit(y), -result, result)
    return xp.where((x == x) & (y == y), result, xp.nan)  # noqa: PLR0124  not NaN


@odd((1.0, HALF_PI[0]))
def asin(ops: FullRange, size: Array) -> Array:
    """Return the arc sine; NaN beyond 1."""
    return _angle(ops, (size, ops.xp.zeros_like(size)), _other_side(ops, size))


@special((1.0, 0.0), (-1.0, PI[0]))
def acos(ops: FullRange, x: Array) -> Array:
    """Return the arc cosine; NaN beyond 1."""
    return _angle(ops, _other_side(ops, x), (x, ops.xp.zeros_like(x)))


def _other_side(ops: FullRange, x: Array) -> Pair:
    """Return the square root of 1 - x² as a pair, for |x| < 1; NaN beyond."""
    return root(ops, plus(two_product(x, -x), 1.0))


def _angle(ops: FullRange, y: Pair, x: Pair) -> Array:
    """Return the angle of (x, y), from 0 to π, for y of at least 0, both finite and not both 0.

    The smaller of y and |x| over the larger is the tangent of an angle of at most π/4, from which a quarter
    and half a turn lead to the others.
    """
    xp = ops.xp
    is_left = x[0] < 0
    x = (xp.abs(x[0]), xp.where(is_left, -x[1], x[1]))
    is_steep = y[0] > x[0]
    n, d = ([xp.where(is_steep, *each) for each in zip(*both, strict=True)] for both in ((x, y), (y, x)))
    factor = scale(ops, d[0], 2.0**500)
    high, low = _arctan_of_quotient(ops, *(part * factor for part in (*n, *d)))
    for is_beyond, (turn, turn_low) in ((is_steep, HALF_PI), (is_left, PI)):
        total, error = two_sum(-high, turn)
        high, low = xp.where(is_beyond, total, high), xp.where(is_beyond, error + (turn_low - low), low)
    result = high + low
    return xp.where(result < 2.0**-1022, 0.0, result)


def _arctan_of_quotient(ops: FullRange, n: Array, n_low: Array, d: Array, d_low: Array) -> Pair:
    """Return the arc tangent of (n + n_low)/(d + d_low) as a pair, for 0 ≤ n ≤ d.

    With c the multiple of 1/32 nearest to n/d: atan c + atan t, with t = (n - c d)/(d + c n), and its series
    to t^17.
    """
    index = round_to_whole((n / d) * ARCTAN_STEPS)
    c = index * (1 / ARCTAN_STEPS)
    (d_first, d_second), (n_first, n_second) = split(d), split(n)
    above, a = two_sum(n, -(c * d_first))
    above, b = two_sum(above, -(c * d_second))
    below, e = two_sum(d, c * n_first)
    below, f = two_sum(below, c * n_second)
    t, t_low = divide((above, (a + b) + (n_low - c * d_low)), (below, (e + f) + (d_low + c * n_low)))
    z = t * t
    q = polynomial(z, ((2 - k % 4) / k for k in range(17, 1, -2)))
    arctan, arctan_low = look_up(ops, "arctans", index)
    high, low = two_sum(arctan, t)
    return high, low + (arctan_low + (t_low + t * (z * q)))
