"""The library, the device and the dtype of arrays, and the arithmetic there.

Dtypes are known by their names, and promoted as NumPy does on every library.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from xpnet._lib.kinds import matches
from xpnet._typing import Array, DType, Namespace
from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.selfcheck import check
from xpnet.backends.base import Backend, check_environment
from xpnet.backends.probing import is_gpu, one_line
from xpnet.backends.resolve import backend_of, make
from xpnet.errors import BackendError, ConfigError, DataError

MOST_NUMBERS = 2**48
"""The number of elements that no array has."""
HOSTED = {"jax"}
"""Libraries that compile each operation for each shape: on the CPU, NumPy computes in their place."""

INTEGRAL = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATING = ("float32", "float64")
DTYPES = ("bool", *INTEGRAL, *FLOATING)

Scalar = bool | int | float
DEFAULTS = {bool: "bool", int: "int64", float: "float64"}


def name_of(dtype: DType) -> str:
    """Return the name of a dtype of any library, such as ``float64``.

    Raises
    ------
    TypeError
        It is none of the standard's, or complex.
    """
    return _find_name(type(dtype).__module__, dtype)


@cache
def _find_name(library: str, dtype: DType) -> str:  # noqa: ARG001  those of different libraries do not compare
    default = DEFAULTS.get(dtype) if isinstance(dtype, type) else None
    name = str(default or getattr(dtype, "__name__", str(dtype).rpartition(".")[2]))
    name = name.rstrip("_")
    if name not in DTYPES:
        remedy = "take real and imaginary parts of complex numbers"
        raise TypeError(f"{dtype}: expected one of {', '.join(DTYPES)}: {remedy}")
    return name


def kind_of(x: Any) -> Any:
    """Return the name of a dtype, or of a number the type, by which a result's dtype is found."""
    return type(x) if type(x) in DEFAULTS else name_of(x)


@cache
def promote(*kinds: Any) -> str:
    """Return the dtype of a result of arrays and of Python's numbers, by the `kind_of` each.

    Beside an array of its kind or a higher one a number has no dtype of its own; else it is bool, int64 or
    float64.
    """
    return np.result_type(*(kind if isinstance(kind, str) else kind(0) for kind in kinds)).name


def isdtype(dtype: DType, kind: Any) -> bool:
    """Tell whether a dtype is of a kind, one of the kinds, or the same."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    named = tuple(each if isinstance(each, str) else np.dtype(name_of(each)) for each in kinds)
    return np.isdtype(np.dtype(name_of(dtype)), named)


def whole(name: str, expected: str, value: int, lowest: int = 0, below: int = MOST_NUMBERS) -> int:
    """Return a whole number of Python or NumPy as Python's.

    Raises
    ------
    ConfigError
        It is none, or not in the range.
    """
    if not (matches(value, int) and lowest <= value < below):
        raise ConfigError(f"{name}: expected {expected}, got {value!r:.60}")
    return int(value)


def to_float64(name: str, ops: FullRange, x: Any) -> Any:
    """Return an array as float64.

    Raises
    ------
    DataError
        It has other than real numbers, or of more bits.
    """
    xp = ops.xp
    is_long = getattr(x.dtype, "char", "") == "g"  # NumPy's longdouble, which would be rounded
    if is_long or not xp.isdtype(x.dtype, ("real floating", "integral", "bool")):
        raise DataError(f"{name}: expected real numbers of at most 64 bits, got an array of {x.dtype}")
    if x.dtype == ops.dtype:
        return x
    return _flush(xp, xp.astype(x, ops.dtype))  # JAX on the CPU, and CuPy, convert subnormal numbers to 0


def _flush(xp: Namespace, x: Array) -> Array:
    """Return numbers of which those below float32's smallest normal number are 0."""
    return xp.where(xp.abs(x) < 2.0**-126, x * 0.0, x)


def place(name: str, arrays: Iterable[Any]) -> tuple[str, str]:
    """Return the names of the library and the device that all arrays share."""
    places = {place_of_array(name, x) for x in arrays}
    if len(places) > 1:
        both = " and ".join(sorted(f"{library} on {device}" for library, device in places))
        raise DataError(f"{name}: expected arrays of one library on one device, got {both}")
    return places.pop() if places else ("numpy", "cpu")


def place_of_array(name: str, x: Any) -> tuple[str, str]:
    """Return the names of the library and the device of an array."""
    if isinstance(x, np.ndarray | np.generic) and not isinstance(x, np.matrix | np.ma.MaskedArray):
        return "numpy", "cpu"
    backend = backend_of(x)
    if backend is None:
        kinds = "NumPy, CuPy, PyTorch, JAX, dpnp or array-api-strict"
        hint = " (not inside jax.jit)" if "Tracer" in type(x).__name__ else ""
        raise DataError(f"{name}: expected an array of {kinds}, with values, got a {type(x).__name__}{hint}")
    place = backend.name, backend.device_name
    if backend.device != arithmetic(*place)[0].device:
        expected = f"expected an array of the default queue of {backend.name} on {backend.device_name}"
        raise DataError(f"{name}: {expected}, got one of another queue: x.to_device moves it")
    return place


@cache
def arithmetic(name: str, device: str) -> tuple[Backend, FullRange]:
    """Return the arithmetic on a device, after a check that it computes as IEEE 754 says."""
    check_environment()
    backend, where = make(name, device), f"{name} on {device}"
    if not backend.has_float64:
        msg = f"{where} has no float64, which xpnet.reproducible needs: move the arrays to another device"
        raise BackendError(msg)
    xp = backend.xp
    in_pieces, to_host = backend.parallel_blocks, backend.to_host
    ops = FullRange(xp, backend.device, xp.float64, in_pieces=in_pieces, to_host=to_host)
    try:
        with backend.scope():
            check(ops, where)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"{where} does not compute in float64: {one_line(error)}") from error
    return backend, ops


class Place:
    """A device of a library whose arrays `xpnet.reproducible.Array` holds, and the library that computes.

    Attributes
    ----------
    space
        The namespace of the library.
    backend
        The library and its device.
    computing
        The library that computes, whose arrays are called data: another one for the `HOSTED` libraries.
    ops
        The arithmetic for data.
    xp
        The standard's functions of data.
    scope
        Returns the context of one operation of `xp`.
    fetch
        Returns data as a NumPy array, which may share its memory.
    is_functional
        True if the elements of data cannot be assigned to.
    """

    def __init__(self, space: Any, name: str, device_name: str) -> None:
        self.space, self.name = space, f"{name} on {device_name}"
        self.backend, self.is_hosted = make(name, device_name), name in HOSTED and not is_gpu(device_name)
        self.computing, self.ops = arithmetic(*(("numpy", "cpu") if self.is_hosted else (name, device_name)))
        self.xp, self.scope = self.computing.standard, self.computing.operation_scope
        self.fetch = self.computing.to_host
        self.is_functional = hasattr(self.put(0.0), "at")

    def check(self, name: str, other: "Place") -> None:
        """Check that an operand is of this place.

        Raises
        ------
        TypeError
            It is of another library or device.
        """
        if other is not self:
            both = f"{self.name} and {other.name}"
            raise TypeError(f"{name}: expected arrays of one library on one device, got {both}")

    def put(self, values: Any, dtype: str | None = None) -> Array:
        """Return host values, perhaps in another dtype, as data, which may share their memory."""
        return self.computing.from_host(np.asarray(values, dtype))

    def copy(self, data: Array) -> Array:
        """Return a copy of data."""
        return self.xp.asarray(data, copy=True)

    def convert(self, data: Array, dtype: str) -> Array:
        """Return data in a dtype: for floats beyond an integer dtype its nearest number, for NaN 0."""
        own, xp = name_of(data.dtype), self.xp
        if own == dtype:
            return data
        if own in FLOATING and dtype not in (*FLOATING, "bool"):
            low, largest = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
            high = min(largest, float(np.nextafter(largest + 1.0, 0.0, dtype=own)))
            data = xp.clip(xp.where(data == data, data, xp.zeros_like(data)), low, high)  # noqa: PLR0124  NaN
        return xp.astype(data, getattr(xp, dtype))

    def widen(self, data: Array) -> Array:
        """Return data as float64, in which subnormal float32 numbers count as 0."""
        wide = self.convert(data, "float64")
        return _flush(self.xp, wide) if name_of(data.dtype) == "float32" else wide

    def narrow(self, data: Array, dtype: str) -> Array:
        """Return results of float64 in a dtype of floats, in which none are subnormal, else unchanged."""
        result = self.convert(data, dtype) if dtype in FLOATING else data
        return _flush(self.xp, result) if dtype == "float32" else result

    def to_library(self, data: Array) -> Array:
        """Return data as an array of the library."""
        return self.backend.from_host(np.array(data)) if self.is_hosted else data
