"""Logarithms, powers and hyperbolic functions, elementwise in float64, from the pairs of exp and log.

exp, log, square root and tanh are those of `xpnet.arithmetic.elementary` and `xpnet.nn.functional`.
"""

from functools import partial
from typing import Final

from xpnet._typing import Array
from xpnet.arithmetic.elementary import SMALLEST_NORMAL
from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.pairs import (
    ITSELF,
    LN2,
    PER_LN2,
    PER_LN10,
    Pair,
    divide,
    exponential,
    exponential_less_one,
    fast_two_sum,
    log_of_one_plus,
    logarithm,
    odd,
    root,
    two_product,
    two_sum,
)

_HALF_ULP: Final = 2.0**-54
_FARTHEST: Final = 760.0  # beyond, e^x is infinite or 0 in float64


def _log_to_base(factor: tuple[float, float], ops: FullRange, x: Array) -> Array:
    """Return the logarithm times a factor, a pair."""
    xp = ops.xp
    is_inside = (x > 0) & (x < xp.inf)
    high, low = logarithm(ops, xp.where(is_inside, x, 1.0))
    product, error = two_product(high, xp.full_like(high, factor[0]))
    result = product + (error + (low * factor[0] + high * factor[1]))
    ends = xp.where(x == 0, -xp.inf, xp.where(x < 0, xp.nan, x))
    return xp.where(is_inside, result, ends)


log2, log10 = partial(_log_to_base, PER_LN2), partial(_log_to_base, PER_LN10)


def log1p(ops: FullRange, x: Array) -> Array:
    """Return log(1 + x)."""
    xp = ops.xp
    is_inside = (x > -1) & (x < xp.inf)
    high, low = log_of_one_plus(ops, xp.where(is_inside, x, 1.0))
    ends = xp.where(x == -1, -xp.inf, xp.where(x < -1, xp.nan, x))
    return xp.where(xp.abs(x) < _HALF_ULP, x, xp.where(is_inside, high + low, ends))


def expm1(ops: FullRange, x: Array) -> Array:
    """Return e^x - 1."""
    xp = ops.xp
    is_near = xp.abs(x) < 44
    high, low = exponential_less_one(ops, xp.where(is_near, x, 1.0))
    is_far = (x >= 44) & (x < _FARTHEST)
    far = exponential(ops, xp.where(is_far, x, 1.0))
    ends = xp.where(x > 0, xp.inf, xp.where(x < 0, -1.0, x))
    result = xp.where(is_near, high + low, xp.where(is_far, far, ends))
    return xp.where(xp.abs(x) < _HALF_ULP, x, result)


@odd
def sinh(ops: FullRange, size: Array) -> Array:
    """Return the hyperbolic sine: half of u + u/(u + 1), with u = e^|x| - 1."""
    xp = ops.xp
    is_near = size < 40
    u, low = exponential_less_one(ops, xp.where(is_near, size, 1.0))
    denominator, rest = two_sum(u, 1.0)
    quotient, quotient_low = divide(u, low, denominator, rest + low)
    total, rest = two_sum(u, quotient)
    return xp.where(is_near, 0.5 * (total + ((rest + low) + quotient_low)), _half_exp(ops, size))


def cosh(ops: FullRange, x: Array) -> Array:
    """Return the hyperbolic cosine."""
    xp = ops.xp
    size = xp.abs(x)
    is_near = size < 40
    e = exponential(ops, xp.where(is_near, size, 0.0))
    return xp.where(is_near, 0.5 * (e + xp.ones_like(e) / e), _half_exp(ops, size))


def _half_exp(ops: FullRange, size: Array) -> Array:
    """Return e^size / 2, for sizes from 40; others are 50."""
    xp = ops.xp
    is_inside = (size >= 40) & (size < 712)
    high, low = two_sum(xp.where(is_inside, size, 50.0), -LN2[0])
    return xp.where(is_inside, exponential(ops, high, low - LN2[1]), xp.where(size > 0, xp.inf, size))


@odd
def asinh(ops: FullRange, size: Array) -> Array:
    """Return the inverse hyperbolic sine: log(1 + |x| + (√(1 + x²) - 1)), with the root as a pair."""
    xp = ops.xp
    is_near = size <= 2.0**28
    b = xp.where(is_near & (size >= ITSELF), size, 1.0)
    square, error = two_product(b, b)
    total, rest = two_sum(square, 1.0)
    high, low = root(ops, *fast_two_sum(total, rest + error))
    below, rest = two_sum(high, 1.0)  # √(1 + x²) - 1 = x²/(√(1 + x²) + 1)
    quotient, quotient_low = divide(square, error, below, rest + low)
    total, rest = two_sum(b, quotient)
    near = log_of_one_plus(ops, total, rest + quotient_low)
    return xp.where(is_near, near[0] + near[1], _log_of_double(ops, size))


def acosh(ops: FullRange, x: Array) -> Array:
    """Return the inverse hyperbolic cosine: log(1 + t + √(2t + t²)), with t = x - 1."""
    xp = ops.xp
    is_near = (x > 1) & (x <= 2.0**28)
    t = xp.where(is_near, x - 1.0, 1.0)
    square, error = two_product(t, t)
    total, rest = two_sum(t + t, square)
    high, low = root(ops, *fast_two_sum(total, rest + error))
    total, rest = two_sum(high, t)
    near = log_of_one_plus(ops, *fast_two_sum(total, rest + low))
    result = xp.where(is_near, near[0] + near[1], _log_of_double(ops, x))
    return xp.where(x > 1, result, xp.where(x == 1, 0.0, xp.full_like(x, xp.nan)))


def _log_of_double(ops: FullRange, size: Array) -> Array:
    """Return log(2 size), for sizes from 2^28; infinity of infinity."""
    xp = ops.xp
    is_inside = (size >= 2.0**28) & (size < xp.inf)
    high, low = logarithm(ops, xp.where(is_inside, size, 2.0**28))
    total, rest = two_sum(high, LN2[0])
    return xp.where(size == xp.inf, size, total + (rest + (low + LN2[1])))


@odd
def atanh(ops: FullRange, size: Array) -> Array:
    """Return the inverse hyperbolic tangent: half of log(1 + 2|x|/(1 - |x|)); NaN beyond 1."""
    xp = ops.xp
    is_inside = (size < 1) & (size >= ITSELF)
    b = xp.where(is_inside, size, 0.5)
    below, rest = two_sum(xp.ones_like(b), -b)
    high, low = log_of_one_plus(ops, *divide(b + b, 0.0, below, rest))
    return xp.where(is_inside, 0.5 * (high + low), xp.where(size == 1, xp.inf, xp.full_like(size, xp.nan)))


def hypot(ops: FullRange, x: Array, y: Array) -> Array:
    """Return √(x² + y²), 0 where it would be subnormal; infinity if one is infinite, even if one is NaN."""
    xp = ops.xp
    a, b = xp.abs(x), xp.abs(y)
    largest = xp.maximum(a, b)
    is_inside = (largest > 0) & (largest < xp.inf)
    high, low = (xp.where(is_inside, each, 1.0) for each in (largest, xp.minimum(a, b)))
    factor = xp.where(high > 2.0**400, 2.0**-600, xp.where(high < 2.0**-400, 2.0**600, xp.ones_like(high)))
    high, low = high * factor, low * factor
    low = xp.where(low < high * 2.0**-60, 0.0, low)
    (square, error), (other, other_error) = two_product(high, high), two_product(low, low)
    total, rest = two_sum(square, other)
    high, low = root(ops, *fast_two_sum(total, rest + (error + other_error)))
    result = (high + low) * (xp.ones_like(factor) / factor)
    result = xp.where(result >= SMALLEST_NORMAL, result, 0.0)
    is_infinite = (a == xp.inf) | (b == xp.inf)
    return xp.where(is_inside, result, xp.where(is_infinite, xp.inf, largest))


def logaddexp(ops: FullRange, x: Array, y: Array) -> Array:
    """Return log(e^x + e^y): the larger, plus log(1 + e^-d) with d the difference, in pairs."""
    xp = ops.xp
    is_inside = (xp.abs(x) < xp.inf) & (xp.abs(y) < xp.inf)
    a, b = (xp.where(is_inside, each, 0.0) for each in (x, y))
    largest = xp.maximum(a, b)
    difference, low = two_sum(largest, -xp.minimum(a, b))
    is_near = difference < 745
    term = exponential(ops, *(xp.where(is_near, -part, 0.0) for part in (difference, low)))
    term = xp.where(is_near, term, 0.0)
    high, low = log_of_one_plus(ops, term)
    is_small = term < _HALF_ULP
    total, rest = two_sum(largest, xp.where(is_small, term, high))
    result = total + (rest + xp.where(is_small, 0.0, low))
    result = xp.where(xp.abs(result) >= SMALLEST_NORMAL, result, 0.0)
    return xp.where(is_inside, result, xp.maximum(x, y) + 0.0)


def pow(ops: FullRange, x: Array, y: Array) -> Array:  # noqa: A001  as in the standard
    """Return x to the power y, by y log|x| in pairs, with the special values of the standard."""
    xp = ops.xp
    size, one = xp.abs(x), xp.ones_like(x)
    is_inside = (size > 0) & (size < xp.inf) & (xp.abs(y) < xp.inf)
    base, exponent = xp.where(is_inside, size, 1.0), xp.where(is_inside, xp.clip(y, -(2.0**70), 2.0**70), 0.0)
    result = _positive_power(ops, logarithm(ops, base), exponent)
    for whole, product in ((1.0, base), (2.0, base * base), (-1.0, one / base)):
        result = xp.where(exponent == whole, xp.where(product >= SMALLEST_NORMAL, product, 0.0), result)
    is_whole = (xp.floor(y) == y) & (xp.abs(y) < xp.inf)
    is_odd = is_whole & (xp.floor(y * 0.5) != y * 0.5) & (xp.abs(y) < 2.0**53)
    result = xp.where((x < 0) & ~is_whole, xp.nan, result)
    of_ends = xp.where((size == 0) == (y < 0), xp.inf, 0.0 * one)  # of 0 and infinity
    to_ends = xp.where(size == 1, one, xp.where((size > 1) == (y > 0), xp.inf, 0.0 * one))
    ends = xp.where((size == 0) | (size == xp.inf), of_ends, to_ends)
    result = xp.where(is_inside, result, ends)
    result = xp.where(xp.signbit(x) & is_odd, -result, result)
    result = xp.where((x != x) | (y != y), xp.nan, result)  # noqa: PLR0124  NaN
    return xp.where((y == 0) | (x == 1), one, result)


def _positive_power(ops: FullRange, log: Pair, exponent: Array) -> Array:
    """Return e to the power of a pair times an exponent, infinity and 0 included."""
    xp = ops.xp
    high, error = two_product(log[0], exponent)
    high, low = fast_two_sum(high, error + log[1] * exponent)
    is_inside = xp.abs(high) < _FARTHEST
    result = exponential(ops, *(xp.where(is_inside, part, 0.0) for part in (high, low)))
    return xp.where(is_inside, result, xp.where(high > 0, xp.inf, xp.zeros_like(high)))
