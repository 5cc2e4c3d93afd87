"""``assert_parity``: one function, every array library, the same result; and ``assert_close``: of arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from warnings import catch_warnings

import numpy as np

from xpnet._lib.kinds import check_arguments
from xpnet.backends.resolve import backend_of, make
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import calls, devices
from xpnet.parity.distance import BITWISE, DtypeCheck, parse_tolerance
from xpnet.parity.outcomes import NUMPY_RUN, compare, compute_expected, find_differences
from xpnet.parity.session import current_session
from xpnet.parity.variations import choose_variations, compare_gradients, run_variations

META = (devices.BackendDevice("torch", "meta"),)
"""PyTorch's device without values."""
NARROW = tuple(devices.BackendDevice(devices.STRICT, device) for device in ("no_float64", "no_x64"))
"""Devices without float64, and without any numbers of 64 bits."""


@check_arguments
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
    variations: bool | Sequence[str] = True,
    vary: bool = False,
    gradients: bool = False,
    kwargs: Mapping[str, Any] | None = None,
    reproducible: bool = False,
    **keywords: Any,
) -> None:
    """Assert that a function gives the same result with every array library as with NumPy.

    Parameters
    ----------
    function
        Takes arrays of one library and returns an array, or tuples, lists, dicts and dataclasses of arrays,
        which may also hold text and None. A parameter ``xp``, if it has one, receives the array namespace.
    arrays, keywords, kwargs
        The function's arguments: NumPy arrays, of which each library gets a copy on its device, in the same
        memory order; NumPy's dtypes, which become the library's; numbers, text, booleans, None, slices and
        callables, which are passed as they are; lists, tuples, dicts and dataclasses of these.
        ``functools.partial`` binds everything else. Keywords that `assert_parity` has itself are in
        ``kwargs={"norm": 2}``.
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
        If False, a result may share memory with an argument, another result or that of an earlier call, or be
        read-only, where the reference's does or is not; and share none with an argument where the
        reference's does. This is compared with NumPy.
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
        ``np.asarray(x)`` and boolean indexing, for which a GPU's program waits, are errors there; and so are
        loops over an array, and 16 subscripts of one by integers. On an emulated CUDA device,
        CuPy's waits are counted, and errors too.
    data_dependent_shapes
        If True, array-api-strict allows functions whose shapes depend on values, such as ``unique_values``.
    float64
        If False, arguments are float32 in place of float64, for the reference too, and the function is also
        run on the devices of array-api-strict that have no float64, and no 64 bits.
    jax_x64
        If False, JAX computes in 32 bits, as it does by default: arrays of float64 become float32, of int64
        int32. NumPy computes as before, and its result is converted in the same way to be compared, unless
        32 bits cannot hold it.
    variations
        If True, functions without problems are called again: with the same arguments; with arrays in the
        orders C and F; with NumPy, with strided and with read-only arrays, but for those in `mutates`. This
        is compared where the reference returns what it returned before. With all options but `vary` each
        function is called at most 8 times with a library. A list of names has these variations alone.
    vary
        If True, also with other arrays of float64: no element and one along the first axis, 5000 elements,
        and NaN; with PyTorch, float16 is once the default dtype. This is compared where the
        reference neither raises nor warns.
    gradients
        If True, gradients by PyTorch and JAX with respect to all arrays of float64 are compared with central
        differences of the reference: at the arguments they may not be NaN, and the derivative near them in
        one random direction is the same.
    reproducible
        If True, the function gets `xpnet.reproducible` arrays of each library instead, and must return the
        same bits on all, and on NumPy with other BLAS kernels, in processes of their own. Where it leaves
        them, by ``np.asarray`` or in a compiled extension, is named. Of the other options, only `backends`
        has an effect.

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
    named = dict(enumerate(arrays)) | keywords | dict(kwargs or {})
    leaves = calls.name_leaves(named, named)
    if reproducible:
        from xpnet.parity.reproducible import assert_reproducible

        assert_reproducible(function, named, calls.named_arrays(leaves), backends)
        return
    if not {*mutates} <= {*named}:
        known = f"a list of some of {', '.join(map(repr, named))}"
        raise ConfigError(f"mutates: expected {known}, positions and keywords of arguments, got {mutates!r}")
    calls.check_kinds(leaves)
    dtypes, usual = (check_dtype, True) if isinstance(check_dtype, Mapping) else ({}, check_dtype)
    for name in (*dtypes, *(xfail or ())):
        devices.parse(name)
    errors = raises if isinstance(raises, tuple) else () if raises is None else (raises,)
    tolerance = BITWISE if errors else parse_tolerance(tier, ulp, rtol, atol, norm)
    tolerance = tolerance._replace(shape=check_shape, device=check_device)
    whose, original = ("NumPy", function) if reference is None else ("the reference", reference)
    functions = calls.bind(function, named), calls.bind(original, named)
    if not float64:
        leaves = {path: calls.narrow_leaf(leaf) for path, leaf in leaves.items()}
    fixed = calls.name_leaves(named, [name for name in named if name not in mutates])
    checks = check_memory, warnings == "compare", float64
    task = calls.Task(*functions, leaves, fixed, mutates, whose, errors, tolerance, *checks)
    chosen = choose_variations(task, names=variations, vary=vary)
    simulated = (() if sync or errors else META) + (() if float64 else NARROW)
    runs = []
    for target in _find_targets(backends, simulated, has_reference=reference is not None):
        backend = make(*target)
        narrow = not (jax_x64 if backend.name == "jax" else float64)
        dtype = dtypes.get(str(target), dtypes.get(target.backend, usual))
        runs.append(calls.Run(backend, dtype, narrow, data_dependent_shapes, sync))
    runs += [run._replace(jit=True) for run in runs if jit and run.name == "jax"]
    expected = compute_expected(task)
    took_part = [NUMPY_RUN, *runs] if reference is None else runs
    current_session().absence |= {str(run.target): "" for run in took_part}
    outcomes: list[calls.Outcome] = []
    for run in runs:  # without values, an error would not be one of synchronization if there is one with them
        failed = {each.run.name for each in outcomes if each.error is not None}
        if run.has_values or run.name not in failed:
            outcomes.append(compare(task, run, expected))
    with catch_warnings(record=True, action="always"):  # further calls repeat those of the first
        if not errors:
            outcomes += run_variations(task, expected, outcomes, chosen)
        if gradients:
            outcomes += compare_gradients(task, expected, outcomes)
    _report(expected, outcomes, xfail or {})


def assert_close(
    actual: object,
    desired: object,
    *,
    rtol: float = 1e-6,
    atol: float = 0.0,
    check_dtype: DtypeCheck = True,
    check_device: bool = True,
) -> None:
    """Assert that arrays have the desired library, device, dtype, shape and values.

    Parameters
    ----------
    actual
        An array, or tuples, lists, dicts and dataclasses of arrays, as a function returns them.
    desired
        The same with arrays of that library or of NumPy, and numbers; for an array also a list of numbers.
        The library and the device of the test, if it has the fixture ``xp``, ``xp_backend`` or the marker
        ``xp_parity``, are desired, else those of the first array.
    rtol, atol, check_dtype, check_device
        As in `assert_parity`.

    Raises
    ------
    AssertionError
        They are not. The message has a line for each array.
    """
    __tracebackhide__ = True
    if isinstance(desired, list) and not isinstance(actual, list | tuple):
        desired = np.asarray(desired)
    outputs, wanted = (calls.named_leaves(x, "result") for x in (actual, desired))
    target, arrays = current_session().of_test, (*wanted.values(), *outputs.values())
    backend = make(*target) if target else next(filter(None, map(backend_of, arrays)), NUMPY_RUN.backend)
    expected = {path: backend.to_host(x) if backend.owns(x) else x for path, x in wanted.items()}
    run = calls.Run(backend, check_dtype)
    tolerance = parse_tolerance(None, None, rtol, atol, None)._replace(device=check_device)
    task = calls.Task(bool, bool, {}, {}, (), "desired", (), tolerance)
    if problems := find_differences(task, calls.Outcome(run, [], outputs), calls.Outcome(run, [], expected)):
        raise AssertionError("\n".join(problems))


def _report(expected: calls.Outcome, outcomes: Sequence[calls.Outcome], xfail: Mapping[str, str]) -> None:
    """Raise AssertionError with a line for each problem, and all runs that have it.

    Libraries that are to fail have none, but if they do not.
    """
    __tracebackhide__ = True
    kept = [each for each in outcomes if each.lines and not each.run.names & {*xfail}]
    problems = [*expected.lines]
    for line in dict.fromkeys(line for each in kept for line in each.lines):
        runs = dict.fromkeys(str(each.run) for each in kept if line in each.lines)
        problems.append(f"{', '.join(runs)}: {line}")
    for name, reason in xfail.items():
        own = [each.lines for each in outcomes if name in each.run.names]
        if own and not any(own):
            problems.append(f"{name}: does not fail, for which xfail has the reason: {reason}")
    if problems:
        errors = [each.error for each in kept if each.error is not None]
        cause = ExceptionGroup("raised by the function", errors) if errors[1:] else next(iter(errors), None)
        raise AssertionError("\n".join(problems)) from cause


def _find_targets(
    names: Sequence[str] | None, simulated: Iterable[devices.BackendDevice], *, has_reference: bool
) -> Iterable[devices.BackendDevice]:
    """Return the named backends, else those that the pytest session selects, else the usable and required.

    Without a reference NumPy is not among the last: it would be compared with itself. Of the ``simulated``
    ones, a test with a backend of its own has those of its library.
    """
    session = current_session()
    if names is not None:
        if isinstance(names, str) or not names:
            raise ConfigError(f"backends: expected a list of names such as ['torch', 'jax'], got {names!r}")
        targets = [devices.parse(str(name)) for name in names]
    elif session.of_test:
        targets = [session.of_test]
        simulated = [each for each in simulated if each.backend == session.of_test.backend]
    elif session.selected:
        targets = [*session.selected]
    else:
        probes = devices.probe_all()
        session.absence |= {str(target): str(probe.reason) for target, probe in probes if not probe.usable}
        everywhere = *(target for target, probe in probes if probe.usable), *devices.find_required()
        targets = [each for each in everywhere if has_reference or each != devices.NUMPY]
        if not targets:
            msg = "there is no array library but NumPy to compare with: pip install array-api-strict"
            raise BackendError(msg)
    return dict.fromkeys([*targets, *simulated])
