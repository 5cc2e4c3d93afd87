"""The library and device of arrays, and the arithmetic there."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from xpnet.arithmetic.full_range import FullRange
from xpnet.arithmetic.selfcheck import check
from xpnet.backends.base import Backend, check_environment
from xpnet.backends.probing import one_line
from xpnet.backends.resolve import backend_of, make
from xpnet.errors import BackendError, DataError


@contextmanager
def in_float64(name: str, *arrays: Any) -> Iterator[tuple[Any, ...]]:
    """Give the body the arithmetic on the device of arrays, and the arrays as float64."""
    backend, ops = arithmetic(*place(name, arrays))
    with backend.scope():
        yield ops, *(_to_float64(name, ops, x) for x in arrays)


def _to_float64(name: str, ops: FullRange, x: Any) -> Any:
    xp = ops.xp
    is_long = getattr(x.dtype, "char", "") == "g"  # NumPy's longdouble, which would be rounded
    if is_long or not xp.isdtype(x.dtype, ("real floating", "integral", "bool")):
        raise DataError.at(name, f"expected real numbers of at most 64 bits, got an array of {x.dtype}")
    if x.dtype == ops.dtype:
        return x
    converted = xp.astype(x, ops.dtype)
    # JAX on the CPU, and CuPy, convert subnormal float32 numbers to 0.
    return xp.where(xp.abs(converted) < 2.0**-126, converted * 0.0, converted)


def place(name: str, arrays: Iterable[Any]) -> tuple[str, str]:
    """Return the names of the library and the device that all arrays share."""
    places = {_place_of(name, x) for x in arrays}
    if len(places) > 1:
        both = " and ".join(sorted(f"{library} on {device}" for library, device in places))
        raise DataError.at(name, f"expected arrays of one library on one device, got {both}")
    return places.pop()


def _place_of(name: str, x: Any) -> tuple[str, str]:
    if isinstance(x, np.ndarray | np.generic) and not isinstance(x, np.matrix | np.ma.MaskedArray):
        return "numpy", "cpu"
    backend = backend_of(x)
    if backend is None:
        kinds = "NumPy, CuPy, PyTorch, JAX, dpnp or array-api-strict"
        hint = " (not inside jax.jit)" if "Tracer" in type(x).__name__ else ""
        raise DataError.at(name, f"expected an array of {kinds}, with values, got a {type(x).__name__}{hint}")
    place = backend.name, backend.device_name
    if backend.device != arithmetic(*place)[0].device:
        expected = f"expected an array of the default queue of {backend.name} on {backend.device_name}"
        raise DataError.at(name, f"{expected}, got one of another queue: x.to_device moves it")
    return place


@cache
def arithmetic(name: str, device: str) -> tuple[Backend, FullRange]:
    """Return the arithmetic on a device, after a check that it computes as IEEE 754 says."""
    check_environment()
    backend, where = make(name, device), f"{name} on {device}"
    if not backend.has_float64:
        msg = f"{where} has no float64, which xpnet.reproducible needs: move the arrays to another device"
        raise BackendError(msg)
    # In pieces where it takes no time to start an operation.
    ops = FullRange(backend.xp, backend.device, backend.xp.float64, in_pieces=backend.parallel_blocks)
    try:
        with backend.scope():
            check(ops, where)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"{where} does not compute in float64: {one_line(error)}") from error
    return backend, ops
