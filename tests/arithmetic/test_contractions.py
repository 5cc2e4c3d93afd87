"""Contractions are what docs/reproducibility.md says, to the bit: Python's integers check every library."""

import math
import operator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import reference
from networks import reproducible as reproducible_on

from xpnet.arithmetic import Arithmetic, Reproducible, reproducible
from xpnet.arithmetic.reproducible import Budget, bit_budget
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError

LARGEST, SMALLEST = 2.0**400, 2.0**-400
"""The range of the grids."""

FACTOR = 1 / 255
NUMPY = make("numpy", "cpu")
OPS = reproducible_on(NUMPY)


@dataclass(frozen=True)
class Factor:
    """A matrix that takes part in a product, and how it does."""

    matrix: np.ndarray
    integer: bool = False

    def on(self, ops=OPS, backend=NUMPY, factor=FACTOR):
        """The operand on a backend."""
        array = backend.from_host(self.matrix)
        return ops.integers(array, factor) if self.integer else ops.operand(array)

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


# Matrices


@pytest.fixture
def ops(backend):
    return reproducible_on(backend)


@pytest.mark.parametrize("terms", [1, 2])
def test_a_product_that_is_zero_has_no_sign(ops, backend, terms):
    product = ops.matmul(
        backend.from_host(np.zeros((3, terms))), backend.from_host(np.full((terms, 4), -1.0))
    )
    assert not np.signbit(backend.to_host(product)).any()


def test_nor_has_one_of_a_library_whose_sums_begin_with_negative_zero(monkeypatch):
    ops = reproducible_on(NUMPY)
    monkeypatch.setattr(ops.xp, "matmul", lambda a, b: -np.matmul(a, b))
    assert not np.signbit(ops.matmul(np.zeros((3, 2)), np.zeros((2, 4)))).any()


PATTERNS = {
    "normal": lambda g, shape: g.normal(size=shape),
    "negative zeros": lambda g, shape: np.full(shape, -0.0),
    "one huge among tiny": lambda g, shape: np.where(
        g.permutation(math.prod(shape)).reshape(shape) == 0, g.normal(), g.normal(size=shape) * 1e-30
    ),
    "all magnitudes": lambda g, shape: np.ldexp(g.normal(size=shape), g.integers(-300, 1, shape)),
    "sparse": lambda g, shape: g.normal(size=shape) * (g.random(shape) < 0.2),
    "beside powers of two": lambda g, shape: np.nextafter(
        np.ldexp(1.0, g.integers(-30, 1, shape)), g.choice([0.0, 2.0], shape)
    ),
    "ties": lambda g, shape: (g.integers(-(2**27), 2**27, shape) + 0.5) * 2.0**-27,
    "just under the largest": lambda g, shape: np.full(shape, np.nextafter(1.0, 0.0)),
    "just over a power of two": lambda g, shape: np.full(shape, np.nextafter(1.0, 2.0)),
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
        return OPS.matmul(a.on(factor=factor), b.on(factor=factor))


# What a product is


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("pixels", ["neither", "first", "second"])
def test_products_are_what_the_page_specifies_within_its_bound_of_the_error(pattern, pixels):
    generator = np.random.default_rng(0)

    def factor(name, shape, pattern):
        if name == pixels:
            return Factor(pixel_matrix(generator, shape), integer=True)
        scale = generator.choice([0, generator.integers(-450, 395)])
        return Factor(np.ldexp(PATTERNS[pattern](generator, shape), scale))

    for terms in (1, 2, 3, 10, 17, 64, 784, 1025, 8193):
        a = factor("first", (2, terms), pattern)
        b = factor("second", (terms, 3), generator.choice(list(PATTERNS)))
        same_bytes(product(a, b), specified(a, b))
        value = Fraction(product(a, b, factor=1.0)[0, 0].item())
        row, column = (map(Fraction, vector.tolist()) for vector in (a.matrix[0], b.matrix[:, 0]))
        assert abs(value - sum(map(operator.mul, row, column))) <= error_bound(a, b, value)


@pytest.mark.parametrize("terms", [17, 784, 8193])
@pytest.mark.parametrize("integer", [False, True], ids=["floats", "pixels"])
def test_products_are_what_the_page_specifies_on_every_backend(backend, ops, terms, integer):
    generator = np.random.default_rng(terms)
    a = Factor(PATTERNS["all magnitudes"](generator, (3, terms)))
    b = Factor(pixel_matrix(generator, (terms, 5)) if integer else generator.normal(size=(terms, 5)), integer)
    result = ops.matmul(a.on(ops, backend), b.on(ops, backend))
    same_bytes(backend.to_host(result), specified(a, b))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("integer", [(False, False), (True, False), (False, True)])
def test_each_rounded_operand_is_taken_as_one_slice_or_two(monkeypatch, integer, count):
    budget = Budget(8 if integer[0] else 11, 8 if integer[1] else 12, count)
    monkeypatch.setattr(reproducible, "bit_budget", lambda *_: budget)
    generator = np.random.default_rng(0)
    a, b = (
        Factor(pixel_matrix(generator, shape) if pixels else generator.normal(size=shape), pixels)
        for shape, pixels in zip(((4, 50), (50, 3)), integer, strict=True)
    )
    same_bytes(product(a, b), specified(a, b, budget))


# What a product does not depend on


@pytest.mark.parametrize("integer", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize("shared", [False, True])
def test_stacked_matrices_are_multiplied_as_if_alone(backend, ops, integer, shared):
    generator = np.random.default_rng(0)
    a = generator.normal(size=(4, 50) if shared else (2, 3, 4, 50))
    b = pixel_matrix(generator, (2, 3, 50, 5)) if integer else generator.normal(size=(2, 3, 50, 5))
    result = backend.to_host(ops.matmul(Factor(a).on(ops, backend), Factor(b, integer).on(ops, backend)))
    assert result.shape == (2, 3, 4, 5)
    for index in np.ndindex(2, 3):
        same_bytes(result[index], product(Factor(a if shared else a[index]), Factor(b[index], integer)))


def test_an_operand_can_take_part_in_several_products():
    """It is rounded anew for every share of bits: 24 first, 25 second, 41 beside pixels."""
    generator = np.random.default_rng(0)
    host = generator.normal(size=(10, 10))
    matrix = OPS.operand(host)
    for values in (generator.normal(size=(10, 4)), pixel_matrix(generator, (10, 4))):
        other = Factor(values, integer=values.dtype == np.uint8)
        turned = Factor(values.T, other.integer)
        for operand, side in [(matrix, host), (OPS.transpose(matrix), host.T), (matrix, host)]:
            same_bytes(OPS.matmul(operand, other.on()), specified(Factor(side), other))
            same_bytes(OPS.matmul(turned.on(), operand), specified(turned, Factor(side)))


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


def test_grids_start_at_the_smallest_power_of_two_in_the_range_that_is_not_smaller(backend, ops):
    powers = [math.ldexp(1.0, exponent) for exponent in (-1074, -1022, -401, -400, -399, -1, 0, 1, 399, 400)]
    tops = [
        x for p in powers for x in (math.nextafter(p, 0.0), p, math.nextafter(p, math.inf)) if x <= LARGEST
    ]
    vectors = np.array([[top, -top / 3, top / 7, 0.0] for top in tops])
    (result,) = ops._round_to_grid(backend.from_host(vectors), -1, 20, 1)
    slices = [reference.rounded(vector, 20)[0] for vector in vectors.tolist()]
    expected = [[math.ldexp(n, each.exponent) for n in each.integers] for each in slices]
    same_bytes(backend.to_host(result) + 0.0, np.array(expected))


OUTSIDE = [math.nan, math.inf, -math.inf, math.nextafter(LARGEST, math.inf), -1e200, 1.7e308]


def test_a_number_out_of_range_makes_its_row_and_column_nan_and_nothing_else(backend, ops):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(8, 30)), generator.normal(size=(30, 8))
    expected = product(Factor(a), Factor(b)).copy()
    for index, value in enumerate(OUTSIDE):
        a[index, 7] = b[8, index] = value
    expected[: len(OUTSIDE), :] = expected[:, : len(OUTSIDE)] = np.nan
    x, y, transposed = map(backend.from_host, (a, b, b.T))
    weight_gradient, bias_gradient = ops.weight_and_bias_gradients(x, transposed)
    same_bytes(backend.to_host(ops.matmul(x, y)), expected)
    same_bytes(backend.to_host(weight_gradient), expected)
    assert np.isnan(backend.to_host(bias_gradient)[:, 0]).tolist() == [True] * 6 + [False] * 2


# Sums over samples, and along an axis


@pytest.mark.parametrize("samples", [1, 10, 8193])
@pytest.mark.parametrize("integer", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize("pattern", ["normal", "all magnitudes", "negative zeros"])
def test_sums_over_samples_are_of_one_rounding(samples, integer, pattern):
    generator = np.random.default_rng(samples)
    dz = PATTERNS[pattern](generator, (3, samples))
    a = pixel_matrix(generator, (2, samples)) if integer else generator.normal(size=(2, samples))
    weight_gradient, bias_gradient = OPS.weight_and_bias_gradients(dz, Factor(a, integer).on())
    same_bytes(weight_gradient, specified(Factor(dz), Factor(a.T, integer)))
    budget = bit_budget(samples, a_integer=False, b_integer=integer)
    slices = (reference.rounded(row, budget.a, budget.slices) for row in dz.tolist())
    same_bytes(bias_gradient, np.array([[sum(part.sum() for part in row) + 0.0] for row in slices]))


@pytest.mark.parametrize("integer", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize("pattern", ["normal", "all magnitudes", "negative zeros"])
def test_sums_over_parts_of_the_samples_add_up_in_any_order(backend, ops, integer, pattern):
    generator, samples, bounds = np.random.default_rng(7), 1023, [0, 1, 400, 700, 1023]
    dz = PATTERNS[pattern](generator, (3, samples))
    a = Factor(
        pixel_matrix(generator, (2, samples)) if integer else generator.normal(size=(2, samples)), integer
    )
    expected = ops.weight_and_bias_gradients(backend.from_host(dz), a.on(ops, backend))
    parts = [
        (backend.from_host(dz[:, start:stop]), Factor(a.matrix[:, start:stop], integer).on(ops, backend))
        for start, stop in pairwise(bounds)
    ]
    maxima = [ops.sample_maxima(*part) for part in parts]
    largest = [
        backend.from_host(np.max([*map(backend.to_host, row)], axis=0)) for row in zip(*maxima, strict=True)
    ]
    sums = [ops.partial_gradients(*part, samples, iter(largest)) for part in parts]
    for order in ([0, 1, 2, 3], [3, 1, 2, 0]):
        weight, bias = sums[order[0]]
        for part in order[1:]:
            weight, bias = weight + sums[part][0], bias + sums[part][1]
        same_bytes(backend.to_host(weight * (FACTOR if integer else 1.0) + 0.0), backend.to_host(expected[0]))
        same_bytes(backend.to_host(bias + 0.0), backend.to_host(expected[1]))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 33, 1024])
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_sums_are_folded(count, axis):
    shape = [2, 3, 2]
    shape[axis] = count
    generator = np.random.default_rng(count)
    x = np.ldexp(generator.normal(size=shape), generator.integers(-60, 60, shape))
    expected = np.apply_along_axis(lambda v: np.array([reference.folded_sum(v.tolist())]), axis, x)
    same_bytes(OPS.sum(x, axis=axis), expected)


# The budget

COUNTS = [
    *range(1, 70),
    *(2**power + more for power in range(3, 61) for more in (-1, 0, 1) if power < 60 or more < 1),
]


@pytest.mark.parametrize(
    ("integer", "longest_of_one_slice", "longest"),
    [((False, False), 2**13, 2**33), ((True, False), 2**25, 2**35), ((False, True), 2**25, 2**35)],
)
def test_bits_of_a_budget(integer, longest_of_one_slice, longest):
    for terms in COUNTS:
        if terms > longest:
            refusal = (
                rf"^a sum over {terms} terms leaves \d of 53 bits for each factor, fewer than 10: use .*$"
            )
            with pytest.raises(ConfigError, match=refusal):
                bit_budget(terms, *integer)
            continue
        budget = bit_budget(terms, *integer)
        needed = next(bits for bits in range(64) if 2**bits >= terms)
        assert budget.a + budget.b + needed == 53
        assert budget.slices == (1 if terms <= longest_of_one_slice else 2)
        shares = [bits for bits, is_integer in zip(budget, integer, strict=False) if not is_integer]
        assert budget.slices * min(shares) >= 20
        if any(integer):
            assert budget[integer.index(True)] == 8
        else:
            assert 0 <= budget.b - budget.a <= 1


def test_the_reproducible_arithmetic_takes_no_operation_from_the_library():
    operations = {name for name in vars(Arithmetic) if not name.startswith("_")}
    assert "matmul" in operations
    assert operations <= vars(Reproducible).keys()
