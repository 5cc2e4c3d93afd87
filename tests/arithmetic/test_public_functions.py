"""xpnet.reproducible: definitions, the error bounds of docs/arithmetic.md, the same bits on every library."""

import math
import operator
import re
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
import reference
from array_calls import X
from assertions import assert_same
from checkout import ROOT
from networks import reproducible

import xpnet.reproducible as rp
from xpnet.arithmetic.full_range import contraction_error, fewest_slices, slice_budget
from xpnet.arithmetic.reproducible import bit_budget
from xpnet.backends.resolve import make
from xpnet.errors import BackendError, ConfigError, DataError

PAGE = (ROOT / "docs" / "arithmetic.md").read_text("utf-8")
INF, NAN = math.inf, math.nan
HALF_ULP = Fraction(1, 1 << 53)


def wide(generator, shape, low=-40, high=8):
    return np.ldexp(generator.normal(size=shape), generator.integers(low, high, shape))


def specified(a, b, slices):
    """The product of a row and a column as the page defines it, from Python's integers."""
    bits_a, bits_b, _ = slice_budget(len(a), slices)
    left, right = reference.rounded(a, bits_a, slices), reference.rounded(b, bits_b, slices)
    levels = [sum(left[level - j].dot(right[j]) for j in range(level + 1)) for level in range(slices)]
    return reduce(lambda low, high: high + low, reversed(levels)) + 0.0


@pytest.mark.parametrize("slices", [1, 2, 3, 7])
@pytest.mark.parametrize("terms", [1, 3, 784, 2049])
def test_products_are_what_the_page_specifies_within_its_bound(terms, slices):
    generator = np.random.default_rng(terms)
    a, b = wide(generator, (1, terms)), generator.normal(size=(terms, 1))
    product = rp.matmul(a, b, slices=slices)
    row, column = a.ravel().tolist(), b.ravel().tolist()
    assert product.item() == specified(row, column, slices)
    exact = sum(map(operator.mul, map(Fraction, row), map(Fraction, column)))
    largest = Fraction(np.max(np.abs(a))) * Fraction(np.max(np.abs(b)))
    bound = terms * largest * Fraction(contraction_error(terms, slices))
    assert abs(Fraction(product.item()) - exact) <= bound + HALF_ULP * abs(Fraction(product.item()))
    if slices == fewest_slices(terms):
        assert rp.matmul(a, b) == product
    if slices == bit_budget(terms, a_integer=False, b_integer=False).slices:
        assert reproducible(make("numpy", "cpu")).matmul(a, b) == product  # the network's


def test_the_page_states_bits_errors_and_slices():
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) and (\d+) \| (.*) \| (\d)(?: slices)? \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for count, a, b, errors, slices in rows:
        terms = int(count.replace(",", ""))
        assert slice_budget(terms, 1)[:2] == (int(a), int(b))
        assert errors.split(" | ") == [f"{contraction_error(terms, each):.1e}" for each in (1, 2, 3)]
        assert fewest_slices(terms) == int(slices)


def test_products_depend_neither_on_the_order_of_the_terms_nor_on_other_rows():
    generator = np.random.default_rng(0)
    a, b = wide(generator, (7, 500)), wide(generator, (500, 5))
    order = rp.random.permutation(0, 500)
    product = rp.matmul(a, b)
    assert rp.matmul(a[:, order], b[order]).tobytes() == product.tobytes()
    assert rp.matmul(a[2:3], b[:, 1:2])[0, 0] == rp.matmul(np.stack([a, 2 * a]), b)[0, 2, 1] == product[2, 1]
    a[0, 1], a[1, 2] = INF, NAN
    assert np.isnan(rp.matmul(a, b)).tolist() == [[True] * 5] * 2 + [[False] * 5] * 5


def test_products_of_blocks_are_added_in_a_tree():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(4, 250)), generator.normal(size=(250, 3))
    first, second, third = (rp.matmul(a[:, i : i + 100], b[i : i + 100], slices=1) for i in (0, 100, 200))
    assert rp.matmul(a, b, slices=1, block=100).tobytes() == ((first + second) + third).tobytes()
    assert rp.matmul(a, b, block=250).tobytes() == rp.matmul(a, b).tobytes()


@pytest.mark.parametrize("count", [1, 5, 33, 1000])
def test_sums_are_folded(count):
    x = wide(np.random.default_rng(count), count)
    assert float(rp.sum(x)) == reference.folded_sum(x.tolist())


@pytest.mark.parametrize("largest", [1.0, 600.0])
def test_means_variances_logsumexp_and_softmax_are_within_their_bounds(largest):
    x = np.random.default_rng(0).uniform(0.0, largest, 1000)
    with localcontext(prec=50):
        terms = [*map(Decimal, x.tolist())]
        mean, total, logs = sum(terms) / 1000, sum(term.exp() for term in terms), Decimal(1000).ln()
        variance = sum((term - mean) ** 2 for term in terms) / Decimal("999.5")
        results = [  # the true ones, and the errors in units of 2^-53
            (rp.mean(x), mean, 11 * mean),
            (rp.var(x, correction=0.5), variance, 15 * variance),
            (rp.logsumexp(x), total.ln(), total.ln() + logs * Decimal("5.2") + 13),
        ]
        for term, share in zip(terms, rp.softmax(x), strict=True):
            true = term.exp() / total
            results.append((share, true, (max(terms) - term + logs + 18) * true))
        for result, true, error in results:
            assert abs(Decimal(float(result)) - true) <= error * Decimal(2) ** -53 + Decimal(2) ** -960


@pytest.mark.parametrize("function", [rp.sum, rp.mean, rp.var])
@pytest.mark.parametrize("axis", [None, -3, (2, 0), ()])
def test_axes_are_those_of_numpy(axis, function):
    x, options = np.random.default_rng(0).normal(size=(3, 4, 5)), {"axis": axis, "keepdims": axis == -3}
    expected = getattr(np, function.__name__)(x, **options)
    np.testing.assert_allclose(function(x, **options), expected, atol=1e-13, strict=True)


@pytest.mark.parametrize("function", [rp.sum, rp.mean, rp.var, rp.logsumexp, rp.softmax])
@pytest.mark.parametrize("length", [3, 20_001])
def test_rows_alone_have_the_bits_that_they_have_among_others(function, length):
    x = wide(np.random.default_rng(0), (60, length))
    together = function(x, axis=1)
    for rows in (slice(59, 60), slice(7, 30)):
        assert function(x[rows], axis=1).tobytes() == together[rows].tobytes()
        assert function(x[rows].T, axis=0).tobytes() == np.ascontiguousarray(together[rows].T).tobytes()


def test_random_numbers_are_the_upper_53_bits_of_the_words_and_their_order():
    words = reference.words(7, index=0, epoch=0, seed=5)
    assert rp.random.uniform(5, (2, 3)).ravel().tolist() == [(next(words) >> 11) * 2.0**-53 for _ in range(6)]
    words = reference.words(8, index=0, epoch=0, seed=5)
    drawn = [next(words) for _ in range(20)]
    assert rp.random.permutation(5, 20).tolist() == sorted(range(20), key=drawn.__getitem__)


SUBNORMAL = np.array([2.0**-128, -(2.0**-128), 2.0**-126, -0.0, NAN, INF], dtype=np.float32)
LONG = wide(np.random.default_rng(1), (3, 20_001))
CLASSES = np.array([[2, 0, 7], [-1, 1, 2]])
NOTHING, NUMBER = np.ones((2, 0)), np.array(0.5)
CALLS = {
    **{name: (getattr(rp, name), X) for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "sin", "cos")},
    "exp of bool": (rp.exp, CLASSES > 0),
    "sqrt of subnormal float32 numbers": (rp.sqrt, SUBNORMAL),
    "var": (lambda x: rp.var(x, axis=-1, correction=1), LONG),
    "logsumexp of nothing": (lambda x: rp.logsumexp(x, axis=1), NOTHING),
    "one-hot": (lambda x: rp.one_hot(x, 3, axis=0), CLASSES),
    "matmul in blocks": (lambda x: rp.matmul(x, x.T, slices=1, block=1024), LONG),
    "permutation": (lambda x: rp.random.permutation(5, 20, like=x), NUMBER),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_backend_gives_the_same_bits(backend, name):
    function, x = CALLS[name]
    result, expected = function(backend.from_host(x)), function(x)
    assert_same(result, expected, backend)
    numbers = ~np.isnan(expected)
    assert backend.to_host(result)[numbers].tobytes() == expected[numbers].tobytes()


@pytest.mark.needs("torch")
def test_results_have_no_gradient_and_devices_without_values_or_in_common_are_refused():
    import torch

    x = torch.ones((2, 2), dtype=torch.float64, requires_grad=True)
    assert not rp.tanh(x).requires_grad
    with pytest.raises(DataError, match=r"^matmul: .* one device, got numpy on cpu and torch on cpu$"):
        rp.matmul(np.ones((2, 2)), x)
    with pytest.raises(BackendError, match=r"^torch on meta does not compute in float64: [^\n]*$"):
        rp.exp(torch.ones(2, device="meta"))


ONES = np.ones((3, 3))
REFUSED = [
    (lambda: rp.exp([1.0]), "exp: expected an array of NumPy, CuPy, PyTorch, .* a list"),
    (lambda: rp.matmul(ONES, ONES * 2.0**401), r"matmul: a magnitude is above 2\^400 .*: scale .*"),
    (lambda: rp.sum(ONES, axis=[0]), r"sum: expected an axis from -2 to 1, .*, got \[0\]"),
    (lambda: rp.mean(ONES, axis=(0, -2)), r"mean: .* different ones, got \(0, -2\)"),
    (lambda: rp.random.uniform(2**64, 3), r"random: expected a seed from 0 to 2\^64 - 1, .*"),
    (lambda: rp.random.uniform(3, (2, -1)), "random: expected a shape of whole numbers, 0 or more, got -1"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_calls_that_cannot_be_computed_are_refused_in_one_line(call, message):
    with pytest.raises((ConfigError, DataError), match=f"^{message}$"):
        call()
