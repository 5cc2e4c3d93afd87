"""contractions.json: products of matrices from rounded operands, sums over samples, and budgets."""

import math
from typing import Any

import numpy as np

from vectors.numbers import Device, Reals, hexadecimal, hexadecimals, reals, uniform
from xpnet.arithmetic.base import Operand
from xpnet.arithmetic.reproducible import bit_budget
from xpnet.backends.base import Backend
from xpnet.errors import ConfigError

INFINITY, NAN = math.inf, math.nan
LONG = 64
"""Vectors with more terms are written as a pattern that is repeated."""
Vector = list[float]
BUDGETS = [1, 2, 3, 10, 16, 17, 64, 380, 784, 1024, 8192, 8193, 2**25, 2**26, 2**33, 2**33 + 1]
RANGES = {  # vectors at the ends of the range, as first operands with three terms
    "p = 2^400": [2.0**400, 2.0**399, -(2.0**370)],
    "p > 2^400": [math.nextafter(2.0**400, INFINITY), 1.0, 1.0],
    "M < 2^-400": [2.0**-401, 2.0**-420, -(2.0**-424)],
    "all far below 2^-400": [2.0**-500, -(2.0**-600), 2.0**-1000],
    "M just above 1, p = 2": [1.0 + 2.0**-52, 2.0**-24, 3 * 2.0**-25],
    "M = p = 1": [-1.0, 2.0**-25 * 1.5, 2.0**-26],
    "zeros": [0.0, -0.0, 0.0],
    "negative zeros": [-0.0, -0.0, -0.0],
    "a sum that cancels": [1.0, -1.0, 0.0],
}


def vectors(count: int, terms: int, index: int, spread: int = 0) -> list[Vector]:
    """Return vectors of numbers from -1 to 1, times powers of two of up to `spread` that differ by term.

    Long ones repeat a pattern of 97, 101 or 103 numbers.
    """
    result = []
    for row in range(count):
        pattern = terms if terms <= LONG else (97, 101, 103)[(index + row) % 3]
        numbers = reals(pattern, index=index + row, low=-1.0, high=1.0)
        scales = [2.0 ** -((7 * k) % (spread + 1)) for k in range(pattern)]
        result.append(np.resize(numbers * np.array(scales), terms).tolist())
    return result


def pixels(count: int, terms: int, index: int) -> list[Vector]:
    """Return vectors of whole numbers from 0 to 255; long ones repeat a pattern of 89 or 83."""
    result = []
    for row in range(count):
        pattern = terms if terms <= LONG else (89, 83)[row % 2]
        numbers = np.floor(uniform(pattern, index=index + row) * 256.0)
        result.append(np.resize(numbers, terms).tolist())
    return result


def text(vector: Vector, *, whole: bool = False) -> Any:
    """Return a vector for the file: long ones by their pattern."""
    numbers = [int(x) for x in vector] if whole else hexadecimals(vector)
    if len(vector) <= LONG:
        return numbers
    pattern = next(n for n in (83, 89, 97, 101, 103) if vector[n:] == vector[:-n])
    return {"repeat": numbers[:pattern], "length": len(vector)}


def case(
    device: Device,
    name: str,
    rows: list[Vector],
    columns: list[Vector],
    *,
    factor: float | None = None,
    sums: bool = False,
) -> dict[str, Any]:
    """Return a contraction: the rows of the first operand with the columns of the second.

    With a factor, the second operand holds pixels. With `sums`, the rows are gradients dZ, and their sums
    over the samples are given too.
    """
    ops, whole = device.ops, factor is not None
    second = device.put(np.array(columns).T)
    operand = Operand(second) if factor is None else ops.integers(second, factor)
    first: Reals = np.array(rows)
    budget = bit_budget(first.shape[1], a_integer=False, b_integer=whole)
    result: dict[str, Any] = {"name": name, "terms": first.shape[1]}
    result |= {"bits": [budget.a, budget.b], "slices": budget.slices}
    if factor is not None:
        result["factor"] = hexadecimal(factor)
    result["rows"] = [text(row) for row in rows]
    result["columns"] = [text(column, whole=whole) for column in columns]
    if not sums:
        return {**result, "product": hexadecimals(device.get(ops.matmul(device.put(first), operand)))}
    dw, db = ops.weight_and_bias_gradients(device.put(first), ops.transpose(operand))
    return {**result, "product": hexadecimals(device.get(dw)), "sums": hexadecimals(device.get(db)[:, 0])}


def products(device: Device) -> list[dict[str, Any]]:
    """Return the products, without sums."""
    cases = [
        case(device, f"K = {terms}", vectors(2, terms, 100), vectors(2, terms, 110, spread=5))
        for terms in (1, 3, 5, 17, 64)
    ]
    cases += [
        case(device, f"K = {terms}, {kind}", vectors(2, terms, 120, spread=9), vectors(2, terms, 130))
        for terms, kind in ((380, "22 and 22 bits"), (1024, "21 and 22 bits"), (8192, "one slice"))
    ]
    cases += [
        case(device, f"K = {terms}, two slices", vectors(2, terms, 140, spread=9), vectors(2, terms, 150))
        for terms in (8193, 9000)
    ]
    for factor, name in ((1 / 255, "1/255"), (1.0, "1"), (65536 / 52429 * (1 / 255), "fl(s·(1/255))")):
        title = f"pixels with the factor {name}"
        cases.append(case(device, title, vectors(2, 64, 160), pixels(2, 64, 165), factor=factor))
    title = "K = 784, pixels, 35 and 8 bits"
    return [
        *cases,
        case(device, title, vectors(2, 784, 170, spread=9), pixels(2, 784, 175), factor=1 / 255),
        *edges(device),
    ]


def edges(device: Device) -> list[dict[str, Any]]:
    """Return products at the ends of the range, with ties, and with NaN and infinities."""
    step = 2.0**-25  # of rows with four terms and p = 1: 25 and 26 bits
    ties = [
        [1.0, 0.5 * step, 0.0, 0.0],
        [1.0, 1.5 * step, 0.0, 0.0],
        [1.0, 0.5 + 2.5 * step, -(0.5 + 2.5 * step), 3.5 * step],
        [1.0, math.nextafter(0.5 * step, 1.0), math.nextafter(1.5 * step, 0.0), -0.5 * step],
    ]
    units = np.eye(4).tolist()
    ordinary, damaged = vectors(3, 5, 180), vectors(2, 5, 190)
    bad_rows = [[NAN, *ordinary[0][1:]], ordinary[1], [*ordinary[2][:4], -INFINITY]]
    bad_columns = [damaged[0], [1.0, INFINITY, 0.0, 0.0, 0.0]]
    columns = [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    huge = [[2.0**399, 1.0, 1.0], [2.0**401, 1.0, 1.0], [2.0**-450, 0.0, 0.0]]
    return [
        case(device, "ties to even", ties, units),
        case(device, "ends of the range of rows", list(RANGES.values()), columns),
        case(device, "ends of the range of columns", [[2.0**-390, 1.0, 0.5], [0.0, 0.0, 0.0]], huge),
        case(device, "NaN and infinity in rows", bad_rows, damaged),
        case(device, "infinity in a column", ordinary, bad_columns),
        case(device, "NaN and infinity in rows, pixels", bad_rows, pixels(2, 5, 195), factor=1 / 255),
    ]


def gradients(device: Device) -> list[dict[str, Any]]:
    """Return the gradients of weights and biases: products and sums from the same rounded rows."""
    ends = [RANGES["p > 2^400"], RANGES["all far below 2^-400"], RANGES["a sum that cancels"]]
    return [
        case(device, "5 samples", vectors(2, 5, 200), vectors(2, 5, 205), sums=True),
        case(device, "380 samples", vectors(2, 380, 210, spread=9), vectors(2, 380, 215), sums=True),
        case(device, "1,024 samples", vectors(2, 1024, 220), vectors(2, 1024, 225), sums=True),
        case(
            device,
            "1,024 samples of pixels",
            vectors(2, 1024, 230),
            pixels(2, 1024, 235),
            factor=1 / 255,
            sums=True,
        ),
        case(device, "9,000 samples, two slices", vectors(2, 9000, 240, 9), vectors(2, 9000, 245), sums=True),
        case(device, "ends of the range", ends, vectors(1, 3, 250), sums=True),
    ]


def budget(terms: int) -> list[Any]:
    """Return terms, and bits and slices of two floats, and of floats with pixels; null if refused."""
    result: list[Any] = [terms]
    for whole in (False, True):
        try:
            result.append(list(bit_budget(terms, a_integer=False, b_integer=whole)))
        except ConfigError:
            result.append(None)
    return result


def content(backend: Backend) -> dict[str, Any]:
    """Return the file."""
    device = Device.of(backend)
    return {
        "budgets": [budget(terms) for terms in BUDGETS],
        "products": products(device),
        "gradients": gradients(device),
    }
