"""Products, sums and functions with the same bits on NumPy, PyTorch, JAX, CuPy, dpnp and array-api-strict.

The functions are named and called as in the array-API standard. They take arrays of one library on one
device, and return float64 arrays there. No bit depends on the library, its version, the processor, the number
of threads, or the other rows and matrices that an array holds. Real numbers, integers and booleans of any
dtype are first converted to float64: exactly, but for integers beyond 2^53 and subnormal float32 numbers,
which count as 0. Results have no gradients, and no function that JAX compiles can call these.
docs/arithmetic.md gives formulas, error bounds and costs.

All functions raise `DataError` for anything but arrays of real numbers of one of these libraries, and for
arrays of several libraries or devices, and `BackendError` if the device does not compute in IEEE 754 float64.
"""

import operator
import sys
from functools import partial
from math import inf, prod
from typing import Any

import numpy as np

from xpnet._lib.kinds import matches
from xpnet._typing import Function
from xpnet.arithmetic import random as words, trigonometric
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.arithmetic.elementary import SMALLEST_NORMAL
from xpnet.arithmetic.full_range import FullRange, fewest_slices
from xpnet.arithmetic.reproducible import LARGEST
from xpnet.errors import ConfigError, DataError
from xpnet.nn import functional as F
from xpnet.reproducible.places import arithmetic, in_float64, place

__all__ = ["cos", "exp", "log", "sigmoid", "sin", "sqrt", "tanh"]
__all__ += ["cumulative_sum", "logsumexp", "mean", "softmax", "sum", "var"]
__all__ += ["matmul", "one_hot", "random", "vecdot"]

Axis = int | tuple[int, ...] | None
MOST_SLICES, MOST_NUMBERS = 7, 2**48


# Products


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
        (position,) = _axes("one_hot", (axis,), a.ndim + 1)
        num_classes = _whole("one_hot", "a number of classes, 0 or more", num_classes)
        xp = ops.xp
        numbers = xp.astype(xp.arange(num_classes, device=ops.device), ops.dtype)
        return xp.moveaxis(xp.astype(xp.expand_dims(a, axis=-1) == numbers, ops.dtype), -1, position)


def _contract(name: str, ops: FullRange, a: Any, b: Any, slices: int | None, block: int | None = None) -> Any:
    """Return the product of matrices, after checks of the numbers and the magnitudes."""
    if slices is not None:
        slices = _whole(name, f"slices from 1 to {MOST_SLICES}, or None", slices, 1, MOST_SLICES + 1)
    if block is not None:
        block = _whole(name, "a block of at least 1 term, or None", block, 1)
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError as error:
        msg = f"{name}: expected stacks of shapes that can be broadcast, got {(*a.shape,)} and {(*b.shape,)}"
        raise DataError(msg) from error
    terms = a.shape[-1]
    if terms == 0:  # no term is the largest
        return ops.xp.matmul(a, b)
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
    return _reduce("sum", FullRange.total, x, axis, keepdims=keepdims, empty=0.0)


def mean(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return the arithmetic mean: the `sum` over the number of terms, one division. Of no terms it is NaN.

    The parameters and errors are those of `sum`.
    """
    return _reduce("mean", FullRange.mean, x, axis, keepdims=keepdims, empty=np.nan)


def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return the variance: the `sum` of the squares (x - mean)² over the number of terms less `correction`.

    The other parameters and the errors are those of `sum`.
    """
    if not (matches(correction, float) and abs(correction) <= sys.float_info.max):
        raise ConfigError.at("var", f"expected a number as the correction, got {correction!r:.60}")
    variance = partial(FullRange.variance, correction=float(correction))
    return _reduce("var", variance, x, axis, keepdims=keepdims, empty=np.nan)


def logsumexp(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return log Σ exp(x), as M + log Σ exp(x - M) with M the largest x. Of no terms it is -infinity.

    The parameters and errors are those of `sum`.
    """
    return _reduce("logsumexp", FullRange.log_sum_exp, x, axis, keepdims=keepdims, empty=-inf)


def softmax(x: Any, /, *, axis: int = -1) -> Any:
    """Return exp(x - M) / Σ exp(x - M) along an axis, with M the largest x. Below x - M = -670 it is 0.

    Raises
    ------
    ConfigError
        There is no such axis.
    """
    with in_float64("softmax", x) as (ops, a):
        (position,) = _axes("softmax", (axis,), a.ndim)
        return ops.softmax(a, position) if prod(a.shape) else a


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
    with in_float64("cumulative_sum", x) as (ops, a):
        if axis is None and a.ndim != 1:
            raise ConfigError.at("cumulative_sum", f"expected an axis for {a.ndim} dimensions, got None")
        (position,) = _axes("cumulative_sum", (0 if axis is None else axis,), a.ndim)
        sums = ops.cumulative_sum(a, position) if prod(a.shape) else a
        _check_magnitudes("cumulative_sum", ops.xp, sums, a)
        if include_initial:
            shape = (*a.shape[:position], 1, *a.shape[position + 1 :])
            initial = ops.xp.zeros(shape, dtype=ops.dtype, device=ops.device)
            sums = ops.xp.concat([initial, sums], axis=position)
        return sums


def _reduce(name: str, function: Function, x: Any, axis: Axis, *, keepdims: bool, empty: float) -> Any:
    """Reduce the axes of an array by a function that reduces one, which it keeps."""
    with in_float64(name, x) as (ops, a):
        xp, axes = ops.xp, _axes(name, axis, a.ndim)
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


def _axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the axes, counted from 0, in ascending order."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    known = (each for each in axes if matches(each, int) and -ndim <= each < ndim)
    distinct = {operator.index(each) % max(ndim, 1) for each in known}
    if len(distinct) < len(axes):
        msg = f"{name}: expected an axis from {-ndim} to {ndim - 1}, or different ones, got {axis!r:.60}"
        raise ConfigError(msg)
    return tuple(sorted(distinct))


# Functions of each number


def exp(x: Any, /) -> Any:
    """Return e to the power x, elementwise, within 1.3 ulp. Infinity above 709.78, 0 below -708.39."""
    return _map("exp", FullRange.exp, x)


def log(x: Any, /) -> Any:
    """Return the natural logarithm, elementwise, within 2.1 ulp, -infinity of 0, NaN of negative numbers."""
    return _map("log", FullRange.log, x)


def sqrt(x: Any, /) -> Any:
    """Return the square root, elementwise, within 0.76 ulp, NaN of negative numbers."""
    return _map("sqrt", FullRange.sqrt, x)


def tanh(x: Any, /) -> Any:
    """Return the hyperbolic tangent, elementwise, within 1.9 ulp."""

    def compute(ops: FullRange, x: Any) -> Any:
        return ops.xp.where(ops.xp.abs(x) < SMALLEST_NORMAL, x, F.tanh(ops, x))

    return _map("tanh", compute, x)


def sigmoid(x: Any, /) -> Any:
    """Return 1 / (1 + exp(-x)), elementwise, within 3.3 ulp. Below x = -708.39 it is 0."""
    return _map("sigmoid", F.sigmoid, x)


def sin(x: Any, /) -> Any:
    """Return the sine, elementwise, within 0.85 ulp, of angles in radians up to 2^20. NaN beyond."""
    return _map("sin", lambda ops, x: trigonometric.sin(ops.xp, x), x)


def cos(x: Any, /) -> Any:
    """Return the cosine, elementwise, within 0.85 ulp, of angles in radians up to 2^20. NaN beyond."""
    return _map("cos", lambda ops, x: trigonometric.cos(ops.xp, x), x)


def _map(name: str, function: Function, x: Any) -> Any:
    with in_float64(name, x) as (ops, a):
        return ops.map_pieces(partial(function, ops), a)


# Random numbers


class random:  # noqa: N801  as in NumPy
    """Random numbers by seed: words of Philox, drawn on the host."""

    @staticmethod
    def uniform(seed: int, shape: int | tuple[int, ...], *, like: Any = None) -> Any:
        """Return float64 numbers in [0, 1), multiples of 2^-53.

        Parameters
        ----------
        seed
            A whole number from 0 to 2^64 - 1.
        shape
            The shape of the result.
        like
            An array whose library and device the result has; by default NumPy's.

        Raises
        ------
        ConfigError
            The seed is not such a number, or the shape none of whole numbers of at least 0.
        """
        shape = shape if isinstance(shape, tuple) else (shape,)
        shape = tuple(_whole("random", "a shape of whole numbers, 0 or more", length) for length in shape)
        size = _whole("random", f"a shape of fewer than {MOST_NUMBERS} numbers", prod(shape))
        drawn = words.words(_seed(seed), words.Purpose.PUBLIC_UNIFORM, size)
        return _put(words.uniform(drawn, 53).reshape(shape), like)

    @staticmethod
    def permutation(seed: int, n: int, *, like: Any = None) -> Any:
        """Return the numbers 0 … n - 1 in an order that depends on the seed, int64 of shape (n,).

        It is the stable ascending sort of words. The parameters and errors are those of `uniform`.
        """
        purpose = words.Purpose.PUBLIC_PERMUTATION
        n = _whole("random", "a number n, 0 or more", n)
        return _put(words.permutation(_seed(seed), n, epoch=0, purpose=purpose), like)


def _seed(seed: int) -> int:
    return _whole("random", "a seed from 0 to 2^64 - 1", seed, below=2**64)


def _whole(name: str, expected: str, value: int, lowest: int = 0, below: int = MOST_NUMBERS) -> int:
    """Return a whole number of Python or NumPy as Python's, if it is in the range."""
    if not (matches(value, int) and lowest <= value < below):
        raise ConfigError.at(name, f"expected {expected}, got {value!r:.60}")
    return int(value)


def _put(host: Any, like: Any) -> Any:
    return host if like is None else arithmetic(*place("random", [like]))[0].from_host(host)
