"""The public functions, of plain arrays and of `Array`."""

import operator
import sys
from functools import partial, wraps
from math import inf, prod
from typing import Any, cast

import numpy as np

from xpnet._lib.kinds import matches
from xpnet._typing import AnyFunction, Function
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.arithmetic.full_range import FullRange, fewest_slices
from xpnet.arithmetic.reproducible import LARGEST
from xpnet.errors import ConfigError, DataError
from xpnet.nn import functional as F
from xpnet.reproducible.array import Array
from xpnet.reproducible.elementwise import FORMULAS, in_float64_of
from xpnet.reproducible.places import in_float64, whole

__all__ = ["cos", "exp", "log", "sigmoid", "sin", "sqrt", "tanh"]
__all__ += ["cumulative_sum", "logsumexp", "mean", "softmax", "sum", "var"]
__all__ += ["matmul", "one_hot", "vecdot"]

Axis = int | tuple[int, ...] | None
MOST_SLICES = 7
ACCURATE = -1
"""In place of the number of slices: as many as the accuracy of float64 needs."""


def takes_arrays(function: AnyFunction) -> AnyFunction:
    """Let a function of plain arrays take `Array`: as the namespace's, or rounded to the dtype of these."""
    name = function.__name__

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        arrays = [each for each in args if isinstance(each, Array)]
        if not arrays:
            return function(*args, **options)
        of_standard = getattr(arrays[0].place.space, name, None)
        if of_standard is not None and options.keys().isdisjoint(("slices", "block")):
            return of_standard(*args, **options)
        return in_float64_of(lambda *wide: function(*wide, *args[len(arrays) :], **options), name, *arrays)

    return cast("AnyFunction", call)


# Products


@takes_arrays
def matmul(x1: Any, x2: Any, /, *, slices: int | None = None, block: int | None = None) -> Any:
    """Return the matrix product, (..., n, k) times (..., k, m) -> (..., n, m), within 1e-12 by default.

    Each row of `x1` and column of `x2` is rounded to a grid so coarse that sums of products are exact. As in
    the array-API standard, leading axes are broadcast, and a one-dimensional array is a row or a column.

    Parameters
    ----------
    x1, x2
        The factors.
    slices
        The number of slices, 1 to 7, in which each factor is multiplied: s take s (s + 1)/2 products of the
        library. By default the fewest for an error of at most 1e-12 k times the largest magnitudes of row and
        column: 2 up to k = 2,048, then 3.
    block
        Multiply blocks of so many of the k terms, each with grids of its own, and add the products in a fixed
        binary tree; as the errors grow with the terms of a product, fewer slices do. None for one block.

    Raises
    ------
    DataError
        A magnitude is above 2^400 (2.6e120), or the shapes do not fit. Rows and columns with infinities or
        NaN give NaN.
    ConfigError
        `slices` is not a number from 1 to 7, or `block` is below 1.
    """
    with in_float64("matmul", x1, x2) as (ops, a, b):
        if min(a.ndim, b.ndim) == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
            msg = f"matmul: expected shapes (..., n, k) and (..., k, m), got {(*a.shape,)} and {(*b.shape,)}"
            raise DataError(msg)
        left, right = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
        product = _contract("matmul", ops, left, right, slices, block)
        product = product[..., 0, :] if a.ndim == 1 else product
        return product[..., 0] if b.ndim == 1 else product


@takes_arrays
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1, slices: int | None = None) -> Any:
    """Return the dot products of the vectors along an axis, with the accuracy of `matmul`.

    Parameters
    ----------
    x1, x2
        Arrays whose other axes are broadcast.
    axis
        The axis, counted from the last, which is -1; of the same length in both.
    slices
        As for `matmul`.

    Raises
    ------
    DataError
        As for `matmul`.
    ConfigError
        `slices` is not a number from 1 to 7, or there is no such axis.
    """
    with in_float64("vecdot", x1, x2) as (ops, a, b):
        if not (matches(axis, int) and -min(a.ndim, b.ndim) <= axis < 0):
            raise ConfigError(f"vecdot: expected an axis from {-min(a.ndim, b.ndim)} to -1, got {axis!r:.60}")
        if a.shape[axis] != b.shape[axis]:
            shapes = f"{(*a.shape,)} and {(*b.shape,)}"
            raise DataError.at("vecdot", f"expected the same length of axis {axis}, got shapes {shapes}")
        row, column = (ops.xp.moveaxis(x, axis, -1) for x in (a, b))
        return _contract("vecdot", ops, row[..., None, :], column[..., :, None], slices)[..., 0, 0]


@takes_arrays
def one_hot(indices: Any, num_classes: int, /, *, axis: int = -1) -> Any:
    """Return 1 where the position along a new axis is the index, else 0, as `jax.nn.one_hot`.

    A product with it is a sum of the rows of each class: the gradient of `take`.

    Parameters
    ----------
    indices
        Whole numbers. One that is not from 0 to `num_classes` - 1 gives zeros.
    num_classes
        The length of the new axis.
    axis
        Its place in the result.

    Raises
    ------
    ConfigError
        The result has no such axis, or `num_classes` is no whole number of at least 0.
    """
    with in_float64("one_hot", indices) as (ops, a):
        (position,) = sorted_axes("one_hot", (axis,), a.ndim + 1)
        num_classes = whole("one_hot", "a number of classes, 0 or more", num_classes)
        xp = ops.xp
        numbers = xp.astype(xp.arange(num_classes, device=ops.device), ops.dtype)
        return xp.moveaxis(xp.astype(xp.expand_dims(a, axis=-1) == numbers, ops.dtype), -1, position)


def _contract(name: str, ops: FullRange, a: Any, b: Any, slices: int | None, block: int | None = None) -> Any:
    """Return the product of matrices, after checks of the numbers and the magnitudes."""
    if slices not in (None, ACCURATE):
        slices = whole(name, f"slices from 1 to {MOST_SLICES}, or None", slices, 1, MOST_SLICES + 1)
    if block is not None:
        block = whole(name, "a block of at least 1 term, or None", block, 1)
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError as error:
        msg = f"{name}: expected stacks of shapes that can be broadcast, got {(*a.shape,)} and {(*b.shape,)}"
        raise DataError(msg) from error
    terms = a.shape[-1]
    if terms == 0:  # no term is the largest
        return ops.xp.matmul(a, b)
    if slices == ACCURATE:
        return ops.multiply(a, b)
    block = min(terms, block or terms)
    slices = slices or fewest_slices(block)
    bounds = block_bounds(terms, block)
    (product,) = tree_sum([ops.contract(a[..., i:j], b[..., i:j, :], slices)] for i, j in bounds)
    _check_magnitudes(name, ops.xp, product, a, b)
    return product


def _check_magnitudes(name: str, xp: Any, result: Any, *operands: Any) -> None:
    """Check that NaN in a result does not come from a number that is too large."""
    if xp.any(result != result):  # noqa: PLR0124  NaN
        for size in map(xp.abs, operands):
            if xp.any((size > LARGEST) & (size < inf)):
                msg = f"{name}: a magnitude is above 2^400 (2.6e120): scale the numbers, and the result back"
                raise DataError(msg)


# Reductions


@takes_arrays
def sum(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:  # noqa: A001  as in the standard
    """Return the sum, folded: term j + h is added to term j for all j < h, until one term is left.

    The error is at most log2(n) 2^-53 times the sum of magnitudes, for n terms rounded up to a power of two.
    Infinities and NaN are as in NumPy.

    Parameters
    ----------
    x
        The terms.
    axis
        The axis or axes to sum over; None for all.
    keepdims
        True to keep these axes with length 1.

    Raises
    ------
    ConfigError
        There is no such axis.
    """
    return reduce_axes("sum", FullRange.total, x, axis, keepdims=keepdims, empty=0.0)


@takes_arrays
def mean(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the arithmetic mean: the `sum` over the number of terms, one division. Of no terms it is NaN.

    The parameters and errors are those of `sum`.
    """
    return reduce_axes("mean", FullRange.mean, x, axis, keepdims=keepdims, empty=np.nan)


@takes_arrays
def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return the variance: the `sum` of the squares (x - mean)² over the number of terms less `correction`.

    The other parameters and the errors are those of `sum`.
    """
    if not (matches(correction, float) and abs(correction) <= sys.float_info.max):
        raise ConfigError.at("var", f"expected a number as the correction, got {correction!r:.60}")
    variance = partial(FullRange.variance, correction=float(correction))
    return reduce_axes("var", variance, x, axis, keepdims=keepdims, empty=np.nan)


@takes_arrays
def logsumexp(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return log Σ exp(x), as M + log Σ exp(x - M) with M the largest x. Of no terms it is -infinity.

    The parameters and errors are those of `sum`.
    """
    return reduce_axes("logsumexp", FullRange.log_sum_exp, x, axis, keepdims=keepdims, empty=-inf)


@takes_arrays
def softmax(x: Any, /, *, axis: int = -1) -> Any:
    """Return exp(x - M) / Σ exp(x - M) along an axis, with M the largest x. Below x - M = -670 it is 0.

    Raises
    ------
    ConfigError
        There is no such axis.
    """
    with in_float64("softmax", x) as (ops, a):
        (position,) = sorted_axes("softmax", (axis,), a.ndim)
        return ops.softmax(a, position) if prod(a.shape) else a


@takes_arrays
def cumulative_sum(x: Any, /, *, axis: int | None = None, include_initial: bool = False) -> Any:
    """Return the sums of the terms up to each one, within one rounding and n 2^(2c - 106) max|x|.

    Each of the n terms of a vector is rounded to a grid so fine and so coarse that all sums are exact, with
    c = ceil(log2(n)); each is then rounded once. So the sums of terms from 0 up never decrease. Infinities
    and NaN are as in NumPy.

    Parameters
    ----------
    x
        The terms.
    axis
        The axis to sum along. It may be left out if there is one.
    include_initial
        True to begin with a 0, so that the result is one longer.

    Raises
    ------
    ConfigError
        There is no such axis, or there are several and none is named.
    DataError
        A magnitude is above 2^400 (2.6e120).
    """
    return accumulate("cumulative_sum", _exact_sums, 0.0, x, axis=axis, include_initial=include_initial)


def _exact_sums(ops: FullRange, x: Any, axis: int) -> Any:
    sums = ops.cumulative_sum(x, axis)
    _check_magnitudes("cumulative_sum", ops.xp, sums, x)
    return sums


def accumulate(
    name: str,
    function: Function,
    initial: float,
    x: Any,
    *,
    axis: int | None = None,
    include_initial: bool = False,
) -> Any:
    """Return the results of a function of the terms up to each one along an axis."""
    with in_float64(name, x) as (ops, a):
        if axis is None and a.ndim != 1:
            raise ConfigError.at(name, f"expected an axis for {a.ndim} dimensions, got None")
        (position,) = sorted_axes(name, axis or 0, a.ndim)
        results = function(ops, a, position) if prod(a.shape) else a
        if include_initial:
            shape = (*a.shape[:position], 1, *a.shape[position + 1 :])
            first = ops.xp.full(shape, initial, dtype=ops.dtype, device=ops.device)
            results = ops.xp.concat([first, results], axis=position)
        return results


def reduce_axes(
    name: str, function: Function, x: Any, axis: Axis = None, *, keepdims: bool = False, empty: float
) -> Any:
    """Reduce the axes of an array by a function that reduces one, which it keeps."""
    with in_float64(name, x) as (ops, a):
        xp, axes = ops.xp, sorted_axes(name, axis, a.ndim)
        others = [index for index in range(a.ndim) if index not in axes]
        kept = tuple(1 if index in axes else length for index, length in enumerate(a.shape))
        shape = kept if keepdims else tuple(kept[index] for index in others)
        if prod(a.shape) == 0:
            return xp.full(shape, empty, dtype=ops.dtype, device=ops.device)
        if len(axes) == 1:
            return xp.reshape(function(ops, a, axes[0]), shape)
        moved = xp.permute_dims(a, (*others, *axes)) if others else a
        joined = xp.reshape(moved, (*moved.shape[: len(others)], -1))  # of many axes, one
        return xp.reshape(function(ops, joined, len(others)), shape)


def sorted_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return axes counted from 0, in ascending order."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    known = (each for each in axes if matches(each, int) and -ndim <= each < ndim)
    distinct = {operator.index(each) % max(ndim, 1) for each in known}
    if len(distinct) < len(axes):
        msg = f"{name}: expected an axis from {-ndim} to {ndim - 1}, or different ones, got {axis!r:.60}"
        raise ConfigError(msg)
    return tuple(sorted(distinct))


# Functions of each number


def _of_each_number(function: AnyFunction) -> AnyFunction:
    """Compute the function of the formula of this name, elementwise."""
    name = function.__name__

    @takes_arrays
    @wraps(function)
    def call(x: Any, /) -> Any:
        with in_float64(name, x) as (ops, a):
            return ops.map_pieces(partial(FORMULAS.get(name, F.sigmoid), ops), a)

    return cast("AnyFunction", call)


@_of_each_number
def exp(x: Any, /) -> Any:
    """Return e to the power x, elementwise, within 1.3 ulp. Infinity above 709.78, 0 below -708.39."""


@_of_each_number
def log(x: Any, /) -> Any:
    """Return the natural logarithm, elementwise, within 2.1 ulp, -infinity of 0, NaN of negative numbers."""


@_of_each_number
def sqrt(x: Any, /) -> Any:
    """Return the square root, elementwise, within 0.76 ulp, NaN of negative numbers."""


@_of_each_number
def tanh(x: Any, /) -> Any:
    """Return the hyperbolic tangent, elementwise, within 1.9 ulp."""


@_of_each_number
def sigmoid(x: Any, /) -> Any:
    """Return 1 / (1 + exp(-x)), elementwise, within 3.3 ulp. Below x = -708.39 it is 0."""


@_of_each_number
def sin(x: Any, /) -> Any:
    """Return the sine, elementwise, within 0.85 ulp, of angles in radians."""


@_of_each_number
def cos(x: Any, /) -> Any:
    """Return the cosine, elementwise, within 0.85 ulp, of angles in radians."""
