"""functions.json: exp, log, square root, tanh, sigmoid, sine and cosine, learning rates, and softmax."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vectors.numbers import UNUSED, Device, Reals, hexadecimal, hexadecimals, reals
from xpnet.arithmetic import random
from xpnet.arithmetic.host import cosine_share, power, sine_and_cosine
from xpnet.backends.base import Backend
from xpnet.nn import functional as F
from xpnet.nn import schedules

if TYPE_CHECKING:
    from xpnet._typing import Array

POINTS = 200
INFINITY, NAN = math.inf, math.nan
ROOT = 1.4142135623730951  # the threshold of log


def around(*numbers: float) -> list[float]:
    """Return numbers, each between its two neighbours among the floats."""
    return [near for x in numbers for near in (math.nextafter(x, -INFINITY), x, math.nextafter(x, INFINITY))]


def wide(count: int, index: int) -> Reals:
    """Return positive numbers of all magnitudes from 2^-1022 to 2^1024, of 53 bits."""
    words = random.words(0, UNUSED, count, index=index)
    exponents = (words >> np.uint64(52)).astype(np.int64) % 2046 - 1022
    mantissas = 1.0 + (words & np.uint64(2**52 - 1)).astype(np.float64) * 2.0**-52
    return np.ldexp(mantissas, exponents)


HALF_STEP = 0.6931471805599453 / 128
EXP = [0.0, -0.0, 1.0, -1.0, 0.5, -1e-300, 2.0**-60, -(2.0**-60), -600.0, -INFINITY, NAN]
EXP += [-669.999, -671.0, *around(-670.0), 708.0, math.nextafter(709.0, 0.0), 709.0]
# Each entry of the table of 2^(f/64).
EXP += [-961 * i * 2 * HALF_STEP + 0.001 * (i % 5) for i in range(1, 64)]
# Found by search: another last place of 1/6, 1/24 or 1/120 changes exp of some of these.
HARD = """32dd3dc80ced6 5d91e6a84486f 3866b871aeb62 36ad861c8f075 428fc2ff1f898 5b6b41d6cf87d
47c1955321821 5d5fdee9ff6a 5bb1bbcac7edf"""
EXP += [float.fromhex(f"0x1.{digits}p-8") for digits in HARD.split()]
EXP += around(HALF_STEP, -HALF_STEP, -31.5 * 2 * HALF_STEP)
LOG = [0.0, -0.0, -1.0, -INFINITY, INFINITY, NAN, 2.0, 0.5, 10.0, 2.0**-1022, 2.0**1023]
LOG += [sys.float_info.max, *around(1.0), *around(ROOT), *around(ROOT * 2.0**700)]
LOG += around(ROOT * 2.0**-900, 1.5, 4.0, 2.0**512, 2.0**-511)
SQRT = [0.0, -0.0, -1.0, -INFINITY, INFINITY, NAN, 0.25, 2.0, 9.0, 6.25, 2.0**-1022, 2.0**1022, 2.0**1023]
SQRT += [sys.float_info.max, math.nextafter(2.0**-1022, 1.0)]
SQRT += around(1.0, 4.0, 16.0, 2.0**-1000, 2.0**800)
TANH = [0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, NAN, 2.0**-100, -(2.0**-100), 1e-9, 400.0]
TANH += around(0.625, -0.625, 335.0, -335.0, 19.0)
SIGMOID = [0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, NAN, 2.0**-100, 37.0, -37.0, 800.0, -800.0]
SIGMOID += around(670.0, -670.0, -669.0)


def filled(points: Sequence[float], *fillers: Callable[[int], Reals]) -> list[float]:
    """Return `POINTS` points: those given, and about as many from each filler."""
    missing = POINTS - len(points)
    shares = [missing * (place + 1) // len(fillers) - missing * place // len(fillers) for place in range(9)]
    return [*points, *(x for fill, share in zip(fillers, shares, strict=False) for x in fill(share).tolist())]


def between(low: float, high: float, index: int) -> Callable[[int], Reals]:
    """Return a filler of numbers from `low` to `high`."""
    return lambda count: reals(count, index=index, low=low, high=high)


def columns(backend: Backend) -> dict[str, Any]:
    """Return the pairs of each function of floats on the device."""
    device = Device.of(backend)
    ops = device.ops
    sets: dict[str, tuple[Callable[[Array], Array], list[float]]] = {
        "exp": (ops.exp, filled(EXP, between(-670, 709, 1), between(-670, 0, 2), between(-2, 0, 3))),
        "log": (ops.log, filled(LOG, lambda n: wide(n, 4), between(1, 10, 5), between(0.5, 2, 6))),
        "sqrt": (ops.sqrt, filled(SQRT, lambda n: wide(n, 7), between(1, 4, 8), between(0, 1e-4, 9))),
        "tanh": (
            lambda z: F.tanh(ops, z),
            filled(TANH, between(-0.7, 0.7, 10), between(-5, 5, 11), between(-350, 350, 12)),
        ),
        "sigmoid": (
            lambda z: F.sigmoid(ops, z),
            filled(SIGMOID, between(-5, 5, 13), between(-40, 40, 14), between(-680, 680, 15)),
        ),
    }
    return {
        name: hexadecimals(list(zip(points, device.get(function(device.put(points))).tolist(), strict=True)))
        for name, (function, points) in sets.items()
    }


def softmaxes(backend: Backend) -> list[dict[str, Any]]:
    """Return columns of logits with their probabilities."""
    device, cases = Device.of(backend), []
    for units in (3, 5, 10):
        columns = reals(3 * units, index=20 + units, low=-6.0, high=6.0).reshape(3, units)
        columns[2] *= 100.0
        results = device.get(F.softmax(device.ops, device.put(columns.T))).T
        cases += [
            {"logits": hexadecimals(logits), "probabilities": hexadecimals(probabilities)}
            for logits, probabilities in zip(columns, results, strict=True)
        ]
    return cases


def degrees() -> list[list[str]]:
    """Return angles in degrees with sine and cosine."""
    angles = [float(x) for x in range(-225, 226, 45)] + around(45.0, -45.0, 135.0) + [1e-9, 360.0, 719.5]
    angles += reals(40, index=40, low=-180.0, high=180.0).tolist()
    sines, cosines = sine_and_cosine(np.array(angles))
    return [hexadecimals([*row]) for row in zip(angles, sines.tolist(), cosines.tolist(), strict=True)]


SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant", "learning_rate": 0.1, "steps": 3, "epochs": 4},
    {"schedule": "constant", "learning_rate": 0.1, "steps": 3, "epochs": 4, "warmup_epochs": 2},
    {"schedule": "step", "learning_rate": 0.1, "steps": 2, "epochs": 40},
    {"schedule": "step", "learning_rate": 0.3, "steps": 2, "epochs": 6, "step_epochs": 2, "factor": 0.7},
    {"schedule": "exponential", "learning_rate": 0.1, "steps": 1, "epochs": 12},
    {
        "schedule": "exponential",
        "learning_rate": 0.01,
        "steps": 3,
        "epochs": 4,
        "factor": 0.3,
        "warmup_epochs": 1,
    },
    {"schedule": "cosine", "learning_rate": 0.1, "steps": 3, "epochs": 4},
    {"schedule": "cosine", "learning_rate": 0.001, "steps": 7, "epochs": 3, "warmup_epochs": 2},
]


def rates(case: dict[str, Any]) -> dict[str, Any]:
    """Return the learning rate of each step of a schedule."""
    options: dict[str, Any] = {"step_epochs": 30, "factor": None, "warmup_epochs": 0}
    options |= {name: value for name, value in case.items() if name in options}
    steps, epochs = case["steps"], case["epochs"]
    rate = schedules.build(case["schedule"], case["learning_rate"], steps, epochs, **options)
    texts = {key: hexadecimal(value) if isinstance(value, float) else value for key, value in case.items()}
    return {**texts, "rates": [hexadecimal(rate(step)) for step in range(steps * epochs)]}


def content(backend: Backend) -> dict[str, Any]:
    """Return the file."""
    powers = [(0.1, 0), (0.1, 1), (0.1, 2), (0.1, 5), (0.95, 13), (0.95, 100), (0.3, 31), (0.5, 64)]
    shares = [(0, 1), (1, 2), (1, 3), (2, 3), (1, 4), (1, 7), (123, 1000), (999, 1000), (59_999, 60_000)]
    return {
        **columns(backend),
        "sine and cosine": degrees(),
        "powers": [[hexadecimal(f), n, hexadecimal(power(f, n))] for f, n in powers],
        "cosine shares": [[t, of, hexadecimal(cosine_share(t, of))] for t, of in shares],
        "learning rates": [rates(case) for case in SCHEDULES],
        "softmax": softmaxes(backend),
    }
