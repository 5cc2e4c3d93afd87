"""Creation of `Array`, and conversion of its dtype: defaults are float64, int64 and bool on every library."""

import math
from functools import partial
from typing import Any

import numpy as np

from xpnet._lib.tree import tree_map
from xpnet._typing import DType, Functions
from xpnet.reproducible.array import Array
from xpnet.reproducible.elementwise import as_operand
from xpnet.reproducible.places import FLOATING, INTEGRAL, name_of, promote


def asarray(
    space: Any, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Array:
    """Return numbers, nested lists, or an array as one of the namespace; an array in its dtype as it is.

    Raises
    ------
    TypeError
        The numbers are complex, or of a dtype that the standard has not.
    ValueError
        `copy` is False, and a copy is needed.
    """
    array = obj if isinstance(obj, Array) else space.adopt(obj)
    is_own = array is not None and device is None and array.space is space
    place = array.place if is_own else space.place(device)
    if array is None:
        numbers = tree_map(lambda each: each.tolist() if isinstance(each, Array) else each, obj)
        host = np.array(numbers, dtype and name_of(dtype))
        name_of(host.dtype)  # one of the standard's
        result = Array(place, place.put(host))
    elif place is not array.place:
        result = asarray(space, array.host, dtype=dtype, device=device)
    else:
        own = name_of(array.dtype)
        is_converted = _kind(dtype, own) != own
        if not copy and not is_converted:
            return array
        with place.scope():
            data = place.convert(array.data, name_of(dtype)) if is_converted else place.copy(array.data)
        result = Array(place, data)
    if copy is False:
        raise ValueError("asarray: copy=False, but lists, another dtype and another device take a copy")
    return result


def astype(space: Any, x: Array, dtype: DType, /, *, copy: bool = True, device: Any = None) -> Array:
    """Convert: floats that an integer dtype cannot hold to the nearest that it can, NaN to 0."""
    x = x if device is None else x.to_device(device)
    return asarray(space, x, dtype=dtype, copy=copy or None)


def from_dlpack(space: Any, x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """Return an array of any library that shares its memory by DLPack, as one of the namespace."""
    if isinstance(x, Array):
        return asarray(space, x, device=device, copy=copy)
    return asarray(space, space.place(device).backend.standard.from_dlpack(x), device=device, copy=copy)


def _put(space: Any, host: Any, device: Any, kind: str | None = None) -> Array:
    place = space.place(device)
    return Array(place, place.put(host, kind))


def _kind(dtype: Any, default: str = "float64") -> str:
    return default if dtype is None else name_of(dtype)


def _make(name: str, space: Any, *args: Any, dtype: Any = None, device: Any = None, **more: Any) -> Array:
    """Call a creation function of NumPy."""
    return _put(space, getattr(np, name)(*args, dtype=_kind(dtype), **more), device)


def _make_like(name: str, space: Any, x: Array, /, *args: Any, **options: Any) -> Any:
    """Call a creation function with the shape, the dtype and the device of an array."""
    given = {key: value for key, value in options.items() if value is not None}
    return getattr(space, name)(x.shape, *args, **{"dtype": x.dtype, "device": x.device, **given})


def full(space: Any, shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array of one number, by default of its dtype."""
    value = as_operand("full", fill_value)
    if isinstance(value, Array):
        dtype = dtype or value.dtype
        value = value.item()
    return _make("full", space, shape, value, dtype=dtype or type(value), device=device)


def arange(
    space: Any, start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Array:
    """Return start + k step below stop, each by one product and one sum."""
    given = (0, start, step) if stop is None else (start, stop, step)
    limits = [each.item() if isinstance(each, (Array, np.generic)) else each for each in given]
    start, stop, step = limits
    count = max(math.ceil((stop - start) / step), 0)
    kind = _kind(dtype, promote(*map(type, limits)))
    steps = np.arange(count, dtype="float64" if kind in FLOATING else "int64")
    return _put(space, start + steps * step if count else [], device, kind)


def linspace(
    space: Any, a: Any, b: Any, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Array:
    """Return a + k (b - a)/steps: one product, one quotient, one sum; the last is b."""
    kind = _kind(dtype)
    first = float(a)
    last = float(b)
    steps = np.full(num, float(max(num - 1 if endpoint else num, 1)))
    with np.errstate(all="ignore"):
        points = first + np.arange(num, dtype="float64") * (last - first) / steps
    if endpoint and num > 1:
        points[-1] = last
    return _put(space, np.floor(points) if kind in INTEGRAL else points, device, kind)


OWN: Functions = {
    **{each.__name__: each for each in (asarray, astype, from_dlpack, full, arange, linspace)},
    **{name: partial(_make, name) for name in ("zeros", "ones", "empty", "eye")},
    **{f"{name}_like": partial(_make_like, name) for name in ("zeros", "ones", "empty", "full")},
}
"""Functions that take the namespace first."""
