"""``assert_parity``: one function, every array library, the same result."""

from __future__ import annotations

import inspect
import json
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xpnet.backends.base import NamespaceMismatchError, check_namespace
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import devices
from xpnet.parity.distance import first_mismatch, format_count, ulp_distance, unequal_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from xpnet.backends.base import Backend
    from xpnet.parity.devices import BackendDevice

    Outputs = dict[str, Any]
    Tolerance = tuple[str, Callable[[NDArray[Any], NDArray[Any]], Any]]


def assert_parity(
    function: Callable[..., Any],
    *arrays: NDArray[Any],
    tier: Literal["bitwise"] | None = None,
    ulp: int | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    backends: Sequence[str] | None = None,
) -> None:
    """Assert that a function gives on every array library what it gives with NumPy.

    Parameters
    ----------
    function
        Takes arrays of one library and returns an array, or tuples, lists and dicts of arrays. If it
        has a parameter ``xp``, it is given the array namespace.
    arrays
        NumPy arrays; each library gets a copy on its device.
    tier, ulp, rtol
        How near is near enough, exactly one of: ``tier="bitwise"``, the same bits; ``ulp=n``, at most
        n floating-point numbers apart; ``rtol=r``, at most ``atol + r |NumPy's|`` apart. NaN equals
        NaN; +0 and -0 differ in the tier bitwise alone; integers and truth values must be equal in
        every tier.
    backends
        Names such as ``"torch"``, ``"torch:cuda"`` or ``"array-api-strict"`` (see
        ``xpnet.parity.devices.parse``). Default: every library and device that works here.

    Raises
    ------
    AssertionError
        Library, device, dtype, shape or values are not those of NumPy: in one line, which output,
        the first index, both values and their distance in ulp.
    ConfigError
        Not exactly one tier, or a name that does not exist.
    BackendError
        A backend that was named cannot run here; or none was, and there is none but NumPy.
    TypeError
        An argument is not a NumPy array.
    """
    tolerance = _tolerance(tier, ulp, rtol, atol)
    for position, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            msg = (
                f"argument {position} is a {type(array).__name__}: expected a NumPy array "
                "(functools.partial binds everything else)"
            )
            raise TypeError(msg)
    tested = _usable() if backends is None else [devices.parse(name) for name in backends]
    numpy = devices.NUMPY.make()
    expected = _outputs_on(numpy, _call(numpy, function, arrays))
    for place in tested:
        backend = place.make()
        with backend.scope():
            _compare(backend, _outputs_on(backend, _call(backend, function, arrays)), expected, tolerance)


@cache
def _usable() -> list[BackendDevice]:
    tested = [place for place in devices.usable() if place != devices.NUMPY]
    if not tested:
        msg = "there is no array library but NumPy to compare with: pip install array-api-strict"
        raise BackendError(msg)
    return tested


def _tolerance(tier: str | None, ulp: int | None, rtol: float | None, atol: float) -> Tolerance:
    """Return the tier in words, and the function that tells elementwise which values are too far apart."""
    tiers = [value for value in (tier, ulp, rtol) if value is not None]
    if len(tiers) != 1 or tier not in (None, "bitwise") or (atol and rtol is None):
        msg = (
            'expected exactly one of tier="bitwise", ulp=n and rtol=r (which alone takes atol), '
            f"got tier={tier!r}, ulp={ulp!r}, rtol={rtol!r}, atol={atol!r}"
        )
        raise ConfigError(msg)
    if any(not value >= 0 for value in (ulp or 0, rtol or 0, atol)):
        msg = f"expected a tolerance of 0 or more, got ulp={ulp!r}, rtol={rtol!r}, atol={atol!r}"
        raise ConfigError(msg)
    if ulp is not None:
        return f"at most {ulp} ulp", lambda actual, expected: ulp_distance(actual, expected) > ulp
    if rtol is not None:
        close = partial(np.isclose, rtol=rtol, atol=atol, equal_nan=True)
        text = f"rtol {rtol:g}" + (f", atol {atol:g}" if atol else "")
        return text, lambda actual, expected: ~close(actual, expected)
    return "the same bits", unequal_bits


def _call(backend: Backend, function: Callable[..., Any], arrays: Sequence[NDArray[Any]]) -> Any:
    with backend.scope(), np.errstate(all="ignore"):  # array-api-strict too computes with NumPy
        copies = [backend.from_host(array.copy()) for array in arrays]
        keywords = {"xp": backend.xp} if _wants_xp(function, arrays) else {}
        try:
            return function(*copies, **keywords)
        except Exception as error:
            error.add_note(f"raised with {backend.name} on {backend.device_name}")
            raise


def _wants_xp(function: Callable[..., Any], arrays: Sequence[NDArray[Any]]) -> bool:
    """Return whether the function has a parameter ``xp`` that can be given beside the arrays."""
    try:
        signature = inspect.signature(function)
        signature.bind_partial(*arrays, xp=None)
    except (TypeError, ValueError):  # ValueError: a function written in C tells no signature
        return False
    return "xp" in signature.parameters


def _outputs(result: Any, path: str = "result") -> Iterator[tuple[str, Any]]:
    """Yield each array in nested tuples, lists and dicts with its path, such as result["loss"][1]."""
    if isinstance(result, dict):
        for key, value in result.items():
            shown = json.dumps(key) if isinstance(key, str) else repr(key)
            yield from _outputs(value, f"{path}[{shown}]")
    elif isinstance(result, tuple | list):
        for index, value in enumerate(result):
            yield from _outputs(value, f"{path}[{index}]")
    else:
        yield path, result


def _compare(backend: Backend, outputs: Outputs, expected: Outputs, tolerance: Tolerance) -> None:
    text, too_far = tolerance
    where = f"{backend.name} on {backend.device_name}"
    if outputs.keys() != expected.keys():
        msg = f"{where} returns {', '.join(outputs)}, NumPy {', '.join(expected)}"
        raise AssertionError(msg)
    for path, b in expected.items():
        a = backend.to_host(outputs[path])
        for name in ("dtype", "shape"):
            if getattr(a, name) != getattr(b, name):
                msg = f"{where}: {path} has {name} {getattr(a, name)}, NumPy's {getattr(b, name)}"
                raise AssertionError(msg)
        inexact = np.issubdtype(b.dtype, np.inexact)
        wrong = np.asarray(too_far(a, b) if inexact else unequal_bits(a, b))
        mismatch = first_mismatch(wrong, a, b)
        if mismatch is not None:
            msg = (
                f"{where}: {path} differs first at {mismatch.index}: {mismatch.left} where NumPy has "
                f"{mismatch.right} ({mismatch.distance}); {_extent(wrong, a, b)}; expected {text}"
            )
            raise AssertionError(msg)


def _outputs_on(backend: Backend, result: Any) -> Outputs:
    """Return the outputs by their paths: one or more, each an array of the backend on its device."""
    outputs = dict(_outputs(result))
    where = f"{backend.name} on {backend.device_name}"
    if not outputs:
        msg = f"{where}: the function returns no array"
        raise AssertionError(msg)
    for path, array in outputs.items():
        try:
            check_namespace(backend, array)
        except NamespaceMismatchError:
            kind = f"{type(array).__module__}.{type(array).__qualname__}"
            msg = f"{where}: {path} is a {kind}, not an array of {backend.name}"
            raise AssertionError(msg) from None
        if array.device != backend.device:
            msg = f"{where}: {path} is on device {array.device}, not {backend.device}"
            raise AssertionError(msg)
    return outputs


def _extent(wrong: NDArray[np.bool_], a: NDArray[Any], b: NDArray[Any]) -> str:
    """Say how many elements are wrong, and by how much at most."""
    count = f"{np.count_nonzero(wrong)} of {wrong.size} values"
    if not np.issubdtype(b.dtype, np.inexact):
        return count
    return f"{count}, at most {format_count(float(np.max(ulp_distance(a, b))))} ulp"
