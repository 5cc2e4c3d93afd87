"""Contractions are as exact as docs/reproducibility.md says; test_vectors.py holds their definition."""

import operator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import reference
from networks import reproducible as reproducible_on

from xpnet.arithmetic import reproducible
from xpnet.arithmetic.reproducible import Budget, bit_budget
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError

FACTOR = 1 / 255
OPS = reproducible_on(make("numpy", "cpu"))
PATTERNS = {
    "normal": lambda g, shape: g.normal(size=shape),
    "negative zeros": lambda g, shape: np.full(shape, -0.0),
    "one huge among tiny": lambda g, shape: np.where(
        g.permutation(np.prod(shape)).reshape(shape) == 0, g.normal(), g.normal(size=shape) * 1e-30
    ),
    "all magnitudes": lambda g, shape: np.ldexp(g.normal(size=shape), g.integers(-700, 390, shape)),
    "beside powers of two": lambda g, shape: np.nextafter(
        np.ldexp(1.0, g.integers(-420, 1, shape)), g.choice([0.0, 2.0], shape)
    ),
    "ties": lambda g, shape: (g.integers(-(2**27), 2**27, shape) + 0.5) * 2.0**-27,
    "just under the largest": lambda g, shape: np.full(shape, np.nextafter(1.0, 0.0)),
    "cancelling": lambda g, shape: np.resize([1.0, -1.0, 0.5, -0.5], shape) + np.ldexp(g.random(shape), -40),
    "pixels": lambda g, shape: g.integers(0, 256, shape).astype(np.uint8),
}
FLOATS = [name for name in PATTERNS if name != "pixels"]


def draw(pattern, shape):
    return PATTERNS[pattern](np.random.default_rng(sum(shape)), shape)


def is_pixels(matrix):
    return matrix.dtype == np.uint8


def operand(matrix, factor=FACTOR):
    return OPS.integers(matrix, factor) if is_pixels(matrix) else OPS.operand(matrix)


def specified(a, b, budget=None):
    """The product as the page defines it, (n, k) times (k, m) -> (n, m)."""
    bits_a, bits_b, slices = budget or bit_budget(a.shape[1], is_pixels(a), is_pixels(b))

    def rounded(matrix, bits):
        if is_pixels(matrix):
            return [reference.of_pixels(vector) for vector in matrix]
        return [reference.rounded(vector.tolist(), bits, slices) for vector in matrix]

    factor = FACTOR if is_pixels(a) or is_pixels(b) else 1.0
    return np.array(reference.contract(rounded(a, bits_a), rounded(b.T, bits_b), factor))


def error_bound(a, b, value):
    """The page's bound of the error of the first entry, before the factor."""
    bits_a, bits_b, slices = bit_budget(a.shape[1], is_pixels(a), is_pixels(b))
    of_a, of_b = (0 if is_pixels(x) else Fraction(1, 1 << slices * n) for x, n in ((a, bits_a), (b, bits_b)))
    relative, of_value = of_a + of_b + of_a * of_b, 0
    if slices == 2:
        share_a, share_b = Fraction(1, 1 << bits_a), Fraction(1, 1 << bits_b)
        relative += share_a * share_b + (share_a + share_b) / 2**52
        of_value = abs(value) / 2**53
    largest = [max(*map(abs, vector.tolist()), 2.0**-400) for vector in (a[0], b[:, 0])]
    return a.shape[1] * relative * Fraction(largest[0]) * Fraction(largest[1]) + of_value


def same_bytes(actual, expected):
    assert (actual.dtype, actual.shape, actual.tobytes()) == (np.float64, expected.shape, expected.tobytes())


@pytest.mark.parametrize("first", PATTERNS)
@pytest.mark.parametrize("second", ["normal", "pixels"])
def test_products_are_what_the_page_specifies_within_its_bound_of_the_error(first, second):
    for terms in (1, 2, 3, 17, 784, 1025, 8193):
        a, b = draw(first, (2, terms)), draw("normal" if first == "pixels" else second, (terms, 3))
        same_bytes(OPS.matmul(operand(a), operand(b)), specified(a, b))
        value = Fraction(OPS.matmul(operand(a, 1.0), operand(b, 1.0))[0, 0].item())
        row, column = (map(Fraction, vector.tolist()) for vector in (a[0], b[:, 0]))
        assert abs(value - sum(map(operator.mul, row, column))) <= error_bound(a, b, value)


def test_a_product_that_is_zero_has_no_sign_even_if_a_librarys_sums_begin_with_negative_zero(monkeypatch):
    ops = reproducible_on(make("numpy", "cpu"))
    monkeypatch.setattr(ops.xp, "matmul", lambda a, b: -np.matmul(a, b))
    assert not np.signbit(ops.matmul(np.zeros((3, 2)), np.zeros((2, 4)))).any()


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("patterns", [("normal", "normal"), ("pixels", "normal"), ("normal", "pixels")])
def test_each_rounded_operand_is_taken_as_one_slice_or_two(monkeypatch, patterns, slices):
    a, b = (draw(pattern, shape) for pattern, shape in zip(patterns, [(4, 50), (50, 3)], strict=True))
    budget = Budget(8 if is_pixels(a) else 11, 8 if is_pixels(b) else 12, slices)
    monkeypatch.setattr(reproducible, "bit_budget", lambda *_: budget)
    same_bytes(OPS.matmul(operand(a), operand(b)), specified(a, b, budget))


@pytest.mark.parametrize("terms", [3, 5, 1023, 1025])
@pytest.mark.parametrize("more", [0, 1])
def test_one_bit_more_would_be_one_too_many(terms, more):
    budget = bit_budget(terms, a_integer=False, b_integer=False)
    x, y = 1 - 2.0 ** -(budget.a + more), 1 - 2.0**-budget.b  # all their bits are ones
    (row,) = OPS._round_to_grid(np.full((1, terms), x), OPS._find_powers(np.array(x)), budget.a + more, 1)
    (column,) = OPS._round_to_grid(np.full((terms, 1), y), -2, budget.b, 1)
    is_exact = Fraction(float((row @ column)[0, 0])) == terms * Fraction(x) * Fraction(y)
    assert is_exact == (more == 0)


@pytest.mark.parametrize("pattern", ["normal", "all magnitudes", "negative zeros"])
@pytest.mark.parametrize("inputs", ["normal", "pixels"])
def test_sums_over_samples_are_of_one_rounding_and_those_of_parts_add_up_in_any_order(pattern, inputs):
    samples = 1023
    dz, a = draw(pattern, (3, samples)), draw(inputs, (2, samples))
    budget = bit_budget(samples, a_integer=False, b_integer=is_pixels(a))
    slices = (reference.rounded(row, budget.a, budget.slices) for row in dz.tolist())
    expected = specified(dz, a.T), np.array([[sum(part.sum() for part in row) + 0.0] for row in slices])
    for actual, gradient in zip(OPS.weight_and_bias_gradients(dz, operand(a)), expected, strict=True):
        same_bytes(actual, gradient)
    bounds = pairwise([0, 1, 400, 700, samples])
    parts = [(dz[:, start:stop], operand(a[:, start:stop])) for start, stop in bounds]
    largest = [np.max(row, axis=0) for row in zip(*(OPS.sample_maxima(*part) for part in parts), strict=True)]
    sums = [OPS.partial_gradients(*part, samples, iter(largest)) for part in parts]
    for order in ([0, 1, 2, 3], [3, 1, 2, 0]):
        weight, bias = (sum(sums[part][kind] for part in order) for kind in (0, 1))
        same_bytes(weight * (FACTOR if is_pixels(a) else 1.0) + 0.0, expected[0])
        same_bytes(bias + 0.0, expected[1])


@pytest.mark.parametrize(
    ("pixels", "longest_of_one_slice", "longest"),
    [((False, False), 2**13, 2**33), ((True, False), 2**25, 2**35), ((False, True), 2**25, 2**35)],
)
def test_bits_of_a_budget(pixels, longest_of_one_slice, longest):
    counts = {2**power + more for power in range(1, 36) for more in (-1, 0, 1)}
    for terms in sorted(count for count in counts if count <= longest):
        budget = bit_budget(terms, *pixels)
        needed = next(bits for bits in range(64) if 2**bits >= terms)
        assert budget.a + budget.b + needed == 53
        assert budget.slices == (1 if terms <= longest_of_one_slice else 2)
        shares = [bits for bits, are_pixels in zip(budget, pixels, strict=False) if not are_pixels]
        assert budget.slices * min(shares) >= 20
        assert budget[pixels.index(True)] == 8 if any(pixels) else 0 <= budget.b - budget.a <= 1
    refusal = rf"^a sum over {longest + 1} terms leaves \d of 53 bits for each factor, fewer than 10: use .*$"
    with pytest.raises(ConfigError, match=refusal):
        bit_budget(longest + 1, *pixels)
