"""arrays.json: what docs/arrays-specification.md specifies, computed by rp.Array."""

from typing import Any

import numpy as np

from vectors.numbers import Content, Device, hexadecimal, real
from xpnet import reproducible

VERSION = "arrays 1"


def content(device: Device, file: Content) -> Content:
    """Return arrays.json: functions of one and of two numbers, products, and points of ranges."""

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
    }
