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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from math import inf, prod
from typing import Any

import numpy as np

from xpnet.arithmetic import random as words
from xpnet.arithmetic.elementary import SMALLEST_NORMAL
from xpnet.arithmetic.full_range import FullRange, fewest_slices
from xpnet.arithmetic.reproducible import LARGEST
from xpnet.arithmetic.selfcheck import check
from xpnet.backends.base import Backend, check_environment
from xpnet.backends.probing import one_line
from xpnet.backends.resolve import backend_of, make
from xpnet.errors import BackendError, ConfigError, DataError
from xpnet.nn import functional as F

__all__ = ["exp", "log", "sigmoid", "sqrt", "tanh"]
__all__ += ["logsumexp", "matmul", "mean", "random", "softmax", "sum", "var", "vecdot"]

Axis = int | tuple[int, ...] | None
MOST_SLICES = 7


# Products


def matmul(x1: Any, x2: Any, /, *, slices: int | None = None) -> Any:
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

    Raises
    ------
    DataError
        A magnitude is above 2^400 (2.6e120), or the shapes do not fit. Rows and columns with infinities or
        NaN give NaN.
    ConfigError
        `slices` is not a number from 1 to 7.
    """
    with _in_float64("matmul", x1, x2) as (ops, a, b):
        if min(a.ndim, b.ndim) == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
            msg = f"matmul: expected shapes (..., n, k) and (..., k, m), got {(*a.shape,)} and {(*b.shape,)}"
            raise DataError(msg)
        left, right = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
        product = _contract("matmul", ops, left, right, slices)
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
    with _in_float64("vecdot", x1, x2) as (ops, a, b):
        if not -min(a.ndim, b.ndim) <= axis < 0:
            raise ConfigError(f"vecdot: expected an axis from {-min(a.ndim, b.ndim)} to -1, got {axis!r}")
        if a.shape[axis] != b.shape[axis]:
            shapes = f"{(*a.shape,)} and {(*b.shape,)}"
            raise DataError.at("vecdot", f"expected the same length of axis {axis}, got shapes {shapes}")
        row, column = (ops.xp.moveaxis(x, axis, -1) for x in (a, b))
        return _contract("vecdot", ops, row[..., None, :], column[..., :, None], slices)[..., 0, 0]


def _contract(name: str, ops: FullRange, a: Any, b: Any, slices: int | None) -> Any:
    """Return the product of matrices, after checks of the number of slices and the magnitudes."""
    if slices is not None and not (isinstance(slices, int) and 1 <= slices <= MOST_SLICES):
        raise ConfigError.at(name, f"expected slices from 1 to {MOST_SLICES}, or None, got {slices!r}")
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError as error:
        msg = f"{name}: expected stacks of shapes that can be broadcast, got {(*a.shape,)} and {(*b.shape,)}"
        raise DataError(msg) from error
    xp, terms = ops.xp, a.shape[-1]
    if terms == 0:  # no term is the largest
        return xp.matmul(a, b)
    product = ops.contract(a, b, fewest_slices(terms) if slices is None else slices)
    if xp.any(product != product):  # noqa: PLR0124  NaN
        for size in map(xp.abs, (a, b)):
            if xp.any((size > LARGEST) & (size < inf)):
                msg = f"{name}: a magnitude is above 2^400 (2.6e120): scale the factors, and the product back"
                raise DataError(msg)
    return product


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
    return _reduce("mean", FullRange.mean, x, axis, keepdims=keepdims)


def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return the variance: the `sum` of the squares (x - mean)² over the number of terms less `correction`.

    The other parameters and the errors are those of `sum`.
    """
    variance = partial(FullRange.variance, correction=float(correction))
    return _reduce("var", variance, x, axis, keepdims=keepdims)


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
    with _in_float64("softmax", x) as (ops, a):
        (position,) = _axes("softmax", (axis,), a.ndim)
        return ops.softmax(a, position) if prod(a.shape) else a


def _reduce(
    name: str, function: Callable[..., Any], x: Any, axis: Axis, *, keepdims: bool, empty: float = np.nan
) -> Any:
    """Reduce the axes of an array by a function that reduces one, which it keeps."""
    with _in_float64(name, x) as (ops, a):
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
    distinct = {operator.index(each) % max(ndim, 1) for each in axes if -ndim <= each < ndim}
    if len(distinct) < len(axes):
        msg = f"{name}: expected an axis from {-ndim} to {ndim - 1}, or different ones, got {axis!r}"
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


def _map(name: str, function: Callable[[FullRange, Any], Any], x: Any) -> Any:
    with _in_float64(name, x) as (ops, a):
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
            The seed is not such a number.
        """
        shape = shape if isinstance(shape, tuple) else (shape,)
        drawn = words.words(_seed(seed), words.Purpose.PUBLIC_UNIFORM, prod(shape))
        return _put(words.uniform(drawn, 53).reshape(shape), like)

    @staticmethod
    def permutation(seed: int, n: int, *, like: Any = None) -> Any:
        """Return the numbers 0 … n - 1 in an order that depends on the seed, int64 of shape (n,).

        It is the stable ascending sort of words. The parameters and errors are those of `uniform`.
        """
        purpose = words.Purpose.PUBLIC_PERMUTATION
        return _put(words.permutation(_seed(seed), n, epoch=0, purpose=purpose), like)


def _seed(seed: int) -> int:
    if not (isinstance(seed, int) and 0 <= seed < 2**64):
        raise ConfigError.at("random", f"expected a seed from 0 to 2^64 - 1, got {seed!r}")
    return seed


def _put(host: Any, like: Any) -> Any:
    return host if like is None else _arithmetic(*_place("random", [like]))[0].from_host(host)


# Libraries and devices


@contextmanager
def _in_float64(name: str, *arrays: Any) -> Iterator[tuple[Any, ...]]:
    """Give the body the arithmetic on the device of arrays, and the arrays as float64."""
    backend, ops = _arithmetic(*_place(name, arrays))
    with backend.scope():
        yield ops, *(_to_float64(name, ops, x) for x in arrays)


def _to_float64(name: str, ops: FullRange, x: Any) -> Any:
    xp = ops.xp
    if not xp.isdtype(x.dtype, ("real floating", "integral", "bool")):
        raise DataError.at(name, f"expected real numbers, got an array of {x.dtype}")
    if x.dtype == ops.dtype:
        return x
    converted = xp.astype(x, ops.dtype)
    # JAX on the CPU, and CuPy, convert subnormal float32 numbers to 0.
    return xp.where(xp.abs(converted) < 2.0**-126, converted * 0.0, converted)


def _place(name: str, arrays: Iterable[Any]) -> tuple[str, str]:
    """Return the names of the library and the device that all arrays share."""
    places = {_place_of(name, x) for x in arrays}
    if len(places) > 1:
        both = " and ".join(sorted(f"{library} on {device}" for library, device in places))
        raise DataError.at(name, f"expected arrays of one library on one device, got {both}")
    return places.pop()


def _place_of(name: str, x: Any) -> tuple[str, str]:
    if isinstance(x, np.ndarray | np.generic) and not isinstance(x, np.matrix | np.ma.MaskedArray):
        return "numpy", "cpu"
    backend = backend_of(x)
    if backend is None:
        kinds = "NumPy, CuPy, PyTorch, JAX, dpnp or array-api-strict"
        hint = " (not inside jax.jit)" if "Tracer" in type(x).__name__ else ""
        raise DataError.at(name, f"expected an array of {kinds}, with values, got a {type(x).__name__}{hint}")
    place = backend.name, backend.device_name
    if backend.device != _arithmetic(*place)[0].device:
        expected = f"expected an array of the default queue of {backend.name} on {backend.device_name}"
        raise DataError.at(name, f"{expected}, got one of another queue: x.to_device moves it")
    return place


@cache
def _arithmetic(name: str, device: str) -> tuple[Backend, FullRange]:
    """Return the arithmetic on a device, after a check that it computes as IEEE 754 says."""
    check_environment()
    backend, where = make(name, device), f"{name} on {device}"
    if not backend.has_float64:
        msg = f"{where} has no float64, which xpnet.reproducible needs: move the arrays to another device"
        raise BackendError(msg)
    # In pieces where it takes no time to start an operation.
    ops = FullRange(backend.xp, backend.device, backend.xp.float64, in_pieces=backend.parallel_blocks)
    try:
        with backend.scope():
            check(ops, where)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"{where} does not compute in float64: {one_line(error)}") from error
    return backend, ops
