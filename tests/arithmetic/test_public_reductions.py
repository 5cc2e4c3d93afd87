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

import xpnet.reproducible as rp
from xpnet.arithmetic.full_range import FullRange, contraction_error, fewest_slices, slice_budget
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "arithmetic.md").read_text("utf-8")
NUMPY = make("numpy", "cpu")
HALF_ULP = Fraction(1, 1 << 53)


def wide(generator, shape, low=-40, high=1):
    """Numbers of both signs and many magnitudes."""
    return np.ldexp(generator.normal(size=shape), generator.integers(low, high, shape))


def exact_product(row, column):
    return sum(map(operator.mul, map(Fraction, row.tolist()), map(Fraction, column.tolist())))


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
@pytest.mark.parametrize("terms", [1, 3, 64, 784])
def test_products_are_what_the_page_specifies_within_its_bound(terms, slices):
    generator = np.random.default_rng(terms)
    for numbers in (wide, lambda generator, shape: generator.normal(size=shape)):
        a, b = numbers(generator, (2, terms)), numbers(generator, (terms, 2))
        product = rp.matmul(a, b, slices=slices)
        for i, j in np.ndindex(2, 2):
            row, column = a[i], b[:, j]
            assert product[i, j] == specified(row.tolist(), column.tolist(), slices)
            largest = Fraction(np.max(np.abs(row))) * Fraction(np.max(np.abs(column)))
            bound = terms * largest * Fraction(contraction_error(terms, slices))
            error = abs(Fraction(product[i, j]) - exact_product(row, column))
            assert error <= bound + HALF_ULP * abs(Fraction(product[i, j]))


@pytest.mark.parametrize("terms", [1, 2048, 2049, 20_000])
def test_products_are_within_1e_12_by_default_of_the_fewest_slices(terms):
    a, b = np.random.default_rng(0).uniform(0.5, 1.0, (2, terms))
    slices = 2 if terms <= 2048 else 3
    assert rp.vecdot(a, b) == rp.vecdot(a, b, slices=slices)
    assert contraction_error(terms, slices) <= 1e-12 < contraction_error(terms, slices - 1)
    assert abs(Fraction(float(rp.vecdot(a, b))) - exact_product(a, b)) <= Fraction(1, 10**12) * terms


def test_the_page_states_bits_errors_and_slices():
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) and (\d+) \| (.*) \| (\d)(?: slices)? \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for count, a, b, errors, slices in rows:
        terms = int(count.replace(",", ""))
        assert slice_budget(terms, 1)[:2] == (int(a), int(b))
        assert errors.split(" | ") == [f"{contraction_error(terms, each):.1e}" for each in (1, 2, 3)]
        assert fewest_slices(terms) == int(slices)


def test_sums_of_products_of_slices_have_no_bit_to_spare_and_too_many_terms_are_refused():
    for terms in (2, 3, 1024, 1025, 2**20):
        a, b, _ = slice_budget(terms, 3)
        assert terms * 2 ** (a + b) <= 2**53 < terms * 2 ** (a + b + 2)
    with pytest.raises(ConfigError, match=r"^a product over 4503599627370496 terms leaves no bits"):
        slice_budget(2**52, 2)


def test_products_depend_neither_on_the_order_of_the_terms_nor_on_other_rows():
    generator = np.random.default_rng(0)
    a, b = wide(generator, (7, 500)), wide(generator, (500, 5))
    order = rp.random.permutation(0, 500)
    product = rp.matmul(a, b)
    assert rp.matmul(a[:, order], b[order]).tobytes() == product.tobytes()
    assert rp.matmul(a[2:3], b[:, 1:2])[0, 0] == rp.matmul(np.stack([a, 2 * a]), b)[0, 2, 1] == product[2, 1]
    a[0, 1], a[1, 2] = math.inf, math.nan
    assert np.isnan(rp.matmul(a, b)).tolist() == [[True] * 5] * 2 + [[False] * 5] * 5


SHAPES = ["4 4", "4 2,4,3", "2,3,4 4", "3,1,5,4 2,4,6", "0,4 4,2", "3,0 0,2"]


@pytest.mark.parametrize("shapes", SHAPES)
def test_shapes_of_products_are_those_of_the_standard(shapes):
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=tuple(map(int, shape.split(",")))) for shape in shapes.split())
    np.testing.assert_allclose(rp.matmul(a, b), a @ b, atol=1e-12, strict=True)
    x, y = generator.normal(size=(3, 4, 2)), generator.normal(size=(4, 2))
    np.testing.assert_allclose(rp.vecdot(x, y, axis=-2), np.sum(x * y, axis=-2), atol=1e-12, strict=True)


# Sums


@pytest.mark.parametrize("count", [1, 2, 5, 33, 1000])
def test_sums_are_folded_within_their_bound(count):
    x = wide(np.random.default_rng(count), count)
    total, terms = float(rp.sum(x)), list(map(Fraction, x.tolist()))
    assert total == reference.folded_sum(x.tolist())
    error = HALF_ULP * (count - 1).bit_length()
    assert abs(Fraction(total) - sum(terms)) <= error * sum(map(abs, terms)) * (1 + error)


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
        variance = sum((term - mean) ** 2 for term in terms) / (1000 - Fraction(correction))
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


def test_infinities_and_nan_are_as_in_numpy():
    inf = math.inf
    x = np.array([[inf, 1.0], [-inf, 1.0], [inf, -inf], [math.nan, 1.0], [-inf, -inf], [1e308, 1e308]])
    with np.errstate(all="ignore"):
        for function, numpys in ((rp.sum, np.sum), (rp.mean, np.mean), (rp.var, np.var)):
            np.testing.assert_array_equal(function(x, axis=1), numpys(x, axis=1))
        np.testing.assert_array_equal(rp.logsumexp(x, axis=1), np.logaddexp.reduce(x, axis=1))
    nothing = [function(np.ones(0)) for function in (rp.sum, rp.mean, rp.var, rp.logsumexp)]
    np.testing.assert_array_equal(nothing, [0.0, math.nan, math.nan, -inf])


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 1, -3, (0, 2), (2, -2), ()])
def test_axes_are_those_of_numpy(axis, keepdims):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    options = {"axis": axis, "keepdims": keepdims}
    for function, numpys in ((rp.sum, np.sum), (rp.mean, np.mean), (rp.var, np.var)):
        np.testing.assert_allclose(function(x, **options), numpys(x, **options), atol=1e-13, strict=True)
    exponentials = np.sum(np.exp(x), **options)
    np.testing.assert_allclose(rp.logsumexp(x, **options), np.log(exponentials), atol=1e-13, strict=True)


@pytest.mark.parametrize("function", [rp.sum, rp.mean, rp.var, rp.logsumexp, rp.softmax])
@pytest.mark.parametrize("length", [3, 700, 20_001])
def test_rows_alone_have_the_bits_that_they_have_among_others(function, length):
    x = wide(np.random.default_rng(0), (60, length))
    together = function(x, axis=1)
    for rows in (slice(59, 60), slice(7, 30)):
        assert function(x[rows], axis=1).tobytes() == together[rows].tobytes()
        assert function(x[rows].T, axis=0).tobytes() == np.ascontiguousarray(together[rows].T).tobytes()
    if function is rp.sum:  # a long one is computed in pieces
        whole = FullRange(NUMPY.xp, "cpu", np.float64).total(x, 1)
        assert together.tobytes() == whole.tobytes()
