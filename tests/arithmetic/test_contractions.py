"""Contractions are what docs/reproducibility.md says, to the bit: Python's integers check every library."""

import itertools
import math
import operator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from assertions import assert_on_backend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet.arithmetic import reproducible
from xpnet.arithmetic.reproducible import Budget, Reproducible, bit_budget
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError

SMALLEST_UNIT = -1074
"""Every float64 is an integer multiple of 2 to this power."""

LARGEST, SMALLEST = 2.0**400, 2.0**-400
"""The range of the grids."""

FACTOR = 1 / 255
PROPERTY = settings(
    max_examples=40,
    # A backend keeps no state, and thousands of terms take a moment to draw.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# The page, in integers: nothing here rounds unless the page says so


def units(vector):
    """A vector of floats as integer multiples of 2^-1074."""
    ratios = (float(x).as_integer_ratio() for x in vector)
    return [n << (1 - SMALLEST_UNIT - d.bit_length()) for n, d in ratios]


def exact(multiple, exponent):
    """multiple · 2^exponent as a fraction."""
    return Fraction(multiple) * Fraction(2) ** exponent


def exact_float(multiple, exponent):
    """multiple · 2^exponent, which has to be a float64."""
    value = exact(multiple, exponent)
    assert Fraction(float(value)) == value, f"{float(value)!r} is not exact"
    return float(value)


@dataclass(frozen=True)
class Slice:
    """A vector of multiples of 2^exponent."""

    multiples: list[int]
    exponent: int

    def floats(self):
        return [exact_float(multiple, self.exponent) for multiple in self.multiples]

    def sum(self):
        return exact_float(sum(self.multiples), self.exponent)

    def dot(self, other):
        terms = map(operator.mul, self.multiples, other.multiples)
        return exact_float(sum(terms), self.exponent + other.exponent)


def nearest_multiples(values, step):
    """The integers that, times 2^step, are nearest to integers; even ones in a tie."""
    half, found = 1 << (step - 1), []
    for value in values:
        quotient = value >> step
        rest = value - (quotient << step)
        found.append(quotient + (rest > half or (rest == half and quotient % 2 == 1)))
    return found


def rounded(vector, bits, count):
    """The slices of a vector."""
    values = units(vector)
    largest = max(map(abs, values))
    power = max((largest - 1).bit_length() if largest else 0, -400 - SMALLEST_UNIT)
    slices = []
    for index in range(count):
        step = power - bits * (index + 1)
        multiples = nearest_multiples(values, step)
        slices.append(Slice(multiples, step + SMALLEST_UNIT))
        if index + 1 < count:
            values = [v - (m << step) for v, m in zip(values, multiples, strict=True)]
    return slices


@dataclass(frozen=True)
class Factor:
    """A matrix that takes part in a product, and how it does."""

    matrix: np.ndarray
    integer: bool = False

    def on(self, ops, backend, factor=FACTOR):
        """The operand on a backend."""
        array = backend.from_host(self.matrix)
        return ops.integers(array, factor) if self.integer else ops.operand(array)

    def slices(self, vectors, bits, count):
        """The slices of each of the matrix's rows or columns, the vectors given."""
        if self.integer:
            return [[Slice([int(x) for x in vector], 0)] for vector in vectors]
        return [rounded(vector, bits, count) for vector in vectors]

    @property
    def factor(self):
        return FACTOR if self.integer else 1.0


def specified(a, b, budget=None):
    """The product as the page defines it, (n, k) times (k, m) -> (n, m)."""
    budget = budget or bit_budget(a.matrix.shape[1], a.integer, b.integer)
    result = np.empty((a.matrix.shape[0], b.matrix.shape[1]))
    rows = a.slices(a.matrix, budget.a, budget.slices)
    columns = b.slices(b.matrix.T, budget.b, budget.slices)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            value = row[0].dot(column[0])
            low = [part.dot(column[0]) for part in row[1:]]
            low += [row[0].dot(part) for part in column[1:]]
            if low:
                value += low[0] if len(low) == 1 else low[0] + low[1]
            result[i, j] = value * (a.factor * b.factor) + 0.0
    return result


def relative_bounds(a, b):
    """The page's bound of the error, before the factor: relative to M_a·M_b, and to the result."""
    terms = a.matrix.shape[1]
    budget = bit_budget(terms, a.integer, b.integer)
    count = budget.slices
    of_a = Fraction(0 if a.integer else 1, 1 << (count * budget.a))
    of_b = Fraction(0 if b.integer else 1, 1 << (count * budget.b))
    relative = of_a + of_b + of_a * of_b
    if count == 2 and not a.integer and not b.integer:
        relative += Fraction(1, 1 << (budget.a + budget.b))  # the product of the two low slices
    if count == 1:
        return terms * relative, Fraction(0)
    relative += Fraction(1, 1 << 52) * (Fraction(1, 1 << budget.a) + Fraction(1, 1 << budget.b))
    return terms * relative, Fraction(1, 1 << 53)


# Matrices


def reproducible_on(backend):
    return Reproducible(backend.xp, backend.device, backend.xp.float64)


@pytest.fixture
def ops(backend):
    return reproducible_on(backend)


def numpy_ops():
    backend = make("numpy", "cpu")
    return reproducible_on(backend), backend


PATTERNS = {
    "normal": lambda g, shape: g.normal(size=shape),
    "zeros": lambda g, shape: np.zeros(shape),
    "negative zeros": lambda g, shape: np.full(shape, -0.0),
    "all equal": lambda g, shape: np.full(shape, g.normal()),
    "one huge among tiny": lambda g, shape: np.where(
        g.permutation(math.prod(shape)).reshape(shape) == 0,
        g.normal(),
        g.normal(size=shape) * 1e-30,
    ),
    "all magnitudes": lambda g, shape: np.ldexp(g.normal(size=shape), g.integers(-300, 1, shape)),
    "sparse": lambda g, shape: g.normal(size=shape) * (g.random(shape) < 0.2),
    "powers of two": lambda g, shape: np.ldexp(g.choice([-1.0, 1.0], shape), g.integers(-60, 1, shape)),
    "beside powers of two": lambda g, shape: np.nextafter(
        np.ldexp(1.0, g.integers(-30, 1, shape)), g.choice([0.0, 2.0], shape)
    ),
    "ties": lambda g, shape: (g.integers(-(2**27), 2**27, shape) + 0.5) * 2.0**-27,
    "largest": lambda g, shape: np.ones(shape),
    "just under the largest": lambda g, shape: np.full(shape, np.nextafter(1.0, 0.0)),
    "just over a power of two": lambda g, shape: np.full(shape, np.nextafter(1.0, 2.0)),
    "cancelling": lambda g, shape: (
        np.resize([1.0, -1.0, 0.5, -0.5], shape) * (1 + np.ldexp(g.integers(0, 9, shape).astype(float), -40))
    ),
}
"""Entries of magnitude about 1 or less; each example scales them."""


def pixel_matrix(generator, shape):
    """8-bit values: any, or the largest alone."""
    if generator.random() < 0.25:
        return np.full(shape, 255, dtype=np.uint8)
    return generator.integers(0, 256, shape, dtype=np.uint8)


@st.composite
def factors(draw, terms):
    """Two matrices with a common index of so many terms, of which at most one holds pixels."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = draw(st.sampled_from(["neither", "neither", "first", "second"]))
    made = []
    for name, shape in (("first", (2, terms)), ("second", (terms, 3))):
        if pixels == name:
            made.append(Factor(pixel_matrix(generator, shape), integer=True))
            continue
        pattern = draw(st.sampled_from(sorted(PATTERNS)))
        scale = draw(st.one_of(st.just(0), st.integers(-450, 395)))
        made.append(Factor(np.ldexp(PATTERNS[pattern](generator, shape), scale)))
    return made


def same_bytes(actual, expected):
    """Whether two results are the same bits; NaN have no specified bits."""
    assert actual.dtype == expected.dtype == np.float64
    assert actual.shape == expected.shape
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(actual), nan)
    assert np.where(nan, 0.0, actual).tobytes() == np.where(nan, 0.0, expected).tobytes()


def product(a, b, factor=FACTOR):
    """The product of two factors on NumPy."""
    ops, backend = numpy_ops()
    with backend.scope():
        return ops.matmul(a.on(ops, backend, factor), b.on(ops, backend, factor))


# What a product is

SHORT = [1, 2, 3, 10, 17, 64]  # few, because JAX compiles anew for every shape
LONG = [784, 1023, 1024, 1025, 8191, 8192, 8193, 20_000]


@PROPERTY
@given(data=st.data())
def test_products_are_what_the_page_specifies_on_every_backend(backend, ops, data):
    a, b = data.draw(factors(data.draw(st.sampled_from(SHORT))))
    result = ops.matmul(a.on(ops, backend), b.on(ops, backend))
    assert_on_backend(result, backend)
    same_bytes(backend.to_host(result), specified(a, b))


@settings(PROPERTY, max_examples=25)
@given(data=st.data())
def test_long_products_are_what_the_page_specifies(data):
    a, b = data.draw(factors(data.draw(st.sampled_from(LONG))))
    same_bytes(product(a, b), specified(a, b))


@pytest.mark.parametrize("terms", [784, 8193])
def test_long_products_are_what_the_page_specifies_on_every_backend(backend, ops, terms):
    generator = np.random.default_rng(terms)
    a, b = (Factor(generator.normal(size=shape)) for shape in ((3, terms), (terms, 5)))
    result = ops.matmul(a.on(ops, backend), b.on(ops, backend))
    same_bytes(backend.to_host(result), specified(a, b))


@pytest.mark.parametrize(
    ("pattern", "integer"),
    [("normal", False), ("just under the largest", False), ("just under the largest", True)],
)
def test_a_million_terms(pattern, integer):
    generator = np.random.default_rng(0)
    a = Factor(PATTERNS[pattern](generator, (1, 1_000_000)))
    b = Factor(PATTERNS[pattern](generator, (1_000_000, 1)))
    if integer:
        b = Factor(np.full((1_000_000, 1), 255, dtype=np.uint8), integer=True)
    same_bytes(product(a, b), specified(a, b))


@settings(PROPERTY, max_examples=60)
@given(data=st.data())
def test_the_error_is_within_the_bound(data):
    a, b = data.draw(factors(data.draw(st.sampled_from([*SHORT, 784, 8192, 8193]))))
    result = product(a, b, factor=1.0)
    of_largest, of_result = relative_bounds(a, b)
    rows, columns = ([units(vector) for vector in matrix] for matrix in (a.matrix, b.matrix.T))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            true = exact(sum(map(operator.mul, row, column)), 2 * SMALLEST_UNIT)
            largest = [
                max(exact(max(map(abs, vector)), SMALLEST_UNIT), Fraction(SMALLEST))
                for vector in (row, column)
            ]
            value = Fraction(float(result[i, j]))
            bound = of_largest * largest[0] * largest[1] + of_result * abs(value)
            assert abs(value - true) <= bound


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


def permuted(a, b, generator):
    order = generator.permutation(a.matrix.shape[1])
    return Factor(a.matrix[:, order], a.integer), Factor(b.matrix[order, :], b.integer)


def in_fortran_order(a, b, generator):
    return tuple(Factor(np.asfortranarray(f.matrix), f.integer) for f in (a, b))


def with_strides(a, b, generator):
    """Views of every third number of larger matrices, backwards."""
    found = []
    for factor in (a, b):
        wide = np.zeros([3 * length for length in factor.matrix.shape], factor.matrix.dtype)
        view = wide[::-3, ::-3]
        view[...] = factor.matrix
        found.append(Factor(view, factor.integer))
    return found


@pytest.mark.parametrize("change", [permuted, in_fortran_order, with_strides])
@PROPERTY
@given(data=st.data())
def test_order_and_memory_do_not_matter(change, data):
    a, b = data.draw(factors(data.draw(st.sampled_from(SHORT + LONG))))
    same_bytes(product(*change(a, b, np.random.default_rng(0))), product(a, b))


def test_memory_order_does_not_matter_on_any_backend(backend, ops):
    generator = np.random.default_rng(0)
    a, b = (Factor(generator.normal(size=shape)) for shape in ((7, 300), (300, 5)))
    result = ops.matmul(*(f.on(ops, backend) for f in in_fortran_order(a, b, generator)))
    same_bytes(backend.to_host(result), product(a, b))


def in_parts(a, b, bounds):
    """The sums of partial products of the rounded operands, added from left to right."""
    ops, backend = numpy_ops()
    budget = bit_budget(a.matrix.shape[1], a.integer, b.integer)
    with backend.scope():
        left = ops._slices(a.on(ops, backend), -1, budget.a, budget.slices)
        right = ops._slices(b.on(ops, backend), -2, budget.b, budget.slices)

        def added(x, y):
            total = 0.0
            for start, stop in itertools.pairwise(bounds):
                total = total + x[:, start:stop] @ y[start:stop, :]
            return total

        result = added(left[0], right[0])
        low = [added(part, right[0]) for part in left[1:]]
        low += [added(left[0], part) for part in right[1:]]
        if low:
            result = result + (low[0] if len(low) == 1 else low[0] + low[1])
        return result * (a.factor * b.factor) + 0.0


@PROPERTY
@given(data=st.data())
def test_any_split_into_parts_gives_the_same_bits(data):
    terms = data.draw(st.sampled_from(SHORT + LONG))
    a, b = data.draw(factors(terms))
    cuts = data.draw(st.sets(st.integers(0, terms), max_size=6))
    same_bytes(in_parts(a, b, sorted({0, terms, *cuts})), product(a, b))


@PROPERTY
@given(data=st.data())
def test_a_transposed_product_gives_its_two_operands_the_other_shares_of_bits(data):
    terms = data.draw(st.sampled_from(SHORT + LONG))
    a, b = data.draw(factors(terms))
    ops, backend = numpy_ops()
    with backend.scope():
        left, right = (ops.transpose(f.on(ops, backend)) for f in (b, a))
        transposed = ops.matmul(left, right).T
    budget = bit_budget(terms, b.integer, a.integer)
    expected = specified(a, b, Budget(budget.b, budget.a, budget.slices))
    same_bytes(np.ascontiguousarray(transposed), expected)
    if budget.a == budget.b or a.integer or b.integer:
        same_bytes(np.ascontiguousarray(transposed), product(a, b))


@pytest.mark.parametrize("integer", [False, True], ids=["floats", "pixels"])
def test_stacked_matrices_are_multiplied_as_if_alone(backend, ops, integer):
    generator = np.random.default_rng(0)
    a = generator.normal(size=(2, 3, 4, 50))
    b = pixel_matrix(generator, (2, 3, 50, 5)) if integer else generator.normal(size=(2, 3, 50, 5))
    for shared in (False, True):
        first = a[0, 0] if shared else a
        result = ops.matmul(Factor(first).on(ops, backend), Factor(b, integer).on(ops, backend))
        result = backend.to_host(result)
        assert result.shape == (2, 3, 4, 5)
        for index in np.ndindex(2, 3):
            alone = product(Factor(first if shared else a[index]), Factor(b[index], integer))
            same_bytes(result[index], alone)


@PROPERTY
@given(data=st.data())
def test_other_rows_and_columns_do_not_matter(data):
    a, b = data.draw(factors(data.draw(st.sampled_from(SHORT + LONG))))
    together = product(a, b)
    for i in range(a.matrix.shape[0]):
        row = Factor(a.matrix[i : i + 1, :], a.integer)
        same_bytes(product(row, b), together[i : i + 1, :])
        for j in range(b.matrix.shape[1]):
            column = Factor(b.matrix[:, j : j + 1], b.integer)
            same_bytes(product(row, column), together[i : i + 1, j : j + 1])


def test_an_operand_can_take_part_in_several_products(backend, ops):
    """It is rounded anew for every share of bits: 24 first, 25 second, 41 beside pixels."""
    generator = np.random.default_rng(0)
    host = generator.normal(size=(10, 10))
    matrix = ops.operand(backend.from_host(host))
    seen = [(matrix, host), (ops.transpose(matrix), host.T), (matrix, host)]
    for values in (generator.normal(size=(10, 4)), pixel_matrix(generator, (10, 4))):
        other = Factor(values, integer=values.dtype == np.uint8)
        turned = Factor(values.T, other.integer)
        for operand, side in seen:
            result = backend.to_host(ops.matmul(operand, other.on(ops, backend)))
            same_bytes(result, specified(Factor(side), other))
            result = backend.to_host(ops.matmul(turned.on(ops, backend), operand))
            same_bytes(result, specified(turned, Factor(side)))


@pytest.mark.parametrize("terms", [1, 2, 10])
@pytest.mark.parametrize("integer", [False, True], ids=["floats", "pixels"])
def test_zero_results_are_positive(backend, ops, terms, integer):
    negative = Factor(np.full((2, terms), -1.5))
    zeros = Factor(np.zeros((terms, 3), np.uint8 if integer else np.float64), integer)
    result = backend.to_host(ops.matmul(negative.on(ops, backend), zeros.on(ops, backend)))
    same_bytes(result, np.zeros((2, 3)))


# Where exactness is closest to being lost

POWERS = [1, 2, 4, 8, 1024, 8192]
EDGES = [
    "largest",
    "just under the largest",
    "just over a power of two",
    "powers of two",
    "beside powers of two",
    "ties",
    "cancelling",
]


@pytest.mark.parametrize("terms", [*POWERS, *(power + 1 for power in POWERS)])
@pytest.mark.parametrize("pattern", EDGES)
def test_sums_at_the_edge_of_53_bits_are_exact(terms, pattern):
    generator = np.random.default_rng(terms)
    a, b = (Factor(PATTERNS[pattern](generator, shape)) for shape in ((1, terms), (terms, 2)))
    same_bytes(product(a, b), specified(a, b))
    bright = Factor(np.full((terms, 2), 255, dtype=np.uint8), integer=True)
    same_bytes(product(a, bright), specified(a, bright))


@pytest.mark.parametrize("terms", [3, 5, 1023, 1025])
@pytest.mark.parametrize("more", [0, 1])
def test_one_bit_more_would_be_one_too_many(terms, more):
    budget = bit_budget(terms, a_integer=False, b_integer=False)
    x, y = 1 - 2.0 ** -(budget.a + more), 1 - 2.0**-budget.b  # all their bits are ones
    ops, _ = numpy_ops()
    (row,) = ops._round_to_grid(np.full((1, terms), x), -1, budget.a + more, 1)
    (column,) = ops._round_to_grid(np.full((terms, 1), y), -2, budget.b, 1)
    is_exact = Fraction(float((row @ column)[0, 0])) == terms * Fraction(x) * Fraction(y)
    assert is_exact == (more == 0)


@pytest.mark.parametrize("exponent", [-1074, -1022, -401, -400, -399, -1, 0, 1, 399, 400])
def test_grids_start_at_the_smallest_power_of_two_that_is_not_smaller(backend, ops, exponent):
    power = math.ldexp(1.0, exponent)
    for largest in (math.nextafter(power, 0.0), power, math.nextafter(power, math.inf)):
        if largest > LARGEST:
            continue
        vector = np.array([[largest, -largest / 3, largest / 7, 0.0]])
        (result,) = ops._round_to_grid(backend.from_host(vector), -1, 20, 1)
        (expected,) = rounded(vector[0], 20, 1)
        same_bytes(backend.to_host(result) + 0.0, np.array([expected.floats()]))


# The contractions over samples


@pytest.mark.parametrize("samples", [1, 10, 8193])
@pytest.mark.parametrize("integer", [False, True], ids=["floats", "pixels"])
@pytest.mark.parametrize("pattern", ["normal", "all magnitudes", "one huge among tiny", "zeros"])
def test_sums_over_samples_are_of_one_rounding(backend, ops, samples, integer, pattern):
    generator = np.random.default_rng(samples)
    dz = PATTERNS[pattern](generator, (3, samples))
    shape = (2, samples)
    host = pixel_matrix(generator, shape) if integer else generator.normal(size=shape)
    a = Factor(host, integer)
    by_weight, by_bias = ops.weight_and_bias_gradients(backend.from_host(dz), a.on(ops, backend))
    by_weight, by_bias = backend.to_host(by_weight), backend.to_host(by_bias)
    same_bytes(by_weight, specified(Factor(dz), Factor(host.T, integer)))

    budget = bit_budget(samples, a_integer=False, b_integer=integer)
    assert by_bias.shape == (3, 1)
    for row, total in zip(dz, by_bias[:, 0], strict=True):
        sums = [part.sum() for part in rounded(row, budget.a, budget.slices)]
        assert total == (sums[0] if len(sums) == 1 else sums[0] + sums[1])
        assert not (total == 0 and np.signbit(total))
        true = exact(sum(units(row)), SMALLEST_UNIT)
        moved = samples * Fraction(float(np.max(np.abs(row)))) / (1 << budget.a * budget.slices)
        assert abs(Fraction(float(total)) - true) <= moved + abs(Fraction(float(total))) / 2**53


def test_sums_over_samples_of_stacks_are_those_of_each_block(backend, ops):
    generator = np.random.default_rng(0)
    dz, a = generator.normal(size=(4, 3, 30)), generator.normal(size=(4, 2, 30))
    stacked = ops.weight_and_bias_gradients(backend.from_host(dz), backend.from_host(a))
    for block in range(4):
        alone = ops.weight_and_bias_gradients(backend.from_host(dz[block]), backend.from_host(a[block]))
        for together, expected in zip(stacked, alone, strict=True):
            same_bytes(backend.to_host(together)[block], backend.to_host(expected))


# Sums along an axis


def folded(terms):
    """The sum of a list of floats, as the page adds them."""
    size = 1
    while size < len(terms):
        size *= 2
    terms = terms + [0.0] * (size - len(terms))
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [terms[j] + terms[j + half] for j in range(half)]
    return terms[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10, 33, 1024])
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_sums_are_folded(backend, ops, count, axis):
    shape = [2, 3, 2]
    shape[axis] = count
    generator = np.random.default_rng(count)
    x = np.ldexp(generator.normal(size=shape), generator.integers(-60, 60, shape))
    result = backend.to_host(ops.sum(backend.from_host(x), axis=axis))
    same_bytes(result, np.apply_along_axis(lambda v: np.array([folded(v.tolist())]), axis, x))


@PROPERTY
@given(st.lists(st.floats(-(2.0**400), 2.0**400), min_size=1, max_size=70))
def test_the_error_of_a_sum_is_that_of_its_depth(terms):
    ops, backend = numpy_ops()
    with backend.scope():
        (result,) = ops.sum(np.array(terms), axis=0)
    depth = (len(terms) - 1).bit_length()
    magnitude = sum(abs(Fraction(term)) for term in terms)
    unit = Fraction(1, 1 << 53)
    bound = depth * unit / (1 - depth * unit) * magnitude
    assert abs(Fraction(float(result)) - sum(map(Fraction, terms))) <= bound


# The budget

COUNTS = [
    *range(1, 70),
    *(2**power + more for power in range(3, 61) for more in (-1, 0, 1) if power < 60 or more < 1),
]


def budget_or_none(terms, a_integer, b_integer):
    try:
        return bit_budget(terms, a_integer, b_integer)
    except ConfigError:
        return None


@pytest.mark.parametrize(
    ("integer", "longest_of_one_slice", "longest"),
    [
        ((False, False), 2**13, 2**33),
        ((True, False), 2**25, 2**35),
        ((False, True), 2**25, 2**35),
    ],
)
def test_bits_of_a_budget(integer, longest_of_one_slice, longest):
    for terms in COUNTS:
        budget = budget_or_none(terms, *integer)
        assert (budget is None) == (terms > longest), terms
        if budget is None:
            continue
        needed = next(bits for bits in range(64) if 2**bits >= terms)
        assert budget.a + budget.b + needed == 53
        assert budget.slices == (1 if terms <= longest_of_one_slice else 2)
        shares = [bits for bits, is_integer in zip(budget, integer, strict=False) if not is_integer]
        assert budget.slices * min(shares) >= 20
        if any(integer):
            assert budget[integer.index(True)] == 8
        else:
            assert 0 <= budget.b - budget.a <= 1


@pytest.mark.parametrize(
    ("terms", "pixels", "bits"),
    [(784, True, (35, 8)), (10, False, (24, 25)), (1024, True, (35, 8)), (1024, False, (21, 22))],
)
def test_budgets_of_the_default_network(terms, pixels, bits):
    assert bit_budget(terms, a_integer=False, b_integer=pixels) == (*bits, 1)


def test_a_budget_that_cannot_be_met_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=rf"^a sum over {2**33 + 1} terms leaves 9 of 53 bits.*$"):
        bit_budget(2**33 + 1, a_integer=False, b_integer=False)


# Beyond the range


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, math.nextafter(LARGEST, math.inf), -1e200, 1.7e308],
    ids=repr,
)
def test_what_is_out_of_range_makes_its_row_and_column_nan_and_nothing_else(backend, ops, value):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(4, 30)), generator.normal(size=(30, 5))
    expected = product(Factor(a), Factor(b)).copy()
    a[1, 7] = value
    b[8, 2] = value
    expected[1, :] = np.nan
    expected[:, 2] = np.nan
    with np.errstate(all="ignore"):
        result = ops.matmul(backend.from_host(a), backend.from_host(b))
        by_weight, by_bias = ops.weight_and_bias_gradients(backend.from_host(a), backend.from_host(b.T))
    same_bytes(backend.to_host(result), expected)
    same_bytes(backend.to_host(by_weight), expected)
    assert np.isnan(backend.to_host(by_bias)[:, 0]).tolist() == [False, True, False, False]


@pytest.mark.parametrize("largest", [LARGEST, math.nextafter(LARGEST, 0.0), SMALLEST])
def test_the_ends_of_the_range_are_in_it(backend, ops, largest):
    generator = np.random.default_rng(0)
    a, b = (Factor(generator.uniform(-1, 1, shape) * largest) for shape in ((3, 10), (10, 3)))
    a.matrix[:, 3] = b.matrix[3, :] = largest
    result = backend.to_host(ops.matmul(a.on(ops, backend), b.on(ops, backend)))
    assert np.all(np.isfinite(result))
    assert np.all(result != 0)
    same_bytes(result, specified(a, b))


STEP = SMALLEST * 2.0**-24
"""Of the first of two operands with 10 terms, below the range."""


@pytest.mark.parametrize(
    ("value", "counts_as"),
    [
        (SMALLEST / 4, SMALLEST / 4),
        (STEP, STEP),
        (1.25 * STEP, STEP),
        (1.5 * STEP, 2 * STEP),
        (2.5 * STEP, 2 * STEP),
        (0.75 * STEP, STEP),
        (0.5 * STEP, 0.0),
        (2.0**-1022, 0.0),
        (5e-324, 0.0),
        (-5e-324, 0.0),
    ],
)
def test_below_the_range_values_are_rounded_to_the_finest_grid(backend, ops, value, counts_as):
    a, b = np.full((1, 10), value), np.ones((10, 1))
    result = backend.to_host(ops.matmul(backend.from_host(a), backend.from_host(b)))
    same_bytes(result, np.array([[10 * counts_as]]))


# These tests can fail


@pytest.fixture
def unrounded(monkeypatch):
    """Operands are left as they are."""

    def as_it_is(self, x, axis, bits, count):
        return [x, *(0.0 * x for _ in range(1, count))]

    monkeypatch.setattr(Reproducible, "_round_to_grid", as_it_is)


@pytest.fixture
def ordinary():
    generator = np.random.default_rng(0)
    return [Factor(generator.normal(size=shape)) for shape in ((5, 784), (784, 5))]


def test_without_rounding_the_order_of_the_terms_matters(unrounded, ordinary):
    with pytest.raises(AssertionError):
        same_bytes(product(*permuted(*ordinary, np.random.default_rng(1))), product(*ordinary))


def test_without_rounding_the_split_into_parts_matters(unrounded, ordinary):
    with pytest.raises(AssertionError):
        same_bytes(in_parts(*ordinary, [0, 100, 500, 784]), product(*ordinary))


def test_without_rounding_products_are_not_what_the_page_specifies(unrounded, ordinary):
    with pytest.raises(AssertionError):
        same_bytes(product(*ordinary), specified(*ordinary))


def test_with_too_many_bits_the_order_of_the_terms_matters(monkeypatch, ordinary):
    monkeypatch.setattr(reproducible, "bit_budget", lambda *_: Budget(26, 27, 1))
    with pytest.raises(AssertionError):
        same_bytes(product(*permuted(*ordinary, np.random.default_rng(1))), product(*ordinary))
