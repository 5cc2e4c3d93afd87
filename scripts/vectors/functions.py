"""functions.json: exp, log, square root, tanh, sigmoid, sine and cosine, learning rates, and softmax."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vectors.numbers import Content, Device, hexadecimal, hexadecimals, real, reals
from xpnet.arithmetic.host import cosine_share, power, sine_and_cosine
from xpnet.backends.base import Backend
from xpnet.nn import functional as F, schedules

if TYPE_CHECKING:
    from xpnet._typing import Array


def pairs(device: Device, function: Callable[["Array"], "Array"], rows: list[Any]) -> Any:
    """Return the points of a function and its values on the device."""
    points = [real(point) for point, *_ in rows]
    values = device.get(function(device.put(points))).tolist()
    return hexadecimals(list(zip(points, values, strict=True)))


def softmaxes(device: Device, file: list[Content]) -> list[Content]:
    """Return columns of logits with their probabilities; those with as many classes are one matrix."""
    columns = [reals(case["logits"]) for case in file]
    alike: dict[int, list[list[float]]] = {}
    for logits in columns:
        alike.setdefault(len(logits), []).append(logits)
    computed = {
        units: iter(device.get(F.softmax(device.ops, device.put(np.array(group).T))).T)
        for units, group in alike.items()
    }
    return [
        {"logits": hexadecimals(logits), "probabilities": hexadecimals(next(computed[len(logits)]))}
        for logits in columns
    ]


def rates(case: Content) -> Content:
    """Return the learning rate of each step of a schedule."""
    numbers = {key: value if key == "schedule" else real(value) for key, value in case.items()}
    options: dict[str, Any] = {"step_epochs": 30, "factor": None, "warmup_epochs": 0}
    options |= {name: value for name, value in numbers.items() if name in options}
    steps, epochs = numbers["steps"], numbers["epochs"]
    rate = schedules.build(numbers["schedule"], numbers["learning_rate"], steps, epochs, **options)
    texts = {key: hexadecimal(x) if isinstance(x, float) else x for key, x in numbers.items()}
    return {**texts, "rates": [hexadecimal(rate(step)) for step in range(steps * epochs)]}


def content(backend: Backend, file: Content) -> Content:
    """Return the file."""
    device = Device.of(backend)
    ops = device.ops
    angles = [real(angle) for angle, *_ in file["sine and cosine"]]
    sines, cosines = sine_and_cosine(np.array(angles))
    return {
        "exp": pairs(device, ops.exp, file["exp"]),
        "log": pairs(device, ops.log, file["log"]),
        "sqrt": pairs(device, ops.sqrt, file["sqrt"]),
        "tanh": pairs(device, lambda z: F.tanh(ops, z), file["tanh"]),
        "sigmoid": pairs(device, lambda z: F.sigmoid(ops, z), file["sigmoid"]),
        "sine and cosine": hexadecimals(list(zip(angles, sines.tolist(), cosines.tolist(), strict=True))),
        "powers": [[x, n, hexadecimal(power(real(x), n))] for x, n, _ in file["powers"]],
        "cosine shares": [[t, of, hexadecimal(cosine_share(t, of))] for t, of, _ in file["cosine shares"]],
        "learning rates": [rates(case) for case in file["learning rates"]],
        "softmax": softmaxes(device, file["softmax"]),
    }
