"""exp, log, square root, tanh and sigmoid: errors, special values, and the same bits everywhere."""

import math
import re
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import reference
from assertions import assert_on_backend
from networks import reproducible
from true_functions import TRUE, uniform

from xpnet.arithmetic.elementary import LOWEST
from xpnet.backends.resolve import make
from xpnet.nn import functional as F

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reproducibility.md"
INF, NAN = math.inf, math.nan
SMALLEST_NORMAL, LARGEST = 2.0**-1022, math.nextafter(INF, 0.0)
HIGHEST = 709.0
"""Where exp ends; the network needs it up to 0."""

ULPS = {"exp": 1.3, "log": 2.1, "sqrt": 0.76, "tanh": 1.9, "sigmoid": 3.3}
"""Largest errors; a search of 8 · 10^6 points or more for each found 1.28, 2.02, 0.75, 1.79 and 3.19."""
NUMPY = make("numpy", "cpu")


def compute(name, x, backend=NUMPY):
    """A function of a NumPy array, computed on a backend, as a NumPy array."""
    with backend.scope():
        ops, array = reproducible(backend), backend.from_host(x)
        activation = F.ACTIVATIONS.get(name)
        result = activation.forward(ops, array) if activation else getattr(ops, name)(array)
        assert_on_backend(result, backend)
        return backend.to_host(result)


# The largest errors


def positive(generator, count):
    """Any normal numbers, all exponents alike."""
    return np.ldexp(generator.uniform(1.0, 2.0, count), generator.integers(-1022, 1024, count))


def between_table_entries(generator, count):
    """Where the rest that the table leaves to the polynomial is largest."""
    step = math.log(2) / 64
    k = generator.integers(math.ceil(LOWEST / step), math.floor(HIGHEST / step), count)
    return (k + 0.5 + generator.uniform(-0.01, 0.01, count)) * step


POINTS = {
    "exp": [
        uniform(LOWEST, HIGHEST),
        uniform(LOWEST, LOWEST + 10),
        uniform(-2.0, 2.0),
        between_table_entries,
    ],
    "log": [
        positive,
        uniform(0.5, 2.0),
        uniform(0.7055, 0.7071),
        uniform(0.999, 1.001),
        uniform(1 - 1e-12, 1 + 1e-12),
    ],
    "sqrt": [positive, uniform(1.0, 4.0)],
    "tanh": [uniform(-1e-3, 1e-3), uniform(-0.7, 0.7), uniform(0.62, 0.8), uniform(-20.0, 20.0)],
    "sigmoid": [uniform(-2.8, -2.6), uniform(-30.0, 30.0), uniform(-669.0, -600.0)],
}


@pytest.mark.parametrize("name", POINTS)
def test_largest_error(name):
    x = np.concatenate([points(np.random.default_rng(0), 1500) for points in POINTS[name]])
    with localcontext(prec=50):
        true = [TRUE[name](Decimal(number)) for number in x.tolist()]
        pairs = zip(compute(name, x).tolist(), true, strict=True)
        worst = max(abs(Decimal(y) - t) / Decimal(math.ulp(float(t))) for y, t in pairs)
    assert ULPS[name] / 2 < worst <= ULPS[name]


def test_the_page_states_these_errors():
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| [^|]*\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {name: float(bound) for name, bound in rows} == ULPS


# Special values

SPECIAL = {  # arguments and values
    "exp": {0.0: 1, 5e-324: 1, -5e-324: 1, -INF: 0, NAN: NAN, math.nextafter(LOWEST, -INF): 0, -LARGEST: 0},
    "log": {1.0: 0, 0.0: -INF, INF: INF, -INF: NAN, -1.0: NAN, -SMALLEST_NORMAL: NAN, NAN: NAN},
    "sqrt": {
        0.0: 0,
        1.0: 1,
        SMALLEST_NORMAL: 2.0**-511,
        2.0**1022: 2.0**511,
        INF: INF,
        -INF: NAN,
        -1.0: NAN,
        -SMALLEST_NORMAL: NAN,
        NAN: NAN,
    },
}

ENDS = {name: [SMALLEST_NORMAL, math.nextafter(SMALLEST_NORMAL, 1.0), LARGEST] for name in ("log", "sqrt")}
ENDS["exp"] = [LOWEST, HIGHEST, 1e-300]


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(backend, name):
    result = compute(name, np.array(list(SPECIAL[name])), backend)
    np.testing.assert_array_equal(result, list(SPECIAL[name].values()))
    assert not np.any(np.signbit(result[result == 0]))


def test_the_limits_of_exp_are_inside_and_every_result_is_normal():
    lowest, highest = compute("exp", np.array([LOWEST, HIGHEST]))
    assert SMALLEST_NORMAL <= lowest < 2 * math.exp(LOWEST)
    assert math.exp(HIGHEST) / 2 < highest <= LARGEST


@pytest.mark.parametrize("largest", [1, 2, 3, 4, 10, 16, 17, 256, 65_536])
def test_log_of_numbers_that_are_known_to_be_small_is_the_same(largest):
    ends = [1.0, math.nextafter(1.0, 2.0), float(largest), math.nextafter(largest, INF), NAN]
    x = np.concatenate([np.random.default_rng(0).uniform(1.0, largest, 2000), ends])
    found = reproducible(NUMPY).log(x, float(largest))
    np.testing.assert_array_equal(found, compute("log", x))


# The same bits everywhere


@pytest.mark.parametrize("name", SPECIAL)
def test_every_backend_gives_the_bits_of_the_pages_formulas(backend, name):
    parts = [points(np.random.default_rng(0), 600) for points in POINTS[name]]
    x = np.concatenate([list(SPECIAL[name]), ENDS[name], *parts])
    result = compute(name, x, backend)
    expected = np.array([getattr(reference, name)(number) for number in x.tolist()])
    nan = np.isnan(expected)  # whose bits are not specified
    assert np.array_equal(np.isnan(result), nan)
    assert result[~nan].tobytes() == expected[~nan].tobytes()
