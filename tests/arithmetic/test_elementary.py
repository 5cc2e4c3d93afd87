"""exp, log, roots, tanh, sigmoid, sin and cos, of the network and public: errors, bits, special values."""

import math
import re
from decimal import Decimal, localcontext

import numpy as np
import pytest
import reference
from checkout import ROOT
from networks import reproducible
from true_functions import FORMULAS, QUARTER, TRUE, uniform

import xpnet.reproducible as rp
from xpnet.arithmetic import angles
from xpnet.arithmetic.elementary import LOWEST
from xpnet.backends.resolve import make
from xpnet.nn import functional as F
from xpnet.reproducible.places import arithmetic

DOCS = ROOT / "docs"
INF, NORMAL = math.inf, 2.0**-1022
LARGEST = math.nextafter(INF, 0.0)
HIGHEST = 709.0
"""Where the network's exp ends; it needs it up to 0."""
END = -708.3964185322641
"""The logarithm of 2^-1022."""

ULPS = {"exp": 1.3, "log": 2.1, "sqrt": 0.76, "tanh": 1.9, "sigmoid": 3.3, "sin": 0.85, "cos": 0.85}
"""Largest errors; searches of millions of points found 1.28, 2.02, 0.75, 1.79, 3.20, 0.80 and 0.80."""
NUMPY = make("numpy", "cpu")
PUBLIC = {name: getattr(rp, name) for name in ULPS}


def of_network(name, x):
    """A function of the network, or a sine, which it has none of."""
    if name in FORMULAS:
        return getattr(angles, name)(arithmetic("numpy", "cpu")[1], x)
    with NUMPY.scope():
        ops, activation = reproducible(NUMPY), F.ACTIVATIONS.get(name)
        return activation.forward(ops, x) if activation else getattr(ops, name)(x)


def magnitudes(low, high):
    """Positive numbers from 2^low to 2^high, all exponents alike."""
    return lambda generator, count: np.ldexp(
        generator.uniform(1.0, 2.0, count), generator.integers(low, high, count)
    )


def between_table_entries(generator, count):
    """Where the rest that the table leaves to the polynomial is largest."""
    step = math.log(2) / 64
    k = generator.integers(math.ceil(LOWEST / step), math.floor(HIGHEST / step), count)
    return (k + 0.5 + generator.uniform(-0.01, 0.01, count)) * step


def near_quarters(generator, count):
    """The numbers nearest to multiples of π/2, where a sine is small: the hardest to reduce."""
    return np.array([float(int(k) * QUARTER) for k in generator.integers(-667_543, 667_544, count)])


ANGLES = [uniform(-0.79, 0.79), uniform(-50.0, 50.0), uniform(-(2.0**20), 2.0**20), near_quarters]
POINTS = {
    "exp": [uniform(LOWEST, HIGHEST), uniform(LOWEST, LOWEST + 10), uniform(-2, 2), between_table_entries],
    "log": [magnitudes(-1022, 1024), uniform(0.5, 2.0), uniform(0.7055, 0.7071), uniform(0.999, 1.001)],
    "sqrt": [magnitudes(-1022, 1024), uniform(1.0, 4.0)],
    "tanh": [uniform(-1e-3, 1e-3), uniform(-0.7, 0.7), uniform(0.62, 0.8), uniform(-20.0, 20.0)],
    "sigmoid": [uniform(-2.8, -2.6), uniform(-30.0, 30.0), uniform(-669.0, -600.0)],
    "sin": ANGLES,
    "cos": ANGLES,
}
BEYOND = {
    "exp": [uniform(END, LOWEST), uniform(HIGHEST, 709.7827)],
    "log": [magnitudes(-1074, -1022)],
    "sqrt": [magnitudes(-1074, -1022)],
    "tanh": [magnitudes(-60, -20)],
    "sigmoid": [uniform(END, -660.0), uniform(30.0, 800.0)],
    "sin": [magnitudes(-1074, -20), magnitudes(20, 1024)],
    "cos": [magnitudes(-1074, -20), magnitudes(20, 1024)],
}
"""Points of the public functions alone."""


def worst_error(name, x, values):
    """The largest error of the values, in units of the last place."""
    with localcontext(prec=50, Emin=-(10**6)):
        true = (TRUE[name](Decimal(number)) for number in x.tolist())
        pairs = zip(values.tolist(), true, strict=True)
        return max(abs(Decimal(y) - t) / Decimal(math.ulp(float(t))) for y, t in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", POINTS)
def test_errors_are_within_the_bounds_and_bits_those_of_the_pages_formulas(name):
    x = np.concatenate([points(np.random.default_rng(0), 1000) for points in POINTS[name]])
    values = of_network(name, x)
    assert ULPS[name] / 2 < worst_error(name, x, values) <= ULPS[name]
    assert PUBLIC[name](x).tobytes() == values.tobytes()
    if formula := FORMULAS.get(name) or getattr(reference, name, None):
        assert values.tolist() == list(map(formula, x.tolist()))
    x = np.concatenate([points(np.random.default_rng(0), 300) for points in BEYOND[name]])
    assert worst_error(name, x, PUBLIC[name](x)) <= ULPS[name]
    if name in FORMULAS:
        assert PUBLIC[name](x).tolist() == list(map(FORMULAS[name], x.tolist()))


def test_pages_and_docstrings_state_these_errors():
    rows = {
        "reproducibility": r"^\| (\w+) \| ([\d.]+) \| [^|]*\|$",
        "arithmetic": r"^\| `(\w+)` \| ([\d.]+) ulp \|",
    }
    for page, row in rows.items():
        text = (DOCS / f"{page}.md").read_text("utf-8")
        assert {name: float(bound) for name, bound in re.findall(row, text, re.MULTILINE)} == ULPS
    assert all(f"within {bound} ulp" in PUBLIC[name].__doc__ for name, bound in ULPS.items())


@pytest.mark.parametrize("name", PUBLIC)
def test_special_values_of_public_functions_are_those_of_numpy_but_exp_is_never_subnormal(name):
    ends = [
        0.0,
        INF,
        5e-324,
        1e-310,
        NORMAL,
        LARGEST,
        2.0**20,
        math.nextafter(2.0**20, INF),
        math.nextafter(NORMAL, 0.0),
        1.0,
        800.0,
        1e-200,
    ]
    x = np.array([*ends, *(-end for end in ends), math.nan, 709.782712893384, 709.782712893385])
    with np.errstate(all="ignore"):
        expected = 1 / (1 + np.exp(-x)) if name == "sigmoid" else getattr(np, name)(x)
    result = PUBLIC[name](x)
    np.testing.assert_allclose(result, expected, rtol=1e-14, atol=0.0)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))
    if name in ("exp", "sigmoid"):
        assert PUBLIC[name](np.array([END - 1e-10, -745.0])).tolist() == [0.0, 0.0]
