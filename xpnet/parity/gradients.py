"""Gradients by PyTorch and JAX, compared with central differences of the reference."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from xpnet._typing import Array, Function, HostArray
from xpnet.errors import ConfigError
from xpnet.parity.calls import Outcome, Run, Task, call, describe_error, replace_leaves
from xpnet.parity.outcomes import NUMPY_RUN
from xpnet.parity.variations import find_firsts, named_arrays

Arrays: TypeAlias = Mapping[str, HostArray]
"""Arrays of NumPy by path."""
NEAR, STEP = 1e-3, 6e-6
"""The relative distance of a point, and of those for differences: about the cube root of the precision."""
TOLERANCE: Final = 1e-4
"""The relative error of a derivative."""


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
    at = {path: x for path, x in named_arrays(task.arguments).items() if x.dtype == np.float64}
    results = {path: x for path, x in expected.outputs.items() if np.asarray(x).dtype == np.float64}
    weights = {path: generator.normal(size=np.shape(x)) for path, x in results.items()}
    if not (at and weights):
        raise ConfigError("gradients: expected float64 among arguments and results, there is none")
    direction = {path: np.where(x, x, 1.0) * generator.uniform(0.5, 1.5, x.shape) for path, x in at.items()}

    def move(step: float) -> Task:
        moved = {path: x + step * direction[path] for path, x in at.items()}
        return task._replace(arguments=replace_leaves(task.arguments, moved))

    def project(results: Arrays, factors: Arrays) -> float:
        return sum(float(np.sum(results.get(path, np.nan) * factor)) for path, factor in factors.items())

    nearby = [move(step) for step in (NEAR - STEP, NEAR + STEP)]
    ends = [project(call(each, NUMPY_RUN, task.reference).outputs, weights) for each in nearby]
    slope, noise = (ends[1] - ends[0]) / (2 * STEP), 1e-15 * sum(map(abs, ends)) / STEP
    is_finite, names = all(np.all(np.isfinite(x)) for x in results.values()), ", ".join(at)
    for run in [each.run for each in find_firsts(outcomes) if each.run.backend.name in ("torch", "jax")]:
        exact, shifted = (_differentiate(each, run, at, weights) for each in (task, move(NEAR)))
        total = project(shifted.outputs, direction)
        where = {path: np.argwhere(np.isnan(x)).tolist() for path, x in exact.outputs.items() if is_finite}
        lines = [f"{path} is nan at {places[0]}" for path, places in where.items() if places]
        if error := exact.error or shifted.error:
            lines = [f"{names}: {describe_error(run, error)}"]
        elif not lines and abs(total - slope) > TOLERANCE * (abs(total) + abs(slope)) + noise:
            line = f"{names} is {total:.6g} in a random direction, by differences of {task.whose} {slope:.6g}"
            lines = [line]
        yield exact._replace(lines=[f"gradient with respect to {line}" for line in lines])


def _differentiate(task: Task, run: Run, at: Arrays, weights: Arrays) -> Outcome:
    """Return the gradients of the weighted sum of the results with respect to arrays, by path."""
    library, xp = run.backend.library, run.backend.xp
    grad = library.grad if run.backend.name == "jax" else library.func.grad

    def transform(apply: Function) -> Function:
        def differentiate(arrays: dict[str, Array]) -> dict[str, Array]:
            def total(points: dict[str, Array]) -> Array:
                results = apply(arrays | points)
                terms = ((results[path], run.put(weight)) for path, weight in weights.items())
                return sum(xp.sum(x * xp.reshape(weight, x.shape)) for x, weight in terms)

            gradients: dict[str, Array] = grad(total)({path: arrays[path] for path in at})
            return {path: run.backend.to_host(x) for path, x in gradients.items()}

        return differentiate

    return call(task, run, task.function, transform=transform)
