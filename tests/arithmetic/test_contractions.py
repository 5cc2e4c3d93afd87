"""Contractions are what docs/reproducibility.md says, to the bit: Python's integers check NumPy's.

test_closed_world.py and test_vectors.py show that other libraries compute the same.
"""

import math
import operator
from dataclasses import dataclass
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

SMALLEST = 2.0**-400  # where the range of the grids begins
FACTOR = 1 / 255
NUMPY = make("numpy", "cpu")
OPS = reproducible_on(NUMPY)


@dataclass(frozen=True)
class Factor:
    """A matrix that takes part in a product, and how it does."""

    matrix: np.ndarray
    integer: bool = False

    def operand(self, factor=FACTOR):
        return OPS.integers(self.matrix, factor) if self.integer else OPS.operand(self.matrix)

    def rounded(self, vectors, bits, count):
        """The slices of each of the matrix's rows or columns, the vectors given."""
        if self.integer:
            return [reference.of_pixels(vector) for vector in vectors]
        return [reference.rounded(vector.tolist(), bits, count) for vector in vectors]


def specified(a, b, budget=None):
    """The product as the page defines it, (n, k) times (k, m) -> (n, m)."""
    budget = budget or bit_budget(a.matrix.shape[1], a.integer, b.integer)
    rows = a.rounded(a.matrix, budget.a, budget.slices)
    columns = b.rounded(b.matrix.T, budget.b, budget.slices)
    return np.array(reference.contract(rows, columns, FACTOR if a.integer or b.integer else 1.0))


def error_bound(a, b, value):
    """The page's bound of the error of the first entry, before the factor."""
    terms = a.matrix.shape[1]
    bits_a, bits_b, slices = bit_budget(terms, a.integer, b.integer)
    of_a, of_b = (0 if x.integer else Fraction(1, 1 << slices * n) for x, n in ((a, bits_a), (b, bits_b)))
    relative, of_value = of_a + of_b + of_a * of_b, 0
    if slices == 2:
        relative += (
            Fraction(1, 1 << (bits_a + bits_b))
            + (Fraction(1, 1 << bits_a) + Fraction(1, 1 << bits_b)) / 2**52
        )
        of_value = abs(value) / 2**53
    largest = [max(*map(abs, vector.tolist()), SMALLEST) for vector in (a.matrix[0], b.matrix[:, 0])]
    return terms * relative * Fraction(largest[0]) * Fraction(largest[1]) + of_value


# What a product is

PATTERNS = {
    "normal": lambda g, shape: g.normal(size=shape),
    "one huge among tiny": lambda g, shape: np.where(
        g.permutation(math.prod(shape)).reshape(shape) == 0, g.normal(), g.normal(size=shape) * 1e-30
    ),
    "all magnitudes": lambda g, shape: np.ldexp(g.normal(size=shape), g.integers(-300, 1, shape)),
    "beside powers of two": lambda g, shape: np.nextafter(
        np.ldexp(1.0, g.integers(-30, 1, shape)), g.choice([0.0, 2.0], shape)
    ),
    "ties": lambda g, shape: (g.integers(-(2**27), 2**27, shape) + 0.5) * 2.0**-27,
    "just under the largest": lambda g, shape: np.full(shape, np.nextafter(1.0, 0.0)),
    "cancelling": lambda g, shape: (
        np.resize([1.0, -1.0, 0.5, -0.5], shape) * (1 + np.ldexp(g.integers(0, 9, shape).astype(float), -40))
    ),
}
"""Entries of magnitude about 1 or less."""


def pixel_matrix(generator, shape):
    """Any 8-bit values, or in one matrix of four the largest alone."""
    return np.maximum(generator.integers(0, 256, shape), 255 * (generator.random() < 0.25)).astype(np.uint8)


def same_bytes(actual, expected):
    """Whether two results are the same bits; NaN have no specified bits."""
    assert actual.dtype == expected.dtype == np.float64
    assert actual.shape == expected.shape
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(actual), nan)
    assert np.where(nan, 0.0, actual).tobytes() == np.where(nan, 0.0, expected).tobytes()


def product(a, b, factor=FACTOR):
    """The product of two factors on NumPy."""
    with NUMPY.scope():
        return OPS.matmul(a.operand(factor), b.operand(factor))


def factor_of(generator, shape, *, pixels):
    """A factor of pixels, or of normally distributed numbers."""
    return Factor(pixel_matrix(generator, shape) if pixels else generator.normal(size=shape), pixels)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("pixels", ["neither", "first", "second"])
def test_products_are_what_the_page_specifies_within_its_bound_of_the_error(pattern, pixels):
    generator = np.random.default_rng(0)

    def factor(name, shape, pattern):
        if name == pixels:
            return Factor(pixel_matrix(generator, shape), integer=True)
        scale = generator.choice([0, generator.integers(-450, 395)])
        return Factor(np.ldexp(PATTERNS[pattern](generator, shape), scale))

    for terms in (1, 2, 3, 17, 784, 1025, 8193):
        a = factor("first", (2, terms), pattern)
        b = factor("second", (terms, 3), generator.choice(list(PATTERNS)))
        same_bytes(product(a, b), specified(a, b))
        value = Fraction(product(a, b, factor=1.0)[0, 0].item())
        row, column = (map(Fraction, vector.tolist()) for vector in (a.matrix[0], b.matrix[:, 0]))
        assert abs(value - sum(map(operator.mul, row, column))) <= error_bound(a, b, value)


def test_a_product_that_is_zero_has_no_sign_even_of_a_library_whose_sums_begin_with_negative_zero(
    monkeypatch,
):
    ops = reproducible_on(NUMPY)
    monkeypatch.setattr(ops.xp, "matmul", lambda a, b: -np.matmul(a, b))
    assert not np.signbit(ops.matmul(np.zeros((3, 2)), np.zeros((2, 4)))).any()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("pixels", [(False, False), (True, False), (False, True)])
def test_each_rounded_operand_is_taken_as_one_slice_or_two(monkeypatch, pixels, count):
    budget = Budget(8 if pixels[0] else 11, 8 if pixels[1] else 12, count)
    monkeypatch.setattr(reproducible, "bit_budget", lambda *_: budget)
    generator = np.random.default_rng(0)
    a, b = (
        factor_of(generator, shape, pixels=p) for shape, p in zip([(4, 50), (50, 3)], pixels, strict=True)
    )
    same_bytes(product(a, b), specified(a, b, budget))


# Where exactness is closest to being lost


@pytest.mark.parametrize("terms", [3, 5, 1023, 1025])
@pytest.mark.parametrize("more", [0, 1])
def test_one_bit_more_would_be_one_too_many(terms, more):
    budget = bit_budget(terms, a_integer=False, b_integer=False)
    x, y = 1 - 2.0 ** -(budget.a + more), 1 - 2.0**-budget.b  # all their bits are ones
    (row,) = OPS._round_to_grid(np.full((1, terms), x), -1, budget.a + more, 1)
    (column,) = OPS._round_to_grid(np.full((terms, 1), y), -2, budget.b, 1)
    is_exact = Fraction(float((row @ column)[0, 0])) == terms * Fraction(x) * Fraction(y)
    assert is_exact == (more == 0)


# Sums over samples, and along an axis


@pytest.mark.parametrize("samples", [1, 1023, 8193])
@pytest.mark.parametrize("pixels", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize("pattern", ["normal", "all magnitudes", "negative zeros"])
def test_sums_over_samples_are_of_one_rounding_and_those_of_parts_add_up_in_any_order(
    samples, pixels, pattern
):
    generator = np.random.default_rng(samples)
    dz = (
        np.full((3, samples), -0.0)
        if pattern == "negative zeros"
        else PATTERNS[pattern](generator, (3, samples))
    )
    a = factor_of(generator, (2, samples), pixels=pixels)
    budget = bit_budget(samples, a_integer=False, b_integer=pixels)
    slices = (reference.rounded(row, budget.a, budget.slices) for row in dz.tolist())
    biases = np.array([[sum(part.sum() for part in row) + 0.0] for row in slices])
    weights = specified(Factor(dz), Factor(a.matrix.T, pixels))
    for actual, expected in zip(
        OPS.weight_and_bias_gradients(dz, a.operand()), (weights, biases), strict=True
    ):
        same_bytes(actual, expected)
    if samples != 1023:
        return
    bounds = pairwise([0, 1, 400, 700, 1023])
    parts = [(dz[:, start:stop], Factor(a.matrix[:, start:stop], pixels).operand()) for start, stop in bounds]
    maxima = zip(*(OPS.sample_maxima(*part) for part in parts), strict=True)
    largest = [np.max(row, axis=0) for row in maxima]
    sums = [OPS.partial_gradients(*part, samples, iter(largest)) for part in parts]
    for order in ([0, 1, 2, 3], [3, 1, 2, 0]):
        weight, bias = (sum(sums[part][kind] for part in order) for kind in (0, 1))
        same_bytes(weight * (FACTOR if pixels else 1.0) + 0.0, weights)
        same_bytes(bias + 0.0, biases)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_sums_are_folded(axis):
    for count in (1, 2, 3, 5, 10, 33, 1024):
        shape = [2, 3, 2]
        shape[axis] = count
        generator = np.random.default_rng(count)
        x = np.ldexp(generator.normal(size=shape), generator.integers(-60, 60, shape))
        expected = np.apply_along_axis(lambda v: np.array([reference.folded_sum(v.tolist())]), axis, x)
        same_bytes(OPS.sum(x, axis=axis), expected)


# The budget


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
        shares = [bits for bits, is_pixels in zip(budget, pixels, strict=False) if not is_pixels]
        assert budget.slices * min(shares) >= 20
        assert 0 <= budget.b - budget.a <= 1 if not any(pixels) else budget[pixels.index(True)] == 8
    for terms in (longest + 1, 2**60):
        refusal = rf"^a sum over {terms} terms leaves \d of 53 bits for each factor, fewer than 10: use .*$"
        with pytest.raises(ConfigError, match=refusal):
            bit_budget(terms, *pixels)
