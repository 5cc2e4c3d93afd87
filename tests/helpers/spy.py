"""A backend that records every array operation, with the kinds of its operands.

A call is a pair of its form, such as ``add(x, broadcast)`` or ``sum(x, axis, keepdims)``, and the dtype of
its first operand. In the forms of elementwise operations, ``x`` is an operand of the result's shape,
``broadcast`` a smaller one and ``number`` one of Python's. Products of matrices and sums are ``exact`` if no
order of their terms could round.
"""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any

import array_api_compat.numpy as numpy_namespace
import numpy as np

from xpnet.backends.base import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

Call = tuple[str, str]
"""The form of a call, and the dtype of its first operand."""

OPERATORS = ["add", "sub", "mul", "truediv", "and", "rshift", "lshift", "lt", "le", "gt", "ge", "eq"]
ELEMENTWISE = {*OPERATORS, *(f"r{name}" for name in OPERATORS), "where", "maximum", "minimum"}
METHODS = [*OPERATORS, "radd", "rsub", "rmul", "rtruediv", "neg", "getitem", "float", "bool"]


class SpyArray:
    """A NumPy array whose operators are recorded."""

    __hash__ = None
    __array_priority__ = 1000

    def __init__(self, array: np.ndarray, namespace: SpyNamespace) -> None:
        self.array, self.namespace = np.asarray(array), namespace
        self.shape, self.ndim, self.dtype = self.array.shape, self.array.ndim, self.array.dtype


def _method(name: str) -> Callable[..., Any]:
    def method(self: SpyArray, *operands: Any) -> Any:
        return self.namespace.call(name, getattr(np.ndarray, f"__{name}__"), self, *operands)

    return method


for _name in METHODS:
    setattr(SpyArray, f"__{_name}__", _method(_name))


class SpyNamespace:
    """NumPy's array-API namespace, whose functions are recorded in ``calls``."""

    def __init__(self) -> None:
        self.calls: set[Call] = set()

    def __getattr__(self, name: str) -> Any:
        value = getattr(numpy_namespace, name)
        if isinstance(value, type) or not callable(value):
            return value
        return lambda *args, **keywords: self.call(name, value, *args, **keywords)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call a function on the arrays themselves, and record it."""
        arrays = [unwrap(value) for value in args]
        result = function(*arrays, **keywords)
        self.calls.add(describe(name, arrays, keywords))
        if isinstance(result, tuple | list):
            return [SpyArray(part, self) for part in result]
        return SpyArray(result, self) if isinstance(result, np.ndarray | np.generic) else result


class SpyBackend(Backend):
    """NumPy through a `SpyNamespace`; nothing is compiled."""

    name, module, device = "spy", "numpy", "cpu"

    def __init__(self) -> None:
        super().__init__("cpu")
        self.xp = SpyNamespace()

    def scope(self) -> Any:
        return np.errstate(all="ignore")

    def from_host(self, array: np.ndarray) -> SpyArray:
        return SpyArray(array, self.xp)

    def to_host(self, array: SpyArray) -> np.ndarray:
        return array.array


def unwrap(value: Any) -> Any:
    """Return the NumPy array, or the list of them."""
    if isinstance(value, list):
        return [unwrap(part) for part in value]
    return value.array if isinstance(value, SpyArray) else value


def describe(name: str, args: list[Any], keywords: dict[str, Any]) -> Call:
    """Return the form and the dtype of a call."""
    operands = [value for arg in args for value in (arg if isinstance(arg, list) else [arg])]
    arrays = [value for value in operands if isinstance(value, np.ndarray)]
    numbers = [array for array in arrays if array.dtype != bool] or arrays
    dtype = numbers[0].dtype if numbers else np.dtype(keywords["dtype"])
    shape = np.broadcast_shapes(*(array.shape for array in arrays)) if name in ELEMENTWISE else None
    kinds = [_kind(arg, dtype, shape) for arg in args]
    exact = "exact " if name in ("matmul", "sum") and _is_exact(*arrays, **keywords) else ""
    return f"{exact}{name}({', '.join([*kinds, *sorted(keywords.keys() - {'dtype', 'device'})])})", dtype.name


def _kind(arg: Any, dtype: np.dtype, shape: tuple[int, ...] | None) -> str:
    if isinstance(arg, np.ndarray):
        place = "broadcast" if shape is not None and arg.shape != shape else "x"
        return place if arg.dtype == dtype else f"{arg.dtype.name} {place}"
    if isinstance(arg, list):
        return "arrays" if isinstance(arg[0], np.ndarray) else "numbers"
    index = arg if isinstance(arg, tuple) else (arg,)
    if any(isinstance(part, slice | EllipsisType) for part in index):
        return ", ".join("..." if part is ... else ":" if isinstance(part, slice) else "0" for part in index)
    if isinstance(arg, tuple):
        return "shape"
    return "number" if isinstance(arg, int | float) else np.dtype(arg).name


def _is_exact(a: np.ndarray, b: np.ndarray | None = None, axis: int | None = None, **_: Any) -> bool:
    """Return whether each partial sum is a multiple of one step below 2^53 of them; not for sums of all."""
    if a.dtype != np.float64:
        return a.dtype.kind in "iu"
    if b is not None:
        steps, size = _step(a, -1) * _step(b, -2), np.matmul(np.abs(a), np.abs(b))
    elif axis is not None:
        steps, size = _step(a, axis), np.sum(np.abs(a), axis=axis, keepdims=True)
    else:
        return False
    return bool(np.all(~np.isfinite(size) | (size <= steps * 2.0**53)))


def _step(x: np.ndarray, axis: int) -> np.ndarray:
    """Return the largest power of two of which all entries along an axis are multiples."""
    fraction, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
    integer = (fraction * 2.0**53).astype(np.int64)
    lowest = np.ldexp((integer & -integer).astype(float), exponent - 53)
    return np.min(np.where(lowest == 0.0, np.inf, lowest), axis=axis, keepdims=True)
