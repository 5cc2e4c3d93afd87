"""The elementwise functions of rp.Array: errors, monotony, and the special values of the standard."""

import math
from fractions import Fraction

import function_errors
import numpy as np
import pytest
from function_bounds import BOUNDS

import xpnet.reproducible as rp

INF, NAN, PI = math.inf, math.nan, math.pi
XP = rp.namespace("numpy")
STEP = math.log(2) / 64


@pytest.mark.needs("mpmath")
@pytest.mark.parametrize("name", BOUNDS)
def test_errors_are_within_the_bounds(name, monkeypatch):
    monkeypatch.setattr(function_errors, "CHOSEN", 20)
    assert 0.4 < function_errors.largest_error(name, 4000) <= BOUNDS[name] <= 2.1


def call(name, *values):
    return np.asarray(getattr(XP, name)(*(rp.asarray(np.asarray(x, dtype=float)) for x in values)))


HALVES = np.arange(-4000, 4000) + 0.5
MANTISSAS = [(i + 0.5) / 128 * 2.0**e for i in range(89, 183) for e in range(-3, 4)]
MANTISSAS += [2.0**e * math.sqrt(2) for e in range(-40, 40)] + [2.0**e for e in range(-20, 21)]
JOINTS = {
    "expm1": [*HALVES * STEP, 44.0, -44.0, 2.0**-54, -(2.0**-54)],
    "log": MANTISSAS,
    "log1p": [*(m - 1 for m in MANTISSAS), 2.0**-54, -(2.0**-54), *(2.0**k for k in range(-60, 60))],
    "log2": MANTISSAS,
    "log10": MANTISSAS,
    "sqrt": [2.0**k for k in range(-60, 60)],
    "atan": [*((k + 0.5) / 32 for k in range(33)), *(32 / (k + 0.5) for k in range(33)), 2.0**-28, 1.0],
    "asinh": [2.0**28, 2.0**-28, *(math.sinh(math.log(m)) for m in MANTISSAS if m > 1)],
    "sinh": [*HALVES[np.abs(HALVES * STEP) < 45] * STEP, 40.0, -40.0, 2.0**-28],
    "tanh": [0.625, *HALVES[np.abs(HALVES * STEP) < 40] * STEP / 2, 2.0**-28],
    "exp": [*HALVES[np.abs(HALVES * STEP) < 700] * STEP, -708.39, 600.0, -600.0, -670.0],
}
"""Where formulas and entries of tables meet."""
LOWEST = {"log": 5e-324, "log2": 5e-324, "log10": 5e-324, "sqrt": 0.0, "log1p": -0.9999999}


def neighbours(name, count):
    """Numbers all over the range, a tenth of them around the joints."""
    generator = np.random.default_rng(0)
    draws = function_errors.POINTS[name]
    share = -(-count * 9 // 10 // len(draws))
    points = np.concatenate([draw(share) for draw in draws])
    around = generator.choice(np.asarray(JOINTS[name]), count - count * 9 // 10)
    around = around + generator.integers(-40, 40, len(around)) * np.spacing(np.abs(around))
    return np.maximum(np.concatenate([points, around]), LOWEST.get(name, -INF))


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.nightly])]
)
@pytest.mark.parametrize("name", JOINTS)
def test_functions_that_rise_do_so_from_each_number_to_the_next(name, count):
    x = neighbours(name, count)
    low, high = call(name, x), call(name, np.nextafter(x, INF))
    falls = low > high
    if name == "exp":  # at some joints of its table it falls by one unit
        joints = np.asarray(JOINTS["exp"])
        nearest = np.min(np.abs(x[falls][:, None] - joints[None, :]), axis=1, initial=INF)
        assert np.all(nearest <= 2.0**-40)
        assert np.all((low - high)[falls] <= np.spacing(high[falls]))
    else:
        assert not falls.any(), x[falls]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_no_finite_argument_gives_nan(name):
    x = np.ldexp(
        np.random.default_rng(0).uniform(-1, 1, 2000), np.random.default_rng(1).integers(-1074, 1025, 2000)
    )
    for each in (name, "atan", "expm1", "cosh", "asinh"):
        assert not np.isnan(call(each, x)).any()


SPECIAL = [
    ("acos", [1.0, -1.0, 1.5, INF, NAN], [0.0, PI, NAN, NAN, NAN]),
    ("acosh", [1.0, 0.5, -INF, INF, NAN], [0.0, NAN, NAN, INF, NAN]),
    ("asin", [0.0, -0.0, 1.0, -1.0, 1.5, -INF, 5e-324], [0.0, -0.0, PI / 2, -PI / 2, NAN, NAN, 5e-324]),
    ("asinh", [0.0, -0.0, INF, -INF, NAN, -5e-324], [0.0, -0.0, INF, -INF, NAN, -5e-324]),
    ("atan", [0.0, -0.0, INF, -INF, NAN, 5e-324], [0.0, -0.0, PI / 2, -PI / 2, NAN, 5e-324]),
    ("atanh", [0.0, -0.0, 1.0, -1.0, 1.5, NAN], [0.0, -0.0, INF, -INF, NAN, NAN]),
    ("cosh", [0.0, -0.0, INF, -INF, 711.0, NAN], [1.0, 1.0, INF, INF, INF, NAN]),
    (
        "expm1",
        [0.0, -0.0, INF, -INF, 710.0, -800.0, NAN, 5e-324],
        [0.0, -0.0, INF, -1.0, INF, -1.0, NAN, 5e-324],
    ),
    ("log1p", [0.0, -0.0, -1.0, -1.5, INF, NAN, -5e-324], [0.0, -0.0, -INF, NAN, INF, NAN, -5e-324]),
    ("log2", [0.0, -0.0, 1.0, -1.0, INF, NAN, 5e-324, 8.0], [-INF, -INF, 0.0, NAN, INF, NAN, -1074.0, 3.0]),
    ("log10", [0.0, 1.0, -1.0, INF, NAN, 1000.0], [-INF, 0.0, NAN, INF, NAN, 3.0]),
    ("sinh", [0.0, -0.0, INF, -INF, 711.0, NAN], [0.0, -0.0, INF, -INF, INF, NAN]),
    ("tan", [0.0, -0.0, INF, -INF, NAN, 5e-324], [0.0, -0.0, NAN, NAN, NAN, 5e-324]),
]
SPECIAL_PAIRS = [
    (
        "atan2",
        [0.0, -0.0, 0.0, -0.0, INF, INF, 1.0, 5e-324],
        [0.0, 0.0, -0.0, -1.0, INF, -INF, -INF, 5e-324],
        [0.0, -0.0, PI, -PI, PI / 4, 3 * PI / 4, PI, PI / 4],
    ),
    (
        "hypot",
        [INF, NAN, NAN, 0.0, 1e308, 1e-310],
        [NAN, -INF, 1.0, -0.0, 1.5e308, 0.0],
        [INF, INF, NAN, 0.0, INF, 0.0],
    ),
    (
        "logaddexp",
        [-INF, INF, NAN, 1e308, -INF],
        [-INF, -INF, 1.0, -1e308, 2.0],
        [-INF, INF, NAN, 1e308, 2.0],
    ),
    (
        "pow",
        [0.0, -0.0, -0.0, -0.0, -2.0, -2.0, 1.0, NAN, -1.0, 2.0, -INF, -8.0, 0.5],
        [-1.0, -3.0, 3.0, 2.0, 3.0, 0.5, NAN, 0.0, INF, -1070.0, 3.0, 1 / 3, -INF],
        [INF, -INF, -0.0, 0.0, -8.0, NAN, 1.0, 1.0, 1.0, 0.0, -INF, NAN, INF],
    ),
]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [(name, arguments, expected) for name, *arguments, expected in (*SPECIAL, *SPECIAL_PAIRS)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_special_values_are_those_of_the_standard(name, arguments, expected):
    result, is_number = call(name, *arguments), ~np.isnan(expected)
    np.testing.assert_allclose(result, expected, rtol=3e-16)
    np.testing.assert_array_equal(np.signbit(result)[is_number], np.signbit(expected)[is_number])


@pytest.mark.parametrize("terms", [1, 2, 3, 64, 2000, pytest.param(70_000, marks=pytest.mark.slow)])
def test_products_are_as_accurate_as_float64_for_numbers_of_any_size(terms):
    generator = np.random.default_rng(terms)
    for low, high in ((0, 1), (-300, 300), (-1000, -700), (-500, 400)):
        a = np.ldexp(generator.normal(size=terms), generator.integers(low, high, terms))
        b = np.ldexp(generator.normal(size=terms), -generator.integers(low, high, terms))
        result = Fraction(float(XP.vecdot(rp.asarray(a), rp.asarray(b))))
        exact = sum(Fraction(p) * Fraction(q) for p, q in zip(a.tolist(), b.tolist(), strict=True))
        bound = terms * Fraction(np.max(np.abs(a))) * Fraction(np.max(np.abs(b))) / 2**52
        assert abs(result - exact) <= bound
