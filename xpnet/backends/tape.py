"""Recording of the NumPy calls that a function makes, and how each result is written into an array.

A `TracedArray` stands for an array, or a number: each NumPy call made on it is executed and recorded on its
`Tape`. A recorded function must be pure, and its control flow must not depend on values, so a `TracedArray`
cannot be converted to a number. ``WRITING_RULES`` has a row for each function whose result can be written
into an array; other functions are called as they were recorded.
"""

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeAlias

import array_api_compat.numpy
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from xpnet._lib.tree import Tree, leaves, tree_map
from xpnet._typing import Args, DType, Function, HostArray
from xpnet.backends.base import replace_functions

_CONSTANTS = {np.ones_like, np.zeros_like, np.full_like}  # by the shapes of their arguments
LARGE_BYTES = 1 << 15
"""Bytes from which a value is not kept while calls are recorded, since those of a step would take gigabytes,
and from which the cache gains more from writing into an operand's memory than NumPy's check costs."""
SMALL_PRODUCT = 100**3
"""Multiplications below which OpenBLAS uses kernels that do not copy the factors first."""
SHORTEST_PIECE = 32
"""Columns or terms below which dividing a product into pieces costs more than it saves."""

Prepared: TypeAlias = "list[tuple[Function, tuple[Any, ...]]]"
"""Calls that write a result: functions and arguments."""


class TracedArray(NDArrayOperatorsMixin):
    """An array, or a number, that records the calls made on it."""

    def __init__(self, tape: "Tape", value: HostArray) -> None:
        self.tape, self.value = tape, value
        self.slot = self.owner = tape.slots  # the owner of the memory is another slot if this is a view
        tape.slots += 1
        array, self.is_large = np.asarray(value), getattr(value, "nbytes", 0) >= LARGE_BYTES
        self.shape = array.shape
        self.ndim = array.ndim
        self.dtype = array.dtype
        self.layout, self.is_whole = (array.shape, array.strides, array.dtype), True  # not part of its owner

    def with_value(self, value: HostArray) -> "TracedArray":
        """Return a copy with another value of the same shape and dtype."""
        other = copy.copy(self)
        other.value = value
        return other

    def astype(self, dtype: DType, *, copy: bool = True) -> "TracedArray":  # noqa: ARG002
        """Record a conversion."""
        return self.tape.record(convert, (self, dtype), {})

    def view(self, dtype: DType) -> "TracedArray":
        """Record a view of the same memory with another dtype."""
        return self.tape.record(np.ndarray.view, (self, dtype), {})

    def __getitem__(self, key: object) -> "TracedArray":
        return self.tape.record(operator.getitem, (self, key), {})

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: object) -> "TracedArray":
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        dtype = np.result_type(*untrace(args))  # of numbers, which a ufunc would convert in each call
        operands = (np.asarray(arg, dtype) if isinstance(arg, int | float) else arg for arg in args)
        return self.tape.record(function, (*operands,), kwargs)

    def __array_function__(self, function: Function, _: object, args: Any, kwargs: Any) -> Any:
        if function in _CONSTANTS:
            return function(*untrace(args), **kwargs)
        if function is np.where:  # x or 0, as a product of bits: a choice would have branches
            mask, x, y = args
            is_float = isinstance(x, TracedArray) and x.dtype.kind == "f"
            if is_float and str(y) == "0.0" and np.broadcast_shapes(mask.shape, x.shape) == x.shape:
                return (x.view(f"i{x.dtype.itemsize}") * mask).view(x.dtype)
        return self.tape.record(function, args, kwargs)

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("an array has no values while the function that computes it is being recorded")

    __bool__ = __int__ = __float__ = __index__ = __array__


class Writing(NamedTuple):
    """A call that writes its result into an array, which is one of its arguments; or else returns it."""

    function: Function
    args: Args
    rows: Sequence[int] = ()  # the numbers of the arguments of which a row of the result needs that row alone
    may_overwrite: bool = False  # whether the array may be one of the arguments


@dataclass
class RecordedCall:
    """A recorded call."""

    function: Function  # with its keyword arguments, none of which is traced
    args: Args
    operands: list[TracedArray]  # the arguments that are traced
    result: TracedArray
    is_view: bool  # whether the result is in the memory of an operand
    writing: Writing

    @property
    def writes(self) -> bool:
        """True if the result can be written into an array."""
        return any(arg is self.result for arg in self.writing.args)


class Tape:
    """The calls made on traced arrays, in order; subclasses record those of other libraries than NumPy."""

    def __init__(self) -> None:
        self.slots = 0
        self.calls: list[RecordedCall] = []

    def run(self, function: Function, args: Args) -> tuple[Any, Any]:
        """Run a function; return the arguments and the results as traced arrays."""
        inputs = tree_map(partial(TracedArray, self), args)
        return inputs, function(*inputs)

    def record(self, function: Function, args: Args, kwargs: dict[str, Any]) -> TracedArray:
        """Make a call and record it."""
        result = TracedArray(self, function(*untrace(args), **kwargs))
        for operand in traced_leaves(args):
            if np.may_share_memory(result.value, operand.value):
                result.owner = operand.owner
                result.is_whole = operand.is_whole and result.layout[:2] == operand.layout[:2]
        args, kept = tree_map(self.forget, args), self.forget(result)
        bound = partial(function, **kwargs) if kwargs else function
        writing = self.write(kept, function, args, kwargs) or Writing(bound, args)
        self.calls.append(
            RecordedCall(bound, args, traced_leaves(args), kept, kept.owner != kept.slot, writing)
        )
        return result

    def forget(self, leaf: Any) -> Any:
        """Return a copy of a large traced array without its value; of another leaf, itself."""
        shrinks = isinstance(leaf, TracedArray) and leaf.is_large
        return leaf.with_value(self.without_memory(leaf.value)) if shrinks else leaf

    def without_memory(self, value: Any) -> Any:
        """Return an array of the same shape, strides and dtype whose elements are one."""
        return np.lib.stride_tricks.as_strided(np.empty(1, value.dtype), value.shape, value.strides)

    def make_array(self, like: Any, memory: HostArray) -> Any:
        """Return an array like another one in a block of memory."""
        return np.ndarray(like.shape, like.dtype, memory, strides=like.strides)

    def write(self, out: TracedArray, function: Function, args: Any, kwargs: Any) -> Writing | None:
        """Return how the result of a call is written; None if no rule knows."""
        if function in WRITING_RULES:
            return WRITING_RULES[function](out, *args, **kwargs)
        is_elementwise = isinstance(function, np.ufunc) and function.signature is None and function.nout == 1
        return _elementwise(function, out, *args) if is_elementwise and not kwargs else None

    def prepare(self, call: RecordedCall, arrays: Mapping[int, Any]) -> Prepared:
        """Return the calls that write a result; ``arrays`` are, by slot, the same in every run."""
        function, args, *_ = call.writing
        return _product(arrays, *args) if function is np.matmul else [(function, args)]


def traced_leaves(tree: object) -> list[TracedArray]:
    """Return the traced leaves of a tree, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, TracedArray)]


def untrace(tree: Tree) -> Tree:
    """Replace the traced leaves of a tree by their values."""
    return tree_map(lambda leaf: leaf.value if isinstance(leaf, TracedArray) else leaf, tree)


def convert(x: HostArray, dtype: DType) -> HostArray:
    """Return ``x.astype(dtype)``."""
    return x.astype(dtype)


def take(x: HostArray, /, indices: HostArray, *, axis: int | None = None) -> Any:
    """Return ``numpy.take``, recorded also if only the indices are traced: NumPy dispatches on `x` alone."""
    for array in (x, indices):
        if isinstance(array, TracedArray):
            return array.tape.record(np.take, (x, indices, axis), {})
    return np.take(x, indices, axis=axis)


xp = replace_functions(array_api_compat.numpy, take=take)
"""The array-API namespace of NumPy, whose functions all accept traced arrays."""


def _elementwise(function: Function, out: TracedArray, *args: Any) -> Writing:
    return Writing(function, (*args, out), range(len(args)), may_overwrite=True)


def _reduction(
    ufunc: np.ufunc, out: TracedArray, x: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False
) -> Writing:
    by_rows = axis in (1, -1) and keepdims and x.value.flags.c_contiguous
    return Writing(ufunc.reduce, (x, axis, dtype, out, keepdims), (0,) if by_rows else ())


def _choose(mask: HostArray, x: HostArray, y: HostArray, out: HostArray) -> None:
    np.copyto(out, y)
    np.copyto(out, x, "same_kind", mask)


def _product(arrays: Mapping[int, Any], *args: Any) -> Prepared:
    """Return the calls that write a product, in small pieces if its factors are known and can be divided."""
    left, right, out = (arrays.get(getattr(arg, "slot", -1)) for arg in args)
    if right is not None and out is not None and out.ndim == right.ndim == 2:
        (units, columns), terms = out.shape, len(right)
        size = _find_piece(terms, units * columns) if right.flags.c_contiguous else 0
        if size and left is not None and left.flags.c_contiguous:
            factors = left.reshape(units, -1, size).swapaxes(0, 1), right.reshape(-1, size, columns)
            products = np.empty((terms // size, *out.shape), out.dtype)
            return [(np.matmul, (*factors, products)), (np.add.reduce, (products, 0, None, out))]
        if size := _find_piece(columns, units * terms):
            blocks = [matrix.reshape(len(matrix), -1, size).swapaxes(0, 1) for matrix in (right, out)]
            return [(np.matmul, (args[0], *blocks))]
    return [(np.matmul, args)]


def _find_piece(length: int, others: int) -> int:
    """Return the part of an axis that makes a large product of axes a small one; 0 if there is none."""
    most = min((SMALL_PRODUCT - 1) // others, length - 1) if length * others >= SMALL_PRODUCT else 0
    return next((size for size in range(most, SHORTEST_PIECE - 1, -1) if length % size == 0), 0)


WRITING_RULES: dict[Function, Callable[..., Writing]] = {
    np.matmul: lambda out, x, y: Writing(np.matmul, (x, y, out), (0,)),
    np.maximum: partial(_elementwise, lambda x, y, out: np.maximum(x, y, out=out)),  # not by position
    np.minimum: partial(_elementwise, lambda x, y, out: np.minimum(x, y, out=out)),
    np.sum: partial(_reduction, np.add),
    np.max: partial(_reduction, np.maximum),
    np.where: lambda out, *args: Writing(_choose, (*args, out), (0, 1, 2)),
    np.concatenate: lambda out, arrays, axis=0: Writing(np.concatenate, (arrays, axis, out)),
    np.ndarray.view: lambda _, x, dtype: Writing(np.ndarray.view, (x, dtype), (0,)),
    convert: lambda out, x, _: Writing(np.copyto, (out, x, "unsafe"), (1,)),
    np.take: lambda out, *args: Writing(np.ndarray.take, (*args, out, "clip")),  # "raise" would copy
}
"""How NumPy's functions, besides the elementwise ones, write their results: a row for each."""
