"""Records what a function does with NumPy arrays.

A `Traced` value stands for an array, or a number: it computes, and writes each NumPy call made on it down
on its `Tape`. A function that is recorded must be pure, and its course must not depend on values, so none
of them converts to a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import array_api_compat.numpy
import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from xpnet._lib.tree import Tree, leaves, tree_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xpnet._typing import Function

_REDUCTIONS: dict[Function, Function] = {np.sum: np.add.reduce, np.max: np.maximum.reduce}
"""Functions, and the ufuncs' methods that do the same and put their result into a given array."""


class Traced(NDArrayOperatorsMixin):
    """An array, or a number, that records what is done with it."""

    def __init__(self, tape: Tape, value: Any) -> None:
        self.tape, self.value, self.slot = tape, value, tape.values
        tape.values += 1
        array = np.asarray(value)
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def astype(self, dtype: npt.DTypeLike, *, copy: bool = True) -> Traced:  # noqa: ARG002
        """Record a conversion."""
        return self.tape.record(convert, (self, dtype), {})

    def __getitem__(self, key: object) -> Traced:
        return self.tape.record(_item, (self, key), {})

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: object, **kwargs: object) -> Traced:
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self.tape.record(function, args, kwargs)

    def __array_function__(
        self, function: Function, _: object, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Traced:
        if function in _REDUCTIONS:
            function, kwargs = _REDUCTIONS[function], {"axis": None, **kwargs}
        return self.tape.record(function, args, kwargs)

    def __array__(self, *_: object, **__: object) -> NoReturn:
        msg = "an array has no values while the function that computes it is being recorded"
        raise TypeError(msg)

    __bool__ = __int__ = __float__ = __index__ = __array__


@dataclass(frozen=True)
class Call:
    """A recorded call."""

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, object]
    result: Traced
    source: Traced | None  # the argument that the result is a view of

    def operands(self) -> list[Traced]:
        """Return the arguments that are traced."""
        return [*traced((self.args, tuple(self.kwargs.values())))]


class Tape:
    """The calls made on traced arrays, in order."""

    def __init__(self) -> None:
        self.values = 0
        self.calls: list[Call] = []

    def record(self, function: Function, args: tuple[object, ...], kwargs: dict[str, object]) -> Traced:
        """Make a call and remember it."""
        value = function(*values(args), **{name: values(arg) for name, arg in kwargs.items()})
        source = None
        for operand in traced((args, tuple(kwargs.values()))):
            if np.may_share_memory(value, operand.value):
                source = operand
        self.calls.append(Call(function, args, kwargs, Traced(self, value), source))
        return self.calls[-1].result


def traced(tree: object) -> Iterator[Traced]:
    """Yield the traced leaves of a tree, in order."""
    return (leaf for leaf in leaves(tree) if isinstance(leaf, Traced))


def is_traced(tree: object) -> bool:
    """Tell whether a leaf of a tree is traced."""
    return next(traced(tree), None) is not None


def values(tree: Tree) -> Tree:
    """Return a tree with the values in place of what is traced."""
    return tree_map(lambda leaf: leaf.value if isinstance(leaf, Traced) else leaf, tree)


def convert(x: npt.NDArray[np.generic], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """Return ``x.astype(dtype)``."""
    return x.astype(dtype)


def _item(x: Any, key: Any) -> Any:
    return x[key]


def _take(x: Any, indices: Any, axis: int, out: Any = None) -> Any:
    # Mode raise would check the indices first, and write into a copy of `out`.
    return x.take(indices, axis, out, "clip")


def take(x: Any, /, indices: Any, *, axis: int | None = None) -> Any:
    """Return ``numpy.take``, recorded if the indices are: NumPy's own asks about `x` alone."""
    for array in (x, indices):
        if isinstance(array, Traced):
            return array.tape.record(_take, (x, indices, axis), {})
    return np.take(x, indices, axis=axis)


xp = ModuleType(array_api_compat.numpy.__name__)
"""The array-API namespace of NumPy, with functions that all accept arrays that record."""
xp.__dict__.update(vars(array_api_compat.numpy), take=take)

WITH_OUT = {*_REDUCTIONS.values(), convert, _take, np.concatenate, np.argmax}
"""Functions, besides ufuncs, that can put their result into a given array."""
