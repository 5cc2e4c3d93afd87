"""contractions.json: products of matrices from rounded operands, sums over samples, and budgets."""

from typing import Any

import numpy as np

from vectors.numbers import Content, Device, Reals, hexadecimals, real, reals
from xpnet.arithmetic.base import Operand
from xpnet.arithmetic.reproducible import bit_budget
from xpnet.backends.base import Backend
from xpnet.errors import ConfigError


def contraction(device: Device, case: Content) -> Content:
    """Return a contraction: the rows of the first operand with the columns of the second.

    With a factor, the second operand holds pixels.
    """
    ops, first = device.ops, np.array(reals(case["rows"]))
    second = device.put(np.array(reals(case["columns"])).T)
    operand = ops.integers(second, real(case["factor"])) if "factor" in case else Operand(second)
    budget = bit_budget(first.shape[1], a_integer=False, b_integer="factor" in case)
    bits = {"terms": first.shape[1], "bits": [budget.a, budget.b], "slices": budget.slices}
    return {**case, **bits, **multiply(device, first, operand, with_sums="sums" in case)}


def multiply(device: Device, first: Reals, second: Operand, *, with_sums: bool) -> Content:
    """Return the product; with sums, the rows are gradients dZ, whose sums over the samples are given too."""
    ops, rows = device.ops, device.put(first)
    if not with_sums:
        return {"product": hexadecimals(device.get(ops.matmul(rows, second)))}
    dw, db = ops.weight_and_bias_gradients(rows, ops.transpose(second))
    return {"product": hexadecimals(device.get(dw)), "sums": hexadecimals(device.get(db)[:, 0])}


def budget(terms: int) -> list[Any]:
    """Return terms, and bits and slices of two floats, and of floats with pixels; null if refused."""
    result: list[Any] = [terms]
    for whole in (False, True):
        try:
            result.append(list(bit_budget(terms, a_integer=False, b_integer=whole)))
        except ConfigError:
            result.append(None)
    return result


def content(backend: Backend, file: Content) -> Content:
    """Return the file."""
    device = Device.of(backend)
    return {
        "budgets": [budget(terms) for terms, *_ in file["budgets"]],
        "products": [contraction(device, case) for case in file["products"]],
        "gradients": [contraction(device, case) for case in file["gradients"]],
    }
