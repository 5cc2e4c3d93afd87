"""Further calls of functions that agree in an example: variations of it, and gradients.

Variations are other forms of its arrays, a second call, other sizes and values.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from xpnet._typing import Array, Function, HostArray
from xpnet.backends.resolve import BACKENDS
from xpnet.errors import ConfigError
from xpnet.parity.calls import Leaves, Outcome, Run, Task, call, describe_error, named_arrays
from xpnet.parity.outcomes import NUMPY_RUN, compare, find_differences

ELEMENTS = 5000
"""Elements of an array that is made longer."""
SECOND = "second call"
LONG = f"{ELEMENTS} elements"
HALF = "default dtype"
READ_ONLY = "read-only"
ORDERED = ("numpy", "cupy", "torch", "dpnp", "array-api-strict")
"""The libraries whose arrays have a memory order."""
NEAR, STEP = 1e-3, 6e-6
"""The relative distance of a point, and of those for differences: about the cube root of the precision."""
TOLERANCE, NOISE = 1e-4, 1e-9
"""The error of a derivative: relative to it, and to the values of which it is a difference."""


class Variation(NamedTuple):
    """Other arrays in place of some of an example.

    Attributes
    ----------
    change
        The function that makes the others.
    libraries
        Those that it is for.
    paths
        The arrays that are others.
    is_form
        True if the reference should return what it returned before.
    """

    name: str
    change: Function = np.copy
    libraries: Collection[str] = tuple(BACKENDS)
    paths: Collection[str] = ()
    is_form: bool = False


FORMS = (
    Variation("C order", partial(np.array, order="C"), ORDERED),
    Variation("F order", partial(np.array, order="F"), ORDERED),
    Variation("strided", lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x, ("numpy",)),
    Variation(READ_ONLY, lambda x: np.broadcast_to(x, x.shape), ("numpy",)),
)
"""Those that give arrays another form."""


def choose_variations(task: Task, *, names: bool | Sequence[str], vary: bool) -> list[Variation]:
    """Return the variations that are asked for.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    known = {each.name: each for each in _list_variations(task)}
    if isinstance(names, bool):
        return [each for each in known.values() if (names if each.is_form else vary)]
    if not {*names} <= {*known}:
        expected = f"True, False, or a list of some of {', '.join(map(repr, known))}"
        raise ConfigError(f"variations: expected {expected}, got {names!r}")
    return [known[name] for name in names]


def _list_variations(task: Task) -> Iterator[Variation]:
    """Yield those of the form of arrays, and if there are some of float64, of sizes and values."""
    yield Variation(SECOND, is_form=True)
    for form in FORMS:
        own = named_arrays(task.fixed if form.name == READ_ONLY else task.leaves)
        if paths := [path for path, x in own.items() if _form(form.change(x)) != _form(x)]:
            yield form._replace(paths=paths, is_form=True)
    arrays = named_arrays(task.leaves)
    floats = {path: x for path, x in _floats(arrays).items() if x.size}
    if not floats:
        return
    first = next((x for x in floats.values() if x.ndim), np.empty(1))
    rows = np.arange(-(-ELEMENTS * len(first) // first.size)) % len(first)
    together = [path for path, x in arrays.items() if x.ndim and len(x) == len(first)]
    for path in floats:
        yield Variation(f"NaN in {path}", _plant, paths=[path])
    for name, taken in (("no element", rows[:0]), ("one element", rows[:1]), (LONG, rows)):
        yield Variation(name, partial(np.take, indices=taken, axis=0), paths=together)
    yield Variation(f"{LONG} with NaN", lambda x: _plant(np.take(x, rows, axis=0)), paths=together)
    yield Variation(HALF, libraries=("torch",))


def run_variations(
    task: Task, expected: Outcome, outcomes: Iterable[Outcome], variations: Iterable[Variation]
) -> Iterator[Outcome]:
    """Yield the outcomes of each library's first run, up to one with problems, where the reference has none.

    Those of further devices and of compiled functions would say the same.
    """
    able = find_firsts(outcomes)
    for variation in variations:
        is_half = variation.name == HALF
        chosen = [each for each in able if each.run.name in variation.libraries]
        chosen = [each for each in chosen if each.run.dtype is True or not is_half]
        if not chosen:
            continue
        leaves = {**task.leaves, **{path: variation.change(task.leaves[path]) for path in variation.paths}}
        varied = task._replace(leaves=leaves, check_memory=task.check_memory and variation.name == SECOND)
        wanted = call(varied, NUMPY_RUN, task.reference, expected)
        is_unable = wanted.error is not None or wanted.lines
        if is_unable or (find_differences(task, wanted, expected) if variation.is_form else wanted.warnings):
            continue
        for each in chosen:
            outcome = compare(varied, each.run._replace(half=is_half), wanted, each)
            lines = [f"{line}; variations=[{variation.name!r}] repeats it" for line in outcome.lines]
            if lines:
                able.remove(each)
            yield outcome._replace(lines=lines)


def find_firsts(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcome of each library's first run with values, not compiled, if it has no problems."""
    firsts: dict[str, Outcome] = {}
    for each in outcomes:
        if each.run.has_values and not each.run.jit:
            firsts.setdefault(each.run.name, each)
    return [each for each in firsts.values() if not each.lines]


# Gradients by PyTorch and JAX


def compare_gradients(task: Task, expected: Outcome, outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    """Yield the outcomes of differentiating a weighted sum of the results with respect to arrays.

    At the arguments no gradient may be NaN. Near them, where few functions have a kink, the derivative in a
    random direction is compared.

    Raises
    ------
    ConfigError
        There is no float64 among arguments or results.
    """
    generator = np.random.default_rng(0)
    at, results = _floats(named_arrays(task.leaves)), _floats(expected.outputs)
    if not (at and results):
        raise ConfigError("gradients: expected float64 among arguments and results, there is none")
    weights = {path: generator.normal(size=np.shape(x)) for path, x in results.items()}
    direction = {path: np.where(x, x, 1.0) * generator.uniform(0.5, 1.5, x.shape) for path, x in at.items()}
    is_finite = all(np.all(np.isfinite(x)) for x in results.values())

    def move(step: float) -> Task:
        moved = {path: x + step * direction[path] for path, x in at.items()}
        return task._replace(leaves={**task.leaves, **moved})

    def project(outcome: Outcome, factors: Leaves) -> float:
        return sum(float(np.sum(outcome.outputs.get(path, np.nan) * x)) for path, x in factors.items())

    steps = (NEAR - STEP, NEAR + STEP)
    below, above = (project(call(move(step), NUMPY_RUN, task.reference), weights) for step in steps)
    slope, noise = (above - below) / (2 * STEP), NOISE * (abs(below) + abs(above))
    names = ", ".join(at)
    for run in [each.run for each in find_firsts(outcomes) if each.run.name in ("torch", "jax")]:
        exact, near = (_differentiate(each, run, at, weights) for each in (task, move(NEAR)))
        total, error = project(near, direction), exact.error or near.error
        places = {path: np.argwhere(np.isnan(exact.outputs.get(path, 0.0))).tolist() for path in at}
        lines = [f"{path} is nan at {where[0]}" for path, where in places.items() if where and is_finite]
        if error is not None:
            lines = [f"{names}: {describe_error(run, error)}"]
        elif not lines and np.isfinite(slope) and not np.isclose(total, slope, 2 * TOLERANCE, noise):
            line = f"{names} is {total:.6g} in a random direction, by differences of {task.whose} {slope:.6g}"
            lines = [line]
        yield exact._replace(lines=[f"gradient with respect to {line}" for line in lines])


def _differentiate(task: Task, run: Run, at: Leaves, weights: Leaves) -> Outcome:
    """Return the gradients of the weighted sum of the results with respect to arrays, by path."""
    library, xp = run.backend.library, run.backend.xp
    grad = library.grad if run.name == "jax" else library.func.grad

    def total(results: Leaves) -> Array:
        pairs = ((results[path], run.put(weight)) for path, weight in weights.items())
        return sum(xp.sum(x * xp.reshape(weight, x.shape)) for x, weight in pairs)

    def differentiate(apply: Function, arrays: Leaves) -> Leaves:
        own = {path: arrays[path] for path in at}
        gradients = grad(lambda points: total(apply({**arrays, **points})))(own)
        return {path: run.backend.to_host(x) for path, x in gradients.items()}

    return call(task, run, task.function, transform=differentiate)


def _floats(leaves: Leaves) -> Leaves:
    return {path: x for path, x in leaves.items() if np.asarray(x).dtype == np.float64}


def _form(x: HostArray) -> tuple[bool, ...]:
    return x.flags.c_contiguous, x.flags.f_contiguous, x.flags.writeable


def _plant(x: HostArray) -> HostArray:
    """Return a copy, if it is float64 with NaN as the first element, and as the last one of three or more."""
    planted = x.copy(order="K")
    if x.dtype == np.float64:
        planted.flat[[0, -1] if x.size > 2 else 0] = np.nan
    return planted
