"""``assert_parity``: one function, every array library, the same result."""

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import HostArray
from xpnet.backends.resolve import make
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import devices
from xpnet.parity.distance import first_mismatch, format_count, ulp_distance, unequal_bits

Exceeds: TypeAlias = Callable[[HostArray, HostArray], NDArray[np.bool_] | np.bool_]


def assert_parity(
    function: Callable[..., object],
    *arrays: HostArray,
    tier: Literal["bitwise"] | None = None,
    ulp: int | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    backends: Sequence[str] | None = None,
) -> None:
    """Assert that a function gives the same result with every array library as with NumPy.

    Parameters
    ----------
    function
        Takes arrays of one library and returns an array, or tuples, lists and dicts of arrays. A
        parameter ``xp``, if it has one, receives the array namespace.
    arrays
        NumPy arrays; each library gets a copy on its device.
    tier, ulp, rtol
        The tolerance, exactly one of: ``tier="bitwise"``, the same bits; ``ulp=n``, at most n
        floating-point numbers apart; ``rtol=r``, at most ``atol + r |NumPy's|`` apart. NaN equals NaN;
        +0 and -0 differ only in the tier bitwise; integers and booleans must be equal in every tier.
    backends
        Names such as ``"torch"``, ``"torch:cuda"`` or ``"array-api-strict"`` (see
        ``xpnet.parity.devices.parse``). Default: every usable library and device.

    Raises
    ------
    AssertionError
        Library, device, dtype, shape or values differ from NumPy's. The message, one line, names the
        output, the first index, both values and their distance in ulp.
    ConfigError
        Not exactly one tier, or a name that does not exist.
    BackendError
        A named backend cannot run here; or none is named, and only NumPy is usable.
    TypeError
        An argument is not a NumPy array.
    """
    tolerance = _parse_tolerance(tier, ulp, rtol, atol)
    for position, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            msg = (
                f"argument {position} is a {type(array).__name__}: expected a NumPy array "
                "(functools.partial binds everything else)"
            )
            raise TypeError(msg)
    targets = _find_targets() if backends is None else [devices.parse(name) for name in backends]
    expected = _call_on(devices.NUMPY, function, arrays)
    for target in targets:
        outputs = _call_on(target, function, arrays)
        names = f"{target.where} returns {', '.join(outputs)}, NumPy {', '.join(expected)}"
        _require(outputs.keys() == expected.keys(), names)
        for path, array in expected.items():
            problem = _find_difference(outputs[path], array, *tolerance)
            _require(problem is None, f"{target.where}: {path} {problem}")


def _require(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise AssertionError(message)


def _find_targets() -> list[devices.BackendDevice]:
    probes = devices.probe_all()
    targets = [target for target, probe in probes if probe.usable and target != devices.NUMPY]
    if not targets:
        msg = "there is no array library but NumPy to compare with: pip install array-api-strict"
        raise BackendError(msg)
    return targets


def _parse_tolerance(
    tier: str | None, ulp: int | None, rtol: float | None, atol: float
) -> tuple[str, Exceeds]:
    """Return a description of the tolerance, and the elementwise test of whether values exceed it.

    Raises
    ------
    ConfigError
        There is not exactly one tier, or a tolerance is negative.
    """
    tiers = [value for value in (tier, ulp, rtol) if value is not None]
    is_negative = any(not value >= 0 for value in (ulp or 0, rtol or 0, atol))
    if len(tiers) != 1 or tier not in (None, "bitwise") or (atol and rtol is None) or is_negative:
        msg = (
            'expected exactly one of tier="bitwise", ulp=n and rtol=r (which alone takes atol), 0 or more, '
            f"got tier={tier!r}, ulp={ulp!r}, rtol={rtol!r}, atol={atol!r}"
        )
        raise ConfigError(msg)
    if ulp is not None:
        return f"at most {ulp} ulp", lambda actual, expected: ulp_distance(actual, expected) > ulp
    if rtol is not None:
        close = partial(np.isclose, rtol=rtol, atol=atol, equal_nan=True)
        text = f"rtol {rtol:g}" + (f", atol {atol:g}" if atol else "")
        return text, lambda actual, expected: ~close(actual, expected)
    return "the same bits", unequal_bits


def _call_on(
    target: devices.BackendDevice, function: Callable[..., object], arrays: Sequence[HostArray]
) -> dict[str, HostArray]:
    """Return the outputs by path, on the host, after checking that they are the backend's on its device.

    Raises
    ------
    AssertionError
        There are no outputs, or one is another kind of object or on another device.
    """
    backend, where = make(*target), target.where
    with backend.scope(), np.errstate(all="ignore"):  # array-api-strict computes with NumPy, too
        copies = [backend.from_host(array.copy()) for array in arrays]
        keywords = {"xp": backend.xp} if _accepts_xp(function, arrays) else {}
        try:
            outputs: dict[str, Any] = dict(_named_outputs(function(*copies, **keywords)))
        except Exception as error:
            error.add_note(f"raised with {where}")
            raise
        _require(bool(outputs), f"{where}: the function returns no array")
        for path, array in outputs.items():
            kind = f"{type(array).__module__}.{type(array).__qualname__}"
            _require(backend.owns(array), f"{where}: {path} is a {kind}, not an array of {backend.name}")
            on_device = f"{path} is on device {array.device}, not {backend.device}"
            _require(array.device == backend.device, f"{where}: {on_device}")
        return {path: backend.to_host(array) for path, array in outputs.items()}


def _accepts_xp(function: Callable[..., object], arrays: Sequence[HostArray]) -> bool:
    """Tell whether the function has a parameter ``xp`` besides those for the arrays."""
    try:
        signature = inspect.signature(function)
        signature.bind_partial(*arrays, xp=None)
    except (TypeError, ValueError):  # ValueError: a C function without a signature
        return False
    return "xp" in signature.parameters


def _named_outputs(result: object, path: str = "result") -> Iterator[tuple[str, object]]:
    """Yield each array in nested tuples, lists and dicts with its path, such as result["loss"][1]."""
    if isinstance(result, dict):
        for key, value in result.items():
            key_text = json.dumps(key) if isinstance(key, str) else repr(key)
            yield from _named_outputs(value, f"{path}[{key_text}]")
    elif isinstance(result, tuple | list):
        for index, value in enumerate(result):
            yield from _named_outputs(value, f"{path}[{index}]")
    else:
        yield path, result


def _find_difference(a: HostArray, b: HostArray, tolerance: str, exceeds: Exceeds) -> str | None:
    """Describe how an output differs from NumPy's, ``b``; None if it is within the tolerance."""
    if a.dtype != b.dtype:
        return f"has dtype {a.dtype}, NumPy's {b.dtype}"
    if a.shape != b.shape:
        return f"has shape {a.shape}, NumPy's {b.shape}"
    inexact = np.issubdtype(b.dtype, np.inexact)
    unequal = np.asarray(exceeds(a, b) if inexact else unequal_bits(a, b))
    mismatch = first_mismatch(unequal, a, b)
    if mismatch is None:
        return None
    largest = f", at most {format_count(float(np.max(ulp_distance(a, b))))} ulp" if inexact else ""
    return (
        f"differs first at {mismatch.index}: {mismatch.left} where NumPy has {mismatch.right} "
        f"({mismatch.distance}); {np.count_nonzero(unequal)} of {unequal.size} values{largest}; "
        f"expected {tolerance}"
    )
