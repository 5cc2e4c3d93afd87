"""``assert_close``: arrays of any library, beside those that are desired."""

from typing import Literal

import numpy as np

from xpnet.backends.resolve import backend_of, make
from xpnet.parity.calls import Outcome, Run, Task, named_leaves
from xpnet.parity.distance import parse_tolerance
from xpnet.parity.outcomes import NUMPY_RUN, find_differences
from xpnet.parity.session import current_session


def assert_close(
    actual: object,
    desired: object,
    *,
    rtol: float = 1e-6,
    atol: float = 0.0,
    check_dtype: bool | Literal["kind"] = True,
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
    outputs, expected = (named_leaves(x, "result") for x in (actual, desired))
    target, found = current_session().of_test, {path: backend_of(x) for path, x in expected.items()}
    known = (*found.values(), *map(backend_of, outputs.values()))
    backend = make(*target) if target else next(filter(None, known), NUMPY_RUN.backend)
    run = Run(backend, check_dtype)
    for path, each in found.items():
        if each is not None:
            expected[path] = each.to_host(expected[path])
    tolerance = parse_tolerance(None, None, rtol, atol, None)._replace(device=check_device)
    task = Task(bool, bool, {}, {}, (), (), "desired", (), tolerance)
    if problems := find_differences(task, Outcome(run, [], outputs), Outcome(run, [], expected)):
        raise AssertionError("\n".join(problems))
