"""The public functions, of plain arrays and of `Array`."""

import operator
import sys
from collections.abc import Callable
from functools import partial, wraps
from inspect import signature
from math import inf, prod
from typing import Any, Concatenate, ParamSpec

import numpy as np

from xpnet._lib.kinds import matches
from xpnet._typing import Function
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.arithmetic.full_range import FullRange, fewest_slices
from xpnet.arithmetic.reproducible import LARGEST
from xpnet.errors import ConfigError, DataError
from xpnet.nn import functional as F
from xpnet.reproducible.array import Array
from xpnet.reproducible.elementwise import FORMULAS, in_float64_of, of_each_number
from xpnet.reproducible.places import arithmetic, place, to_float64, whole

__all__ = ["cos", "exp", "log", "sigmoid", "sin", "sqrt", "tanh"]
__all__ += ["cumulative_sum", "logsumexp", "mean", "softmax", "sum", "var"]
__all__ += ["matmul", "one_hot", "vecdot"]

Axis = int | tuple[int, ...] | None
MOST_SLICES = 7
P = ParamSpec("P")
ACCURATE = -1
"""In place of the number of slices: as many as the accuracy of float64 needs."""


def public(kernel: Callable[Concatenate[FullRange, P], Any]) -> Callable[P, Any]:
    """Let a function of the arithmetic and float64 data take plain arrays, or `Array`.

    Of these it is the namespace's, or rounded to their dtype.
    """
    name, (_, *parameters) = kernel.__name__, signature(kernel).parameters.values()
    count = len([each for each in parameters if each.name in ("x", "x1", "x2", "indices")])

    @wraps(kernel)
    def call(*args: Any, **options: Any) -> Any:
        arrays = args[:count]
        wrapped = next((each for each in arrays if isinstance(each, Array)), None)
        if wrapped is None:
            backend, ops = arithmetic(*place(name, arrays))
            with backend.scope():
                return kernel(ops, *(to_float64(name, ops, x) for x in arrays), *args[count:], **options)
        if options.keys().isdisjoint(("slices", "block")) and hasattr(wrapped.space, name):
            return getattr(wrapped.space, name)(*args, **options)
        return in_float64_of(lambda *data: kernel(*data, *args[count:], **options), name, *arrays)

    call.__signature__ = signature(kernel).replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


# Products


@public
def matmul(
    ops: FullRange, x1: Any, x2: Any, /, *, slices: int | None = None, block: int | None = None
) -> Any:
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
    if min(x1.ndim, x2.ndim) == 0 or x1.shape[-1] != x2.shape[-2 if x2.ndim > 1 else 0]:
        msg = f"matmul: expected shapes (..., n, k) and (..., k, m), got {(*x1.shape,)} and {(*x2.shape,)}"
        raise DataError(msg)
    left, right = (x1[None, :] if x1.ndim == 1 else x1), (x2[:, None] if x2.ndim == 1 else x2)
    product = _contract("matmul", ops, left, right, slices, block)
    product = product[..., 0, :] if x1.ndim == 1 else product
    return product[..., 0] if x2.ndim == 1 else product


@public
def vecdot(ops: FullRange, x1: Any, x2: Any, /, *, axis: int = -1, slices: int | None = None) -> Any:
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
    lowest = -min(x1.ndim, x2.ndim)
    if not (matches(axis, int) and lowest <= axis < 0):
        raise ConfigError(f"vecdot: expected an axis from {lowest} to -1, got {axis!r:.60}")
    if x1.shape[axis] != x2.shape[axis]:
        shapes = f"{(*x1.shape,)} and {(*x2.shape,)}"
        raise DataError(f"vecdot: expected the same length of axis {axis}, got shapes {shapes}")
    row, column = (ops.xp.moveaxis(x, axis, -1) for x in (x1, x2))
    return _contract("vecdot", ops, row[..., None, :], column[..., :, None], slices)[..., 0, 0]


@public
def one_hot(ops: FullRange, indices: Any, num_classes: int, /, *, axis: int = -1) -> Any:
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
    (position,) = sorted_axes("one_hot", (axis,), indices.ndim + 1)
    num_classes = whole("one_hot", "a number of classes, 0 or more", num_classes)
    columns = F.one_hot(ops, ops.xp.expand_dims(indices, axis=-1), num_classes)
    return ops.xp.moveaxis(columns[..., 0], -1, position)


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


@public
def sum(ops: FullRange, x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:  # noqa: A001  as in the standard
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
    return reduce_axes("sum", ops, x, axis=axis, keepdims=keepdims)


@public
def mean(ops: FullRange, x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the arithmetic mean: the `sum` over the number of terms, one division. Of no terms it is NaN.

    The parameters and errors are those of `sum`.
    """
    return reduce_axes("mean", ops, x, axis=axis, keepdims=keepdims)


@public
def var(
    ops: FullRange, x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> Any:
    """Return the variance: the `sum` of the squares (x - mean)² over the number of terms less `correction`.

    The other parameters and the errors are those of `sum`.
    """
    if not (matches(correction, float) and abs(correction) <= sys.float_info.max):
        raise ConfigError(f"var: expected a number as the correction, got {correction!r:.60}")
    return reduce_axes("var", ops, x, axis=axis, keepdims=keepdims, correction=float(correction))


@public
def logsumexp(ops: FullRange, x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return log Σ exp(x), as M + log Σ exp(x - M) with M the largest x. Of no terms it is -infinity.

    The parameters and errors are those of `sum`.
    """
    return reduce_axes("logsumexp", ops, x, axis=axis, keepdims=keepdims)


@public
def softmax(ops: FullRange, x: Any, /, *, axis: int = -1) -> Any:
    """Return exp(x - M) / Σ exp(x - M) along an axis, with M the largest x. Below x - M = -670 it is 0.

    Raises
    ------
    ConfigError
        There is no such axis.
    """
    (position,) = sorted_axes("softmax", (axis,), x.ndim)
    return ops.map_rows(partial(F.softmax, ops.limited), x, position) if prod(x.shape) else x


@public
def cumulative_sum(
    ops: FullRange, x: Any, /, *, axis: int | None = None, include_initial: bool = False
) -> Any:
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
    sums = accumulate("cumulative_sum", ops, x, axis=axis, include_initial=include_initial)
    _check_magnitudes("cumulative_sum", ops.xp, sums, x)
    return sums


OF_AN_AXIS: dict[str, tuple[Function, float]] = {
    "sum": (FullRange.total, 0.0),
    "prod": (FullRange.product, 1.0),
    "mean": (FullRange.mean, np.nan),
    "var": (FullRange.variance, np.nan),
    "logsumexp": (FullRange.log_sum_exp, -inf),
    "cumulative_sum": (FullRange.cumulative_sum, 0.0),
    "cumulative_prod": (FullRange.cumulative_product, 1.0),
}
"""Functions of the terms along an axis, and what they are of no terms."""


def accumulate(
    name: str, ops: FullRange, x: Any, *, axis: int | None = None, include_initial: bool = False
) -> Any:
    """Return the results of a function of the terms up to each one along an axis."""
    function, initial = OF_AN_AXIS[name]
    if axis is None and x.ndim != 1:
        raise ConfigError(f"{name}: expected an axis for {x.ndim} dimensions, got None")
    (position,) = sorted_axes(name, axis or 0, x.ndim)
    results = function(ops, x, position) if prod(x.shape) else x
    if include_initial:
        shape = (*x.shape[:position], 1, *x.shape[position + 1 :])
        first = ops.xp.full(shape, initial, dtype=ops.dtype, device=ops.device)
        results = ops.xp.concat([first, results], axis=position)
    return results


def reduce_axes(
    name: str, ops: FullRange, x: Any, *, axis: Axis = None, keepdims: bool = False, **options: Any
) -> Any:
    """Reduce the axes of an array by a function that reduces one, which it keeps."""
    function, empty = OF_AN_AXIS[name]
    xp, axes = ops.xp, sorted_axes(name, axis, x.ndim)
    others = [index for index in range(x.ndim) if index not in axes]
    kept = tuple(1 if index in axes else length for index, length in enumerate(x.shape))
    shape = kept if keepdims else tuple(kept[index] for index in others)
    if prod(x.shape) == 0:
        return xp.full(shape, empty, dtype=ops.dtype, device=ops.device)
    if len(axes) != 1:
        moved = xp.permute_dims(x, (*others, *axes)) if others else x
        x, axes = xp.reshape(moved, (*moved.shape[: len(others)], -1)), (len(others),)  # of many axes, one
    return xp.reshape(ops.map_rows(partial(function, ops, **options), x, axes[0]), shape)


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


def _of_each_number(name: str, meaning: str) -> Any:
    """Return the function of the formula of this name, elementwise."""
    kernel = of_each_number(FORMULAS.get(name, F.sigmoid))

    def function(ops: FullRange, x: Any, /) -> Any:
        return kernel(ops, x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return, elementwise, {meaning}"
    return public(function)


exp = _of_each_number("exp", "e to the power x, within 1.3 ulp. Infinity above 709.78, 0 below -708.39.")
log = _of_each_number("log", "the natural logarithm, within 2.1 ulp. -infinity of 0, NaN below.")
sqrt = _of_each_number("sqrt", "the square root, within 0.76 ulp. NaN of negative numbers.")
tanh = _of_each_number("tanh", "the hyperbolic tangent, within 1.9 ulp.")
sigmoid = _of_each_number("sigmoid", "1 / (1 + exp(-x)), within 3.3 ulp. 0 below x = -708.39.")
sin = _of_each_number("sin", "the sine, within 0.85 ulp, of angles in radians.")
cos = _of_each_number("cos", "the cosine, within 0.85 ulp, of angles in radians.")
