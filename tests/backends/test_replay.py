"""A compiled function of NumPy arrays gives what the function gives, call after call, also in chunks."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from xpnet.backends import chunks, tape
from xpnet.backends.resolve import make
from xpnet.backends.tape import xp

NUMPY = make("numpy", "cpu")
RNG = np.random.default_rng(0)
COLUMNS = 9
TABLE = RNG.normal(size=200)
SMALL_CHUNKS = {"LARGE_ELEMENTS": 8, "WORTHWHILE": 8, "ROW": 1, "FEWEST_ROWS": 2}
SMALL_CHUNKS |= {"CHUNK": 2 * COLUMNS, "SHARED_CHUNK": 2 * COLUMNS}


class Pair(NamedTuple):
    first: object
    second: object


@pytest.fixture(scope="module", params=["whole arrays", "chunks", "chunks in 3 threads"])
def calls(request):
    """Make calls on whole arrays, or in chunks of one or two rows, in memory of operands of any size."""
    threads = 3 if request.param == "chunks in 3 threads" else 1
    with pytest.MonkeyPatch.context() as patch, NUMPY.scope(), NUMPY.workers(threads):
        if request.param != "whole arrays":
            patch.setattr(tape, "LARGE_BYTES", 8)
            for name, value in SMALL_CHUNKS.items():
                patch.setattr(chunks, name, value)
        yield request.param


def compiled(function, *, exact=True, **options):
    return NUMPY.compile(function, exact=exact, **options)


def operands(*shape):
    """Return two arrays of whole numbers, whose products are exact, with NaN, infinities and both zeros."""
    arrays = np.round(8 * RNG.normal(size=(2, *shape)))
    for x in arrays:
        x.flat[RNG.integers(x.size, size=5)] = np.nan, np.inf, -np.inf, -0.0, 0.0
    return arrays[0], arrays[1]


def assert_same(result, expected):
    assert type(result) is type(expected)
    if isinstance(expected, list | tuple):
        for x, y in zip(result, expected, strict=True):
            assert_same(x, y)
    else:
        np.testing.assert_array_equal(result, expected, strict=True)
        if getattr(expected, "dtype", np.dtype(int)).kind == "f":
            signs = [np.signbit(np.nan_to_num(x, nan=1.0)) for x in (result, expected)]
            np.testing.assert_array_equal(*signs)


def quotient_and_rest(a, b):
    quotient, rest = np.divmod(a * 2.0, b)
    return quotient * a, rest


FUNCTIONS = {
    "operand used again": lambda a, b: ((a + b) * (a - b), (a + b) + 1.0, xp.maximum(a + b, 0.0)),
    "first argument alone": lambda a, b: (a * 2.0 + b, (xp.exp(xp.abs(a) + 1.0) * 0.5 - 0.5) * b, a * 3.0),
    "reductions": lambda a, b: xp.sum(a * b, axis=-1, keepdims=True) * xp.max(a - b, axis=0),
    "softmax": lambda a, b: xp.exp(a - xp.max(a, axis=-1, keepdims=True)) * b,
    "a row and a column": lambda a, b: (a * b[:1, :] + b[:, :1]) * a + b[:1, :1],
    "last row": lambda a, b: (a * b + (a * b)[-1:, :]) * 2.0 - a[-1:, :],
    "views": lambda a, b: xp.reshape(a + b, (COLUMNS, -1))[1:3, ::2] * 2.0 + (a + b)[:1, :1],
    "reshape that copies": lambda a, b: xp.reshape(xp.matrix_transpose(a + b), (-1,)) * 2.0,
    "other layouts": lambda a, b: (a * xp.matrix_transpose(xp.matrix_transpose(b) + 0.0) + b[::-1, :]) * 0.5,
    "lookup": lambda a, b: xp.take(TABLE, xp.astype(xp.abs(a * b) < 40.0, xp.int32), axis=0) * b,
    "concatenation": lambda a, b: xp.concat([a * b, b, xp.zeros((2, COLUMNS))], axis=0) * 2.0,
    "largest": lambda a, b: (xp.argmax(a - b, axis=-2), xp.maximum(a, 0.0), xp.minimum(a, b)),
    "product of two results": lambda a, b: xp.matmul((a * b)[:, :2], (a * b)[:2, :]) * (a * b) - b,
    "view as result": lambda a, b: (xp.matrix_transpose(a * b)[2:, :], xp.matrix_transpose(a * b + 1.0)),
    "view of what is read last": lambda a, b: [
        ((c.view(xp.int64) & -4).view(xp.float64) * b + a) * b for c in (xp.concat([a * b], axis=0),)
    ],
    "structure": lambda a, b: [Pair(a + b, None), (a * b,), [], 3],
    "functions without a rule": lambda a, b: (np.sort(a * b, axis=1) + np.flip(b), quotient_and_rest(a, b)),
}


@pytest.mark.parametrize("rows", [2, 37])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_call_gives_what_the_function_gives_and_changes_no_array(calls, name, rows):
    function, results = FUNCTIONS[name], []
    fast = compiled(function)
    for _ in range(3):
        a, *rest = *operands(rows, COLUMNS), *operands(rows, COLUMNS)
        for b in rest:
            before = a.copy(), b.copy()
            results.append((fast(a, b), function(*before)))
            assert_same((a, b), before)
            for result, expected in results:
                assert_same(result, expected)


OPERATIONS = {
    "add": lambda x, y: x + y * 0.5,
    "mul": lambda x, y: x * y,
    "max": xp.maximum,
    "where": lambda x, y: xp.where(x > y, x, 0.5),
    "mask": lambda x, y: xp.where(x > y, x, 0.0) + xp.where(x > y, y, -0.0),
    "sum": lambda x, y: y - xp.sum(x, axis=-1, keepdims=True) * 0.125,
    "maxima": lambda x, y: y - xp.max(x, axis=0, keepdims=True),
    "turn": lambda x, y: xp.matrix_transpose(x),  # a view, of an argument perhaps
    "bits": lambda x, y: (x.view(xp.int64) & -4).view(xp.float64) + y,
    "matmul": lambda x, y: xp.matmul(x, y) * 0.25,
    "cut": lambda x, y: xp.concat([x[:2, :], y[2:, :]], axis=0),
}
STEP = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 9), st.integers(0, 9))


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=25), st.sampled_from([7, 67]), st.booleans())
def test_any_program_gives_the_same(calls, steps, size, donated):
    """Results of 67 x 67 numbers are written into the memory of operands."""

    def program(arrays, y):
        values = [*arrays, y]
        for name, i, j in steps:
            values.append(OPERATIONS[name](values[-1 - i % len(values)], values[-1 - j % len(values)]))
        return values[-2:]

    state, y = [*np.round(8 * RNG.normal(size=(2, size, size)))], np.round(RNG.normal(size=(size, size)))
    fast = compiled(program, donated=donated)
    with np.errstate(all="ignore"):
        for factor in (1.0, 0.5, -1.0, 2.0):
            expected = program([x.copy() for x in state], y * factor)
            assert_same(fast([x.copy() for x in state], y * factor), expected)


def test_the_shapes_and_dtypes_of_array_arguments_may_change():
    a, b = np.round(8 * RNG.normal(size=(2, 5, 7)))
    fast = compiled(lambda weight, x: xp.matmul(weight[0], x) * 2.0)
    for columns in (7, 3, 7, 1, 3, 7):
        assert_same(fast([a], b.T[:, :columns]), a @ b.T[:, :columns] * 2.0)
    double = compiled(lambda x: x * 2.0)
    for x in (a, a.astype(np.float32)) * 3:
        assert_same(double(x), x * 2.0)


class Interrupting(np.ndarray):
    def __array_ufunc__(self, *_, **__):
        raise KeyboardInterrupt


def test_a_call_that_is_interrupted_leaves_nothing_of_its_first_argument():
    a, b = np.round(8 * RNG.normal(size=(2, 5, 7)))
    fast = compiled(lambda parameters, x: xp.matmul(parameters[0] * 2.0 * 3.0, x * 1.0))
    first = [a]
    for _ in range(3):
        assert_same(fast(first, b.T), a * 6.0 @ b.T)
    with pytest.raises(KeyboardInterrupt):
        fast([b], b.T.view(Interrupting))
    assert_same(fast(first, b.T), a * 6.0 @ b.T)


def test_native_results_do_not_depend_on_how_often_a_thread_has_called_before():
    images, weight = RNG.normal(size=(1024, 784)).astype(np.float32), np.full((10, 784), 0.1, np.float32)
    fast = compiled(lambda w, x: xp.matmul(w, xp.matrix_transpose(x * 2.0)) + 1.0, exact=False)
    first, second, third = (fast(weight, images) for _ in range(3))
    assert_same((second, third), (first, first))
