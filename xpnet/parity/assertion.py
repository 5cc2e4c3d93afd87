"""``assert_parity``: one function, every array library, the same result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from xpnet._typing import Function
from xpnet.backends.base import Backend
from xpnet.backends.resolve import BACKENDS, make
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import devices
from xpnet.parity.calls import Arguments, Call, Run, call, describe_error, map_leaves, named_arguments
from xpnet.parity.distance import Tolerance, find_difference, parse_tolerance
from xpnet.parity.session import current_session

DtypeCheck: TypeAlias = bool | Literal["kind"]
Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]

META = devices.BackendDevice("torch", "meta")
"""PyTorch's device without values."""
NARROW = tuple(devices.BackendDevice(devices.STRICT, device) for device in ("no_float64", "no_x64"))
"""Devices without float64, and without any numbers of 64 bits."""


def assert_parity(
    function: Callable[..., object],
    *arrays: Any,
    reference: Callable[..., object] | None = None,
    tier: Literal["bitwise"] | None = None,
    ulp: int | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    norm: float | None = None,
    backends: Sequence[str] | None = None,
    check_dtype: DtypeCheck | Mapping[str, DtypeCheck] = True,
    check_shape: bool = True,
    check_device: bool = True,
    check_memory: bool = True,
    mutates: Sequence[int | str] = (),
    raises: type[Exception] | tuple[type[Exception], ...] | None = None,
    warnings: Literal["compare", "ignore"] = "compare",
    xfail: Mapping[str, str] | None = None,
    jit: bool = False,
    sync: bool = True,
    data_dependent_shapes: bool = False,
    float64: bool = True,
    jax_x64: bool = True,
    **keywords: Any,
) -> None:
    """Assert that a function gives the same result with every array library as with NumPy.

    Parameters
    ----------
    function
        Takes arrays of one library and returns an array, or tuples, lists, dicts and dataclasses of arrays. A
        parameter ``xp``, if it has one, receives the array namespace.
    arrays, keywords
        The function's arguments: NumPy arrays, of which each library gets a copy on its device; numbers,
        text, booleans and None, which are passed as they are; lists, tuples, dicts and dataclasses of these.
        ``functools.partial`` binds everything else, and keywords that `assert_parity` has itself, such as
        ``partial(function, norm=2)``.
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
    check_dtype
        If False, dtypes may differ (values are compared in the dtype that holds both); if ``"kind"``, only
        their width may, such as int32 and int64. A dict says so for some libraries: ``{"jax": "kind"}``.
    check_shape, check_device
        If False, shapes may differ (sizes may not), or results may be on another device of the library.
    check_memory
        If False, a result may share memory with an argument where the reference's does not, and the other way
        round. This is compared with NumPy.
    mutates
        The arguments, by position or keyword, into which the function writes by contract: what they hold
        afterwards is compared as a result is.
    raises
        The error, or a tuple of errors, that the reference raises, and so must the function with every
        library. There are no results then, and no tolerance is needed.
    warnings
        RuntimeWarnings (division, overflow, invalid values) that the function gives with NumPy, and the
        reference does not, are differences; not if ``"ignore"``.
    xfail
        The reasons why libraries fail, by name: it is a difference if they do not.
    jit
        Run it with JAX under ``jax.jit``, too. Plain arguments are static.
    sync
        If False, run it on PyTorch's device ``meta``, too, which has no values: ``float(x)``, ``if x``,
        ``np.asarray(x)`` and boolean indexing, for which a GPU's program waits, are errors there.
    data_dependent_shapes
        If True, array-api-strict allows functions whose shapes depend on values, such as ``unique_values``.
    float64
        If False, arguments are float32 in place of float64, for the reference too, and the function is also
        run on the devices of array-api-strict that have no float64, and no 64 bits.
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
        Not exactly one tier, no list of names in `backends`, or one that does not exist; or no such argument
        in `mutates`.
    BackendError
        A named backend, or one that `sync` and `float64` need, cannot run here; or none is named, and only
        NumPy is usable.
    TypeError
        An argument is neither a NumPy array nor a plain value, nor lists, tuples, dicts and dataclasses of
        these.
    """
    __tracebackhide__ = True
    named: Arguments = dict(enumerate(arrays)) | keywords
    _check_arguments(named, mutates)
    dtypes = check_dtype if isinstance(check_dtype, Mapping) else dict.fromkeys(BACKENDS, check_dtype)
    expected_failures = dict(xfail or {})
    _check_options(dtypes, warnings, expected_failures)
    tiers = (tier, ulp, rtol, atol, norm) if raises is None else ("bitwise", None, None, 0.0, None)
    tolerance = parse_tolerance(*tiers)._replace(shape=check_shape, device=check_device)
    arguments = named if float64 else map_leaves(_to_float32, named)
    whose = "NumPy" if reference is None else "the reference"
    checks = check_memory, warnings == "compare", data_dependent_shapes
    task = _Task(arguments, tuple(mutates), whose, raises, tolerance, dtypes, *checks)
    targets = _find_targets(backends, has_reference=reference is not None)
    others = [META] * (not sync and raises is None) + [*NARROW] * (not float64)
    of_test = current_session().of_test if backends is None else None
    targets = [*targets, *(each for each in others if of_test is None or of_test.backend == each.backend)]
    runs = [_make_run(target, float64=float64, jax_x64=jax_x64) for target in dict.fromkeys(targets)]
    runs += [run._replace(jit=True) for run in runs if jit and run.backend.name == "jax"]
    expected = _compute_expected(task, reference or function)
    took_part = {str(run.target) for run in runs} | ({str(devices.NUMPY)} if reference is None else set())
    current_session().took_part |= took_part
    results = [_Result(run, *_compare(task, run, function, expected)) for run in runs]
    kept, problems = _apply_xfail(results, expected_failures)
    problems = [*expected.changes, *(f"{run}: {line}" for run, lines, _ in kept for line in lines), *problems]
    if problems:
        errors = [result.error for result in kept if result.error is not None]
        cause = ExceptionGroup("raised by the function", errors) if len(errors) > 1 else None
        raise AssertionError("\n".join(dict.fromkeys(problems))) from cause or (*errors, None)[0]


class _Task(NamedTuple):
    """The arguments, and what is compared."""

    arguments: Arguments
    mutates: tuple[int | str, ...]
    whose: str  # results are compared with: NumPy or the reference
    raises: Errors | None
    tolerance: Tolerance
    dtypes: Mapping[str, DtypeCheck]  # by library
    check_memory: bool
    check_warnings: bool
    data_dependent_shapes: bool


class _Result(NamedTuple):
    run: Run
    lines: list[str]  # one for each problem
    error: Exception | None


def _check_arguments(arguments: Arguments, mutates: Sequence[int | str]) -> None:
    """Raise TypeError for an argument that is neither a NumPy array nor a plain value."""
    if isinstance(mutates, str) or not {*mutates} <= {*arguments}:
        known = f"a list of some of {', '.join(map(repr, arguments))}"
        raise ConfigError(f"mutates: expected {known}, positions and keywords of arguments, got {mutates!r}")
    for path, leaf in named_arguments(arguments, arguments):
        if leaf is not None and not isinstance(leaf, np.ndarray | np.generic | int | float | complex | str):
            known = "a NumPy array, a number, text, None, or lists, tuples, dicts and dataclasses of these"
            remedy = "functools.partial binds everything else"
            raise TypeError(f"{path} is a {type(leaf).__name__}: expected {known} ({remedy})")


def _check_options(dtypes: Mapping[str, DtypeCheck], warnings: str, xfail: Mapping[str, str]) -> None:
    """Raise ConfigError for an option that has no such value, or names an unknown library."""
    for name in (*dtypes, *xfail):
        devices.parse(name)
    if not {*dtypes.values()} <= {True, False, "kind"}:
        values = ", ".join(map(repr, dict.fromkeys(dtypes.values())))
        raise ConfigError(f'check_dtype: expected True, False, "kind", or a dict of these, got {values}')
    if warnings not in {"compare", "ignore"}:
        raise ConfigError(f'warnings: expected "compare" or "ignore", got {warnings!r}')


def _to_float32(leaf: Any) -> Any:
    """Convert an array, or a number with a dtype, from 64 bits to float32 and complex64."""
    narrower = {"float64": "float32", "complex128": "complex64"}
    has_dtype = isinstance(leaf, np.ndarray | np.generic)
    return leaf.astype(narrower.get(leaf.dtype.name, leaf.dtype)) if has_dtype else leaf


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


def _make_run(target: devices.BackendDevice, *, float64: bool, jax_x64: bool) -> Run:
    """Return the run on a backend, with the dtypes that it has if less than 64 bits are asked for."""
    backend = make(*target)
    has_64_bits = backend.has_float64 and backend.has_int64
    narrow = not jax_x64 if backend.name == "jax" else not (float64 or has_64_bits)
    return Run(target, backend, narrow=narrow)


def _compute_expected(task: _Task, function: Function) -> Call:
    """Call the function with NumPy. The outputs are arrays and Python's numbers.

    Raises
    ------
    AssertionError
        There are none, or one is another object; or it does not raise what it should.
    """
    __tracebackhide__ = True
    run = Run(devices.NUMPY, make(*devices.NUMPY))
    where = str(run) if task.whose == "NumPy" else task.whose
    try:
        with run.scope():
            outcome = call(run, function, task.arguments, task.mutates)
    except Exception as error:
        if task.raises is not None and isinstance(error, task.raises):
            return Call({}, [], [], {}, describe_error(run, error))
        error.add_note(f"raised with {where}")
        raise
    outputs, owns = outcome.outputs, run.backend.owns
    others = [path for path, value in outputs.items() if not (owns(value) or _is_number(value))]
    wrong = [f"{path} {_describe_kind(outputs[path], run.backend)}" for path in others]
    if task.raises is not None:
        wrong = [f"raises no {_name(task.raises)}"]
    elif not outputs:
        wrong = ["the function returns no array"]
    lines = [f"{where}: {line}" for line in outcome.changes + wrong]
    if wrong:
        raise AssertionError("\n".join(lines))
    outputs = {path: value if _is_number(value) else np.asarray(value) for path, value in outputs.items()}
    return outcome._replace(outputs=outputs, changes=lines)


def _compare(task: _Task, run: Run, function: Function, expected: Call) -> tuple[list[str], Exception | None]:
    """Return a line for each problem, and the error that the function raises."""
    __tracebackhide__ = True
    try:
        with run.scope(data_dependent_shapes=task.data_dependent_shapes):
            outcome = call(run, function, task.arguments, task.mutates)
            if task.raises is not None:
                return [f"raises no {_name(task.raises)}, {task.whose} does: {expected.error}"], None
            problems = [*outcome.changes]
            if run.has_values:
                problems += _find_differences(task, run, outcome, expected)
            if run.target == devices.NUMPY:
                problems += _find_effects(task, outcome, expected, has_problems=bool(problems))
            return problems, None
    except Exception as error:  # noqa: BLE001  each library raises its own errors
        if task.raises is not None and isinstance(error, task.raises):
            return [], None
        error.add_note(f"raised with {run}")
        return [describe_error(run, error)], error


def _find_differences(task: _Task, run: Run, outcome: Call, expected: Call) -> Iterator[str]:
    """Describe each output that differs from the expected one."""
    whose, outputs = task.whose, outcome.outputs
    if outputs.keys() != expected.outputs.keys():
        yield f"returns {', '.join(outputs) or 'no array'}, {whose} {', '.join(expected.outputs)}"
        return
    for path, reference in expected.outputs.items():
        problem = _find_problem(task, run, outputs[path], reference)
        if problem is not None:
            yield f"{path} {problem}"


def _find_effects(task: _Task, outcome: Call, expected: Call, *, has_problems: bool) -> Iterator[str]:
    """Describe new warnings of a call with NumPy; and another memory, unless there are other problems."""
    is_compared = task.check_memory and not has_problems
    for output, argument in sorted({*outcome.aliases} ^ {*expected.aliases}) if is_compared else ():
        if (output, argument) in outcome.aliases:
            yield f"{output} shares memory with {argument}, {task.whose}'s does not: return a copy"
        else:
            yield f"{output} shares no memory with {argument}, {task.whose}'s does"
    for text, place in outcome.warnings.items() if task.check_warnings else ():
        if text not in expected.warnings:
            yield f"{text}{place}, which {task.whose} does not give"


def _find_problem(task: _Task, run: Run, value: Any, reference: Any) -> str | None:
    """Describe how an output differs from the expected one, None if it does not."""
    backend, is_array, is_number = run.backend, run.backend.owns(value), _is_number(reference)
    if not is_array and not (_is_number(value) and is_number):
        return _describe_kind(value, backend)
    if is_array and task.tolerance.device and value.device != backend.device:
        return f"is on device {value.device}, not {backend.device}"
    host = backend.to_host(value) if is_array else np.asarray(value)
    dtype = not is_number and task.dtypes.get(str(run.target), task.dtypes.get(backend.name, True))
    if run.narrow and not is_number:  # in the dtype that it has in this run, if that holds its values
        narrowed = backend.to_host(run.put(reference))
        is_held = np.isclose(narrowed, reference, rtol=1e-6, atol=1e-37, equal_nan=True)
        reference = narrowed if np.all(is_held) else reference
    wanted = np.asarray(reference)
    problem = find_difference(host, wanted, task.tolerance._replace(dtype=dtype), task.whose)
    is_zero = host.shape == wanted.shape and host.dtype.kind != "b" and not np.any(host[host != wanted])
    if problem is not None and backend.name == "jax" and problem.startswith("differs") and is_zero:
        return f"{problem}; zeros where a view was written to? With JAX x[0] is a copy"
    return problem


def _describe_kind(value: object, backend: Backend) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return f"is a {kind}, not an array of {backend.name}"


def _is_number(value: object) -> bool:
    return type(value) in (bool, int, float, complex)  # no scalar of NumPy, which has a dtype


def _name(errors: Errors) -> str:
    return " or ".join(error.__name__ for error in (errors if isinstance(errors, tuple) else (errors,)))


def _apply_xfail(results: Sequence[_Result], xfail: Mapping[str, str]) -> tuple[list[_Result], list[str]]:
    """Return the results without those of libraries that are to fail, and a line for each that does not."""
    kept = [result for result in results if not {*result.run.names} & {*xfail}]
    lines = []
    for name, reason in xfail.items():
        own = [result for result in results if name in result.run.names]
        if own and not any(result.lines for result in own):
            lines.append(f"{name}: does not fail, for which xfail has the reason: {reason}")
    return kept, lines
