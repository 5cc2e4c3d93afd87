"""The reproducible arithmetic for any use: exp, log and square root of all numbers, products of any accuracy.

Within the limits of ``xpnet.arithmetic.reproducible`` it has the same bits. ``docs/arithmetic.md`` gives the
formulas and bounds.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import count

from xpnet._typing import Array, Arrays, Function
from xpnet.arithmetic import elementary
from xpnet.arithmetic.base import Operand
from xpnet.arithmetic.reproducible import LARGEST, SIGNIFICAND_BITS, SMALLEST, Budget, Reproducible
from xpnet.errors import ConfigError

MATMUL_ERROR = 1e-12
"""The error of a product by default, relative to the number of terms and the largest magnitudes."""

PIECE = 1 << 14
"""Numbers that are added at a time if the cache is to be used: 128 KB."""


@dataclass(frozen=True, kw_only=True)
class FullRange(Reproducible):
    """Contractions in any number of slices, sums in pieces, and functions of all float64 numbers."""

    in_pieces: bool  # True if starting an operation takes no time, as in NumPy
    to_host: Function  # returns an array as NumPy's

    exp = elementary.exp_of_any

    @cached_property
    def limited(self) -> Reproducible:
        """The arithmetic of training, whose exp is 0 below -670."""
        return Reproducible(self.xp, self.device, self.dtype)

    def contract(self, a: Array, b: Array, slices: int) -> Array:
        """Return the product (..., n, k) times (..., k, m) of the operands in so many slices each.

        Raises
        ------
        ConfigError
            k is so large that no bits are left.
        """
        budget = slice_budget(a.shape[-1], slices)
        return self._product(*self._round_factors(Operand(a), Operand(b), budget), 1.0)

    def multiply(self, a: Array, b: Array) -> Array:
        """Return the product (..., n, k) times (..., k, m), as accurate as one in float64.

        The error is at most k 2^-52 times the largest magnitudes of row and column. Rows and columns are
        scaled if one is far from 1.
        """
        xp, slices = self.xp, fewest_slices(a.shape[-1], 2.0**-53)
        largest = [self.largest(a, -1), self.largest(b, -2)]
        if not any(xp.any(((x > LARGEST) & (x < xp.inf)) | ((x < SMALLEST) & (x > 0))) for x in largest):
            return self.contract(a, b, slices)
        p, q = map(self._power_below, largest)
        product = self.contract(a * self.reciprocal(p), b * self.reciprocal(q), slices)
        product = (product * xp.minimum(p, q)) * xp.maximum(p, q)
        return xp.where(xp.abs(product) < elementary.SMALLEST_NORMAL, 0.0, product)

    def _power_below(self, x: Array) -> Array:
        """Return the power of two at or below each positive number, from 2^-1022 to 2^1022."""
        xp = self.xp
        _, exponent = elementary.split_exponent(xp, xp.where((x > 0) & (x < xp.inf), x, 1.0))
        return self.power_of_two(xp.clip(exponent, -1022.0, 1022.0))

    def log(self, x: Array) -> Array:
        """Return the natural logarithm, also of subnormal numbers."""
        small, scaled = elementary.scale_subnormals(self.xp, x)
        result = super().log(scaled)
        return self.xp.where(small, result - elementary.LOG_SCALE, result)

    def sqrt(self, x: Array) -> Array:
        """Return the square root, also of subnormal numbers."""
        small, scaled = elementary.scale_subnormals(self.xp, x)
        result = super().sqrt(scaled)
        return self.xp.where(small, result * 2.0**-537, result)

    def entries(self, index: Array, *tables: Array) -> Arrays:
        """Return the entries of tables at whole numbers, of any shape; those at 0 where there are none."""
        safe = self.xp.where((index >= 0.0) & (index < float(tables[0].shape[0])), index, 0.0)
        return [elementary.take(self.xp, table, safe) for table in tables]

    def power_of_two(self, exponent: Array) -> Array:
        """Return 2 to whole powers from -1022 to 1023, float64 of any shape."""
        return self.entries((exponent + 1022.0) * 64.0, self.constants(elementary.powers_of_two))[0]

    def map_pieces(self, function: Function, *arrays: Array) -> Array:
        """Apply a function to arrays of one length, to a piece of the first axis at a time if `in_pieces`."""
        length, size = arrays[0].shape[0], math.prod(arrays[0].shape)
        if not self.in_pieces or size <= PIECE:
            return function(*arrays)
        width = max(PIECE * length // size, 1)
        starts = range(0, length, width)
        pieces = [function(*(x[first : first + width, ...] for x in arrays)) for first in starts]
        return self.xp.concat(pieces)

    def map_rows(self, function: Function, x: Array, axis: int) -> Array:
        """Apply a function of an array and an axis, to pieces of the first axis unless that is the axis."""
        return self.map_pieces(lambda rows: function(rows, axis), x) if axis else function(x, axis)

    def total(self, x: Array, axis: int) -> Array:
        """Return the folded sum of ``flush_tiny(x)`` along an axis from 0, which is kept.

        It is added up in pieces of the axis, if ``in_pieces``.
        """
        if not self.in_pieces or math.prod(x.shape) <= PIECE:
            return self.sum(elementary.flush_tiny(x), axis)
        x = self.xp.moveaxis(x, axis, 0)
        size = 1 << max(PIECE // math.prod(x.shape[1:]), 1).bit_length() - 1
        parts = [x[first : first + size, ...] for first in range(0, x.shape[0], size)]
        parts[-1] = self.pad(parts[-1], 0, size, self.xp.zeros)
        total = self.sum(fold(lambda part: elementary.flush_tiny(parts[part]), len(parts)), 0)
        return self.xp.moveaxis(total, 0, axis)

    def mean(self, x: Array, axis: int) -> Array:
        """Return the folded sum along an axis over the number of terms, one division."""
        return self._divide(self.total(x, axis), x.shape[axis])

    def variance(self, x: Array, axis: int, correction: float) -> Array:
        """Return Σ (x - mean)² along an axis over the number of terms less the correction, NaN of no more."""
        difference, divisor = x - self.mean(x, axis), x.shape[axis] - correction
        return self._divide(self.total(difference * difference, axis), divisor if divisor > 0.0 else math.nan)

    def cumulative_sum(self, x: Array, axis: int) -> Array:
        """Return the sums of the terms up to each one along an axis: exact, of rounded terms, and rounded.

        The sums of both slices are exact in any order. The library's may also add infinities and NaN.
        """
        xp, bits = self.xp, SIGNIFICAND_BITS - (x.shape[axis] - 1).bit_length()
        finite = xp.isfinite(x)
        terms = xp.where(finite, x, 0.0)
        powers = self._find_powers(self.largest(terms, axis))
        parts = (*self._round_to_grid(terms, powers, bits, 2), xp.where(finite, 0.0, x))
        high, low, special = (xp.cumulative_sum(part, axis=axis) for part in parts)
        return (high + low) + special

    def product(self, x: Array, axis: int) -> Array:
        """Return the product along an axis, which is kept: padded with ones, and folded in halves."""
        return self.fold(self._times, x, axis, is_product=True)

    def cumulative_product(self, x: Array, axis: int) -> Array:
        """Return products up to each element: of those up to 1, 2, 4, … before it, doubling."""
        xp, step = self.xp, 1
        y = xp.moveaxis(x, axis, 0)
        while step < y.shape[0]:
            y = xp.concat([y[:step, ...], self._times(y[step:, ...], y[:-step, ...])], axis=0)
            step *= 2
        return xp.moveaxis(y, 0, axis)

    def _times(self, a: Array, b: Array) -> Array:
        """Return products, each of which is 0 where it would be subnormal."""
        product = a * b
        return self.xp.where(self.xp.abs(product) < elementary.SMALLEST_NORMAL, product * 0.0, product)

    def log_sum_exp(self, x: Array, axis: int) -> Array:
        """Return M + log Σ exp(x - M) along an axis, with M the largest x; NaN if there is one among them."""
        xp = self.xp
        largest = xp.max(x, axis=axis, keepdims=True)
        result = elementary.flush_tiny(largest) + self.log(self.sum(self.limited.exp(x - largest), axis))
        # JAX 0.10 loses NaN in a maximum of 4,096 numbers.
        has_nan = xp.any(x != x, axis=axis, keepdims=True)  # noqa: PLR0124
        return xp.where((xp.abs(largest) == xp.inf) & ~has_nan, largest, result)

    def _divide(self, x: Array, divisor: float) -> Array:
        return x / self.xp.full_like(x, divisor)


def fold(term: Function, terms: int, first: int = 0, step: int = 1) -> Array:
    """Return the folded sum of the terms first, first + step, …, without those beyond the last.

    The last addition of a folded sum adds the sum of the odd terms to that of the even ones, and so on: the
    recursion takes them one by one, and keeps log2(terms) sums.
    """
    if first + step >= terms:
        return term(first)
    return fold(term, terms, first, 2 * step) + fold(term, terms, first + step, 2 * step)


def slice_budget(terms: int, slices: int) -> Budget:
    """Return the bits of a slice of both operands of a contraction over so many terms.

    Raises
    ------
    ConfigError
        No bits are left.
    """
    free = SIGNIFICAND_BITS - max(terms - 1, 0).bit_length()
    if free < 2:
        msg = f"a product over {terms} terms leaves no bits for its factors: add up products over fewer"
        raise ConfigError(msg)
    return Budget(free // 2, free - free // 2, slices)


def contraction_error(terms: int, slices: int) -> float:
    """Return a bound of the error of a contraction, relative to K · M_a · M_b, before its last rounding.

    K is the number of terms, and M_a and M_b are the largest magnitudes of the vectors. The slices leave out
    2^(-slices · bits) of each operand; the products of slices that are low in both are not computed; sums of
    the others are rounded.
    """
    a, b, _ = slice_budget(terms, slices)
    left_out = 2.0 ** (-slices * a) + 2.0 ** (-slices * b) + 2.0 ** (-slices * (a + b))
    low = (2.0 ** (-i * a - j * b) for i in range(1, slices) for j in range(slices - i, slices))
    rounded = slices * (2.0**-a + 2.0**-b) * 2.0**-51 if slices > 1 else 0.0
    return left_out + sum(low) + rounded


@cache
def fewest_slices(terms: int, error: float = MATMUL_ERROR) -> int:
    """Return the fewest slices of a contraction whose error is at most so much, 2^-53 for that of float64."""
    return next(slices for slices in count(1) if contraction_error(terms, slices) <= error)
