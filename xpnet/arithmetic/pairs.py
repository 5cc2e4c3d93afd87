"""Numbers as the sum of two float64, the second at most half a unit in the last place of the first.

They carry about 106 bits, by separate additions and multiplications (Dekker 1971, Knuth's two-sum): no step
may be fused. ``docs/arrays-specification.md`` gives the steps of each function.
"""

import math
from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext
from functools import cache, wraps
from typing import Final, TypeAlias

from xpnet._typing import Array, Namespace
from xpnet.arithmetic.elementary import (
    LN2_HIGH,
    PER_STEP,
    STEP_HIGH,
    STEP_LOW,
    STEPS,
    round_to_whole,
    scale_subnormals,
    split_exponent,
    take,
)
from xpnet.arithmetic.full_range import FullRange

Pair: TypeAlias = tuple[Array, Array]

ITSELF: Final = 2.0**-28
"""Below, an odd function of x with slope 1 is x to within half a unit in the last place."""

_SPLITTER: Final = 2.0**27 + 1.0
_DIGITS: Final = 70
ARCTAN_STEPS: Final = 32
FIRST_INVERSE: Final = 90.0


def parts(number: Decimal) -> tuple[float, float]:
    """Return a number as a pair."""
    return float(number), float(number - Decimal(float(number)))


def arctan(x: Decimal) -> Decimal:
    """Return the arc tangent of x from 0 to 1: four halvings of the angle, then the series."""
    for _ in range(4):
        x = x / (1 + (1 + x * x).sqrt())
    total, power, n = x, x, 1
    while abs(power) > Decimal(10) ** -getcontext().prec:
        power, n = -power * x * x, n + 2
        total += power / n
    return total * 16


with localcontext(prec=_DIGITS):
    _LN2 = Decimal(2).ln()
    _QUARTER_TURN = 2 * arctan(Decimal(1))
    LN2, PER_LN2, PER_LN10 = parts(_LN2), parts(1 / _LN2), parts(1 / Decimal(10).ln())
    HALF_PI, PI = parts(_QUARTER_TURN), parts(2 * _QUARTER_TURN)
    # The first parts have so few bits that their multiples by an exponent are exact.
    _LN2_SECOND = float(int((_LN2 - Decimal(LN2_HIGH)) * 2**82)) * 2.0**-82
    LN2_PARTS: Final = (LN2_HIGH, _LN2_SECOND, float(_LN2 - Decimal(LN2_HIGH) - Decimal(_LN2_SECOND)))


@cache
def table(name: str, part: int) -> list[float]:
    """Return 2^(k/64) for k = 0 … 63, c_k or -log c_k for k = 90 … 182, or atan(k/32) for k = 0 … 32.

    c_k is 128/k in multiples of 1/512, rounded. Of the others ``part`` is 0 or 1, of pairs.
    """
    with localcontext(prec=_DIGITS):
        inverses = [round(512 * 128 / k) / 512 for k in range(int(FIRST_INVERSE), 183)]
        numbers = {
            "inverses": (Decimal(inverse) for inverse in inverses),
            "logs": (-Decimal(inverse).ln() for inverse in inverses),
            "powers": (Decimal(2) ** (Decimal(k) / STEPS) for k in range(STEPS)),
            "arctans": (arctan(Decimal(k) / ARCTAN_STEPS) for k in range(ARCTAN_STEPS + 1)),
        }
        return [parts(number)[part] for number in numbers[name]]


def odd(function: Callable[[FullRange, Array], Array]) -> Callable[[FullRange, Array], Array]:
    """Make an odd function, x itself near 0, of one of magnitudes."""

    @wraps(function)
    def call(ops: FullRange, x: Array) -> Array:
        xp, size = ops.xp, ops.xp.abs(x)
        result = function(ops, size)
        return xp.where(size >= ITSELF, xp.where(x < 0, -result, result), x)  # NaN stays NaN

    return call


def look_up(ops: FullRange, name: str, part: int, index: Array) -> Array:
    """Return the entries of a ``table`` at whole numbers, float64 of any shape."""
    return take(ops.xp, ops.constants(table, name, part), index)


def two_sum(a: Array, b: Array | float) -> Pair:
    """Return a + b as a pair, exactly."""
    total = a + b
    added = total - a
    return total, (a - (total - added)) + (b - added)


def fast_two_sum(a: Array, b: Array) -> Pair:
    """Return a + b as a pair, exactly if b is not larger than a."""
    total = a + b
    return total, b - (total - a)


def split(a: Array) -> Pair:
    """Return a as the sum of numbers of 26 bits each, exactly."""
    large = a * _SPLITTER
    high = large - (large - a)
    return high, a - high


def two_product(a: Array, b: Array | float) -> Pair:
    """Return a b as a pair, exactly but for underflow and overflow."""
    product, (ah, al) = a * b, split(a)
    bh, bl = split(b)
    return product, (((ah * bh - product) + ah * bl) + al * bh) + al * bl


def divide(a: Array, a_low: Array | float, b: Array, b_low: Array | float) -> Pair:
    """Return (a + a_low)/(b + b_low) as a pair, to about 100 bits."""
    quotient = a / b
    product, error = two_product(quotient, b)
    return quotient, ((((a - product) - error) + a_low) - quotient * b_low) / b


def root(ops: FullRange, x: Array, low: Array) -> Pair:
    """Return the square root of x + low as a pair, for x from 2^-900 to 2^900."""
    y = ops.sqrt(x)
    square, error = two_product(y, y)
    return fast_two_sum(y, (((x - square) - error) + low) / (y + y))


def logarithm(ops: FullRange, x: Array) -> Pair:
    """Return log x as a pair within 2^-65 of it, for x > 0 and finite.

    With x = 2^e m, m from √½ to √2, and c a number of ten bits near 1/m: e ln 2 - log c + log(1 + r), with
    r = m c - 1 below 2^-7 and its series to r^10.
    """
    xp = ops.xp
    small, scaled = scale_subnormals(xp, x)
    m, e = split_exponent(xp, scaled)
    e = xp.where(small, e - 1074.0, e)
    upper = m > math.sqrt(2.0)
    m, e = xp.where(upper, m * 0.5, m), xp.where(upper, e + 1.0, e)
    index = round_to_whole(m * 128.0) - FIRST_INVERSE
    c, (mh, ml) = look_up(ops, "inverses", 0, index), split(m)
    r, r_low = two_sum(mh * c - 1.0, ml * c)
    q = r * (-1 / 10) + 1 / 9
    for n in (8, 7, 6, 5, 4, 3):
        q = q * r + (1.0 if n % 2 else -1.0) / n
    half, half_low = two_product(r, r * -0.5)
    first, second, third = LN2_PARTS
    total, a = two_sum(e * first, look_up(ops, "logs", 0, index))
    total, b = two_sum(total, r)
    total, d = two_sum(total, half)
    rest = (look_up(ops, "logs", 1, index) + e * second) + (r_low - r * r_low)
    rest = (r * r) * r * q + (((a + b) + d) + (rest + (half_low + e * third)))
    return fast_two_sum(total, rest)


def log_of_one_plus(ops: FullRange, x: Array, low: Array | float = 0.0) -> Pair:
    """Return log(1 + x + low) as a pair, for x > -1."""
    total, rest = two_sum(ops.xp.ones_like(x), x)
    ratio = (rest + low) / total
    high, log_low = logarithm(ops, total)
    high, rest = two_sum(high, ratio)
    return fast_two_sum(high, (log_low - 0.5 * ratio * ratio) + rest)


def exponential(ops: FullRange, x: Array, low: Array | float = 0.0) -> Array:
    """Return e^(x + low), for |x| < 760: infinity above all float64 numbers, 0 below 2^-1022."""
    xp = ops.xp
    k, step, r, r_low = _reduce_exponent(xp, x)
    r, r_low = fast_two_sum(r, r_low + low)
    high, rest = (look_up(ops, "powers", part, step) for part in (0, 1))
    m = high + (high * (r + (_rest_of_series(r) + r_low)) + rest)
    upper, lower = k > 900.0, k < -900.0
    far = xp.where(upper, 100.0, xp.where(lower, -100.0, xp.zeros_like(k)))
    near = m * ops.power_of_two(xp.clip(k - far, -1022.0, 1023.0))
    small = xp.where((near >= 2.0**-922) & (k > -1030.0), near * 2.0**-100, 0.0)
    return xp.where(upper, near * 2.0**100, xp.where(lower, small, near))


def exponential_less_one(ops: FullRange, x: Array) -> Pair:
    """Return e^x - 1 as a pair, for |x| < 45."""
    k, step, r, r_low = _reduce_exponent(ops.xp, x)
    high, rest = (look_up(ops, "powers", part, step) for part in (0, 1))
    power = ops.power_of_two(k)
    total, a = two_sum(high * power, -1.0)
    product, product_low = two_product(high, r)
    total, b = two_sum(total, product * power)
    low = product_low + (high * (_rest_of_series(r) + r_low) + rest)
    return fast_two_sum(total, (a + b) + low * power)


def _reduce_exponent(xp: Namespace, x: Array) -> tuple[Array, Array, Array, Array]:
    """Return k, i, r and its low part with x = (64 k + i) ln 2 / 64 + r, i from 0 to 63."""
    steps = round_to_whole(x * PER_STEP)
    k = xp.floor(steps * (1 / STEPS))
    return k, steps - STEPS * k, *two_sum(x - steps * STEP_HIGH, -(steps * STEP_LOW))


def _rest_of_series(r: Array) -> Array:
    """Return e^r - 1 - r, for r up to 0.0055."""
    return (r * r) * (((((r * (1 / 720) + 1 / 120) * r + 1 / 24) * r + 1 / 6) * r) + 0.5)
