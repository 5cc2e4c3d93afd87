"""A compiled function of NumPy arrays gives what the function gives, call after call."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from xpnet.backends.replay import compile_replay
from xpnet.backends.tape import xp

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 5, 7))
TABLE = RNG.normal(size=200)


class Pair(NamedTuple):
    first: object
    second: object


def assert_same_tree(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for part, expected_part in zip(found, expected, strict=True):
            assert_same_tree(part, expected_part)
    else:
        np.testing.assert_array_equal(found, expected, strict=True)


FUNCTIONS = {
    "operand used again": lambda a, b: ((a + b) * (a - b), (a + b) + 1.0),
    "reductions": lambda a, b: xp.sum(a * b, axis=-1, keepdims=True) * xp.max(a - b, axis=0),
    "reduction to a number": lambda a, b: xp.sum(a * b) + b,
    "comparison": lambda a, b: xp.where((a > b) & (a >= 0.0), a * 2.0, b * 3.0) + -a,
    "choices in turn": lambda a, b: xp.where(a > b, a * 2.0, xp.where(b < 0.5, xp.abs(b), a + b)) - (a + b),
    "operand chosen and used again": lambda a, b: [xp.where(a > b, a, y) + y for y in (a * b,)],
    "bits": lambda a, b: ((a * b).view(xp.int64) & (2**52 - 1)).view(xp.float64) + a,
    "conversion": lambda a, b: xp.astype(a * 10.0, xp.int32) + xp.astype(a > b, xp.int32),
    "views": lambda a, b: xp.reshape(a + b, (7, 5))[1:3, ::2] * 2.0 + (a + b)[:2, :3],
    "reshape that copies": lambda a, b: xp.reshape(xp.matrix_transpose(a + b), (-1,)) * 2.0,
    "lookup": lambda a, b: xp.take(TABLE, xp.astype(xp.abs(a * b), xp.int32), axis=0) * b,
    "rows": lambda a, b: xp.take(a + b, xp.argmax(b, axis=1)[:3], axis=1),
    "concatenation": lambda a, b: xp.concat([a * b, b, xp.zeros((2, 7))], axis=0) * 2.0,
    "largest": lambda a, b: (xp.argmax(a - b, axis=-2), xp.maximum(a, 0.0), xp.maximum(a, b)),
    "shape alone": lambda a, b: (xp.ones_like(a) / (a * a + 1.0), xp.zeros_like(b) + a),
    "view as result": lambda a, b: xp.matrix_transpose(a * b)[2:, :],
    "unused": lambda a, b: (a + b, (a - b) * (a - b))[0],
    "structure": lambda a, b: [Pair(a + b, None), (a * b,), [], 3],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_call_gives_what_the_function_gives_and_changes_neither_arguments_nor_earlier_results(name):
    function, results = FUNCTIONS[name], []
    fast = compile_replay(function)
    for factor in (1.0, -0.5, 3.0, 2.0):
        a, b = A * factor, B.copy()
        results.append((fast(a, b), function(A * factor, B)))
        assert_same_tree([a, b], [A * factor, B])
        for found, expected in results:
            assert_same_tree(found, expected)


OPERATIONS = {
    "add": lambda x, y: x + y * 0.5,
    "mul": lambda x, y: x * y,
    "sub": lambda x, y: x - y,
    "max": xp.maximum,
    "where": lambda x, y: xp.where(x > y, x, 0.5),
    "mask": lambda x, y: xp.where(x > y, x, 0.0) + xp.where(x > y, y, -0.0),
    "relu": lambda x, y: xp.maximum(x, 0.0) + y,
    "sum": lambda x, y: y - xp.sum(x, axis=-1, keepdims=True) * 0.125,
    "turn": lambda x, y: xp.matrix_transpose(x),  # a view, of an argument perhaps
    "matmul": lambda x, y: xp.matmul(x, y) * 0.25,
    "cut": lambda x, y: xp.concat([x[:2, :], y[2:, :]], axis=0),
}


def run(steps, a, b):
    """Compute a program of square matrices: each step takes two earlier values by number."""
    values = [a, b]
    for name, i, j in steps:
        values.append(OPERATIONS[name](values[-1 - i % len(values)], values[-1 - j % len(values)]))
    return values[-1], values[len(values) // 2]


STEP = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=25), st.sampled_from([4, 67]))
def test_any_program_gives_the_same(steps, size):
    """Results of 67 x 67 numbers are written into the memory of operands."""
    a, b = np.clip(RNG.normal(size=(2, size, size)), -1, 1)
    fast = compile_replay(lambda a, b: run(steps, a, b))
    with np.errstate(all="ignore"):
        for factor in (1.0, 0.5, -1.0, 2.0):
            assert_same_tree(fast(a * factor, b), run(steps, a * factor, b))


def test_the_shapes_and_dtypes_of_array_arguments_may_change():
    fast = compile_replay(lambda weight, x: xp.matmul(weight[0], x) * 2.0)
    for columns in (7, 3, 7, 1, 3, 7):
        np.testing.assert_array_equal(fast([A], B.T[:, :columns]), A @ B.T[:, :columns] * 2.0)
    by_dtype = compile_replay(lambda x: x * 2.0 if x.dtype == np.float64 else x)
    for x in (A, A.astype(np.float32), A):
        np.testing.assert_array_equal(by_dtype(x), A * 2.0 if x is A else x, strict=True)


def test_what_depends_on_the_first_argument_alone_is_computed_once_for_each():
    def function(parameters, x):
        doubled = xp.maximum(parameters[0] * 2.0, -1.0)
        return doubled * x + doubled

    fast = compile_replay(function)
    for parameters in ([A], [B], [A]):
        for x in (A, B):
            np.testing.assert_array_equal(fast(parameters, x), function(parameters, x))
    parameters = [A.copy()]
    for _ in range(2):
        fast(parameters, A)
    before = fast(parameters, A)
    parameters[0] += 1.0  # the same list: what was computed for it still counts
    np.testing.assert_array_equal(fast(parameters, A), before)


def test_what_is_computed_once_keeps_its_memory_beyond_its_last_use():
    def function(a, b):
        total = a * 2.0 + b
        return total, a * 3.0 + b

    fast = compile_replay(function)
    for b in (A, B, A * B, A - B):
        assert_same_tree(fast(A, b), function(A, b))


def test_a_result_that_depends_on_the_first_argument_alone_is_new_in_every_run():
    def function(a, b):
        y = xp.exp(xp.abs(a) + 1.0)
        return y, y * 0.5 * 0.5 + b

    fast, results = compile_replay(function), []
    for b in (A, B, A):
        results.append((fast(A, b), function(A, b)))
        for found, expected in results:
            assert_same_tree(found, expected)


class Interrupting(np.ndarray):
    def __array_ufunc__(self, *_, **__):
        raise KeyboardInterrupt


def test_an_interrupted_call_leaves_no_mixture_behind():
    fast = compile_replay(lambda parameters, x: xp.matmul(parameters[0] * 2.0 * 3.0, x * 1.0))
    fast([A], B.T)
    same = [A]
    for _ in range(2):
        fast(same, B.T)
    with pytest.raises(KeyboardInterrupt):
        fast([B], B.T.view(Interrupting))
    np.testing.assert_array_equal(fast(same, B.T), (A * 2.0 * 3.0) @ B.T)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transient_results_last_to_the_next_call_and_calls_of_others_leave_them(name):
    function, other = FUNCTIONS[name], FUNCTIONS["operand used again"]
    fast, later = compile_replay(function, transient=True), compile_replay(other)
    for factor in (1.0, -0.5, 3.0, 2.0):
        found = fast(A * factor, B)
        for _ in range(2):
            assert_same_tree(later(B, A), other(B, A))
        assert_same_tree(found, function(A * factor, B))


def test_transient_results_use_no_new_memory():
    fast = compile_replay(lambda a, b: a * b + 1.0, transient=True)
    for _ in range(2):
        fast(A, B)
    assert fast(A, B) is fast(A * 2.0, B)


def test_threads_have_memory_of_their_own():
    fast = compile_replay(lambda a, b: xp.exp(a * b) - a * b + b)

    def work(factor):
        expected = np.exp(A * factor * B) - A * factor * B + B
        return all(np.array_equal(fast(A * factor, B), expected) for _ in range(2000))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, (1.0, 2.0, 3.0)))


def test_threads_take_over_the_memory_of_those_that_have_ended():
    fast = compile_replay(lambda a, b: a * b + 1.0, transient=True)

    def in_a_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(fast, A, B).result()

    results = [in_a_thread() for _ in range(4)]
    assert results[2] is results[3]


def test_a_compiled_function_may_be_part_of_another():
    inner = compile_replay(lambda a, b: a * b + 1.0)
    outer = compile_replay(lambda a, b: inner(a + b, b) - inner(a, b))
    for _ in range(3):
        np.testing.assert_array_equal(outer(A, B), ((A + B) * B + 1.0) - (A * B + 1.0))


@pytest.mark.parametrize("convert", [bool, int, float, np.asarray])
def test_what_is_recorded_does_not_become_a_number(convert):
    fast = compile_replay(lambda a: convert(xp.sum(a)))
    fast(A)  # not recorded yet
    with pytest.raises(TypeError, match="no values while"):
        fast(A)


def test_memory_is_used_again_within_a_function_and_by_others():
    x, sizes = np.ones(1 << 18), []

    def chain(factor, x):
        for _ in range(20):
            x = xp.maximum(x * factor, 0.0) + xp.sin(x)
        return x

    tracemalloc.start()
    functions = [compile_replay(chain), compile_replay(chain)]
    for fast in functions:
        fast(0.5, x)
        sizes.append(tracemalloc.get_traced_memory()[0] / x.nbytes)
    tracemalloc.stop()
    assert sizes[0] < 4
    assert sizes[1] - sizes[0] < 0.5


def test_recording_keeps_no_large_values():
    def chain(factor, x):
        for _ in range(10):
            x = xp.maximum(x * factor, 0.0) + 0.5
        return x

    fast, x = compile_replay(chain), np.ones((100, 100))
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

    fast = compile_replay(function)
    for _ in range(3):
        assert_same_tree(fast(weight, x), function(weight, x))


def test_native_results_do_not_depend_on_how_often_a_thread_has_called_before():
    images, weight = RNG.normal(size=(1024, 784)).astype(np.float32), np.full((10, 784), 0.1, np.float32)
    fast = compile_replay(lambda w, x: xp.matmul(w, xp.matrix_transpose(x * 2.0)) + 1.0, exact=False)
    first, *others = [fast(weight, images) for _ in range(3)]
    for other in others:
        np.testing.assert_array_equal(other, first, strict=True)
