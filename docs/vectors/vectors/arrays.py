"""arrays.json: what docs/arrays-specification.md specifies, computed by rp.Array."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vectors.numbers import Content, Device, hexadecimal, real
from xpnet import reproducible

VERSION = "arrays 1"


def content(device: Device, file: Content) -> Content:
    """Return arrays.json: functions, products, ranges, linear algebra, statistics and random numbers."""

    def wrap(values: Any) -> Any:
        return reproducible.asarray(device.put(np.array(real(values), dtype=np.float64)))

    def numbers(array: Any) -> Any:
        return hexadecimal(array.tolist())

    xp = wrap([0.0]).__array_namespace__()
    functions = {}
    for name, rows in file["functions"].items():
        columns = [wrap([*column]) for column in zip(*(row[:-1] for row in rows), strict=True)]
        results = numbers(getattr(xp, name)(*columns))
        functions[name] = [[*row[:-1], result] for row, result in zip(rows, results, strict=True)]
    products = [
        {
            **case,
            "product": numbers(
                xp.matmul(wrap(case["rows"]), wrap(np.array(real(case["columns"])).T.tolist()))
            ),
        }
        for case in file["products"]
    ]
    folded = [
        {
            **case,
            "product": numbers(xp.prod(wrap(case["terms"]))),
            "products up to each": numbers(xp.cumulative_prod(wrap(case["terms"]))),
            "variance": numbers(xp.var(wrap(case["terms"]))),
        }
        for case in file["terms"]
    ]
    ranges = [
        {
            **case,
            "linspace": numbers(xp.linspace(*map(real, case["between"]), case["count"])),
            "arange": numbers(xp.arange(*map(real, case["between"]), real(case["step"]))),
        }
        for case in file["ranges"]
    ]
    return {
        "specification": VERSION,
        "functions": functions,
        "products": products,
        "terms": folded,
        "ranges": ranges,
        "linear algebra": [_algebra(xp.linalg, wrap, case) for case in file["linear algebra"]],
        "statistics": [_statistics(wrap, case) for case in file["statistics"]],
        "random": [_draws(case) for case in file["random"]],
    }


def _algebra(linalg: Any, wrap: Callable[[Any], Any], case: Content) -> Content:
    """Return the results of a function of a matrix, and of right sides."""
    matrices = (wrap(case[name]) for name in ("matrix", "right sides") if name in case)
    results = getattr(linalg, case["function"])(*matrices)
    results = results if isinstance(results, tuple) else (results,)
    return {**case, "results": [hexadecimal(each.tolist()) for each in results]}


def _statistics(wrap: Callable[[Any], Any], case: Content) -> Content:
    """Return the result of a function beyond the standard."""
    arguments = [case["subscripts"]] if "subscripts" in case else []
    result = getattr(reproducible, case["function"])(*arguments, *map(wrap, case["arrays"]))
    return {**case, "result": hexadecimal(result.tolist())}


def _draws(case: Content) -> Content:
    """Return random numbers."""
    drawn = getattr(reproducible.random, case["function"])(int(case["seed"], 16), *case["arguments"])
    return {**case, "numbers": drawn.tolist() if drawn.dtype == np.int64 else hexadecimal(drawn)}
