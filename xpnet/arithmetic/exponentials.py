"""Logarithms, powers and hyperbolic functions, elementwise in float64, from the pairs of exp and log.

exp, log, square root and tanh are those of `xpnet.arithmetic.elementary` and `xpnet.nn.functional`.
"""

from math import inf
from typing import Final

from xpnet._typing import Array
from xpnet.arithmetic.elementary import SMALLEST_NORMAL
from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.pairs import (
    FARTHEST,
    LN2,
    PER_LN2,
    PER_LN10,
    Real,
    divide,
    exponential,
    exponential_less_one,
    fast_two_sum,
    log_of_one_plus,
    logarithm,
    odd,
    plus,
    root,
    scale,
    special,
    two_product,
    two_sum,
)

_HALF_ULP: Final = 2.0**-54
_LARGE: Final = 2.0**28


def _log_to_base(factor: tuple[float, float]) -> Real:
    """Return the function that is the logarithm times a factor, a pair."""

    @special((0.0, -inf), (inf, inf))
    def log(ops: FullRange, x: Array) -> Array:
        high, low = logarithm(ops, x)
        product, error = two_product(high, factor[0])
        return product + (error + (low * factor[0] + high * factor[1]))

    return log


log2, log10 = _log_to_base(PER_LN2), _log_to_base(PER_LN10)


@special((-1.0, -inf), (inf, inf), itself=_HALF_ULP)
def log1p(ops: FullRange, x: Array) -> Array:
    """Return log(1 + x)."""
    high, low = log_of_one_plus(ops, (x, 0.0))
    return high + low


@special(itself=_HALF_ULP)
def expm1(ops: FullRange, x: Array) -> Array:
    """Return e^x - 1."""
    high, low = exponential_less_one(ops, x)
    return ops.xp.where(x <= -44, -1.0, ops.xp.where(x < 44, high + low, exponential(ops, x)))


@odd()
def sinh(ops: FullRange, size: Array) -> Array:
    """Return the hyperbolic sine: half of u + u/(u + 1), with u = e^|x| - 1."""
    u = exponential_less_one(ops, size)
    quotient, low = divide(u, plus(u, 1.0))
    total, rest = plus(u, quotient)
    return ops.xp.where(size < 40, 0.5 * (total + (rest + low)), _half_exp(ops, size))


def cosh(ops: FullRange, x: Array) -> Array:
    """Return the hyperbolic cosine."""
    size = ops.xp.abs(x)
    e = exponential(ops, size)
    return ops.xp.where(size < 40, 0.5 * (e + ops.xp.ones_like(e) / e), _half_exp(ops, size))


def _half_exp(ops: FullRange, size: Array) -> Array:
    """Return e^size / 2."""
    high, low = two_sum(size, -LN2[0])
    return exponential(ops, high, low - LN2[1])


@odd((inf, inf))
def asinh(ops: FullRange, size: Array) -> Array:
    """Return the inverse hyperbolic sine: log(1 + |x| + (√(1 + x²) - 1)), with the root as a pair."""
    square = two_product(size, size)
    below = plus(root(ops, plus(square, 1.0)), 1.0)  # √(1 + x²) - 1 = x²/(√(1 + x²) + 1)
    high, low = log_of_one_plus(ops, plus(divide(square, below), size))
    return ops.xp.where(size <= _LARGE, high + low, _log_of_double(ops, size))


@special((1.0, 0.0), (inf, inf))
def acosh(ops: FullRange, x: Array) -> Array:
    """Return the inverse hyperbolic cosine: log(1 + t + √(2t + t²)), with t = x - 1."""
    xp = ops.xp
    t = xp.where(x >= 1, x - 1.0, xp.nan)
    distance = root(ops, plus(two_product(t, t), t + t))
    high, low = log_of_one_plus(ops, fast_two_sum(*plus(distance, t)))
    return xp.where(x <= _LARGE, high + low, _log_of_double(ops, x))


def _log_of_double(ops: FullRange, size: Array) -> Array:
    """Return log(2 size)."""
    high, low = logarithm(ops, size)
    total, rest = two_sum(high, LN2[0])
    return total + (rest + (low + LN2[1]))


@odd((1.0, inf))
def atanh(ops: FullRange, size: Array) -> Array:
    """Return the inverse hyperbolic tangent: half of log(1 + 2|x|/(1 - |x|)); NaN beyond 1."""
    high, low = log_of_one_plus(ops, divide((size + size, 0.0), two_sum(-size, 1.0)))
    return 0.5 * (high + low)


def hypot(ops: FullRange, x: Array, y: Array) -> Array:
    """Return √(x² + y²), 0 where it would be subnormal; infinity if one is infinite, even if one is NaN."""
    xp = ops.xp
    a, b = xp.abs(x), xp.abs(y)
    largest = xp.maximum(a, b)
    factor = scale(ops, largest, 2.0**400)
    high, low = largest * factor, xp.minimum(a, b) * factor
    low = xp.where(low < high * 2.0**-60, 0.0, low)
    (square, error), (other, other_error) = two_product(high, high), two_product(low, low)
    total, rest = two_sum(square, other)
    high, low = root(ops, (total, rest + (error + other_error)))
    result = (high + low) * (xp.ones_like(factor) / factor)
    result = xp.where((largest == 0) | (result < SMALLEST_NORMAL), 0.0, result)
    return xp.where((a == inf) | (b == inf), inf, result)


def logaddexp(ops: FullRange, x: Array, y: Array) -> Array:
    """Return log(e^x + e^y): the larger, plus log(1 + e^-d) with d the difference, in pairs."""
    xp = ops.xp
    largest = xp.maximum(x, y)
    difference, low = two_sum(largest, -xp.minimum(x, y))
    term = exponential(ops, -difference, -low)
    high, low = log_of_one_plus(ops, (term, 0.0))
    is_small = term < _HALF_ULP
    total, rest = two_sum(largest, xp.where(is_small, term, high))
    result = total + (rest + xp.where(is_small, 0.0, low))
    result = xp.where(xp.abs(result) >= SMALLEST_NORMAL, result, 0.0)
    return xp.where((xp.abs(x) < inf) & (xp.abs(y) < inf), result, largest + 0.0)


def pow(ops: FullRange, x: Array, y: Array) -> Array:  # noqa: A001  as in the standard
    """Return x to the power y, by y log|x| in pairs, with the special values of the standard."""
    xp = ops.xp
    size, one = xp.abs(x), xp.ones_like(x)
    log, log_low = logarithm(ops, size)
    log = xp.where(size == 0, -inf, xp.where(size == inf, inf, log))
    exponent = xp.clip(y, -(2.0**70), 2.0**70)
    power = log * exponent
    high, error = two_product(log, exponent)
    high, low = fast_two_sum(high, error + log_low * exponent)
    result = exponential(ops, xp.where(xp.abs(power) < FARTHEST, high, power), low)
    for whole, product in ((1.0, size), (2.0, size * size), (-1.0, one / size)):
        result = xp.where(y == whole, xp.where(product < SMALLEST_NORMAL, 0.0, product), result)
    is_whole = xp.floor(y) == y
    is_odd = is_whole & (xp.floor(y * 0.5) != y * 0.5)
    result = xp.where((x < 0) & (x > -inf) & ~is_whole, xp.nan, result)
    result = xp.where(xp.signbit(x) & is_odd, -result, result)
    return xp.where((y == 0) | (x == 1), one, result)
