"""sin and cos from additions, multiplications and a choice, elementwise in float64.

``docs/reproducibility.md``, section 14, gives the formulas, and ``docs/arithmetic.md`` the largest errors.
"""

import math
from functools import cache
from typing import Final

from xpnet._typing import Array, Namespace

LARGEST_ANGLE: Final = 2.0**20
"""The largest magnitude of an angle. Up to it, multiples of the parts of π/2 are exact."""

_ITSELF: Final = 2.0**-27
"""Below, sin x is x to within half a unit in the last place."""

_TO_WHOLE: Final = 1.5 * 2.0**52  # adding and subtracting it rounds to a whole number, ties to even
_PER_QUARTER: Final = 2 / math.pi
_QUARTER_BITS: Final = 160
_QUARTER: Final = 0x1921FB54442D18469898CC51701B839A252049C11  # floor(2^160 π/2)
_PART_ENDS: Final = (32, 65, 98)  # the last bit of each part of 33 bits


@cache
def quarter_parts() -> list[float]:
    """Return three parts of π/2 of at most 33 bits each, and the rest, rounded."""
    parts, rest = [], _QUARTER
    for end in _PART_ENDS:
        low_bits = _QUARTER_BITS - end
        parts.append((rest >> low_bits) / 2**end)
        rest &= (1 << low_bits) - 1
    return [*parts, rest / 2**_QUARTER_BITS]


def sin(xp: Namespace, x: Array) -> Array:
    """Return the sine of x in radians, float64 of its shape; NaN above ``LARGEST_ANGLE``."""
    return xp.where(xp.abs(x) < _ITSELF, x, _sine_after_quarters(xp, x, 0.0))


def cos(xp: Namespace, x: Array) -> Array:
    """Return the cosine of x in radians, float64 of its shape; NaN above ``LARGEST_ANGLE``."""
    return _sine_after_quarters(xp, x, 1.0)


def _sine_after_quarters(xp: Namespace, x: Array, quarters: float) -> Array:
    """Return the sine of x plus so many quarters of a turn."""
    inside = xp.abs(x) <= LARGEST_ANGLE
    k, r, t = _reduce(xp.where(inside, x, 0.0))
    sine, cosine = _sine_and_cosine(r, t)
    quarter = k + quarters
    quarter = quarter - 4.0 * xp.floor(quarter * 0.25)
    result = xp.where((quarter == 1.0) | (quarter == 3.0), cosine, sine)
    return xp.where(inside, xp.where(quarter >= 2.0, -result, result), xp.nan)


def _reduce(x: Array) -> tuple[Array, Array, Array]:
    """Return k, r and t with x = k π/2 + r + t, k whole, r from about -π/4 to π/4, and t far below r.

    The method of Cody and Waite 1980: k times a part of π/2 is exact, and what a difference loses is kept.
    """
    first, second, third, rest = quarter_parts()
    k = (x * _PER_QUARTER + _TO_WHOLE) - _TO_WHOLE
    a = x - k * first
    b = a - k * second
    c = b - k * third
    lost = ((a - b) - k * second) + (((b - c) - k * third) - k * rest)
    r = c + lost
    return k, r, (c - r) + lost


def _sine_and_cosine(r: Array, t: Array) -> tuple[Array, Array]:
    """Return sine and cosine of r + t, by their Taylor polynomials to r^17 and r^16."""
    z = r * r
    half = z * 0.5
    near = 1.0 - half
    p, q = z * _coefficient(17) + _coefficient(15), z * _coefficient(16) + _coefficient(14)
    for n in (13, 11, 9, 7, 5, 3):
        p = p * z + _coefficient(n)
    for n in (12, 10, 8, 6, 4):
        q = q * z + _coefficient(n)
    sine = r + (r * (z * p) + t * near)
    cosine = near + (((1.0 - near) - half) + (z * (z * q) - r * t))
    return sine, cosine


def _coefficient(n: int) -> float:
    """Return the coefficient of x^n in the series of sin x or cos x."""
    sign = -1.0 if n // 2 % 2 else 1.0
    return sign / math.factorial(n)
