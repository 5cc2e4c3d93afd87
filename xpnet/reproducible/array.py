"""An array of another library, whose operators, slices and conversions give the same bits on all of them."""

import operator
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from math import prod
from numbers import Number
from typing import Any, Literal

import numpy as np

from xpnet._lib.kinds import check_arguments
from xpnet._typing import Args, Device, Function, HostArray
from xpnet.reproducible.places import INTEGRAL, Place, name_of

Base: Any = object  # for type checkers, as operators are made from tables
Policy = Literal["allow", "warn", "refuse"]
_policy: ContextVar[Policy] = ContextVar("policy", default="allow")


def _table(rows: str) -> dict[str, str]:
    return dict(row.split() for row in rows.split(", "))


ARITHMETIC = _table(
    "add add, sub subtract, mul multiply, truediv divide, floordiv floor_divide, mod remainder, pow pow, "
    "matmul matmul, and bitwise_and, or bitwise_or, xor bitwise_xor, lshift bitwise_left_shift, "
    "rshift bitwise_right_shift"
)
COMPARISONS = _table("lt less, le less_equal, gt greater, ge greater_equal, eq equal, ne not_equal")
UNARY = _table("neg negative, abs abs, invert bitwise_invert")
"""The function of the standard behind each operator."""


def _floor_divide(a: Any, b: Any, _: Any = None) -> Any:
    """Divide as in the standard, which differs from Python and NumPy for infinities."""
    quotient = np.floor_divide(a, b)
    if quotient.dtype.kind != "f":
        return quotient
    a, b = (np.asarray(each, quotient.dtype) for each in (a, b))  # also whole numbers beyond int64
    return np.where(np.isinf(a) ^ np.isinf(b), np.divide(a, b), quotient)


def _square(a: Any, b: Any, out: Any) -> Any:
    """Return squares; None of other powers."""
    return np.square(a, out) if type(b) is int and b == 2 else None


DIRECT: dict[str, tuple[Function, str]] = {
    **{name: (getattr(np, name), "fiu") for name in {*ARITHMETIC.values()} - {"matmul"}},
    **{name: (getattr(np, name), "f") for name in ("divide", *COMPARISONS.values())},
    "floor_divide": (_floor_divide, "fiu"),
    "pow": (_square, "f"),
}
"""NumPy's functions of two operands and, or None, an array for the result.

They are the standard's for operands of one dtype, if it is of these kinds.
"""
QUIET = copy_context()
"""A context whose copies run functions of NumPy without warnings, in a fifth of the time of its errstate."""
QUIET.run(np.seterr, all="ignore")

BASIC = (int, slice, type(None), type(...))


@contextmanager
@check_arguments
def conversions(policy: Policy) -> Iterator[None]:
    """Say what happens in the body where arrays leave the guarantee, by `numpy.asarray` or DLPack.

    Parameters
    ----------
    policy
        ``"allow"``, the default; ``"warn"``, with the line that converts; or ``"refuse"``, with `TypeError`.

    Raises
    ------
    ConfigError
        There is no such policy.
    """
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)


def _leave(how: str) -> None:
    """Warn or refuse, as `conversions` says, naming the line that converts an array."""
    policy = _policy.get()
    if policy == "allow":
        return
    frame = sys._getframe(2)
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"
    message = f"{how} of an rp.Array leaves xpnet.reproducible: what follows may have other bits: {where}"
    if policy == "refuse":
        raise TypeError(message)
    warnings.warn(message, stacklevel=3)


class Array(Base):  # type: ignore[misc]  # of Any
    """An array of NumPy, PyTorch, JAX, CuPy, dpnp or array-api-strict, computed with reproducibly.

    `xpnet.reproducible.asarray` makes it, and `__array_namespace__` has its functions. The results have no
    gradients. A slice writes through to its array; other views, such as those of reshape, keep the values
    that they had, and refuse to be written to while their array exists.

    Attributes
    ----------
    raw
        The array of the library, which shares the memory of this one but on JAX.
    """

    __array_ufunc__ = None  # NumPy's functions refuse it
    __hash__ = None  # type: ignore[assignment]  # as NumPy's

    _parent: "tuple[Array, Any] | None" = None  # of a slice, the array and the key
    _seen: Any = None  # data of the parent when the slice was taken
    _source: "weakref.ref[Array] | None" = None  # of another view, the array
    _views: "tuple[weakref.ref[Array], ...]" = ()  # other views than slices

    def __init__(self, place: Place, data: Any) -> None:
        self.place = place
        self._data = np.asarray(data) if isinstance(data, np.generic) else data  # never a number

    @property
    def data(self) -> Any:
        """The array of the library that computes."""
        if self._parent is not None:
            parent, key = self._parent
            data = parent.data
            if data is not self._seen:
                self._data, self._seen = data[key], data
        return self._data

    host = property(lambda self: self.place.fetch(self.data), doc="A NumPy array, perhaps of its memory.")
    space = property(lambda self: self.place.space, doc="The namespace that has its functions.")
    raw = property(lambda self: self.place.to_library(self.data))
    dtype = property(lambda self: self.data.dtype, doc="The dtype, of the library.")
    shape = property(lambda self: (*self.data.shape,), doc="The lengths of the axes.")
    ndim = property(lambda self: len(self.data.shape), doc="The number of axes.")
    size = property(lambda self: prod(self.data.shape), doc="The number of elements.")
    itemsize = property(lambda self: np.dtype(name_of(self.dtype)).itemsize, doc="The bytes of an element.")
    nbytes = property(lambda self: self.size * self.itemsize, doc="The bytes of all elements.")
    device = property(lambda self: self.place.backend.device, doc="The device, of the library.")
    mT = property(lambda self: self.space.matrix_transpose(self), doc="The transposes.")  # noqa: N815

    @property
    def T(self) -> Any:  # noqa: N802  as in the standard
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ValueError(f"T: expected two dimensions, got {self.ndim}: use permute_dims")
        return self.mT

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            raise ValueError(f"api_version: expected 2024.12 or an earlier one, got {api_version!r}")
        return self.space

    # Elements

    def __getitem__(self, key: Any) -> "Array":
        place, data = self.place, self.data
        index, is_slice, is_reversed = self._index(key)
        with place.scope():
            part = Array(place, data[index])
        if is_reversed:
            part.mark_view_of(self)
        elif is_slice:
            part._parent, part._seen = (self, index), data
        return part

    def __setitem__(self, key: Any, value: Any) -> None:
        place, dtype = self.place, name_of(self.dtype)
        _, (data,), _ = place.space.operands("assignment", value, place=place, dtype=dtype)
        self._write(self._index(key)[0], data)

    def _index(self, key: Any) -> tuple[Any, bool, bool]:
        """Return a key for data, if it selects a slice, and if it does so backwards."""
        keys = [self._index_of_axis(each) for each in (key if isinstance(key, tuple) else (key,))]
        is_slice = all(isinstance(each, BASIC) and not isinstance(each, bool) for each in keys)
        is_reversed = any(isinstance(each, slice) and (each.step or 1) < 0 for each in keys)
        if is_reversed and not self.place.computing.reverses:
            positions = np.arange(self.size).reshape(self.shape)[tuple(keys)]
            keys = [*map(self.place.put, np.unravel_index(positions, self.shape))]
        elif is_slice and not any(each is ... for each in keys):
            keys.append(...)  # NumPy makes numbers of elements, which are no views
        return tuple(keys), is_slice, is_reversed

    def _index_of_axis(self, key: Any) -> Any:
        if isinstance(key, Array):
            self.place.check("indexing", key.place)
            return operator.index(key) if key.ndim == 0 and name_of(key.dtype) in INTEGRAL else key.data
        return int(key) if isinstance(key, np.integer) else key

    def _write(self, key: Any, data: Any) -> None:
        """Write data to elements: of this array, and of those that it is a slice of."""
        self._prepare_to_write()
        with self.place.scope():
            if not self.place.is_functional:
                self.data[key] = data
            elif self._parent is None:
                self._data = self.data.at[key].set(data)
            else:
                parent, own_key = self._parent
                parent._write(own_key, self.data.at[key].set(data))

    def _root(self) -> "Array":
        """Return the array that this is a slice of, perhaps itself."""
        return self if self._parent is None else self._parent[0]._root()

    def _prepare_to_write(self) -> None:
        """Check that this is no view of an array that exists, and let its views keep their values."""
        root = self if self._parent is None else self._root()
        if root._source is None and not root._views:
            return
        if root._source is not None and root._source() is not None:
            raise ValueError("a view that is no slice is read-only while its array exists: copy it before")
        root.detach()
        for view in map(operator.call, root._views):
            if view is not None:
                view.detach()
        root._views = ()

    def mark_view_of(self, array: "Array") -> None:
        """Note that data may share the memory of an array that this is no slice of."""
        root = array._root()
        self._source = weakref.ref(root)
        root._views = (*(each for each in root._views if each() is not None), weakref.ref(self))

    def detach(self) -> None:
        """Copy data that may share the memory of an array."""
        if self._source is not None:
            self._data, self._source = self.place.copy(self._data), None

    def __contains__(self, value: object) -> bool:
        return bool(self.space.any(self == value))

    def __len__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator["Array"]:
        return (self[index] for index in range(len(self)))

    # Numbers

    def __index__(self) -> int:
        if name_of(self.dtype) not in INTEGRAL:
            raise TypeError(f"an index: expected an integer, got an array of {self.dtype}")
        return int(self.data)

    def item(self) -> Any:
        """Return the one element as a number of Python."""
        return self.host.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of numbers of Python."""
        return self.host.tolist()

    def __format__(self, form: str) -> str:
        return format(self.item() if form and self.ndim == 0 else str(self), form)

    def __repr__(self) -> str:
        return f"rp.asarray({self.raw!r})"

    # Elsewhere

    def to_device(self, device: Device, /, *, stream: object = None) -> Any:  # noqa: ARG002  unused
        """Return the array on another device of its library, or itself if it is there."""
        return self.space.asarray(self, device=device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> HostArray:  # noqa: FBT001
        _leave("a NumPy array")
        if copy is False:
            raise ValueError("copy=False: a NumPy array of an rp.Array is a copy")
        return np.array(self.host, dtype)

    def __dlpack__(self, **options: Any) -> Any:
        _leave("a DLPack capsule")
        return self.data.__dlpack__(**{name: value for name, value in options.items() if value is not None})

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def __reduce__(self) -> Args:
        return self.space.rebuild, (np.array(self.host), self.place.backend.device_name)

    def __copy__(self, *_: object) -> Any:
        return self.space.asarray(self, copy=True)

    __deepcopy__ = __pos__ = __copy__


def _directly(name: str, *, is_reflected: bool = False) -> Function:
    """Return the function of an array and an operand that is `DIRECT`, or returns None."""
    function, kinds = DIRECT.get(name, (np.add, ""))
    kinds_beside = {Array: kinds, int: kinds, float: kinds[:1]}

    def compute(x: Array, value: Any, out: Any) -> Any:
        place, data = x.place, x.data
        if not place.computing.on_host or data.dtype.kind not in kinds_beside.get(type(value), ""):
            return None
        if type(value) is Array:
            is_alike, value = value.place is place, value.data
            if not is_alike or value.dtype != data.dtype:
                return None
        a, b = (value, data) if is_reflected else (data, value)
        return QUIET.copy().run(function, a, b, out)

    return compute


def _binary(name: str, *, is_reflected: bool = False) -> Function:
    compute = _directly(name, is_reflected=is_reflected)

    def method(self: Array, other: Any) -> Any:
        data = compute(self, other, None)
        if data is not None:
            return Array(self.place, data)
        if not (isinstance(other, Number) or hasattr(other, "shape")):
            return NotImplemented
        return getattr(self.space, name)(*((other, self) if is_reflected else (self, other)))

    return method


def _in_place(name: str) -> Function:
    compute, operate = _directly(name), _binary(name)

    def method(self: Array, other: Any) -> Any:
        self._prepare_to_write()
        data = self.data
        try:
            found = compute(self, other, data)
        except ValueError:  # it is longer
            found = None
        if found is data:
            return self
        result = operate(self, other) if found is None else Array(self.place, found)
        if result is NotImplemented:
            return result
        if (result.shape, result.dtype) != (self.shape, self.dtype):
            expected, found = (f"{x.dtype} of shape {x.shape}" for x in (self, result))
            raise TypeError(f"in-place {name}: expected a result of {expected}, got {found}")
        self._write(..., result.data)
        return self

    return method


def _unary(name: str) -> Function:
    function = getattr(np, name)

    def method(self: Array) -> Any:
        if self.place.computing.on_host:
            return Array(self.place, function(self.data))
        return getattr(self.space, name)(self)

    return method


for _short, _name in (ARITHMETIC | COMPARISONS).items():
    setattr(Array, f"__{_short}__", _binary(_name))
for _short, _name in ARITHMETIC.items():
    setattr(Array, f"__r{_short}__", _binary(_name, is_reflected=True))
    setattr(Array, f"__i{_short}__", _in_place(_name))
for _short, _name in UNARY.items():
    setattr(Array, f"__{_short}__", _unary(_name))
for _type in (bool, int, float, complex):
    setattr(Array, f"__{_type.__name__}__", lambda self, _type=_type: _type(self.data))
