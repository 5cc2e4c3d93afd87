"""Sums, products and extrema of elements, products of matrices, order and sets, of `Array`."""

import math
import operator
from collections.abc import Collection, Sequence
from functools import partial
from inspect import unwrap
from typing import Any

import numpy as np

from xpnet._typing import DType, Function, Functions
from xpnet.reproducible import elementwise, functions
from xpnet.reproducible.array import Array
from xpnet.reproducible.elementwise import Data, by_numpy, call, in_float64_of, operands, with_plain_zeros
from xpnet.reproducible.places import FLOATING, Place, name_of

Axes = Sequence[Any]


def _add_up(formula: Function, name: str, x: Array, /, *, dtype: DType | None = None, **options: Any) -> Any:
    """Return the library's sums or products of integers, and those of a formula of floats.

    Integers are those of 64 bits, without overflow errors: any order gives the same.
    """
    place, (data,), own = operands(name, x)
    result = np.sum(np.empty(0, own)).dtype.name if dtype is None else name_of(dtype)
    if result in FLOATING:
        return in_float64_of(formula, name, x, to=result, **options)
    with place.computing.scope():
        integers = getattr(place.xp, name)(place.convert(data, "int64"), dtype=place.xp.int64, **options)
        return Array(place, place.convert(Array(place, integers).data, result))


def std(x: Array, /, **options: Any) -> Any:
    """Return standard deviations: the roots of the variances."""
    return x.space.sqrt(x.space.var(x, **options))


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
) -> Any:
    """Return the differences of neighbours, n times."""
    space, parts = x.space, [each for each in (prepend, x, append) if each is not None]
    x = space.moveaxis(space.concat(parts, axis=axis), axis, 0)
    combine = operator.ne if name_of(x.dtype) == "bool" else operator.sub
    for _ in range(n):
        x = combine(x[1:, ...], x[:-1, ...])
    return space.moveaxis(x, 0, axis)


# Products of matrices


def contract(a: Array, of_a: Axes, b: Array, of_b: Axes, kept: Collection[Any] | None) -> tuple[Any, Axes]:
    """Multiply two arrays, of whose axes there are names, and sum over those of both that are not kept.

    If there are none, elements are multiplied, or matrices if ``kept`` is None. Return the names of the axes
    too: those of both arrays, those of the first, those of the second.
    """
    space, lengths = a.space, dict(zip((*of_a, *of_b), (*a.shape, *b.shape), strict=True))
    left, right = [x for x in of_a if x not in of_b], [x for x in of_b if x not in of_a]
    batch = [x for x in of_a if x in of_b and x in (kept or ())]
    summed = [x for x in of_a if x in of_b and x not in batch]

    def arrange(array: Array, names: Axes, *groups: Axes) -> Any:
        moved = space.permute_dims(array, tuple(names.index(x) for x in (*batch, *groups[0], *groups[1])))
        shape = [math.prod(map(lengths.__getitem__, group)) for group in groups]
        return space.reshape(moved, (*map(lengths.__getitem__, batch), *shape))

    x, y = arrange(a, of_a, left, summed), arrange(b, of_b, summed, right)
    names = (*batch, *left, *right)
    product = x * y if kept is not None and not summed else x @ y
    return space.reshape(product, tuple(map(lengths.__getitem__, names))), names


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Any:
    """Return sums of products over pairs of axes, as a product of matrices."""
    if isinstance(axes, int):
        axes = (range(-axes, 0), range(axes))
    names, others = [*range(x1.ndim)], [*range(x1.ndim, x1.ndim + x2.ndim)]
    for i, j in zip(*axes, strict=True):
        if x1.shape[i] != x2.shape[j]:
            shapes = f"{x1.shape} and {x2.shape}"
            raise ValueError(f"tensordot: expected axes of equal lengths, got shapes {shapes}")
        others[j] = names[i]
    return contract(x1, names, x2, others, None)[0]


# Order, search and sets: NaN is the largest number, zeros are equal, ties keep their order


def _argsort(place: Place, _: str, x: Data, *, axis: int = -1, descending: bool = False, **__: Any) -> Data:
    """Return the indices that sort, always in a stable order."""
    xp = place.xp
    if not descending:
        return place.convert(xp.argsort(x, axis=axis, stable=True), "int64")
    backwards = xp.argsort(xp.flip(x, axis=axis), axis=axis, stable=True)
    return (x.shape[axis] - 1) - xp.flip(place.convert(backwards, "int64"), axis=axis)


def sort(x: Array, /, *, axis: int = -1, **options: bool) -> Any:
    """Return the sorted elements, always in a stable order."""
    if x.ndim == 0:
        raise ValueError("sort: expected an axis, got an array without")
    space = x.space
    return space.take_along_axis(x, space.argsort(x, axis=axis, **options), axis=axis)


def searchsorted(x1: Array, x2: Any, /, *, side: Any = "left", sorter: Array | None = None) -> Any:
    """Return where elements belong among sorted ones, by NumPy, int64."""
    ordered = x1 if sorter is None else x1.space.take(x1, sorter)
    return call(by_numpy(np.searchsorted), "searchsorted", ordered, x2, side=side)


def _unique(name: str, x: Array, /) -> Any:
    """Return the distinct elements, sorted, by NumPy: each NaN is one of its own, and a zero is +0."""
    place, (data,), own = operands(name, x)
    host = place.fetch(data)
    found = getattr(np, name)(host + 0.0 if own in FLOATING else host)
    return type(found)(*(Array(place, place.put(each)) for each in found))


ADDED_UP: Functions = {
    "sum": unwrap(functions.sum),
    "prod": partial(functions.reduce_axes, "prod"),
    "cumulative_sum": unwrap(functions.cumulative_sum),
    "cumulative_prod": partial(functions.accumulate, "cumulative_prod"),
}
"""The formulas of sums and products of float64 numbers."""
PRODUCTS = {
    each.__name__: partial(unwrap(each), slices=functions.ACCURATE)
    for each in (functions.matmul, functions.vecdot)
}
"""The formulas of products, in as many slices as the accuracy of float64 needs."""
MOMENTS = (functions.mean, functions.var)
OWN: Functions = {
    **{each.__name__: each for each in (std, diff, tensordot, sort, searchsorted)},
    **{name: partial(_unique, name) for name in ("unique_all", "unique_counts", "unique_inverse")},
    "unique_values": lambda x: _unique("unique_counts", x).values,
    **{name: partial(_add_up, formula, name) for name, formula in ADDED_UP.items()},
    **{name: partial(elementwise.of_floats, kernel, name) for name, kernel in PRODUCTS.items()},
    **{name: partial(call, _extremum(name), name) for name in ("max", "min")},
    "argsort": partial(call, _argsort, "argsort"),
    **{each.__name__: partial(in_float64_of, unwrap(each), each.__name__) for each in MOMENTS},
}
