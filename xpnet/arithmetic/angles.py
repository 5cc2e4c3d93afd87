"""Inverse trigonometric functions, elementwise in float64: quotients and tables of pairs."""

from xpnet._typing import Array
from xpnet.arithmetic.elementary import round_to_whole
from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.pairs import (
    ARCTAN_STEPS,
    HALF_PI,
    ITSELF,
    PI,
    Pair,
    divide,
    fast_two_sum,
    look_up,
    odd,
    root,
    split,
    two_product,
    two_sum,
)


@odd
def atan(ops: FullRange, size: Array) -> Array:
    """Return the arc tangent."""
    xp = ops.xp
    y = xp.where(size < xp.inf, size, 1.0)
    result = _angle(ops, (y, xp.zeros_like(y)), (xp.ones_like(y), xp.zeros_like(y)))
    return xp.where(size == xp.inf, HALF_PI[0], result)


def atan2(ops: FullRange, y: Array, x: Array) -> Array:
    """Return the angle of the point (x, y)."""
    xp = ops.xp
    one, above, beside = xp.ones_like(y), xp.abs(y), xp.abs(x)
    is_far = (above == xp.inf) | (beside == xp.inf)
    n, d = (xp.where(is_far, xp.where(z == xp.inf, one, 0.0), z) for z in (above, beside))
    d = xp.where((n == 0) & (d == 0), one, d)
    is_valid = (x == x) & (y == y)  # noqa: PLR0124  not NaN
    n, d = xp.where(is_valid, n, one), xp.where(is_valid, d, one)
    zero = xp.zeros_like(y)
    result = _angle(ops, (n, zero), (xp.where(xp.signbit(x), -d, d), zero))
    return xp.where(is_valid, xp.where(xp.signbit(y), -result, result), xp.nan)


@odd
def asin(ops: FullRange, size: Array) -> Array:
    """Return the arc sine; NaN beyond 1."""
    xp = ops.xp
    is_inside = (size < 1) & (size >= ITSELF)
    y = xp.where(is_inside, size, 0.5)
    result = _angle(ops, (y, xp.zeros_like(y)), _other_side(ops, y))
    return xp.where(size == 1, HALF_PI[0], xp.where(is_inside, result, xp.nan))


def acos(ops: FullRange, x: Array) -> Array:
    """Return the arc cosine; NaN beyond 1."""
    xp = ops.xp
    is_inside = xp.abs(x) < 1
    safe = xp.where(is_inside, x, 0.5)
    result = _angle(ops, _other_side(ops, safe), (safe, xp.zeros_like(safe)))
    ends = xp.where(x == 1, 0.0, xp.where(x == -1, PI[0], xp.full_like(x, xp.nan)))
    return xp.where(is_inside, result, ends)


def _other_side(ops: FullRange, x: Array) -> Pair:
    """Return the square root of 1 - x² as a pair, for |x| < 1."""
    square, error = two_product(x, x)
    high, low = two_sum(ops.xp.ones_like(x), -square)
    return root(ops, *fast_two_sum(high, low - error))


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
    # Far from 1, where a product would underflow or overflow, both are scaled.
    factor = xp.where(d[0] > 2.0**500, 2.0**-600, xp.where(d[0] < 2.0**-400, 2.0**600, xp.ones_like(d[0])))
    high, low = _arctan_of_quotient(ops, *(part * factor for part in (*n, *d)))
    for is_beyond, (turn, turn_low) in ((is_steep, HALF_PI), (is_left, PI)):
        total, error = two_sum(-high, turn)
        high, low = xp.where(is_beyond, total, high), xp.where(is_beyond, error + (turn_low - low), low)
    result = high + low
    return xp.where(result >= 2.0**-1022, result, 0.0)


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
    t, t_low = divide(above, (a + b) + (n_low - c * d_low), below, (e + f) + (d_low + c * n_low))
    z = t * t
    q = z * (1 / 17) - 1 / 15
    for k in (13, 11, 9, 7, 5, 3):
        q = q * z + (1.0 if k % 4 == 1 else -1.0) / k
    high, low = two_sum(look_up(ops, "arctans", 0, index), t)
    return high, low + (look_up(ops, "arctans", 1, index) + (t_low + t * (z * q)))
