"""exp, log and square root from additions, multiplications, divisions and a table.

Libraries differ in the last bits of these functions, and C libraries from one processor to the next.
Each operation here is one that IEEE 754 fixes, elementwise, in float64. ``docs/reproducibility.md`` gives
the formulas and the largest errors measured.
"""

import math
from array import array
from collections.abc import Iterable
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

from xpnet._typing import Array, Namespace, Pair
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.host import view

LOWEST = -670.0
"""Below, exp gives 0. Above, neither exp nor a softmax made of it needs subnormal numbers, which XLA and
flush-to-zero modes count as zero."""

SMALLEST_NORMAL = 2.0**-1022

_HIGHEST = 710.0  # from there on, e to the power x is above all float64 numbers
_FAR = 600.0

STEPS = 64
"""Of the table of powers of two, in each doubling."""
_FIRST = -1022  # exponent of its first entry
TO_WHOLE = 1.5 * 2.0**52
"""Adding and subtracting it rounds to whole numbers."""

FLUSH = 2.0**-900
"""Adding and subtracting it rounds tiny numbers, so that no sum of them is subnormal."""

# The high parts of ln 2 and of ln 2 / 64 have so few bits that their multiples by whole numbers are exact.
PER_STEP = 92.33248261689366  # 64 / ln 2
STEP_HIGH = 0.010830424696223417
STEP_LOW = 2.572804622327669e-14
LN2_HIGH = 0.6931471805592082
LN2_LOW = 7.371002565167799e-13
LOG_SCALE = 744.4400719213812  # 1074 ln 2


@cache
def powers_of_two() -> Iterable[float]:
    """Return 2^(k/64), correctly rounded, for k = -1022 · 64 … 1024 · 64 - 1: the table of ``exp``."""
    with localcontext(prec=60):
        fractions = [float(Decimal(2) ** (Decimal(step) / STEPS)) for step in range(STEPS)]
    return array("d", (part * 2.0**exponent for exponent in range(_FIRST, 1024) for part in fractions))


def take(xp: Namespace, table: Array, index: Array) -> Array:
    """Return the entries of a table at whole numbers, of any shape."""
    flat = xp.reshape(xp.astype(index, xp.int32), (-1,))
    return xp.reshape(xp.take(table, flat, axis=0), index.shape)


def round_to_whole(x: Array) -> Array:
    """Return the nearest whole numbers, ties to even, of magnitudes up to 2^51."""
    return (x + TO_WHOLE) - TO_WHOLE


def flush_tiny(x: Array) -> Array:
    """Round x to a multiple of 2^-953 if it is that small. Above 2^-846 nothing changes.

    Numbers that some libraries would flush to zero, because they become subnormal, are then zero on all. In
    float32, where 2^-900 is 0, x is unchanged.
    """
    if getattr(x.dtype, "itemsize", 8) == 4:  # not all dtypes tell; the sum changes no float32 either
        return x
    return (x + FLUSH) - FLUSH


def exp(ops: Arithmetic, x: Array) -> Array:
    """Return e to the power x, float64 of x's shape, for x up to 709; 0 below -670.

    With k the multiple of ln 2 / 64 nearest to x and r the rest, 2^(k/64) (1 + r + r²/2 + … + r⁵/120)
    (the table-driven method of Tang 1989).
    """
    xp, inside = ops.xp, x >= LOWEST
    safe = xp.where(inside, x, 0.0)  # an index must be valid even where the result is not used
    result = _exp_from_table(ops, safe, float(_FIRST * STEPS))
    return xp.where(inside, result, xp.maximum(x, LOWEST) - LOWEST)  # zero below; NaN stays NaN


def exp_of_any(ops: Arithmetic, x: Array) -> Array:
    """Return e to the power x, float64 of x's shape: ``exp``, up to infinity, and down to 2^-1022, else 0.

    Far from 0 the result is first computed 2^100 times nearer to 1.
    """
    xp, is_number = ops.xp, x == x  # noqa: PLR0124  not NaN
    near = xp.where(is_number, xp.clip(x, -_HIGHEST, _HIGHEST), 0.0)
    high, low = near > _FAR, near < -_FAR
    first = (nearer(xp, near, high, low) + float(_FIRST)) * float(STEPS)
    return xp.where(is_number, scale_back(xp, high, low, _exp_from_table(ops, near, first)), x)


def nearer(xp: Namespace, x: Array, high: Array, low: Array) -> Array:
    """Return the exponent of two by which numbers x that are high or low are computed nearer to 1."""
    return xp.where(high, 100.0, xp.where(low, -100.0, xp.zeros_like(x)))


def scale_back(xp: Namespace, high: Array, low: Array, x: Array) -> Array:
    """Return such numbers as they are, 0 where they would be subnormal."""
    small = xp.where(x < 2.0 ** (_FIRST + 100), 0.0, x * 2.0**-100)
    return xp.where(high, x * 2.0**100, xp.where(low, small, x))


def _exp_from_table(ops: Arithmetic, x: Array, first: Array | float) -> Array:
    """Return e to the power x, by `powers_of_two`, whose first entry is taken for 2^(first/64)."""
    k = round_to_whole(x * PER_STEP)
    r = (x - k * STEP_HIGH) - k * STEP_LOW
    power = take(ops.xp, ops.constants(powers_of_two), k - first)
    q = polynomial(r, (1 / 120, 1 / 24, 1 / 6, 0.5))
    return power + power * (q * (r * r) + r)


def polynomial(x: Array, coefficients: Iterable[float]) -> Array:
    """Return the value of a polynomial, by its coefficients, highest first (Horner's scheme)."""
    first, second, *others = coefficients
    total = x * first + second
    for coefficient in others:
        total = total * x + coefficient
    return total


def log(ops: Arithmetic, x: Array) -> Array:
    """Return the natural logarithm of normal x, float64 of its shape; -infinity of 0, NaN below.

    With x = 2^e m, m between √½ and √2, and s = (m - 1)/(m + 1): e ln 2 + 2 (s + s³/3 + … + s²¹/21).
    """
    xp = ops.xp
    m, e = split_near_one(xp, x)
    s = (m - 1.0) / (m + 1.0)
    z, double = s * s, s + s
    q = polynomial(z, (1 / divisor for divisor in range(21, 1, -2)))
    result = e * LN2_HIGH + (e * LN2_LOW + (double + double * (z * q)))
    result = xp.where(x > 0, result, xp.where(x == 0, -xp.inf, x * xp.nan))
    return xp.where(x == xp.inf, x, result)


def split_near_one(xp: Namespace, x: Array) -> Pair:
    """Return m and e of normal x = 2^e m, m from √½ to √2, both float64."""
    m, e = split_exponent(xp, x)
    high = m > math.sqrt(2.0)
    return xp.where(high, m * 0.5, m), xp.where(high, e + 1.0, e)


def split_exponent(xp: Namespace, x: Array) -> Pair:
    """Return m and e of normal x = 2^e m, m from 1 to 2, both float64."""
    bits = view(xp, x, "int64")
    m = view(xp, (bits & (2**52 - 1)) | (1023 << 52), "float64")
    return m, xp.astype((bits >> 52) - 1023, xp.float64)


def sqrt(ops: Arithmetic, x: Array) -> Array:
    """Return the square root of normal x, float64 of its shape; 0 of 0, NaN below.

    With x = 4^e m, m from 1 to 4: four steps y := (y + m/y)/2 of Newton's method from
    y = m/3 + 11/16, times 2^e.
    """
    xp, step = ops.xp, 1 << 52  # a step of the exponent
    bits = view(xp, x, "int64")
    even = (bits + step) & -2 * step  # 2 (e + 512) steps
    m = view(xp, (bits - even) + 1024 * step, "float64")
    y = m * (1 / 3) + 0.6875
    for _ in range(4):
        y = 0.5 * (y + m / y)
    root = y * view(xp, (even >> 1) + 511 * step, "float64")
    special = xp.where(x < 0, xp.nan, x)  # 0, infinity and NaN are their own roots
    return xp.where((x > 0) & (x < xp.inf), root, special)


def scale_subnormals(xp: Any, x: Any) -> Pair:
    """Return where x is 0 or subnormal, and x with those numbers times 2^1074.

    XLA computes with 0 in place of them: they are taken from the bits, which say how many times 2^-1074
    they are.
    """
    small, bits = xp.abs(x) < SMALLEST_NORMAL, view(xp, x, "int64")
    magnitude = xp.astype(bits & (2**63 - 1), xp.float64)
    return small, xp.where(small, xp.where(bits < 0, -magnitude, magnitude), x)
