"""The reproducible arithmetic: the same bits with every library, device, kernel and thread count.

Both factors of a product of matrices are first rounded to power-of-two grids so coarse that every partial
sum of products is a multiple of one step and fits the 53 bits of a float64 significand. Such sums are
exact: their order, their blocking and fused operations cannot change a bit. Everything else is one
elementwise operation at a time that IEEE 754 fixes.

``docs/reproducibility.md`` specifies every operation here, and bounds its error.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

from xpnet._lib.tree import unpack
from xpnet._typing import Array, Arrays, Function, Pair
from xpnet.arithmetic import elementary
from xpnet.arithmetic.base import Arithmetic, Matrix, Operand
from xpnet.errors import ConfigError, setting

SIGNIFICAND_BITS = 53
INTEGER_BITS = 8
"""The bits of operands that are known to be integers: pixels, 0 to 255."""

FEWEST_BITS = 20
"""The least number of bits that a factor of a product keeps, in one slice or in two."""

LARGEST, SMALLEST = 2.0**400, 2.0**-400
"""The range of the grids: larger magnitudes give NaN, smaller ones are rounded on the finest grid."""

TO_OVERFLOW = 2.0**1023 / LARGEST
"""The factor by which a power of two overflows if it is above the range."""

MOST_JOINED = 1 << 10
"""Vectors whose grids are found together: for more, joining their maxima takes longer than it saves."""


Slices = Arrays
"""Of an operand of a product, the first with the highest bits."""


class Budget(NamedTuple):
    """The split of the significand's bits between the operands of a contraction."""

    a: int  # bits of a slice of the first operand
    b: int  # bits of a slice of the second
    slices: int  # of each operand that is not known to be integers


@dataclass(frozen=True)
class Reproducible(Arithmetic):
    """Exact contractions of rounded operands, in float64."""

    name = "reproducible"
    has_native_roots = False
    exp = elementary.exp
    log = elementary.log
    sqrt = elementary.sqrt

    def operand(self, matrix: Array) -> Operand:
        """Return the matrix with a cache of the powers of two of its grids."""
        return Operand(matrix, is_shared=True)

    def transpose(self, matrix: Matrix) -> Operand:
        """Exchange the last two axes."""
        operand = _as_operand(matrix)
        return replace(operand, transposed=not operand.transposed)

    def matmul(self, a: Matrix, b: Matrix) -> Array:
        """Return the exact product of the rounded operands, (..., n, k) times (..., k, m).

        Raises
        ------
        ConfigError
            k is so large that too few bits are left for the operands.
        """
        a, b = _as_operand(a), _as_operand(b)
        return self._product(*self._round_factors(a, b), a.factor * b.factor)

    def weight_and_bias_gradients(self, dz: Matrix, a: Matrix) -> Pair:
        """Return dZ Aᵀ and Σ dZ over the samples, both exact, from the same rounding of dZ."""
        inputs = self.transpose(a)
        left, right = self._round_factors(_as_operand(dz), inputs)
        sums = [self.xp.sum(part, axis=-1, keepdims=True) for part in reversed(left)]
        return self._product(left, right, inputs.factor), reduce(operator.add, sums) + 0.0

    def sum(self, x: Array, axis: int) -> Array:
        """Return the sum along an axis: padded with zeros to a power of two, and folded in halves."""
        return self.fold(operator.add, x, axis)

    def fold(self, combine: Function, x: Array, axis: int, *, is_product: bool = False) -> Array:
        """Combine the terms along an axis, padded with zeros or ones to a power of two, in halves."""
        xp, axis = self.xp, axis % x.ndim
        count = x.shape[axis]
        half = 1 << (count - 1).bit_length()
        if half > count:
            x = self.pad(x, axis, half, xp.ones if is_product else xp.zeros)
        before = (slice(None),) * axis
        while half > 1:
            half //= 2
            x = combine(x[(*before, slice(half), ...)], x[(*before, slice(half, 2 * half), ...)])
        return x

    def pad(self, x: Array, axis: int, length: int, create: Function) -> Array:
        """Return an array made longer by zeros or ones."""
        missing = (*x.shape[:axis], length - x.shape[axis], *x.shape[axis + 1 :])
        return self.xp.concat([x, create(missing, dtype=x.dtype, device=self.device)], axis=axis)

    def _round_factors(self, a: Operand, b: Operand, budget: Budget | None = None) -> tuple[Slices, Slices]:
        """Return the slices of both operands of a product, rounded to a budget, by default `bit_budget`'s."""
        budget = budget or bit_budget(int(a.values.shape[a.own_axis(-1)]), a.integer, b.integer)
        self._prepare_grids((a, -1), (b, -2))
        return self._slices(a, -1, budget.a, budget.slices), self._slices(b, -2, budget.b, budget.slices)

    def _prepare_grids(self, *factors: tuple[Operand, int]) -> None:
        """Find the powers of two of the grids of factors, along an axis each, unless they are known.

        Those of few vectors are found together, and of shared factors along both axes: an operation on so few
        numbers takes little longer than on one. A library that fuses operations is given each alone.
        """
        xp = self.xp
        rounded = [(x, x.own_axis(axis)) for x, axis in factors if not x.integer]
        unknown = [(x, axis) for x, axis in rounded if axis not in x.powers]
        both = [(x, each) for x, axis in unknown for each in ((-1, -2) if x.is_shared else (axis,))]
        count = sum(math.prod(x.values.shape) // max(x.values.shape[axis], 1) for x, axis in both)
        if self.fuses or len(both) < 2 or count > MOST_JOINED:
            for operand, axis in unknown:
                operand.powers[axis] = self._find_powers(self.largest(operand.values, axis))
            return
        maxima = [self.largest(x.values, axis) for x, axis in both]
        powers = self._find_powers(xp.concat([xp.reshape(largest, (-1,)) for largest in maxima]))
        parts = unpack(xp, powers, [largest.shape for largest in maxima])
        for (operand, axis), part in zip(both, parts, strict=True):
            operand.powers[axis] = part

    def largest(self, x: Array, axis: int) -> Array:
        """Return the largest magnitudes along an axis, which is kept."""
        return self.xp.max(self.xp.abs(x), axis=axis, keepdims=True)

    def _find_powers(self, largest: Array) -> Array:
        """Return ``TO_OVERFLOW`` times the smallest power of two at or above each ``largest``, of its shape.

        Beyond the range of the grids it is infinity (Rump 2009, "Ultimately fast accurate summation",
        algorithm 3.5).
        """
        scaled = largest * 2.0**53
        return self.xp.maximum(scaled - (scaled - largest), SMALLEST) * TO_OVERFLOW

    def _product(self, left: Slices, right: Slices, factor: float) -> Array:
        """Multiply two operands in slices, without the products of slices that are low in both.

        Slice i times slice j counts for i + j; sums begin with the lowest, and few products exist at a time.
        """

        def level(number: int) -> Array:
            second = range(max(number - len(left) + 1, 0), min(number + 1, len(right)))
            return reduce(operator.add, (self.xp.matmul(left[number - j], right[j]) for j in second))

        levels = map(level, reversed(range(max(len(left), len(right)))))
        product = reduce(lambda low, high: high + low, levels)
        if factor != 1.0:
            product = product * factor
        return product + 0.0  # the sign of a zero is not fixed by the sum it comes from

    def _slices(self, operand: Operand, axis: int, bits: int, count: int) -> Slices:
        """Return the operand as slices, whose sum it is, rounded along the axis to be contracted."""
        if operand.integer:
            slices = [operand.values]
        else:
            powers = operand.powers[operand.own_axis(axis)]
            slices = self._round_to_grid(operand.values, powers, bits, count)
        return [self.xp.matrix_transpose(s) for s in slices] if operand.transposed else slices

    def _round_to_grid(self, x: Array, powers: Array, bits: int, count: int) -> Slices:
        """Round x to the multiples of p 2^-bits, with the ``powers`` p of each vector times ``TO_OVERFLOW``.

        Adding and subtracting 1.5 · 2^52 steps rounds to a multiple, ties to even. A second slice is the
        rest, on a grid 2^bits times finer. Beyond the range p is infinity: infinity - infinity is NaN.
        """
        slices = []
        for index in range(count):
            shift = powers * (elementary.TO_WHOLE * 2.0 ** (-bits * (index + 1)) / TO_OVERFLOW)
            slices.append((x + shift) - shift)
            if index + 1 < count:
                x = x - slices[-1]
        return slices


def bit_budget(terms: int, a_integer: bool, b_integer: bool) -> Budget:  # noqa: FBT001
    """Return the bits of the operands of a contraction over so many terms.

    The bits of both and ceil(log2(terms)) are together at most 53.

    Raises
    ------
    ConfigError
        Two slices of an operand have fewer than 20 bits.
    """
    free = SIGNIFICAND_BITS - max(terms - 1, 0).bit_length()
    if a_integer or b_integer:
        fewest = free - INTEGER_BITS
        a, b = (INTEGER_BITS, fewest) if a_integer else (fewest, INTEGER_BITS)
    else:
        fewest = a = free // 2
        b = free - a
    slices = 1 if fewest >= FEWEST_BITS else 2
    if slices * fewest < FEWEST_BITS:
        left = f"{max(fewest, 0)} of {SIGNIFICAND_BITS} bits for each factor, fewer than {FEWEST_BITS // 2}"
        remedy = f"use fewer units or features, or {setting('arithmetic', 'native')}"
        raise ConfigError(f"a sum over {terms} terms leaves {left}: {remedy}")
    return Budget(a, b, slices)


def check_budgets(sizes: Sequence[int]) -> None:
    """Check that every contraction of a network has enough bits.

    ``sizes`` are the number of features and of the units of each layer.

    Raises
    ------
    ConfigError
        Too few bits are left; the message names layer, sizes and bits.
    """
    for layer, (inputs, units) in enumerate(pairwise(sizes)):
        try:
            for terms in (inputs, units):
                bit_budget(terms, a_integer=False, b_integer=False)
        except ConfigError as error:
            raise ConfigError(f"layer {layer} ({inputs} inputs, {units} units): {error}") from error


def _as_operand(matrix: Matrix) -> Operand:
    return matrix if isinstance(matrix, Operand) else Operand(matrix)
