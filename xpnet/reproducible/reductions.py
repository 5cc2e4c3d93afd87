"""Sums, products and extrema of elements, and products of matrices, of `Array`."""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xpnet._typing import DType, Function
from xpnet.arithmetic.full_range import FullRange
from xpnet.reproducible import functions
from xpnet.reproducible.array import Array, wrap
from xpnet.reproducible.elementwise import Data, by_numpy, call, operands, with_plain_zeros
from xpnet.reproducible.functions import Axis
from xpnet.reproducible.places import Place
from xpnet.reproducible.promotion import FLOATING, KINDS, name_of


def _sum_dtype(own: str) -> str:
    """Return the dtype of sums: the widest of their kind, but for floats."""
    return own if own in FLOATING else "uint64" if own in KINDS["unsigned integer"] else "int64"


def _add_up(
    name: str, exact: Callable[[Place, Data], Data], x: Array, dtype: DType | None, **options: Any
) -> Array:
    """Return the library's sums or products of integers, and those of a formula of floats.

    Integers are those of 64 bits, without overflow errors: any order gives the same.
    """
    place, (data,), own = operands(name, x)
    result = name_of(dtype) if dtype is not None else _sum_dtype(own)
    with place.computing.scope():
        if result in FLOATING:
            wide = place.convert(data, "float64") if own not in FLOATING else place.widen(data)
            return wrap(place, place.narrow(exact(place, wide), result))
        integers = getattr(place.xp, name)(
            place.convert(data, "int64"), dtype=place.dtypes["int64"], **options
        )
        return wrap(
            place,
            place.convert(np.asarray(integers) if isinstance(integers, np.generic) else integers, result),
        )


def sum(  # noqa: A001  as in the standard
    x: Array, /, *, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False
) -> Array:
    """Return sums, folded."""
    options: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    return _add_up("sum", lambda _, data: functions.sum(data, **options), x, dtype, **options)


def prod(x: Array, /, *, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False) -> Array:
    """Return products, folded as sums are, each of which is 0 where it would be subnormal."""
    options: dict[str, Any] = {"axis": axis, "keepdims": keepdims}

    def exact(place: Place, data: Data) -> Data:
        return functions.reduce_axes("prod", partial(_fold_product, place), data, empty=1.0, **options)

    return _add_up("prod", exact, x, dtype, **options)


def _times(place: Place, a: Data, b: Data) -> Data:
    product = a * b
    return place.xp.where(place.xp.abs(product) < 2.0**-1022, product * 0.0, product)


def _fold_product(place: Place, ops: FullRange, x: Data, axis: int) -> Data:
    """Return the product along an axis, which is kept: padded with ones, and folded in halves."""
    y = place.xp.moveaxis(x, axis, 0)
    half = 1 << (y.shape[0] - 1).bit_length()
    ones = place.xp.ones((half - y.shape[0], *y.shape[1:]), dtype=x.dtype, device=ops.device)
    y = place.xp.concat([y, ones], axis=0)
    while half > 1:
        half //= 2
        y = _times(place, y[:half, ...], y[half:, ...])
    return place.xp.moveaxis(y, 0, axis)


def cumulative_sum(
    x: Array, /, *, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Array:
    """Return sums up to each element."""
    options: dict[str, Any] = {"axis": axis, "include_initial": include_initial}
    return _add_up(
        "cumulative_sum", lambda _, data: functions.cumulative_sum(data, **options), x, dtype, **options
    )


def cumulative_prod(
    x: Array, /, *, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Array:
    """Return products up to each element: of those up to 1, 2, 4, … before it, doubling."""

    def scan(place: Place, data: Data) -> Data:
        xp = place.xp
        (position,) = functions.sorted_axes("cumulative_prod", axis or 0, data.ndim)
        y = xp.moveaxis(data, position, 0)
        step, count = 1, y.shape[0]
        while step < count:
            y = xp.concat([y[:step, ...], _times(place, y[step:, ...], y[: count - step, ...])], axis=0)
            step *= 2
        if include_initial:
            one = xp.ones((1, *y.shape[1:]), dtype=y.dtype, device=place.ops.device)
            y = xp.concat([one, y], axis=0)
        return xp.moveaxis(y, 0, position)

    if axis is None and x.ndim != 1:
        raise ValueError(f"cumulative_prod: expected an axis for {x.ndim} dimensions, got None")
    return _add_up("cumulative_prod", scan, x, dtype, axis=axis, include_initial=include_initial)


def _moment(name: str, x: Array, /, *, axis: Axis = None, **options: Any) -> Array:
    """Return means or variances, as float64 of integers."""
    place, (data,), own = operands(name, x)
    with place.computing.scope():
        result = getattr(functions, name)(place.widen(data), axis=axis, **options)
        return wrap(place, place.narrow(result, own if own in FLOATING else "float64"))


def var(x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return variances, NaN of no more terms than the correction."""
    axes = functions.sorted_axes("var", axis, x.ndim)
    if math.prod(x.shape[each] for each in axes) <= correction:
        return x.place.space.full_like(_moment("mean", x, axis=axis, keepdims=keepdims), math.nan)
    return _moment("var", x, axis=axis, correction=correction, keepdims=keepdims)


def std(x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return standard deviations: the roots of the variances."""
    return x.place.space.sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def _extremum(name: str) -> Function:
    """Return the kernel of largest or smallest elements, NaN if one is, and +0 for a zero of any sign."""

    def kernel(place: Place, dtype: str, data: Data, **options: Any) -> Data:
        result = with_plain_zeros(name)(place, dtype, data, **options)
        if dtype in FLOATING and place.is_functional:  # JAX on the CPU loses NaN
            has_nan = place.xp.any(data != data, **options)  # noqa: PLR0124
            result = place.xp.where(has_nan, place.xp.nan, result)
        return result

    return kernel


def diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None, append: Array | None = None
) -> Array:
    """Return the differences of neighbours, n times."""
    space, parts = x.place.space, [each for each in (prepend, x, append) if each is not None]
    x = space.concat(parts, axis=axis) if len(parts) > 1 else x
    (position,) = functions.sorted_axes("diff", axis, x.ndim)
    before = (slice(None),) * position
    combine = operator.ne if name_of(x.dtype) == "bool" else operator.sub
    for _ in range(n):
        x = combine(x[(*before, slice(1, None), ...)], x[(*before, slice(None, -1), ...)])
    return x


# Products of matrices


def matmul(x1: Array, x2: Array, /) -> Any:
    """Return the product of matrices, in as many slices as the accuracy of float64 needs."""
    return _multiply("matmul", x1, x2)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Any:
    """Return the dot products of vectors, with the accuracy of `matmul`."""
    return _multiply("vecdot", x1, x2, axis=axis)


def _multiply(name: str, x1: Array, x2: Array, **options: Any) -> Any:
    place, data, dtype = operands(name, x1, x2)
    if dtype not in FLOATING:
        return call(by_numpy(getattr(np, name)), name, x1, x2, **options)
    with place.computing.scope():
        product = getattr(functions, name)(*map(place.widen, data), slices=functions.ACCURATE, **options)
        return wrap(place, place.narrow(product, dtype))


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Any:
    """Return sums of products over pairs of axes, as a product of matrices."""
    if isinstance(axes, int):
        axes = (range(x1.ndim - axes, x1.ndim), range(axes))
    space, count = x1.place.space, len(axes[0])
    left = space.moveaxis(x1, (*axes[0],), (*range(-count, 0),))
    right = space.moveaxis(x2, (*axes[1],), (*range(count),))
    kept, shape = left.shape[: x1.ndim - count], right.shape[:count]
    if left.shape[x1.ndim - count :] != shape:
        raise ValueError(f"tensordot: expected axes of equal lengths, got shapes {x1.shape} and {x2.shape}")
    rows = space.reshape(left, (math.prod(kept), math.prod(shape)))
    columns = space.reshape(right, (math.prod(shape), math.prod(right.shape[count:])))
    return space.reshape(matmul(rows, columns), (*kept, *right.shape[count:]))


OWN: dict[str, Function] = {
    **{each.__name__: each for each in (sum, prod, cumulative_sum, cumulative_prod, var, std, diff)},
    **{each.__name__: each for each in (matmul, vecdot, tensordot)},
    **{name: partial(call, _extremum(name), name) for name in ("max", "min")},
    "mean": partial(_moment, "mean"),
}
