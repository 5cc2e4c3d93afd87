"""The elementwise functions of rp.Array: errors, monotony, and the special values of the standard."""

import math
from fractions import Fraction

import function_errors
import numpy as np
import pytest
from array_calls import SPECIAL
from function_bounds import BOUNDS

import xpnet.reproducible as rp

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
    **dict.fromkeys(("log", "log2", "log10"), MANTISSAS),
    "log1p": [*(m - 1 for m in MANTISSAS), 2.0**-54, -(2.0**-54), *(2.0**k for k in range(-60, 60))],
    "sqrt": [2.0**k for k in range(-60, 60)],
    "atan": [*((k + 0.5) / 32 for k in range(33)), *(32 / (k + 0.5) for k in range(33)), 2.0**-28, 1.0],
    "asinh": [2.0**28, 2.0**-28, *(math.sinh(math.log(m)) for m in MANTISSAS if m > 1)],
    "expm1": [*HALVES * STEP, 44.0, -44.0, 2.0**-54, -(2.0**-54)],
    "sinh": [*HALVES[np.abs(HALVES * STEP) < 45] * STEP, 40.0, -40.0, 2.0**-28],
    "tanh": [0.625, *HALVES[np.abs(HALVES * STEP) < 40] * STEP / 2, 2.0**-28],
    "exp": [*HALVES[np.abs(HALVES * STEP) < 700] * STEP, -708.39, 600.0, -600.0, -670.0],
}
LOWEST = {**dict.fromkeys(("log", "log2", "log10"), 5e-324), "sqrt": 0.0, "log1p": -0.9999999}


def neighbours(name, count):
    generator = np.random.default_rng(0)
    draws = function_errors.POINTS[name]
    share = -(-count * 9 // 10 // len(draws))
    points = np.concatenate([draw(share) for draw in draws])
    around = generator.choice(np.asarray(JOINTS[name]), count - count * 9 // 10)
    around = around + generator.integers(-40, 40, len(around)) * np.spacing(np.abs(around))
    return np.maximum(np.concatenate([points, around]), LOWEST.get(name, -np.inf))


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(10**6, marks=[pytest.mark.slow, pytest.mark.nightly])]
)
@pytest.mark.parametrize("name", JOINTS)
def test_functions_that_rise_do_so_from_each_number_to_the_next(name, count):
    x = neighbours(name, count)
    low, high = call(name, x), call(name, np.nextafter(x, np.inf))
    falls = low > high
    if name == "exp":  # at some joints of its table it falls by one unit
        joints = np.asarray(JOINTS["exp"])
        nearest = np.min(np.abs(x[falls][:, None] - joints[None, :]), axis=1, initial=np.inf)
        assert np.all(nearest <= 2.0**-40)
        assert np.all((low - high)[falls] <= np.spacing(high[falls]))
    else:
        assert not falls.any(), x[falls]


POINTS = [*SPECIAL, 1.5, -1.5, 8.0, 1000.0, 1 / 3, -1e300, 711.0, -800.0]


@pytest.mark.parametrize("name", BOUNDS)
def test_special_values_are_those_of_the_standard_and_numpy_but_results_of_two_are_never_subnormal(name):
    is_pair = name in function_errors.PAIRS
    arguments = np.meshgrid(POINTS, POINTS) if is_pair else [POINTS]
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*arguments)
    result = call(name, *arguments)
    kept = ~(is_pair & (np.abs(expected) < 2.0**-1022) & (result == 0))
    np.testing.assert_allclose(result[kept], expected[kept], rtol=1e-15)
    kept &= ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result)[kept], np.signbit(expected)[kept])


@pytest.mark.parametrize("terms", [1, 3, 2000, pytest.param(70_000, marks=pytest.mark.slow)])
def test_products_are_as_accurate_as_float64_for_numbers_of_any_size(terms):
    generator = np.random.default_rng(terms)
    for low, high in ((0, 1), (-300, 300), (-1000, -700), (-500, 400)):
        a = np.ldexp(generator.normal(size=terms), generator.integers(low, high, terms))
        b = np.ldexp(generator.normal(size=terms), -generator.integers(low, high, terms))
        result = Fraction(float(XP.vecdot(rp.asarray(a), rp.asarray(b))))
        exact = sum(Fraction(p) * Fraction(q) for p, q in zip(a.tolist(), b.tolist(), strict=True))
        bound = terms * Fraction(np.max(np.abs(a))) * Fraction(np.max(np.abs(b))) / 2**52
        assert abs(result - exact) <= bound
