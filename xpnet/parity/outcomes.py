"""The outcome of a call with an array library, compared with that of the reference."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnet._typing import HostArray
from xpnet.backends.resolve import make
from xpnet.parity import devices
from xpnet.parity.calls import NARROWER, Container, Outcome, Run, Task, call, describe_error, first_line
from xpnet.parity.distance import find_difference

NUMBERS = (bool, int, float, complex)
"""Python's, not NumPy's scalars, which have a dtype."""
NUMPY_RUN = Run(make(*devices.NUMPY))
"""The run that all others are compared with."""


def compute_expected(task: Task) -> Outcome:
    """Call the reference with NumPy. The outputs are arrays, Python's numbers, text and None.

    Raises
    ------
    AssertionError
        There are none, or one is another object; or it does not raise what it should.
    """
    __tracebackhide__ = True
    outcome = call(task, NUMPY_RUN, task.reference)
    where = str(outcome.run) if task.whose == "NumPy" else task.whose
    if isinstance(outcome.error, task.raises):
        return outcome
    if outcome.error is not None:
        raise outcome.error
    wrong = find_differences(task, outcome, outcome)
    if task.raises:
        wrong = [f"raises no {' or '.join(error.__name__ for error in task.raises)}"]
    elif all(isinstance(value, Container | None) for value in outcome.outputs.values()):
        wrong = ["the function returns no array"]
    lines = [f"{where}: {line}" for line in outcome.lines + wrong]
    if wrong:
        raise AssertionError("\n".join(lines))
    return outcome._replace(lines=lines)


def compare(task: Task, run: Run, expected: Outcome, earlier: Outcome | None = None) -> Outcome:
    """Call the function, and describe what differs from the expected outcome."""
    __tracebackhide__ = True
    outcome = call(task, run, task.function, earlier)
    lines = [*outcome.lines]
    if outcome.error is not None:
        if not isinstance(outcome.error, task.raises):
            lines.append(describe_error(run, outcome.error))
    elif expected.error is not None:
        names = " or ".join(error.__name__ for error in task.raises)
        lines = [f"raises no {names}, {task.whose} does: {describe_error(run, expected.error)}"]
    elif outcome.outputs and run.has_values:
        lines += find_differences(task, outcome, expected)
        lines += _find_effects(task, outcome, expected, memory=task.check_memory and not lines)
    return outcome._replace(lines=lines)


def find_differences(task: Task, outcome: Outcome, expected: Outcome) -> list[str]:
    """Describe each output that differs from the expected one, or the first container that does."""
    lines = []
    with np.errstate(all="ignore"):
        for path in {**expected.outputs, **outcome.outputs}:
            ours, theirs = (each.outputs.get(path) for each in (outcome, expected))
            kind, wanted = (x if isinstance(x, Container) else "no container" for x in (ours, theirs))
            if kind != wanted:
                return [f"{path} is {kind}, {task.whose}'s {wanted}"]
            if problem := _find_problem(task, outcome.run, ours, theirs):
                lines.append(f"{path} {problem}")
    return lines


def _find_effects(task: Task, outcome: Outcome, expected: Outcome, *, memory: bool) -> Iterator[str]:
    """Describe new warnings of a call with NumPy, and results in another memory."""
    if outcome.run.name != "numpy":
        return
    if memory:
        for output, partner in sorted({*outcome.aliases} ^ {*expected.aliases}):
            if (output, partner) in outcome.aliases:
                yield f"{output} shares memory with {partner}, {task.whose}'s does not: return a copy"
            elif partner.startswith("argument"):
                yield f"{output} shares no memory with {partner}, {task.whose}'s does"
        for output, array in outcome.arrays.items():
            if expected.arrays.get(output, array).flags.writeable and not array.flags.writeable:
                yield f"{output} is read-only, {task.whose}'s is not: return a copy"
    for kind, text in outcome.warnings.items() if task.check_warnings else ():
        if kind and kind not in expected.warnings:
            yield f"{text}, which {task.whose} does not give"


def _find_problem(task: Task, run: Run, value: Any, reference: Any) -> str | None:
    """Describe how an output differs from the expected one, None if it does not."""
    backend = run.backend
    if isinstance(reference, str | None):
        is_same = type(value) is type(reference) and value == reference
        return None if is_same else f"is of type {type(value).__name__}, {task.whose}'s is {reference!r}"
    is_array, is_number = backend.owns(value), type(reference) in NUMBERS
    is_masked = isinstance(value, np.ma.MaskedArray)
    if is_masked or not (is_array or (is_number and type(value) in NUMBERS)):
        masked = "masked array, which other libraries do not have: return its data and its mask"
        kind = f"{type(value).__module__}.{type(value).__qualname__}, not an array of {backend.name}"
        return f"is a {masked if is_masked else kind}"
    device = getattr(value, "device", backend.device)  # numbers of NumPy 2.0 have none
    if is_array and task.tolerance.device and device != backend.device:
        return f"is on device {device}, not {backend.device}"
    dtype = run.dtype
    try:
        host = backend.to_host(value) if is_array else np.asarray(value)
    except TypeError as error:  # a dtype that NumPy does not have
        return f"has dtype {value.dtype}, {task.whose}'s {np.asarray(reference).dtype}: {first_line(error)}"
    wanted = np.asarray(reference)
    if is_number:
        if dtype and type(np.zeros((), host.dtype).tolist()) is not type(reference):
            return f"has dtype {host.dtype}, {task.whose} a Python {type(reference).__name__}"
        dtype = False
    elif (run.narrow or not task.float64) and NARROWER.get(wanted.dtype.name) == host.dtype.name:
        narrowed = wanted.astype(host.dtype)  # which is compared, if it holds the values
        if np.allclose(narrowed, wanted, rtol=1e-6, atol=1e-37, equal_nan=True):
            wanted = narrowed
    problem = find_difference(host, wanted, task.tolerance, task.whose, dtype)
    return problem and problem + _find_hint(task, run, host, wanted, problem)


def _find_hint(task: Task, run: Run, host: HostArray, wanted: HostArray, problem: str) -> str:
    """Return the reason that is known for some differences."""
    is_jax = run.name == "jax"
    if is_jax and problem.startswith("has dtype int32") and wanted.dtype == np.int64 and not run.narrow:
        return "; is it from searchsorted? JAX's gives int32"
    if not problem.startswith("differs") or host.shape != wanted.shape or host.dtype.kind != "f":
        return ""
    ours, theirs = host[host != wanted], wanted[host != wanted]
    smallest = np.finfo(host.dtype).smallest_normal
    if ours.size and np.all(np.maximum(np.abs(ours), np.abs(theirs)) < smallest):
        return f"; numbers below {smallest:.1e} are subnormal, and {run.name} may make them zero"
    if is_jax and ours.size and not np.any(ours):  # right with NumPy, whose views are no copies
        outputs = map(np.asarray, call(task, NUMPY_RUN, task.function).outputs.values())
        if any(find_difference(x, wanted, task.tolerance, "", check_dtype=True) is None for x in outputs):
            return "; zeros where a view was written to: with JAX x[0] is a copy"
    return ""
