"""A backend that records every array operation, with the kinds of its operands.

A call is a pair of its form, such as ``add(x, broadcast)`` or ``sum(x, axis, keepdims)``, and the dtype of
its first operand. In the forms of elementwise operations, ``x`` is an operand of the result's shape,
and ``broadcast`` a smaller one. Products of matrices and sums are ``exact`` if no order of their terms could
round.
"""

from copy import deepcopy
from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np

from xpnet._lib.tree import leaves, tree_map
from xpnet.backends.base import Backend

Call = tuple[str, str]
"""The form of a call, and the dtype of its first operand."""

OPERATORS = ["add", "sub", "mul", "truediv", "and", "or", "rshift", "lshift", "lt", "le", "gt", "ge", "eq"]
METHODS = [*OPERATORS, "radd", "rsub", "rmul", "rtruediv", "neg", "getitem", "float", "bool"]
ELEMENTWISE = {*METHODS, "abs", "where", "maximum", "minimum"} - {"getitem", "float", "bool"}


class SpyArray:
    __hash__ = None
    __array_priority__ = 1000

    def __init__(self, array, namespace):
        self.array, self.namespace = np.asarray(array), namespace
        self.shape, self.ndim, self.dtype = self.array.shape, self.array.ndim, self.array.dtype

    def view(self, dtype):
        return self.namespace.call("view", np.ndarray.view, self, dtype)


def _method(name):
    def method(self, *operands):
        return self.namespace.call(name, getattr(np.ndarray, f"__{name}__"), self, *operands)

    return method


for _name in METHODS:
    setattr(SpyArray, f"__{_name}__", _method(_name))


class SpyNamespace:
    """NumPy's array-API namespace; ``calls`` has the arguments of the largest call of each form.

    ``compiled`` has the names of what functions call that a backend may compile.
    """

    def __init__(self):
        self.calls: dict[Call, tuple[list[Any], dict[str, Any]]] = {}
        self.compiled: set[str] = set()
        self.is_compiling = False

    def __getattr__(self, name):
        value = getattr(numpy_namespace, name)
        if isinstance(value, type) or not callable(value):
            return value
        return lambda *args, **keywords: self.call(name, value, *args, **keywords)

    def call(self, name, function, *args, **keywords):
        args = [arg if _is_table(arg) else tree_map(unwrap, arg) for arg in args]
        result = function(*args, **keywords)
        form = describe(name, args, keywords)
        self.compiled |= {name} if self.is_compiling else set()
        if form not in self.calls or size(args) > size(self.calls[form][0]):
            self.calls[form] = deepcopy(args), keywords
        return tree_map(self.wrap, result)

    def wrap(self, value):
        return SpyArray(value, self) if isinstance(value, np.ndarray | np.generic) else value


class SpyBackend(Backend):
    """NumPy through a `SpyNamespace`; nothing is compiled."""

    name, module, device = "spy", "numpy", "cpu"

    def __init__(self):
        super().__init__("cpu")
        self.xp = SpyNamespace()

    def scope(self):
        return np.errstate(all="ignore")

    def compile(self, function, **_):
        if getattr(function, "__name__", "") == "compute_compiled":  # the check of compilers: there is none
            return function

        def compiled(*args):
            before, self.xp.is_compiling = self.xp.is_compiling, True
            try:
                return function(*args)
            finally:
                self.xp.is_compiling = before

        return compiled

    def from_host(self, array):
        return SpyArray(array, self.xp)

    def to_host(self, array):
        return array.array


def unwrap(value):
    return value.array if isinstance(value, SpyArray) else value


def _is_table(arg):
    """Return whether an argument is a list of numbers, of which one has 100,000."""
    return isinstance(arg, list) and bool(arg) and isinstance(arg[0], float)


def arrays_of(args):
    nested = [arg for arg in args if not _is_table(arg)]
    return [value for value in leaves(nested) if isinstance(value, np.ndarray)]


def size(args):
    return sum(array.size for array in arrays_of(args))


def describe(name, args, keywords):
    arrays = arrays_of(args)
    numbers = [array for array in arrays if array.dtype != bool] or arrays
    dtype = numbers[0].dtype if numbers else np.dtype(keywords["dtype"])
    shape = np.broadcast_shapes(*(array.shape for array in arrays)) if name in ELEMENTWISE else None
    kinds = [_kind(arg, dtype, shape) for arg in args]
    exact = "exact " if name in ("matmul", "sum") and _is_exact(*arrays, **keywords) else ""
    return f"{exact}{name}({', '.join([*kinds, *sorted(keywords.keys() - {'dtype', 'device'})])})", dtype.name


def _kind(arg, dtype, shape):
    if isinstance(arg, np.ndarray):
        place = "broadcast" if shape is not None and arg.shape != shape else "x"
        return place if arg.dtype == dtype else f"{arg.dtype.name} {place}"
    if isinstance(arg, type | np.dtype):
        return np.dtype(arg).name
    return " ".join(type(part).__name__ for part in (arg if isinstance(arg, tuple) else [arg]))


def _is_exact(a, b=None, axis=None, **_):
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


def _step(x, axis):
    """Return the largest power of two of which all entries along an axis are multiples."""
    fraction, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
    integer = (fraction * 2.0**53).astype(np.int64)
    lowest = np.ldexp((integer & -integer).astype(float), exponent - 53)
    return np.min(np.where(lowest == 0.0, np.inf, lowest), axis=axis, keepdims=True)
