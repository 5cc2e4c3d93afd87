"""Gradients by PyTorch and JAX, compared with central differences of the reference."""

from collections.abc import Iterator, Sequence

import numpy as np

from xpnet._typing import Array, Function
from xpnet.errors import ConfigError
from xpnet.parity.calls import Leaves, Outcome, Run, Task, call, describe_error, named_arrays
from xpnet.parity.outcomes import NUMPY_RUN
from xpnet.parity.variations import find_firsts

NEAR, STEP = 1e-3, 6e-6
"""The relative distance of a point, and of those for differences: about the cube root of the precision."""
TOLERANCE, NOISE = 1e-4, 1e-9
"""The error of a derivative: relative to it, and to the values of which it is a difference."""


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
    at = {path: x for path, x in named_arrays(task.leaves).items() if x.dtype == np.float64}
    results = {path: x for path, x in expected.outputs.items() if np.asarray(x).dtype == np.float64}
    if not (at and results):
        raise ConfigError("gradients: expected float64 among arguments and results, there is none")
    weights = {path: generator.normal(size=np.shape(x)) for path, x in results.items()}
    direction = {path: np.where(x, x, 1.0) * generator.uniform(0.5, 1.5, x.shape) for path, x in at.items()}

    def move(step: float) -> Task:
        moved = {path: x + step * direction[path] for path, x in at.items()}
        return task._replace(leaves={**task.leaves, **moved})

    def project(outcome: Outcome, factors: Leaves) -> float:
        return sum(float(np.sum(outcome.outputs.get(path, np.nan) * x)) for path, x in factors.items())

    below, above = (
        project(call(move(step), NUMPY_RUN, task.reference), weights) for step in (NEAR - STEP, NEAR + STEP)
    )
    slope, noise = (above - below) / (2 * STEP), NOISE * (abs(below) + abs(above))
    names = ", ".join(at)
    for run in [each.run for each in find_firsts(outcomes) if each.run.backend.name in ("torch", "jax")]:
        exact, shifted = (_differentiate(each, run, at, weights) for each in (task, move(NEAR)))
        total = project(shifted, direction)
        lines = []
        if error := exact.error or shifted.error:
            lines = [f"{names}: {describe_error(run, error)}"]
        elif all(np.all(np.isfinite(x)) for x in results.values()):
            places = {path: np.argwhere(np.isnan(exact.outputs[path])).tolist() for path in at}
            lines = [f"{path} is nan at {places[0]}" for path, places in places.items() if places]
        if not lines and abs(total - slope) > TOLERANCE * (abs(total) + abs(slope)) + noise:
            line = f"{names} is {total:.6g} in a random direction, by differences of {task.whose} {slope:.6g}"
            lines = [line]
        yield exact._replace(lines=[f"gradient with respect to {line}" for line in lines])


def _differentiate(task: Task, run: Run, at: Leaves, weights: Leaves) -> Outcome:
    """Return the gradients of the weighted sum of the results with respect to arrays, by path."""
    library, xp = run.backend.library, run.backend.xp
    grad = library.grad if run.backend.name == "jax" else library.func.grad

    def total(results: Leaves) -> Array:
        pairs = ((results[path], run.put(weight)) for path, weight in weights.items())
        return sum(xp.sum(x * xp.reshape(weight, x.shape)) for x, weight in pairs)

    def differentiate(apply: Function, arrays: Leaves) -> Leaves:
        own = {path: arrays[path] for path in at}
        gradients = grad(lambda points: total(apply({**arrays, **points})))(own)
        return {path: run.backend.to_host(x) for path, x in gradients.items()}

    return call(task, run, task.function, transform=differentiate)
