"""sin, cos and tan from additions, multiplications and a choice, elementwise in float64.

``docs/reproducibility.md``, section 14, gives the formulas, and ``docs/arithmetic.md`` the largest errors.
"""

import math
from decimal import Decimal, localcontext
from functools import cache
from typing import Final

from xpnet._typing import Array
from xpnet.arithmetic.elementary import polynomial, round_to_whole
from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.pairs import Pair, arctan, divide, fast_two_sum, special

LARGEST_ANGLE: Final = 2.0**20
"""The largest magnitude of an angle for which multiples of the parts of π/2 are exact."""

QUARTER_PARTS: Final = (
    1.5707963267341256,
    6.077100506303966e-11,
    2.0222662487111665e-21,
    8.4784276603689e-32,
)
"""Three parts of π/2 of at most 33 bits each, and the rest, rounded."""

_ITSELF: Final = 2.0**-27
"""Below, sin x is x to within half a unit in the last place."""

_BITS: Final = 1400  # of 2/π: enough for the largest float64 number


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
    pairs = ((cosine, sine), (sine, cosine))
    above, below = ([ops.xp.where(is_odd, *parts) for parts in zip(*both, strict=True)] for both in pairs)
    high, low = divide(fast_two_sum(*above), fast_two_sum(*below))
    return ops.xp.where(is_odd, -(high + low), high + low)


def _sine_after_quarters(ops: FullRange, x: Array, quarters: float) -> Array:
    """Return the sine of x plus so many quarters of a turn."""
    quarter, is_odd, sine, cosine = _find_quarter(ops, x, quarters)
    result = ops.xp.where(is_odd, cosine[0] + cosine[1], sine[0] + sine[1])
    return ops.xp.where(quarter >= 2.0, -result, result)


def _find_quarter(ops: FullRange, x: Array, quarters: float) -> tuple[Array, Array, Pair, Pair]:
    """Return the quarter of x, if it is odd, and sine and cosine of the rest.

    With x = k π/2 + r + t, the quarter is k plus so many ``quarters``, modulo 4. All is NaN of infinity.
    """
    xp, size = ops.xp, ops.xp.abs(x)
    k, r, t = _reduce(x)
    is_large = (size > LARGEST_ANGLE) & (size < xp.inf)
    if xp.any(is_large):
        rows = zip(*map(reduce_large, ops.to_host(xp.reshape(x, (-1,)))), strict=True)
        large = (xp.reshape(ops.from_host(row), x.shape) for row in rows)
        k, r, t = (xp.where(is_large, *both) for both in zip(large, (k, r, t), strict=True))
    k = k + quarters
    quarter = k - 4.0 * xp.floor(k * 0.25)
    return quarter, (quarter == 1.0) | (quarter == 3.0), *_sine_and_cosine(r, t)


def reduce_large(x: float) -> tuple[float, float, float]:
    """Return k modulo 4, r and t with x = k π/2 + r + t, by whole numbers, for finite x beyond 2^20.

    k is the whole number nearest to x·2/π, r the float nearest to x - k π/2, and t that nearest to the rest.
    """
    if not LARGEST_ANGLE < abs(x) < math.inf:
        return 0.0, 0.0, 0.0
    per_quarter, quarter = _quarters()
    numerator, denominator = abs(x).as_integer_ratio()
    turns = numerator * per_quarter // denominator
    k = (turns + (1 << _BITS - 1)) >> _BITS
    rest, one = (turns - (k << _BITS)) * quarter, 1 << 2 * _BITS
    r = rest / one
    above, below = r.as_integer_ratio()
    t = (rest - above * one // below) / one
    return (float(k % 4), r, t) if x > 0 else (float(-k % 4), -r, -t)


@cache
def _quarters() -> tuple[int, int]:
    """Return floor(2^1400 2/π) and floor(2^1400 π/2)."""
    with localcontext(prec=480):
        quarter = 2 * arctan(Decimal(1))
        return int(2**_BITS / quarter), int(2**_BITS * quarter)


def _reduce(x: Array) -> tuple[Array, Array, Array]:
    """Return k, r and t with x = k π/2 + r + t, k whole, r from about -π/4 to π/4, and t far below r.

    The method of Cody and Waite 1980: k times a part of π/2 is exact, and what a difference loses is kept.
    """
    first, second, third, rest = QUARTER_PARTS
    k = round_to_whole(x * (2 / math.pi))
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
    p, q = (polynomial(z, map(_coefficient, range(n, 2, -2))) for n in (17, 16))
    return (r, r * (z * p) + t * near), (near, ((1.0 - near) - half) + (z * (z * q) - r * t))


def _coefficient(n: int) -> float:
    """Return the coefficient of x^n in the series of sin x or cos x."""
    sign = -1.0 if n // 2 % 2 else 1.0
    return sign / math.factorial(n)
