"""functions.json, sums.json, contractions.json and public.json: functions, sums and products."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vectors.numbers import Content, Device, hexadecimal, real
from xpnet import reproducible
from xpnet._typing import Array
from xpnet.arithmetic.base import Operand
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.arithmetic.elementary import flush_tiny
from xpnet.arithmetic.host import cosine_share, power, sine_and_cosine
from xpnet.arithmetic.reproducible import bit_budget
from xpnet.errors import ConfigError
from xpnet.nn import functional as F, schedules


def pairs(function: Callable[[Array], Array], rows: list[Any], device: Device) -> list[Any]:
    """Return the points of a function and its values on the device."""
    values = device.get(function(device.put([real(point) for point, *_ in rows])))
    return [[point, hexadecimal(value)] for (point, *_), value in zip(rows, values, strict=True)]


def softmax(case: Content, device: Device) -> Content:
    """Return logits with their probabilities."""
    logits = device.put(np.array([real(case["logits"])]).T)
    return {**case, "probabilities": hexadecimal(device.get(F.softmax(device.ops, logits))[:, 0])}


def rates(case: Content) -> Content:
    """Return the learning rate of each step of a schedule."""
    numbers = {key: value if key == "schedule" else real(value) for key, value in case.items()}
    options: dict[str, Any] = {"step_epochs": 30, "factor": None, "warmup_epochs": 0}
    options |= {name: value for name, value in numbers.items() if name in options}
    steps, epochs = numbers["steps"], numbers["epochs"]
    rate = schedules.build(numbers["schedule"], numbers["learning_rate"], steps, epochs, **options)
    return {**case, "rates": [hexadecimal(rate(step)) for step in range(steps * epochs)]}


def functions(device: Device, file: Content) -> Content:
    """Return functions.json."""
    ops = device.ops
    angles = [real(angle) for angle, *_ in file["sine and cosine"]]
    sines, cosines = sine_and_cosine(np.array(angles))
    calls = {
        "exp": ops.exp,
        "log": ops.log,
        "sqrt": ops.sqrt,
        "tanh": lambda z: F.tanh(ops, z),
        "sigmoid": lambda z: F.sigmoid(ops, z),
    }
    return {
        **{name: pairs(call, file[name], device) for name, call in calls.items()},
        "sine and cosine": hexadecimal(list(zip(angles, sines.tolist(), cosines.tolist(), strict=True))),
        "powers": [[x, n, hexadecimal(power(real(x), n))] for x, n, _ in file["powers"]],
        "cosine shares": [[t, of, hexadecimal(cosine_share(t, of))] for t, of, _ in file["cosine shares"]],
        "learning rates": [rates(case) for case in file["learning rates"]],
        "softmax": [softmax(case, device) for case in file["softmax"]],
    }


def sums(device: Device, file: Content) -> Content:
    """Return sums.json: folded sums, the tree of blocks, the rounding [x], and the sizes of blocks."""
    folded, trees = [], []
    for case in file["folded"]:
        total = device.ops.sum(device.put(real(case["terms"])), axis=0)
        folded.append({**case, "sum": hexadecimal(device.get(total)[0])})
    for case in file["tree"]:
        blocks: list[list[Array]] = [[device.put([number])] for number in real(case["blocks"])]
        trees.append({**case, "sum": hexadecimal(device.get(tree_sum(blocks)[0])[0])})
    return {
        "folded": folded,
        "tree": trees,
        "[x]": pairs(flush_tiny, file["[x]"], device),
        "blocks": [[m, [stop - start for start, stop in block_bounds(m)]] for m, _ in file["blocks"]],
    }


def public(device: Device, file: Content) -> Content:
    """Return public.json: functions of ``xpnet.reproducible`` that training does not use."""
    cumulative = []
    for case in file["cumulative sums"]:
        sums = reproducible.cumulative_sum(device.put(real(case["terms"])))
        cumulative.append({**case, "sums": hexadecimal(device.get(sums))})
    calls = {"sin": reproducible.sin, "cos": reproducible.cos}
    angles = {name: pairs(call, file[name], device) for name, call in calls.items()}
    return {**angles, "cumulative sums": cumulative}


def contraction(case: Content, device: Device) -> Content:
    """Return a contraction: the rows of the first operand with the columns of the second.

    With a factor, the second operand holds pixels. With sums, the rows are gradients dZ, whose sums over the
    samples are given too.
    """
    ops, first = device.ops, np.array(real(case["rows"]))
    rows, second = device.put(first), device.put(np.array(real(case["columns"])).T)
    operand = ops.integers(second, real(case["factor"])) if "factor" in case else Operand(second)
    budget = bit_budget(first.shape[1], a_integer=False, b_integer="factor" in case)
    bits = {"terms": first.shape[1], "bits": [budget.a, budget.b], "slices": budget.slices}
    if "sums" not in case:
        return {**case, **bits, "product": hexadecimal(device.get(ops.matmul(rows, operand)))}
    dw, db = map(device.get, ops.weight_and_bias_gradients(rows, ops.transpose(operand)))
    return {**case, **bits, "product": hexadecimal(dw), "sums": hexadecimal(db[:, 0])}


def budget(terms: int) -> list[Any]:
    """Return terms, and bits and slices of two floats, and of floats with pixels; null if refused."""
    result: list[Any] = [terms]
    for whole in (False, True):
        try:
            result.append(list(bit_budget(terms, a_integer=False, b_integer=whole)))
        except ConfigError:
            result.append(None)
    return result


def contractions(device: Device, file: Content) -> Content:
    """Return contractions.json: products from rounded operands, sums over samples, and budgets."""
    return {
        "budgets": [budget(terms) for terms, *_ in file["budgets"]],
        "products": [contraction(case, device) for case in file["products"]],
        "gradients": [contraction(case, device) for case in file["gradients"]],
    }
