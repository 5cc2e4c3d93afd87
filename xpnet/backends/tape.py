"""Recording of the NumPy calls that a function makes.

A `TracedArray` stands for an array, or a number: each NumPy call made on it is executed and recorded on its
`Tape`. A recorded function must be pure, and its control flow must not depend on values, so a `TracedArray`
cannot be converted to a number.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import array_api_compat.numpy
import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided

from xpnet._lib.tree import Tree, leaves, tree_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xpnet._typing import Function, HostArray

    Indices = npt.NDArray[np.integer]

_REDUCTIONS: dict[Function, Function] = {np.sum: np.add.reduce, np.max: np.maximum.reduce}
"""Functions, and the equivalent methods of ufuncs, which take an output array."""
_CONSTANTS = {np.ones_like, np.zeros_like, np.full_like}  # by the shapes of their arguments
LARGE = 1 << 15
"""Bytes of a value that is not kept: replacing small ones would take longer than the calls."""


class TracedArray(NDArrayOperatorsMixin):
    """An array, or a number, that records the calls made on it."""

    def __init__(self, tape: Tape, value: HostArray) -> None:
        self.tape, self.value = tape, value
        self.slot = self.owner = tape.slots  # the owner of the memory is another slot if this is a view
        tape.slots += 1
        array = np.asarray(value)
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def with_value(self, value: HostArray) -> TracedArray:
        """Return a copy with another value of the same shape and dtype."""
        other = copy.copy(self)
        other.value = value
        return other

    def astype(self, dtype: npt.DTypeLike, *, copy: bool = True) -> TracedArray:  # noqa: ARG002
        """Record a conversion."""
        return self.tape.record(convert, (self, dtype), {})

    def view(self, dtype: npt.DTypeLike) -> TracedArray:
        """Record a view of the same memory with another dtype."""
        return self.tape.record(np.ndarray.view, (self, dtype), {})

    def __getitem__(self, key: object) -> TracedArray:
        return self.tape.record(operator.getitem, (self, key), {})

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: object) -> TracedArray:
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        dtype = np.result_type(*untrace(args))  # of numbers, which a ufunc would convert in each call
        operands = (np.asarray(arg, dtype) if isinstance(arg, int | float) else arg for arg in args)
        return self.tape.record(function, (*operands,), kwargs)

    def __array_function__(
        self, function: Function, _: object, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        if function in _CONSTANTS:
            return function(*untrace(args), **kwargs)
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
    operands: list[TracedArray]  # the arguments that are traced; none of them is a keyword argument
    result: TracedArray


def _without_memory(value: HostArray) -> HostArray:
    return as_strided(np.empty(1, value.dtype), value.shape, value.strides, writeable=False)


class Tape:
    """The calls made on traced arrays, in order.

    ``without_memory`` replaces a large value by one with the same shape, dtype and strides: those of all
    calls of a step would take gigabytes.
    """

    def __init__(self, without_memory: Function = _without_memory) -> None:
        self._without_memory = without_memory
        self.slots = 0
        self.calls: list[Call] = []

    def record(self, function: Function, args: tuple[object, ...], kwargs: dict[str, object]) -> TracedArray:
        """Make a call and record it."""
        result = TracedArray(self, function(*untrace(args), **kwargs))
        for operand in traced_leaves(args):
            if np.may_share_memory(result.value, operand.value):
                result.owner = operand.owner
        args = tree_map(self.forget, args)
        self.calls.append(Call(function, args, kwargs, [*traced_leaves(args)], self.forget(result)))
        return result

    def forget(self, leaf: Any) -> Any:
        """Return a copy of a large traced array without its value; of another leaf, itself."""
        is_large = isinstance(leaf, TracedArray) and getattr(leaf.value, "nbytes", 0) >= LARGE
        return leaf.with_value(self._without_memory(leaf.value)) if is_large else leaf


def traced_leaves(tree: object) -> Iterator[TracedArray]:
    """Yield the traced leaves of a tree, in order."""
    return (leaf for leaf in leaves(tree) if isinstance(leaf, TracedArray))


def is_traced(tree: object) -> bool:
    """Tell whether any leaf of a tree is traced."""
    return next(traced_leaves(tree), None) is not None


def untrace(tree: Tree) -> Tree:
    """Replace the traced leaves of a tree by their values."""
    return tree_map(lambda leaf: leaf.value if isinstance(leaf, TracedArray) else leaf, tree)


def convert(x: HostArray, dtype: npt.DTypeLike) -> HostArray:
    """Return ``x.astype(dtype)``."""
    return x.astype(dtype)


def _take(x: HostArray, indices: Indices, axis: int | None, out: HostArray | None = None) -> HostArray:
    # Mode "raise" would check the indices first, and write into a copy of `out`.
    return x.take(indices, axis, out, "clip")


def take(x: HostArray, /, indices: Indices, *, axis: int | None = None) -> HostArray | TracedArray:
    """Return ``numpy.take``, recorded also if only the indices are traced: NumPy dispatches on `x` alone."""
    for array in (x, indices):
        if isinstance(array, TracedArray):
            return array.tape.record(_take, (x, indices, axis), {})
    return np.take(x, indices, axis=axis)


xp = ModuleType(array_api_compat.numpy.__name__)
"""The array-API namespace of NumPy, whose functions all accept traced arrays."""
xp.__dict__.update(vars(array_api_compat.numpy), take=take)

ACCEPTS_OUT = {*_REDUCTIONS.values(), convert, _take, np.where, np.concatenate, np.argmax}
"""Functions, besides ufuncs, that can write their result into an output array."""
