"""A compiled function of NumPy's or PyTorch's arrays gives what the function gives, call after call."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from xpnet._lib.tree import leaves, tree_map
from xpnet.backends import chunks, tape
from xpnet.backends.resolve import make

NUMPY = make("numpy", "cpu")
RNG = np.random.default_rng(0)
TABLE = list(RNG.normal(size=200))
SMALL_CHUNKS = {"LARGE_ELEMENTS": 8, "WORTHWHILE": 8, "ROW": 1, "FEWEST_ROWS": 2}
SMALL_CHUNKS |= {"CHUNK": 18, "SHARED_CHUNK": 18}
TORCH = pytest.param("torch", marks=pytest.mark.needs("torch"))


class Pair(NamedTuple):
    first: object
    second: object


@pytest.fixture(scope="module", params=["whole arrays", "chunks", "chunks in 3 threads", TORCH])
def library(request):
    """Calls on whole arrays, or in chunks of one or two rows, in memory of operands of any size."""
    threads = 3 if "threads" in request.param else 1
    made = make("torch", "cpu") if request.param == "torch" else NUMPY
    with pytest.MonkeyPatch.context() as patch, made.scope(), made.workers(threads):
        if "chunks" in request.param:
            patch.setattr(tape, "LARGE_BYTES", 8)
            for name, value in SMALL_CHUNKS.items():
                patch.setattr(chunks, name, value)
        yield made


def assert_same(result, expected):
    assert type(result) is type(expected)
    for x, y in zip(leaves(result), leaves(expected), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)
        np.testing.assert_array_equal(*(np.signbit(np.nan_to_num(each, nan=1.0)) for each in (x, y)))


OPERATIONS = {
    "add": lambda xp, x, y: x + y * 0.5,
    "divide": lambda xp, x, y: x / (xp.full_like(y, 3.0) + xp.ones_like(x)),
    "max": lambda xp, x, y: xp.maximum(x, y),
    "where": lambda xp, x, y: xp.where((x > y) & (x >= -0.5), x, 0.5),
    "mask": lambda xp, x, y: xp.where(x < y, x, 0.0) + xp.where(x == y, y, -0.0),
    "sum": lambda xp, x, y: y - xp.sum(x, axis=-1, keepdims=True) * 0.125,
    "maxima": lambda xp, x, y: x - xp.max(y, axis=0, keepdims=True),
    "turn": lambda xp, x, y: xp.matrix_transpose(x),  # a view, of an argument perhaps
    "turned copy": lambda xp, x, y: xp.reshape(xp.reshape(xp.matrix_transpose(x), (-1,)), x.shape),
    "bits": lambda xp, x, y: (x.view(xp.int64) & -4).view(xp.float64) + y,
    "matmul": lambda xp, x, y: xp.matmul(x, y) * 0.25,
    "cut": lambda xp, x, y: xp.concat([x[:2, :], y[2:, :]], axis=0),
    "rows": lambda xp, x, y: xp.take(x, xp.argmax(y, axis=1), axis=0),
    "row and column": lambda xp, x, y: x * y[:1, :] + y[:, :1] - x[-1:, :],
    "no rule": lambda xp, x, y: xp.flip(x * y, axis=0) * y,
}
NUMBERS = st.integers(0, 9)
STEPS = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), NUMBERS, NUMBERS), min_size=1, max_size=25)


@settings(max_examples=60)
@given(STEPS, st.sampled_from([7, 67]), st.booleans())
def test_any_program_gives_the_same_and_changes_no_array(library, steps, size, donated):
    """Results of 67 x 67 numbers are written into the memory of operands."""

    def program(arrays, y):
        values = [*arrays, y]
        for name, i, j in steps:
            operands = values[-1 - i % len(values)], values[-1 - j % len(values)]
            values.append(OPERATIONS[name](library.xp, *operands))
        return Pair(values[-1], [values[len(values) // 2], None])

    arrays = np.round(8 * RNG.normal(size=(3, size, size)))  # of whole numbers, whose products are exact
    arrays[:, 0, :5], arrays[:, :5, 0] = [np.nan, np.inf, -np.inf, -0.0, 0.0], 0.0
    fast, results = library.compile(program, donated=donated, exact=True), []
    states = [[library.from_host(x * factor) for x in arrays[:2]] for factor in (1.0, -0.5)]
    with np.errstate(all="ignore"):
        for number, state in enumerate((*states[:1] * 3, *states[1:] * 2)):
            y = library.from_host(arrays[2] * number)
            expected = tree_map(library.to_host, program(state, y))
            given = [x * 1.0 for x in state] if donated else state
            results = [*([] if donated else results), (fast(given, y), expected)]
            for result, right in results:
                assert_same(tree_map(library.to_host, result), right)
    assert_same([library.to_host(x) for x in states[0]], [*arrays[:2]])


def test_the_shapes_and_dtypes_of_array_arguments_may_change():
    (a, b), xp = np.round(8 * RNG.normal(size=(2, 5, 7))), NUMPY.xp
    fast = NUMPY.compile(lambda weight, x: xp.matmul(weight[0], x) * 2.0, exact=True)
    for columns in (7, 3, 7, 1, 3, 7):
        assert_same(fast([a], b.T[:, :columns]), a @ b.T[:, :columns] * 2.0)
    lookup = NUMPY.compile(
        lambda x: xp.take(xp.asarray(TABLE, dtype=x.dtype), xp.astype(x, xp.int32)), exact=True
    )
    for x in (b[0] + 50, (b[0] + 50).astype(np.float32)) * 3:
        assert_same(lookup(x), np.asarray(TABLE, x.dtype)[x.astype(int)])


def test_native_results_do_not_depend_on_how_often_a_thread_has_called_before():
    images, weight = RNG.normal(size=(1024, 784)).astype(np.float32), np.full((10, 784), 0.1, np.float32)
    xp = NUMPY.xp
    fast = NUMPY.compile(lambda w, x: xp.matmul(w, xp.matrix_transpose(x * 2.0)) + 1.0, exact=False)
    first, *others = (fast(weight, images) for _ in range(3))
    assert_same(others, [first, first])
