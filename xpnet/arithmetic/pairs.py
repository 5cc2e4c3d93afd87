"""Numbers as the sum of two float64, and logarithms, powers and hyperbolic functions of float64 made of them.

The second number is at most half a unit in the last place of the first: together they carry about 106 bits,
by separate additions and multiplications (Dekker 1971, Knuth's two-sum): no step may be fused.
``docs/arrays-specification.md`` gives the steps of each function. exp, log, square root and tanh are those of
`xpnet.arithmetic.elementary` and `xpnet.nn.functional`.
"""

from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext
from functools import cache, partial, wraps
from math import inf
from operator import add

from xpnet._typing import Array, Arrays, Namespace, Pair
from xpnet.arithmetic import elementary
from xpnet.arithmetic.elementary import STEP_HIGH, STEP_LOW, STEPS, polynomial, round_to_whole
from xpnet.arithmetic.full_range import FullRange

Real = Callable[[FullRange, Array], Array]
"""A function of float64 numbers."""

FARTHEST = 760.0
"""Beyond, e^x is infinite or 0 in float64."""

LN2 = (0.6931471805599453, 2.3190468138462996e-17)
PER_LN2 = (1.4426950408889634, 2.0355273740931033e-17)
PER_LN10 = (0.4342944819032518, 1.098319650216765e-17)
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
PI = (3.141592653589793, 1.2246467991473532e-16)
"""ln 2, 1/ln 2, 1/ln 10, π/2 and π as pairs."""

LN2_PARTS = (elementary.LN2_HIGH, 7.371002565166132e-13, 1.667085920830552e-25)
"""The first two have so few bits that their multiples by an exponent are exact."""

_HALF_ULP = 2.0**-54
_LARGE = 2.0**28
_SPLITTER = 2.0**27 + 1.0
_DIGITS = 70
ARCTAN_STEPS = 32
FIRST_LOG = 90


def parts(number: Decimal) -> tuple[float, float]:
    """Return a number as a pair."""
    return float(number), float(number - Decimal(float(number)))


def arctan(x: Decimal) -> Decimal:
    """Return the arc tangent of x from 0 to 1: four halvings of the angle, then the series."""
    for _ in range(4):
        x = x / (1 + (1 + x * x).sqrt())
    total = Decimal(0)
    for k in reversed(range(getcontext().prec // 2)):
        total = Decimal(1) / (2 * k + 1) - x * x * total
    return 16 * x * total


@cache
def table(name: str, part: int) -> list[float]:
    """Return 2^(k/64) for k = 0 … 63, -log c_k for k = 90 … 182, or atan(k/32) for k = 0 … 32.

    c_k is 128/k in multiples of 1/512, rounded. ``part`` is 0 or 1, of pairs.
    """
    with localcontext(prec=_DIGITS):
        numbers = {
            "logs": (-Decimal(round(512 * 128 / k) / 512).ln() for k in range(FIRST_LOG, 183)),
            "powers": (Decimal(2) ** (Decimal(k) / STEPS) for k in range(STEPS)),
            "arctans": (arctan(Decimal(k) / ARCTAN_STEPS) for k in range(ARCTAN_STEPS + 1)),
        }
        return [parts(number)[part] for number in numbers[name]]


def special(*ends: tuple[float, float], itself: float = 0.0, is_odd: bool = False) -> Callable[[Real], Real]:
    """Give a function its values at some arguments, and x of magnitudes below ``itself``.

    A function that ``is_odd`` is computed of magnitudes, of which the ends are too.
    """

    def decorate(function: Real) -> Real:
        @wraps(function)
        def call(ops: FullRange, x: Array) -> Array:
            xp, size = ops.xp, ops.xp.abs(x)
            argument = size if is_odd else x
            result = function(ops, argument)
            for value, end in ends:
                result = xp.where(argument == value, end, result)
            result = xp.where(x < 0, -result, result) if is_odd else result
            return xp.where(size < itself, x, result) if itself else result

        return call

    return decorate


odd = partial(special, is_odd=True, itself=2.0**-28)
"""`special` of an odd function with slope 1."""


def look_up(ops: FullRange, name: str, index: Array) -> Arrays:
    """Return the entries of a ``table`` at whole numbers, pairs."""
    return ops.entries(index, *(ops.constants(table, name, part) for part in (0, 1)))


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


def plus(a: Pair, b: Array | float) -> Pair:
    """Return the sum of a pair and a number, whose second part may be large."""
    total, rest = two_sum(a[0], b)
    return total, rest + a[1]


def divide(a: tuple[Array, Array | float], b: Pair) -> Pair:
    """Return a/b as a pair, to about 100 bits."""
    quotient = a[0] / b[0]
    product, error = two_product(quotient, b[0])
    return quotient, ((((a[0] - product) - error) + a[1]) - quotient * b[1]) / b[0]


def scale(ops: FullRange, x: Array, largest: float) -> Array:
    """Return the factor of numbers whose squares would underflow or overflow, from 2^-400 to the largest."""
    xp = ops.xp
    return xp.where(x > largest, 2.0**-600, xp.where(x < 2.0**-400, 2.0**600, xp.ones_like(x)))


def root(ops: FullRange, x: Pair) -> Pair:
    """Return the square root of a pair, for x from 2^-900 to 2^900, and NaN below 0."""
    x, low = fast_two_sum(*x)
    y = ops.sqrt(x)
    square, error = two_product(y, y)
    return fast_two_sum(y, (((x - square) - error) + low) / (y + y))


def logarithm(ops: FullRange, x: Array) -> Pair:
    """Return log x as a pair within 2^-65 of it, for finite x > 0, and NaN for others but infinity.

    With x = 2^e m, m from √½ to √2, and c a number of ten bits near 1/m: e ln 2 - log c + log(1 + r), with
    r = m c - 1 below 2^-7 and its series to r^10.
    """
    xp = ops.xp
    small, scaled = elementary.scale_subnormals(xp, x)
    m, e = elementary.split_near_one(xp, scaled)
    e = xp.where(small, e - 1074.0, e)
    k = round_to_whole(m * 128.0)
    c, (mh, ml) = round_to_whole(65536.0 / k) * (1 / 512), split(m)
    log, log_low = look_up(ops, "logs", k - FIRST_LOG)
    r, r_low = two_sum(mh * c - 1.0, ml * c)
    q = polynomial(r, ((-1) ** (n + 1) / n for n in range(10, 2, -1)))
    half, half_low = two_product(r, r * -0.5)
    first, second, third = LN2_PARTS
    total, a = two_sum(e * first, log)
    total, b = two_sum(total, r)
    total, d = two_sum(total, half)
    rest = (log_low + e * second) + (r_low - r * r_low)
    rest = (r * r) * r * q + (((a + b) + d) + (rest + (half_low + e * third)))
    return fast_two_sum(xp.where(x > 0, total, xp.nan), rest)


def log_of_one_plus(ops: FullRange, x: tuple[Array, Array | float]) -> Pair:
    """Return log(1 + x) of a pair as a pair, for x > -1, and NaN below."""
    total, rest = two_sum(x[0], 1.0)
    ratio = (rest + x[1]) / total
    high, low = logarithm(ops, total)
    high, rest = two_sum(high, ratio)
    return fast_two_sum(high, (low - 0.5 * ratio * ratio) + rest)


def exponential(ops: FullRange, x: Array, low: Array | float = 0.0) -> Array:
    """Return e^(x + low): infinity above all float64 numbers, 0 below 2^-1022."""
    xp = ops.xp
    k, step, r, r_low = _reduce_exponent(xp, x)
    r, r_low = fast_two_sum(r, r_low + low)
    high, rest = look_up(ops, "powers", step)
    m = high + (high * (r + (_rest_of_series(r) + r_low)) + rest)
    upper, lower = k > 900.0, k < -900.0
    near = m * ops.power_of_two(k - elementary.nearer(xp, k, upper, lower))
    result = elementary.scale_back(xp, upper, lower, near)
    return xp.where(x >= FARTHEST, inf, xp.where(x <= -FARTHEST, 0.0, result))


def exponential_less_one(ops: FullRange, x: Array) -> Pair:
    """Return e^x - 1 as a pair, for |x| < 45."""
    k, step, r, r_low = _reduce_exponent(ops.xp, x)
    high, rest = look_up(ops, "powers", step)
    power = ops.power_of_two(k)
    total, a = two_sum(high * power, -1.0)
    product, product_low = two_product(high, r)
    total, b = two_sum(total, product * power)
    low = product_low + (high * (_rest_of_series(r) + r_low) + rest)
    return fast_two_sum(total, (a + b) + low * power)


def _reduce_exponent(xp: Namespace, x: Array) -> tuple[Array, Array, Array, Array]:
    """Return k, i, r and its low part with x = (64 k + i) ln 2 / 64 + r, i from 0 to 63."""
    steps = round_to_whole(x * elementary.PER_STEP)
    k = xp.floor(steps * (1 / STEPS))
    return k, steps - STEPS * k, *two_sum(x - steps * STEP_HIGH, -(steps * STEP_LOW))


def _rest_of_series(r: Array) -> Array:
    """Return e^r - 1 - r, for r up to 0.0055."""
    return (r * r) * polynomial(r, (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5))


# Functions of float64


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
    return add(*log_of_one_plus(ops, (x, 0.0)))


@special(itself=_HALF_ULP)
def expm1(ops: FullRange, x: Array) -> Array:
    """Return e^x - 1."""
    near = add(*exponential_less_one(ops, x))
    return ops.xp.where(x <= -44, -1.0, ops.xp.where(x < 44, near, exponential(ops, x)))


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
    return ops.xp.where(size < 40, 0.5 * (e + ops.reciprocal(e)), _half_exp(ops, size))


def _half_exp(ops: FullRange, size: Array) -> Array:
    """Return e^size / 2."""
    high, low = two_sum(size, -LN2[0])
    return exponential(ops, high, low - LN2[1])


@odd((inf, inf))
def asinh(ops: FullRange, size: Array) -> Array:
    """Return the inverse hyperbolic sine: log(1 + |x| + (√(1 + x²) - 1)), with the root as a pair."""
    square = two_product(size, size)
    below = plus(root(ops, plus(square, 1.0)), 1.0)  # √(1 + x²) - 1 = x²/(√(1 + x²) + 1)
    near = add(*log_of_one_plus(ops, plus(divide(square, below), size)))
    return ops.xp.where(size <= _LARGE, near, _log_of_double(ops, size))


@special((1.0, 0.0), (inf, inf))
def acosh(ops: FullRange, x: Array) -> Array:
    """Return the inverse hyperbolic cosine: log(1 + t + √(2t + t²)), with t = x - 1."""
    xp = ops.xp
    t = xp.where(x >= 1, x - 1.0, xp.nan)
    distance = root(ops, plus(two_product(t, t), t + t))
    near = add(*log_of_one_plus(ops, fast_two_sum(*plus(distance, t))))
    return xp.where(x <= _LARGE, near, _log_of_double(ops, x))


def _log_of_double(ops: FullRange, size: Array) -> Array:
    """Return log(2 size)."""
    high, low = logarithm(ops, size)
    total, rest = two_sum(high, LN2[0])
    return total + (rest + (low + LN2[1]))


@odd((1.0, inf))
def atanh(ops: FullRange, size: Array) -> Array:
    """Return the inverse hyperbolic tangent: half of log(1 + 2|x|/(1 - |x|)); NaN beyond 1."""
    return 0.5 * add(*log_of_one_plus(ops, divide((size + size, 0.0), two_sum(-size, 1.0))))


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
    result = add(*root(ops, (total, rest + (error + other_error)))) * ops.reciprocal(factor)
    result = xp.where((largest == 0) | (result < elementary.SMALLEST_NORMAL), 0.0, result)
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
    result = xp.where(xp.abs(result) >= elementary.SMALLEST_NORMAL, result, 0.0)
    return xp.where((xp.abs(x) < inf) & (xp.abs(y) < inf), result, largest + 0.0)


def pow(ops: FullRange, x: Array, y: Array) -> Array:  # noqa: A001  as in the standard
    """Return x to the power y, by y log|x| in pairs, with the special values of the standard."""
    xp = ops.xp
    size = xp.abs(x)
    log, log_low = logarithm(ops, size)
    log = xp.where(size == 0, -inf, xp.where(size == inf, inf, log))
    exponent = xp.clip(y, -(2.0**70), 2.0**70)
    power = log * exponent
    high, error = two_product(log, exponent)
    high, low = fast_two_sum(high, error + log_low * exponent)
    result = exponential(ops, xp.where(xp.abs(power) < FARTHEST, high, power), low)
    for whole, product in ((1.0, size), (2.0, size * size), (-1.0, ops.reciprocal(size))):
        result = xp.where(y == whole, xp.where(product < elementary.SMALLEST_NORMAL, 0.0, product), result)
    is_whole = xp.floor(y) == y
    is_odd = is_whole & (xp.floor(y * 0.5) != y * 0.5)
    result = xp.where((x < 0) & (x > -inf) & ~is_whole, xp.nan, result)
    result = xp.where(xp.signbit(x) & is_odd, -result, result)
    return xp.where((y == 0) | (x == 1), 1.0, result)
