"""Order, search and sets of `Array`: NaN is the largest number, zeros are equal, ties keep their order."""

from collections import namedtuple
from functools import partial
from typing import Any

import numpy as np

from xpnet._typing import Function
from xpnet.reproducible.array import Array, wrap
from xpnet.reproducible.elementwise import common_place, operands
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
    common_place("searchsorted", (x1, sorter))
    order = None if sorter is None else sorter.host
    indices = np.searchsorted(place.fetch(a), place.fetch(v), side=side, sorter=order)
    return wrap(place, place.put(indices, "int64"))


def _unique(kind: Any, x: Array, /) -> Any:
    """Return the distinct elements, sorted, by NumPy: each NaN is one of its own, and a zero is +0."""
    place, (data,), own = operands("unique", x)
    host = place.fetch(data)
    names = ("values", "indices", "inverse_indices", "counts")
    distinct = partial(np.unique, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
    by_name = dict(zip(names, distinct(host + 0.0 if own in FLOATING else host), strict=True))
    by_name["inverse_indices"] = np.reshape(by_name["inverse_indices"], host.shape)
    arrays = {name: wrap(place, place.put(each)) for name, each in by_name.items()}
    return kind(*(arrays[name] for name in kind._fields)) if kind is not None else arrays["values"]


UNIQUE = {
    "unique_all": namedtuple("UniqueAll", "values indices inverse_indices counts"),  # noqa: PYI024
    "unique_counts": namedtuple("UniqueCounts", "values counts"),  # noqa: PYI024
    "unique_inverse": namedtuple("UniqueInverse", "values inverse_indices"),  # noqa: PYI024
    "unique_values": None,
}
OWN: dict[str, Function] = {
    **{function.__name__: function for function in (argsort, sort, searchsorted)},
    **{name: partial(_unique, kind) for name, kind in UNIQUE.items()},
}
