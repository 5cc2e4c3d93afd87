"""``assert_parity``: one function, every array library, the same result."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Function
from xpnet.backends.base import Backend
from xpnet.backends.resolve import make
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import devices
from xpnet.parity.distance import Tolerance, find_difference, parse_tolerance
from xpnet.parity.session import current_session

Argument: TypeAlias = NDArray[Any] | complex | str | tuple[Any, ...] | None
"""An array, or a plain value: a number, text, None or a tuple of them."""

Arguments: TypeAlias = Mapping[int | str, Argument]
"""The arguments of a call by position or keyword."""


def assert_parity(
    function: Callable[..., object],
    *arrays: Argument,
    reference: Callable[..., object] | None = None,
    tier: Literal["bitwise"] | None = None,
    ulp: int | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    norm: float | None = None,
    backends: Sequence[str] | None = None,
    check_dtype: bool = True,
    check_shape: bool = True,
    check_device: bool = True,
    jit: bool = False,
    jax_x64: bool = True,
    **keywords: Argument,
) -> None:
    """Assert that a function gives the same result with every array library as with NumPy.

    Parameters
    ----------
    function
        Takes arrays of one library and returns an array, or tuples, lists and dicts of arrays. A
        parameter ``xp``, if it has one, receives the array namespace.
    arrays, keywords
        The function's arguments: NumPy arrays, of which each library gets a copy on its device, and numbers,
        text, booleans, None and tuples of these, which are passed as they are. ``functools.partial`` binds
        everything else, and keywords that `assert_parity` has itself, such as ``partial(function, norm=2)``.
    reference
        The original of which `function` is a port; it takes NumPy arrays, and may return Python's numbers.
        Then `function` is called with NumPy, too. Default: `function` itself, with NumPy.
    tier, ulp, rtol, norm
        The tolerance, exactly one of: ``tier="bitwise"``, the same bits; ``ulp=n``, at most n
        floating-point numbers apart; ``rtol=r``, at most ``atol + r |NumPy's|`` apart; ``norm=r``, at most r
        times the largest finite magnitude in NumPy's array. NaN equals NaN; +0 and -0 differ only in the
        tier bitwise; integers and booleans must be equal in every tier.
    backends
        Names such as ``"torch"``, ``"torch:cuda"`` or ``"array-api-strict"`` (see
        ``xpnet.parity.devices.parse``). Default: the backend of the test, if it has the fixture
        ``xp_backend`` or the marker ``xp_parity``; those of pytest's option ``--xp-backends``; else every
        usable library and device, and those that the environment variable XPNET_REQUIRE_BACKENDS names.
    check_dtype, check_shape, check_device
        If False, dtypes may differ (values are compared in the dtype that holds both), shapes may
        (sizes may not), or results may be on another device of the library.
    jit
        Run it with JAX under ``jax.jit``, too. Plain arguments are static.
    jax_x64
        If False, JAX computes in 32 bits, as it does by default: arrays of float64 become float32, of int64
        int32. NumPy computes as before, and its result is converted in the same way to be compared, unless
        32 bits cannot hold it.

    Raises
    ------
    AssertionError
        Library, device, dtype, shape or values differ from NumPy's, the function raises an error with a
        library, which is then the cause, or it changes an argument in place. The message has a line for each
        problem, which names library, output, first index, both values and their distance in ulp.
    ConfigError
        Not exactly one tier, no list of names in `backends`, or one that does not exist.
    BackendError
        A named backend cannot run here; or none is named, and only NumPy is usable.
    TypeError
        An argument is neither a NumPy array nor a plain value.
    """
    __tracebackhide__ = True
    tolerance = parse_tolerance(tier, ulp, rtol, atol, norm)
    tolerance = tolerance._replace(dtype=check_dtype, shape=check_shape, device=check_device)
    arguments: Arguments = dict(enumerate(arrays)) | keywords
    _check_arguments(arguments)
    targets = _find_targets(backends, has_reference=reference is not None)
    runs = [(target.where, make(*target), False) for target in targets]  # raises before the first call
    runs += [(where, backend, True) for where, backend, _ in runs if jit and backend.name == "jax"]
    whose = "NumPy" if reference is None else "the reference"
    expected, problems = _compute_expected(whose, reference or function, arguments)
    errors: list[Exception] = []
    current_session().took_part |= {*map(str, targets if reference else [devices.NUMPY, *targets])}
    for where, backend, is_compiled in runs:
        narrow = backend.name == "jax" and not jax_x64
        how = where + ", 32 bits" * narrow + ", jax.jit" * is_compiled
        with _scope(backend, narrow=narrow):
            wanted = {path: _narrow(backend, expected[path]) for path in expected} if narrow else expected
            try:
                outputs, differences = _call(backend, function, arguments, narrow=narrow, jit=is_compiled)
                differences += _find_problems(backend, outputs, wanted, tolerance, whose)
            except Exception as error:  # noqa: BLE001  each library raises its own errors
                error.add_note(f"raised with {how}")
                errors.append(error)
                lines = filter(None, map(str.strip, str(error).splitlines()))
                differences = [f"{type(error).__name__}: {next(lines, 'no message')}"]
        problems += [f"{how}: {problem}" for problem in differences]
    if problems:
        cause = ExceptionGroup("raised by the function", errors) if len(errors) > 1 else None
        raise AssertionError("\n".join(dict.fromkeys(problems))) from cause or (*errors, None)[0]


def _check_arguments(arguments: Arguments) -> None:
    """Raise TypeError for an argument that is neither a NumPy array nor a plain value."""
    for name, value in arguments.items():
        if not isinstance(value, np.ndarray) and not _is_plain(value):
            known = "a NumPy array, a number, text, None, or a tuple without arrays"
            remedy = "functools.partial binds everything else"
            raise TypeError(f"argument {name} is a {type(value).__name__}: expected {known} ({remedy})")


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float | complex | str | np.generic)


def _is_number(value: object) -> bool:
    return type(value) in (bool, int, float, complex)  # no scalar of NumPy, which has a dtype


def _find_targets(names: Sequence[str] | None, *, has_reference: bool) -> list[devices.BackendDevice]:
    """Return the named backends, else those that the pytest session selects, else the usable and required.

    Without a reference NumPy is not among the last: it would be compared with itself.
    """
    if names is not None:
        if isinstance(names, str) or not names:
            raise ConfigError(f"backends: expected a list of names such as ['torch', 'jax'], got {names!r}")
        return [devices.parse(name) for name in names]
    session = current_session()
    if session.of_test is not None:
        return [session.of_test]
    if session.selected is not None:
        return session.selected
    probes = devices.probe_all()
    session.absent |= {str(target): str(probe.reason) for target, probe in probes if not probe.usable}
    usable = [target for target, probe in probes if probe.usable]
    targets = dict.fromkeys([*usable, *devices.find_required()])
    if not has_reference:
        targets.pop(devices.NUMPY, None)
    if not targets:
        msg = "there is no array library but NumPy to compare with: pip install array-api-strict"
        raise BackendError(msg)
    return list(targets)


def _compute_expected(
    whose: str, function: Function, arguments: Arguments
) -> tuple[dict[str, Any], list[str]]:
    """Return the outputs with NumPy by path, arrays and Python's numbers, and a line for each problem.

    Raises
    ------
    AssertionError
        There are none, or one is another object.
    """
    __tracebackhide__ = True
    backend, where = make(*devices.NUMPY), devices.NUMPY.where if whose == "NumPy" else whose
    try:
        with _scope(backend):
            outputs, problems = _call(backend, function, arguments)
    except Exception as error:
        error.add_note(f"raised with {where}")
        raise
    others = [path for path, value in outputs.items() if not (backend.owns(value) or _is_number(value))]
    wrong = [_not_an_array(path, outputs[path], backend) for path in others]
    if not outputs:
        wrong = ["the function returns no array"]
    problems = [f"{where}: {problem}" for problem in problems + wrong]
    if wrong:
        raise AssertionError("\n".join(problems))
    expected = {path: value if _is_number(value) else np.asarray(value) for path, value in outputs.items()}
    return expected, problems


def _find_problems(
    backend: Backend, outputs: dict[str, Any], expected: dict[str, Any], tolerance: Tolerance, whose: str
) -> Iterator[str]:
    """Describe each output that differs from the expected one."""
    if outputs.keys() != expected.keys():
        yield f"returns {', '.join(outputs) or 'no array'}, {whose} {', '.join(expected)}"
        return
    for path, reference in expected.items():
        value, is_array = outputs[path], backend.owns(outputs[path])
        if not is_array and not (_is_number(value) and _is_number(reference)):
            yield _not_an_array(path, value, backend)
        elif is_array and tolerance.device and value.device != backend.device:
            yield f"{path} is on device {value.device}, not {backend.device}"
        else:
            host = backend.to_host(value) if is_array else np.asarray(value)
            allowed = tolerance._replace(dtype=False) if _is_number(reference) else tolerance
            problem = find_difference(host, np.asarray(reference), allowed, whose)
            if problem is not None:
                yield f"{path} {problem}"


def _not_an_array(path: str, value: object, backend: Backend) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return f"{path} is a {kind}, not an array of {backend.name}"


@contextmanager
def _scope(backend: Backend, *, narrow: bool = False) -> Iterator[None]:
    """Compute with a library, with JAX in 32 bits, if ``narrow``."""
    with (
        backend.scope(),
        backend.library.enable_x64(new_val=False) if narrow else nullcontext(),
        np.errstate(all="ignore"),  # array-api-strict computes with NumPy, too
    ):
        yield


def _narrow(backend: Backend, value: Any) -> Any:
    """Convert an array to the dtype that JAX gives it in 32 bits, if that holds its values."""
    narrowed = value if _is_number(value) else backend.to_host(backend.to_user(value))
    is_held = np.isclose(narrowed, value, rtol=1e-6, atol=1e-37, equal_nan=True)
    return narrowed if np.all(is_held) else value


def _call(
    backend: Backend, function: Function, arguments: Arguments, *, narrow: bool = False, jit: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Call a function with copies of the arrays on the device.

    Return its outputs by path, and a line for each argument that it changed.
    """
    __tracebackhide__ = True
    put = backend.to_user if narrow else backend.from_host
    arrays = {name: put(value.copy()) for name, value in arguments.items() if isinstance(value, np.ndarray)}
    before = {name: backend.to_host(array).tobytes() for name, array in arrays.items()}
    namespace = {"xp": backend.xp} if _accepts_xp(function, arguments) else {}

    def apply(values: Iterable[Any]) -> dict[str, object]:
        __tracebackhide__ = True
        positional, keywords = _split({**arguments, **dict(zip(arrays, values, strict=True))})
        return dict(_named_outputs(function(*positional, **keywords, **namespace)))

    outputs = (backend.library.jit(apply) if jit else apply)(list(arrays.values()))
    changed = [name for name in arrays if backend.to_host(arrays[name]).tobytes() != before[name]]
    return outputs, [f"argument {name} is changed in place: compute a new array instead" for name in changed]


def _split(arguments: Arguments) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments by position, and those by keyword."""
    positional = [value for name, value in arguments.items() if isinstance(name, int)]
    return positional, {name: value for name, value in arguments.items() if isinstance(name, str)}


def _accepts_xp(function: Function, arguments: Arguments) -> bool:
    """Tell whether the function has a parameter ``xp`` besides those for the arguments."""
    positional, keywords = _split(arguments)
    try:
        signature = inspect.signature(function)
        signature.bind_partial(*positional, **keywords, xp=None)
    except (TypeError, ValueError):  # ValueError: a C function without a signature
        return False
    return "xp" in signature.parameters


def _named_outputs(result: object, path: str = "result") -> Iterator[tuple[str, object]]:
    """Yield each array in nested tuples, lists and dicts with its path, such as result["loss"][1]."""
    if not isinstance(result, dict | tuple | list):
        yield path, result
        return
    for key, value in result.items() if isinstance(result, dict) else enumerate(result):
        key_text = json.dumps(key) if isinstance(key, str) else repr(key)
        yield from _named_outputs(value, f"{path}[{key_text}]")
