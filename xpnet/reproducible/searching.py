"""Order, search and sets of `Array`: NaN is the largest number, zeros are equal, ties keep their order."""

from functools import partial
from typing import Any

import numpy as np

from xpnet._typing import Function
from xpnet.reproducible.array import Array, wrap
from xpnet.reproducible.elementwise import operands
from xpnet.reproducible.promotion import FLOATING


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:  # noqa: ARG001
    """Return the indices that sort, always in a stable order."""
    place, (data,), _ = operands("argsort", x)
    xp = place.xp
    with place.scope():
        if not descending:
            return wrap(place, place.convert(xp.argsort(data, axis=axis, stable=True), "int64"))
        backwards = xp.argsort(xp.flip(data, axis=axis), axis=axis, stable=True)
        indices = (x.shape[axis] - 1) - xp.flip(place.convert(backwards, "int64"), axis=axis)
        return wrap(place, indices)


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:  # noqa: ARG001
    """Return the sorted elements, always in a stable order."""
    if x.ndim == 0:
        raise ValueError("sort: expected an axis, got an array without")
    indices = argsort(x, axis=axis, descending=descending)
    return x.place.space.take_along_axis(x, indices, axis=axis)


def searchsorted(x1: Array, x2: Any, /, *, side: Any = "left", sorter: Array | None = None) -> Array:
    """Return where elements belong among sorted ones, by NumPy, int64."""
    place, (a, v), _ = operands("searchsorted", x1, x2)
    order = None if sorter is None else place.fetch(operands("searchsorted", sorter, place=place)[1][0])
    indices = np.searchsorted(place.fetch(a), place.fetch(v), side=side, sorter=order)
    return wrap(place, place.put(indices, "int64"))


def _unique(name: str, x: Array, /) -> Any:
    """Return the distinct elements, sorted, by NumPy: each NaN is one of its own, and a zero is +0."""
    place, (data,), own = operands(name, x)
    host = place.fetch(data)
    found = getattr(np, name)(host + 0.0 if own in FLOATING else host)
    return type(found)(*(wrap(place, place.put(each)) for each in found))


def unique_values(x: Array, /) -> Any:
    """Return the distinct elements, sorted."""
    return _unique("unique_counts", x).values


OWN: dict[str, Function] = {
    **{function.__name__: function for function in (argsort, sort, searchsorted, unique_values)},
    **{name: partial(_unique, name) for name in ("unique_all", "unique_counts", "unique_inverse")},
}
