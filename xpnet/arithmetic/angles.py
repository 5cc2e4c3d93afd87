"""Trigonometric functions and their inverses, elementwise in float64.

sin, cos and tan take additions, multiplications and a choice, their inverses quotients and tables of pairs.
``docs/reproducibility.md``, section 14, and ``docs/arrays-specification.md`` give the formulas, and
``docs/arrays.md`` the largest errors.
"""

from decimal import Decimal, localcontext
from functools import cache
from math import factorial, inf, pi
from operator import add

from xpnet._typing import Array, Pair
from xpnet.arithmetic import pairs
from xpnet.arithmetic.elementary import polynomial, round_to_whole
from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.pairs import HALF_PI, PI, odd, special, two_sum

LARGEST_ANGLE = 2.0**20
"""The largest magnitude of an angle for which multiples of the parts of π/2 are exact."""

QUARTER_PARTS = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32)
"""Three parts of π/2 of at most 33 bits each, and the rest, rounded."""

_ITSELF = 2.0**-27
"""Below, sin x is x to within half a unit in the last place."""

_BITS = 1400  # of 2/π: enough for the largest float64 number


@special(itself=_ITSELF)
def sin(ops: FullRange, x: Array) -> Array:
    """Return the sine of x in radians, float64 of its shape."""
    return _sine_after_quarters(ops, x, 0.0)


def cos(ops: FullRange, x: Array) -> Array:
    """Return the cosine of x in radians, float64 of its shape."""
    return _sine_after_quarters(ops, x, 1.0)


@special(itself=_ITSELF)
def tan(ops: FullRange, x: Array) -> Array:
    """Return the tangent of x in radians, float64 of its shape: a quotient of pairs."""
    _, is_odd, sine, cosine = _find_quarter(ops, x, 0.0)
    quotient = ((cosine, sine), (sine, cosine))
    above, below = ([ops.xp.where(is_odd, *parts) for parts in zip(*both, strict=True)] for both in quotient)
    result = add(*pairs.divide(pairs.fast_two_sum(*above), pairs.fast_two_sum(*below)))
    return ops.xp.where(is_odd, -result, result)


def _sine_after_quarters(ops: FullRange, x: Array, quarters: float) -> Array:
    """Return the sine of x plus so many quarters of a turn."""
    quarter, is_odd, sine, cosine = _find_quarter(ops, x, quarters)
    result = ops.xp.where(is_odd, cosine[0] + cosine[1], sine[0] + sine[1])
    return ops.xp.where(quarter >= 2.0, -result, result)


def _find_quarter(ops: FullRange, x: Array, quarters: float) -> tuple[Array, Array, Pair, Pair]:
    """Return the quarter of x of one dimension, if it is odd, and sine and cosine of the rest.

    With x = k π/2 + r + t, the quarter is k plus so many ``quarters``, modulo 4. All is NaN of infinity.
    """
    xp, size = ops.xp, ops.xp.abs(x)
    k, r, t = _reduce(x)
    is_large = (size > LARGEST_ANGLE) & (size < inf)
    if xp.any(is_large):
        rows = zip(*map(reduce_large, ops.to_host(x).tolist()), strict=True)
        large = map(ops.array, rows)
        k, r, t = (xp.where(is_large, *both) for both in zip(large, (k, r, t), strict=True))
    k = k + quarters
    quarter = k - 4.0 * xp.floor(k * 0.25)
    return quarter, (quarter == 1.0) | (quarter == 3.0), *_sine_and_cosine(r, t)


def reduce_large(x: float) -> tuple[float, float, float]:
    """Return k modulo 4, r and t with x = k π/2 + r + t, by whole numbers, for finite x beyond 2^20.

    k is the whole number nearest to x·2/π, r the float nearest to x - k π/2, and t that nearest to the rest.
    """
    if not LARGEST_ANGLE < abs(x) < inf:
        return 0.0, 0.0, 0.0
    per_quarter, quarter = _quarters()
    numerator, denominator = x.as_integer_ratio()
    turns = numerator * per_quarter // denominator
    k = (turns + (1 << _BITS - 1)) >> _BITS
    rest, one = (turns - (k << _BITS)) * quarter, 1 << 2 * _BITS
    r = rest / one
    above, below = r.as_integer_ratio()
    return float(k % 4), r, (rest - above * one // below) / one


@cache
def _quarters() -> tuple[int, int]:
    """Return floor(2^1400 2/π) and floor(2^1400 π/2)."""
    with localcontext(prec=480):
        quarter = 2 * pairs.arctan(Decimal(1))
        return int(2**_BITS / quarter), int(2**_BITS * quarter)


def _reduce(x: Array) -> tuple[Array, Array, Array]:
    """Return k, r and t with x = k π/2 + r + t, k whole, r from about -π/4 to π/4, and t far below r.

    The method of Cody and Waite 1980: k times a part of π/2 is exact, and what a difference loses is kept.
    """
    first, second, third, rest = QUARTER_PARTS
    k = round_to_whole(x * (2 / pi))
    a = x - k * first
    b = a - k * second
    c = b - k * third
    lost = ((a - b) - k * second) + (((b - c) - k * third) - k * rest)
    r = c + lost
    return k, r, (c - r) + lost


def _sine_and_cosine(r: Array, t: Array) -> tuple[Pair, Pair]:
    """Return sine and cosine of r + t, each in two parts, by their Taylor polynomials to r^17 and r^16."""
    z = r * r
    half = z * 0.5
    near = 1.0 - half
    p, q = (polynomial(z, ((-1) ** (k // 2) / factorial(k) for k in range(n, 2, -2))) for n in (17, 16))
    return (r, r * (z * p) + t * near), (near, ((1.0 - near) - half) + (z * (z * q) - r * t))


# Inverse functions


@odd()
def atan(ops: FullRange, size: Array) -> Array:
    """Return the arc tangent."""
    return atan2(ops, size, ops.xp.ones_like(size))


def atan2(ops: FullRange, y: Array, x: Array) -> Array:
    """Return the angle of the point (x, y)."""
    xp = ops.xp
    zero = xp.zeros_like(y)
    above = xp.abs(y)
    beside = xp.abs(x)
    is_far = (above == inf) | (beside == inf)
    n, d = (xp.where(is_far, xp.where(z == inf, 1.0, zero), z) for z in (above, beside))
    d = xp.where((n == 0) & (d == 0), 1.0, d)
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
    return pairs.root(ops, pairs.plus(pairs.two_product(x, -x), 1.0))


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
    factor = pairs.scale(ops, d[0], 2.0**500)
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
    index = round_to_whole((n / d) * pairs.ARCTAN_STEPS)
    c = index * (1 / pairs.ARCTAN_STEPS)
    (d_first, d_second), (n_first, n_second) = pairs.split(d), pairs.split(n)
    above, a = two_sum(n, -(c * d_first))
    above, b = two_sum(above, -(c * d_second))
    below, e = two_sum(d, c * n_first)
    below, f = two_sum(below, c * n_second)
    t, t_low = pairs.divide((above, (a + b) + (n_low - c * d_low)), (below, (e + f) + (d_low + c * n_low)))
    z = t * t
    q = polynomial(z, ((2 - k % 4) / k for k in range(17, 1, -2)))
    angle, angle_low = pairs.look_up(ops, "arctans", index)
    high, low = two_sum(angle, t)
    return high, low + (angle_low + (t_low + t * (z * q)))
