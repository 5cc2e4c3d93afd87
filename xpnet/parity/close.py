"""``assert_close``: arrays of any library, beside those that are desired."""

from typing import Any, Literal

import numpy as np

from xpnet.backends.resolve import backend_of, make
from xpnet.parity.calls import NOTHING, Run, named_leaves
from xpnet.parity.devices import BackendDevice
from xpnet.parity.distance import parse_tolerance
from xpnet.parity.outcomes import Task, find_differences, numpy_run
from xpnet.parity.session import current_session


def assert_close(
    actual: object,
    desired: object,
    *,
    tier: Literal["bitwise"] | None = None,
    ulp: int | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    norm: float | None = None,
    check_dtype: bool | Literal["kind"] = True,
    check_shape: bool = True,
    check_device: bool = True,
) -> None:
    """Assert that arrays have the desired library, device, dtype, shape and values.

    Parameters
    ----------
    actual
        An array, or tuples, lists, dicts and dataclasses of arrays, as a function returns them.
    desired
        The same with arrays of that library or of NumPy, and numbers; for an array also lists of numbers.
        The library and the device of the test, if it has the fixture ``xp``, ``xp_backend`` or the marker
        ``xp_parity``, are desired, else those of the first array.
    tier, ulp, rtol, atol, norm, check_dtype, check_shape, check_device
        As in `assert_parity`. Default: ``rtol=1e-6``.

    Raises
    ------
    AssertionError
        They are not. The message has a line for each array.
    ConfigError
        There are several tiers.
    """
    __tracebackhide__ = True
    if isinstance(desired, list) and not isinstance(actual, list | tuple):
        desired = np.asarray(desired)
    ours, theirs = dict[str, str](), dict[str, str]()
    outputs = dict(named_leaves(actual, "result", ours))
    expected: dict[str, Any] = dict(named_leaves(desired, "result", theirs))
    target, found = (
        current_session().of_test,
        [backend_of(x) for x in (*expected.values(), *outputs.values())],
    )
    backend = make(*target) if target else next(filter(None, found), numpy_run().backend)
    run = Run(target or BackendDevice(backend.name, backend.device_name), backend)
    expected = {
        path: x if each is None else each.to_host(x)
        for (path, x), each in zip(expected.items(), found, strict=False)
    }
    tiers = (tier, ulp, 1e-6 if {tier, ulp, rtol, norm} == {None} else rtol, atol, norm)
    tolerance = parse_tolerance(*tiers)._replace(shape=check_shape, device=check_device)
    task = Task(_nothing, _nothing, {}, (), "desired", None, tolerance, {backend.name: check_dtype})
    results = (
        NOTHING._replace(outputs=leaves, containers=kinds)
        for leaves, kinds in ((outputs, ours), (expected, theirs))
    )
    if problems := [*find_differences(task, run, *results)]:
        raise AssertionError("\n".join(problems))


def _nothing(*_: object) -> None:
    """Return nothing."""
