"""The public products and sums: their definition to the bit, errors against exact numbers, and axes."""

import math
import operator
import re
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import reference
from assertions import assert_same
from networks import reproducible as reproducible_on

import xpnet.reproducible as rp
from xpnet.arithmetic.full_range import FullRange, contraction_error, fewest_slices, slice_budget
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError, DataError
from xpnet.nn import functional as F

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "arithmetic.md").read_text("utf-8")
NUMPY = make("numpy", "cpu")
HALF_ULP = Fraction(1, 1 << 53)


def wide(generator, shape, low=-40, high=1):
    """Numbers of both signs and many magnitudes."""
    return np.ldexp(generator.normal(size=shape), generator.integers(low, high, shape))


# Products


def specified(a, b, slices):
    """The product of a row and a column as the page defines it, from Python's integers."""
    bits_a, bits_b, _ = slice_budget(len(a), slices)
    left, right = reference.rounded(a, bits_a, slices), reference.rounded(b, bits_b, slices)
    levels = [
        reduce(operator.add, [left[level - j].dot(right[j]) for j in range(level + 1)])
        for level in range(slices)
    ]
    return reduce(lambda low, high: high + low, reversed(levels)) + 0.0


@pytest.mark.parametrize("slices", [1, 2, 3, 7])
@pytest.mark.parametrize("terms", [1, 3, 64, 784, 3000])
def test_products_are_what_the_page_specifies_within_its_bound(terms, slices):
    generator = np.random.default_rng(terms)
    for numbers in (wide, lambda generator, shape: generator.normal(size=shape)):
        a, b = numbers(generator, (2, terms)), numbers(generator, (terms, 2))
        product = rp.matmul(a, b, slices=slices)
        for i, j in np.ndindex(2, 2):
            row, column = a[i].tolist(), b[:, j].tolist()
            assert product[i, j] == specified(row, column, slices)
            exact = sum(map(operator.mul, map(Fraction, row), map(Fraction, column)))
            largest = Fraction(max(map(abs, row))) * Fraction(max(map(abs, column)))
            bound = terms * largest * Fraction(contraction_error(terms, slices))
            assert abs(Fraction(product[i, j]) - exact) <= bound + HALF_ULP * abs(Fraction(product[i, j]))


@pytest.mark.parametrize("terms", [1, 2048, 2049, 100_000])
def test_products_are_within_1e_12_by_default_of_the_fewest_slices(terms):
    generator = np.random.default_rng(0)
    a, b = generator.uniform(0.5, 1.0, (2, terms))
    exact = sum(map(operator.mul, map(Fraction, a.tolist()), map(Fraction, b.tolist())))
    slices = 2 if terms <= 2048 else 3
    assert rp.vecdot(a, b) == rp.vecdot(a, b, slices=slices)
    assert contraction_error(terms, slices) <= 1e-12 < contraction_error(terms, slices - 1)
    assert abs(Fraction(float(rp.vecdot(a, b))) - exact) <= Fraction(1, 10**12) * terms


def test_the_page_states_bits_errors_and_slices():
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) and (\d+) \| (.*) \| (\d)(?: slices)? \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for count, a, b, errors, slices in rows:
        terms = int(count.replace(",", ""))
        assert slice_budget(terms, 1)[:2] == (int(a), int(b))
        assert errors.split(" | ") == [f"{contraction_error(terms, each):.1e}" for each in (1, 2, 3)]
        assert fewest_slices(terms) == int(slices)


def test_sums_of_products_of_slices_have_no_bit_to_spare_and_no_more_are_needed():
    for terms in (2, 3, 1024, 1025, 2**20):
        a, b, _ = slice_budget(terms, 3)
        assert terms * 2 ** (a + b) <= 2**53 < terms * 2 ** (a + b + 2)


def test_the_most_terms_are_refused():
    assert fewest_slices(2**33) == 5
    with pytest.raises(ConfigError, match=r"^a product over 4503599627370496 terms leaves no bits"):
        slice_budget(2**52, 2)


def test_every_backend_gives_the_same_products(backend):
    generator = np.random.default_rng(0)
    a, b = wide(generator, (2, 4, 30)), wide(generator, (30, 3))
    expected = [[[specified(row, column, 3) for column in b.T.tolist()] for row in m] for m in a.tolist()]
    assert_same(rp.matmul(backend.from_host(a), backend.from_host(b), slices=3), np.array(expected), backend)


def test_products_depend_neither_on_the_order_of_the_terms_nor_on_other_rows():
    generator = np.random.default_rng(0)
    a, b = wide(generator, (7, 500)), wide(generator, (500, 5))
    order = rp.random.permutation(0, 500)
    product = rp.matmul(a, b)
    assert rp.matmul(a[:, order], b[order]).tobytes() == product.tobytes()
    ones = np.ones(500)
    assert rp.vecdot(a[0, order], ones, slices=3) == rp.vecdot(a[0], ones, slices=3)
    assert rp.matmul(a[2:3], b[:, 1:2])[0, 0] == rp.matmul(np.stack([a, 2 * a]), b)[0, 2, 1] == product[2, 1]


SHAPES = [
    ((4,), (4,)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((3, 1, 5, 4), (2, 4, 6)),
    ((0, 4), (4, 2)),
    ((3, 0), (0, 2)),
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_shapes_of_products_are_those_of_the_standard(shapes):
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=shape) for shape in shapes)
    np.testing.assert_allclose(rp.matmul(a, b), a @ b, atol=1e-12, strict=True)


def test_dot_products_along_an_axis(backend):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(3, 4, 2)), generator.normal(size=(4, 2))
    result = rp.vecdot(backend.from_host(a), backend.from_host(b), axis=-2)
    assert_same(result, np.sum(a * b, axis=-2), backend, atol=1e-12)


def test_infinities_and_nan_make_their_row_and_column_nan():
    a = np.ones((3, 4))
    a[0, 1], a[1, 2] = math.inf, math.nan
    assert np.isnan(rp.matmul(a, np.ones((4, 2)))).tolist() == [[True, True], [True, True], [False, False]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: rp.matmul(x, x * 2.0**401),
            DataError,
            r"matmul: a magnitude is above 2\^400 \(2.6e120\): scale .*",
        ),
        (lambda x: rp.vecdot(-x * 1e200, x), DataError, r"vecdot: a magnitude is above 2\^400 .*"),
        (lambda x: rp.matmul(x, x[:2]), DataError, r"matmul: expected shapes .*, got \(3, 3\) and \(2, 3\)"),
        (lambda x: rp.matmul(x, x[0, 0]), DataError, r"matmul: expected shapes .*, got \(3, 3\) and \(\)"),
        (
            lambda x: rp.matmul(np.ones((2, 3, 3)), np.ones((3, 3, 3))),
            DataError,
            r"matmul: expected stacks .*",
        ),
        (lambda x: rp.vecdot(x, x[:, :1]), DataError, r"vecdot: expected the same length of axis -1, .*"),
        (lambda x: rp.vecdot(x, x, axis=0), ConfigError, r"vecdot: expected an axis from -2 to -1, got 0"),
        (
            lambda x: rp.matmul(x, x, slices=0),
            ConfigError,
            r"matmul: expected slices from 1 to 7, or None, got 0",
        ),
        (lambda x: rp.sum(x, axis=2), ConfigError, r"sum: expected an axis from -2 to 1, .*, got 2"),
        (
            lambda x: rp.mean(x, axis=(0, -2)),
            ConfigError,
            r"mean: expected an axis .* different ones, got \(0, -2\)",
        ),
        (
            lambda x: rp.softmax(x, axis=-3),
            ConfigError,
            r"softmax: expected an axis from -2 to 1, .*, got \(-3,\)",
        ),
    ],
)
def test_calls_that_cannot_be_computed_are_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        call(np.ones((3, 3)))


@pytest.mark.needs("torch")
def test_arrays_of_two_libraries_are_refused():
    import torch

    with pytest.raises(DataError, match=r"^matmul: .* one device, got numpy on cpu and torch on cpu$"):
        rp.matmul(np.ones((2, 2)), torch.ones((2, 2)))


# Sums


@pytest.mark.parametrize("count", [1, 2, 5, 33, 1000])
def test_sums_are_folded_within_their_bound(count):
    x = wide(np.random.default_rng(count), count)
    total, terms = float(rp.sum(x)), list(map(Fraction, x.tolist()))
    assert total == reference.folded_sum(x.tolist())
    levels = (count - 1).bit_length()
    assert abs(Fraction(total) - sum(terms)) <= levels * HALF_ULP * sum(map(abs, terms)) * (
        1 + HALF_ULP * levels
    )


LONG = [
    ((50_000,), 0),
    ((7, 20_001), 1),
    ((7, 20_001), 0),
    ((20_001, 3), 0),
    ((20_001, 3), 1),
    ((2, 3, 9000), 2),
]


@pytest.mark.parametrize(("shape", "axis"), LONG)
def test_long_sums_in_pieces_have_the_same_bits(shape, axis):
    x = wide(np.random.default_rng(0), shape)
    whole = FullRange(NUMPY.xp, "cpu", np.float64)
    assert rp.sum(x, axis=axis, keepdims=True).tobytes() == whole.total(x, axis).tobytes()


def test_tiny_terms_count_as_multiples_of_2_to_the_minus_953():
    x = np.array([5e-324, -1e-310, 2.0**-1022, 2.0**-952, 2.0**-846])
    assert rp.sum(x[:, None], axis=1).tolist() == [0.0, 0.0, 0.0, 2.0**-952, 2.0**-846]


def test_means_and_variances_are_within_their_bounds():
    x = wide(np.random.default_rng(0), 1000) + 3.0
    levels, terms = 10, list(map(Fraction, x.tolist()))
    mean = sum(terms) / 1000
    error = abs(Fraction(float(rp.mean(x))) - mean)
    assert error <= (levels + 1) * HALF_ULP * sum(map(abs, terms)) / 1000
    for correction in (0, 1, 0.5):
        divisor = 1000 - Fraction(correction)
        variance = sum((term - mean) ** 2 for term in terms) / divisor
        result = Fraction(float(rp.var(x, correction=correction)))
        assert abs(result - variance) <= (levels + 5) * HALF_ULP * variance + 2 * error**2


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_logsumexp_and_softmax_are_within_their_bounds(scale):
    x = np.random.default_rng(0).normal(size=100) * scale
    with localcontext(prec=50):
        terms = [(Decimal(number) - Decimal(max(x))).exp() for number in x.tolist()]
        true, total = sum(terms).ln() + Decimal(max(x)), sum(terms)
        logs = math.log(100) + math.log2(128)
        bound = Decimal(2) ** -53 * Decimal(abs(float(true)) + 5.2 * math.log(100) + 7 + 3)
        assert abs(Decimal(float(rp.logsumexp(x))) - true) <= bound
        for number, term, share in zip(x.tolist(), terms, rp.softmax(x).tolist(), strict=True):
            relative = Decimal(2) ** -53 * Decimal(max(x) - number + logs + 8)
            assert abs(Decimal(share) - term / total) <= relative * (term / total) + Decimal(2) ** -960


def test_softmax_is_that_of_the_network():
    z = wide(np.random.default_rng(0), (5, 10, 4), -5, 8)
    with NUMPY.scope():
        expected = F.softmax(reproducible_on(NUMPY), z)
    assert rp.softmax(z, axis=1).tobytes() == expected.tobytes()


INFINITE = [
    [math.inf, 1.0],
    [-math.inf, 1.0],
    [math.inf, -math.inf],
    [math.nan, 1.0],
    [-math.inf, -math.inf],
    [1e308, 1e308],
]


def test_infinities_and_nan_are_as_in_numpy(backend):
    x = np.array(INFINITE)
    with np.errstate(all="ignore"):
        expected = [np.sum(x, axis=1), np.mean(x, axis=1), np.var(x, axis=1), np.logaddexp.reduce(x, axis=1)]
    for function, values in zip((rp.sum, rp.mean, rp.var, rp.logsumexp), expected, strict=True):
        np.testing.assert_array_equal(backend.to_host(function(backend.from_host(x), axis=1)), values)


AXES = [None, 1, -3, (0, 2), (2, -2), ()]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
def test_axes_are_those_of_numpy(axis, keepdims):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    options = {"axis": axis, "keepdims": keepdims}
    expected = {"sum": np.sum, "mean": np.mean, "var": np.var}
    for name, function in expected.items():
        np.testing.assert_allclose(getattr(rp, name)(x, **options), function(x, **options), atol=1e-13)
    exponentials = np.sum(np.exp(x), **options)
    np.testing.assert_allclose(rp.logsumexp(x, **options), np.log(exponentials), atol=1e-13)
    assert rp.sum(x, **options).shape == exponentials.shape


REDUCTIONS = {
    "sum": lambda x: rp.sum(x, axis=(0, 2)),
    "mean": lambda x: rp.mean(x, keepdims=True),
    "var": lambda x: rp.var(x, axis=-1, correction=1),
    "logsumexp": lambda x: rp.logsumexp(x, axis=0),
    "softmax": lambda x: rp.softmax(x, axis=1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_backend_gives_the_same_bits(backend, name):
    x = wide(np.random.default_rng(0), (3, 5, 4))
    x[0, 0, :] = 5e-324, 1e-310, -1e-310, 2.0**-1022
    assert_same(REDUCTIONS[name](backend.from_host(x)), REDUCTIONS[name](x), backend)


@pytest.mark.parametrize("function", [rp.sum, rp.mean, rp.var, rp.logsumexp, rp.softmax])
@pytest.mark.parametrize("length", [3, 700, 20_001])
def test_rows_alone_have_the_bits_that_they_have_among_others(function, length):
    x = wide(np.random.default_rng(0), (60, length))
    together = function(x, axis=1)
    for rows in (slice(59, 60), slice(7, 30)):
        assert function(x[rows], axis=1).tobytes() == together[rows].tobytes()
        assert function(x[rows].T, axis=0).tobytes() == np.ascontiguousarray(together[rows].T).tobytes()


def test_of_no_numbers(backend):
    x = backend.from_host(np.ones((2, 0)))
    for function, value in (
        (rp.sum, 0.0),
        (rp.mean, math.nan),
        (rp.var, math.nan),
        (rp.logsumexp, -math.inf),
    ):
        assert_same(function(x, axis=1), np.full(2, value), backend)
    assert_same(rp.softmax(x), np.ones((2, 0)), backend)
