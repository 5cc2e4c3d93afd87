"""A compiled function of NumPy arrays gives what the function gives, call after call, also in chunks."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from xpnet.backends import chunks, tape
from xpnet.backends.resolve import make
from xpnet.backends.tape import xp
from xpnet.backends.workers import Workers

NUMPY = make("numpy", "cpu")
RNG = np.random.default_rng(0)
COLUMNS = 9
TABLE = RNG.normal(size=200)
SMALL_CHUNKS = {"LARGE": 8, "WORTHWHILE": 8, "ROW": 1, "FEWEST_ROWS": 2}
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
            patch.setattr(tape, "LARGE", 8)
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
    "chain": lambda a, b: ((a * 2.0 + b) - b * a) / (a * a + 1.0),
    "first argument alone": lambda a, b: (a * 2.0 + b, (xp.exp(xp.abs(a) + 1.0) * 0.5 - 0.5) * b, a * 3.0),
    "reductions": lambda a, b: xp.sum(a * b, axis=-1, keepdims=True) * xp.max(a - b, axis=0),
    "reduction to a number": lambda a, b: xp.sum(a * b) + b,
    "sums of rows": lambda a, b: a * b - xp.sum(a * b, axis=-1, keepdims=True) * 0.25,
    "softmax": lambda a, b: xp.exp(a - xp.max(a, axis=-1, keepdims=True)) * b,
    "norms": lambda a, b: a * (1.0 / (xp.sqrt(xp.sum(a * a, axis=1, keepdims=True)) + 0.5)) + b,
    "largest of a column": lambda a, b: (a * b - xp.max(a * b, axis=0, keepdims=True)) * b,
    "a row and a column": lambda a, b: (a * b[:1, :] + b[:, :1]) * a + b[:1, :1],
    "last row": lambda a, b: (a * b + (a * b)[-1:, :]) * 2.0 - a[-1:, :],
    "comparison": lambda a, b: xp.where((a > b) & (a >= 0.0), a * 2.0, b * 3.0) + -a,
    "choices": lambda a, b: xp.where(a > b, a * 2.0, 0.0) + xp.where(a > 0.0, a - b, xp.where(b < 0, b, a)),
    "choice of an operand": lambda a, b: [xp.where(a > b, a, y) + y for y in (a * b,)],
    "zero for a column": lambda a, b: xp.where(a[:, :1] > 0.0, a * b, 0.0) + xp.where(a > b, a[:, :1], 0.0),
    "bits": lambda a, b: ((a * b).view(xp.int64) & (2**52 - 1)).view(xp.float64) + a.view(xp.int64),
    "conversions": lambda a, b: xp.astype(xp.astype(a > b, xp.int32), xp.float64) * b - a,
    "views": lambda a, b: xp.reshape(a + b, (COLUMNS, -1))[1:3, ::2] * 2.0 + (a + b)[:1, :1],
    "reshape that copies": lambda a, b: xp.reshape(xp.matrix_transpose(a + b), (-1,)) * 2.0,
    "other layouts": lambda a, b: (a * xp.matrix_transpose(xp.matrix_transpose(b) + 0.0) + b[::-1, :]) * 0.5,
    "lookup": lambda a, b: xp.take(TABLE, xp.astype(xp.abs(a * b) < 40.0, xp.int32), axis=0) * b,
    "rows": lambda a, b: xp.take(a + b, xp.argmax(b, axis=1)[:2], axis=1),
    "concatenation": lambda a, b: xp.concat([a * b, b, xp.zeros((2, COLUMNS))], axis=0) * 2.0,
    "largest": lambda a, b: (xp.argmax(a - b, axis=-2), xp.maximum(a, 0.0), xp.minimum(a, b)),
    "shape alone": lambda a, b: (xp.ones_like(a) / (a * a + 1.0), xp.zeros_like(b) + a),
    "products": lambda a, b: xp.matmul(a * b, xp.matrix_transpose(b + 1.0)) * 0.5 + 1.0,
    "product of two results": lambda a, b: xp.matmul((a * b)[:, :2], (a * b)[:2, :]) * (a * b) - b,
    "square": lambda a, b: [xp.matmul(c, c) + c for c in (xp.matmul(a * 2.0, xp.matrix_transpose(b)) * 3.0,)],
    "view as result": lambda a, b: (xp.matrix_transpose(a * b)[2:, :], xp.matrix_transpose(a * b + 1.0)),
    "view within and outside": lambda a, b: [(c & 255) + (c >> 3) for c in ((a * b).view(xp.int64),)],
    "view of what is read last": lambda a, b: [
        ((c.view(xp.int64) & -4).view(xp.float64) * b + a) * b for c in (xp.concat([a * b], axis=0),)
    ],
    "unused": lambda a, b: (a + b, (a - b) * (a - b))[0],
    "structure": lambda a, b: [Pair(a + b, None), (a * b,), [], 3],
    "functions without a rule": lambda a, b: (np.sort(a * b, axis=1) + np.flip(b), quotient_and_rest(a, b)),
}


@pytest.mark.parametrize("rows", [2, 12, 37])
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
    fast = compiled(program, donated=(0,) if donated else ())
    with np.errstate(all="ignore"):
        for factor in (1.0, 0.5, -1.0, 2.0):
            expected = program([x.copy() for x in state], y * factor)
            assert_same(fast([x.copy() for x in state], y * factor), expected)


def test_results_are_written_into_donated_arrays_that_are_read_no_more(calls):
    def step(state, gradient):
        average, weight = state
        average = average * 0.9 + gradient
        return [average, weight - average * 0.1]

    rows = 1000 if calls == "whole arrays" else 37
    fast, state = compiled(step, donated=(0,)), [*operands(rows, COLUMNS)]
    gradient, _ = operands(rows, COLUMNS)
    for number in range(4):
        before = [x.copy() for x in state]
        results = fast(state, gradient)
        assert_same(results, step(before, gradient))
        assert all((x is y) == (number > 1) for x, y in zip(results, state, strict=True))
        state = results


@pytest.mark.parametrize(
    "step",
    [
        lambda state, x: [state[0] * x, state[0] * x + state[0]],
        lambda state, x: [state[1] * x, state[0] - state[1]],
        lambda state, x: [state[0] + xp.matrix_transpose(state[0]) * x, state[1] * 2.0 + x],
        lambda state, x: [xp.where(x > state[0], state[0], state[1]), xp.where(x > state[1], x, state[0])],
        lambda state, x: [xp.where(x > 0.5, state[0], x * 2.0), state[1] - x * 3.0],
        lambda state, x: [state[0] * x + 1.0, xp.matmul(state[0], x)],
        lambda state, x: [xp.matmul(x * 2.0, state[0]) + 1.0, xp.matmul(state[1], state[1]) * 2.0],
        lambda state, x: [state[0], state[0] * x + x],
        lambda state, x: [state[0] * x + x, state[1][::-1, :] * x + state[1]],
    ],
)
@pytest.mark.parametrize("size", [9, 67])
def test_donated_arrays_that_are_read_later_are_kept(calls, step, size):
    fast = compiled(step, donated=(0,))
    for _ in range(4):
        state, (x, _) = [*operands(size, size)], operands(size, size)
        expected = step([y.copy() for y in state], x)
        assert_same(fast(state, x), expected)


def update(parameters, gradients):
    averages = [p * 0.9 + g for p, g in zip(parameters, gradients, strict=True)]
    return [p - m * 0.1 for p, m in zip(parameters, averages, strict=True)]


PAIR, PAIRS = operands(5, COLUMNS), zip(*(operands(rows, COLUMNS) for rows in (5, 4, 5)), strict=True)


@pytest.mark.parametrize(
    ("function", "args", "count"),
    [
        (lambda a, b: (a * b - xp.max(a * b + 1.0, axis=0, keepdims=True)) * 2.0, PAIR, 2),
        (lambda a, b: a * b + xp.matrix_transpose(xp.matrix_transpose(a * b)[:, ::-1]) * 2.0, PAIR, 2),
        (lambda a, b: xp.sum(xp.sum(a * b, axis=-1, keepdims=True) * 2.0, axis=0), PAIR, 1),
        (lambda a, b: (a[:1, :] * b[:1, :]) * 2.0 + 1.0, PAIR, 0),
        (update, [[*arrays] for arrays in PAIRS], 3),
    ],
)
def test_calls_on_the_same_rows_are_made_together(monkeypatch, function, args, count):
    groups, share = [], Workers.share
    monkeypatch.setattr(Workers, "share", lambda *args: groups.append(args) or share(*args))
    for name, value in SMALL_CHUNKS.items():
        monkeypatch.setattr(chunks, name, value)
    fast = compiled(function, donated=(0,))
    for _ in range(3):
        fast(*args)
    assert len(groups) == count


def test_the_shapes_and_dtypes_of_array_arguments_may_change():
    a, b = operands(5, 7)
    fast = compiled(lambda weight, x: xp.matmul(weight[0], x) * 2.0)
    for columns in (7, 3, 7, 1, 3, 7):
        assert_same(fast([a], b.T[:, :columns]), a @ b.T[:, :columns] * 2.0)
    by_dtype = compiled(lambda x: x * 2.0 if x.dtype == np.float64 else x)
    for x in (a, a.astype(np.float32), a):
        assert_same(by_dtype(x), a * 2.0 if x is a else x)


class Interrupting(np.ndarray):
    def __array_ufunc__(self, *_, **__):
        raise KeyboardInterrupt


def test_what_depends_on_the_first_argument_is_computed_once_for_each_also_after_an_interruption():
    a, b = np.round(8 * RNG.normal(size=(2, 5, 7)))
    fast, first = compiled(lambda parameters, x: xp.matmul(parameters[0] * 2.0 * 3.0, x * 1.0)), [a]
    for _ in range(3):
        assert_same(fast(first, b.T), a * 6.0 @ b.T)
    first[0] = b  # in the same list: what was computed for it still counts
    assert_same(fast(first, b.T), a * 6.0 @ b.T)
    with pytest.raises(KeyboardInterrupt):
        fast([b], b.T.view(Interrupting))
    assert_same(fast(first, b.T), b * 6.0 @ b.T)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transient_results_last_to_the_next_call_in_memory_that_no_other_uses(name):
    function, other = FUNCTIONS[name], FUNCTIONS["operand used again"]
    fast, later = compiled(function, transient=True), compiled(other)
    for _ in range(4):
        a, b = operands(37, COLUMNS)
        result = fast(a, b)
        for _ in range(2):
            assert_same(later(b, a), other(b, a))
        assert_same(result, function(a, b))
    if name == "chain":
        assert fast(a, b) is fast(b, a)


def test_threads_have_memory_of_their_own():
    fast, (a, b) = compiled(lambda a, b: xp.exp(a * b) - a * b + b), RNG.normal(size=(2, 5, 7))

    def work(factor):
        expected = np.exp(a * factor * b) - a * factor * b + b
        return all(np.array_equal(fast(a * factor, b), expected) for _ in range(2000))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, (1.0, 2.0, 3.0)))


def test_a_compiled_function_may_be_part_of_another():
    inner, (a, b) = compiled(lambda a, b: a * b + 1.0), RNG.normal(size=(2, 5, 7))
    outer = compiled(lambda a, b: inner(a + b, b) - inner(a, b))
    for _ in range(3):
        assert_same(outer(a, b), ((a + b) * b + 1.0) - (a * b + 1.0))


@pytest.mark.parametrize("convert", [bool, int, float, np.asarray])
def test_what_is_recorded_does_not_become_a_number(convert):
    fast = compiled(lambda a: convert(xp.sum(a)))
    fast(TABLE)  # not recorded yet
    with pytest.raises(TypeError, match="no values while"):
        fast(TABLE)


def test_memory_is_used_again_within_a_function_by_others_and_by_other_threads():
    x, sizes = np.ones(1 << 18), []

    def chain(factor, x):
        for _ in range(20):
            x = xp.maximum(x * factor, 0.0) + xp.sin(x)
        return x

    tracemalloc.start()
    functions = [compiled(chain), compiled(chain)]
    for fast in functions:
        fast(0.5, x)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fast, 0.5, x).result()
        sizes.append(tracemalloc.get_traced_memory()[0] / x.nbytes)
    tracemalloc.stop()
    assert sizes[0] < 4
    assert sizes[1] - sizes[0] < 0.5


def test_recording_keeps_no_large_values():
    def chain(factor, x):
        for _ in range(10):
            x = xp.maximum(x * factor, 0.0) + 0.5
        return x

    fast, x = compiled(chain), np.ones((100, 100))
    fast(0.5, x)
    tracemalloc.start()
    fast(0.5, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * x.nbytes


@pytest.mark.parametrize(("units", "columns"), [(1, 31), (33, 1), (400, 500), (10, 784)])
def test_products_with_integers_are_exact_however_they_are_cut(units, columns):
    weight = RNG.integers(-(2**20), 2**20, size=(units, 300)).astype(np.float64)
    x = RNG.integers(0, 256, size=(columns, 300), dtype=np.uint8)

    def function(weight, x):
        wide = xp.astype(xp.matrix_transpose(x), xp.float64)
        rows = xp.astype(xp.reshape(x, (300, columns)), xp.float64)
        square = xp.matmul(wide, xp.matrix_transpose(wide)) * 1.0
        return xp.matmul(weight, wide) + 0.0, square, xp.matmul(weight * 2.0, rows) + 0.0

    fast = compiled(function)
    for _ in range(3):
        assert_same(fast(weight, x), function(weight, x))


def test_native_results_do_not_depend_on_how_often_a_thread_has_called_before():
    images, weight = RNG.normal(size=(1024, 784)).astype(np.float32), np.full((10, 784), 0.1, np.float32)
    fast = compiled(lambda w, x: xp.matmul(w, xp.matrix_transpose(x * 2.0)) + 1.0, exact=False)
    first, *others = [fast(weight, images) for _ in range(3)]
    for other in others:
        np.testing.assert_array_equal(other, first, strict=True)
