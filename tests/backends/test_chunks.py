"""Calls on large arrays give the same in chunks of rows, in several threads, as one by one."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from xpnet.backends import chunks
from xpnet.backends.chunks import find_runs
from xpnet.backends.replay import PlanBuilder, compile_replay
from xpnet.backends.tape import xp
from xpnet.backends.workers import Workers

RNG = np.random.default_rng(0)
COLUMNS = 9


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Divide arrays of any size, into chunks of one or two rows."""
    with pytest.MonkeyPatch.context() as patch:
        limits = {"LARGE": 8, "WORTHWHILE": 8, "LARGE_PRODUCT": 1, "FEWEST_ROWS": 2}
        limits |= {"CHUNK": 2 * COLUMNS, "SHARED_CHUNK": 2 * COLUMNS}
        for name, value in limits.items():
            patch.setattr(chunks, name, value)
        yield


@pytest.fixture(scope="module", params=[1, 3])
def workers(request):
    pool = Workers()
    with pool.start(request.param, lambda: np.seterr(all="ignore")), np.errstate(all="ignore"):
        yield pool


@pytest.fixture(scope="module")
def three_workers():
    pool = Workers()
    with pool.start(3, lambda: np.seterr(all="ignore")):
        yield pool


def operands(*shape):
    """Return two arrays of whole numbers, whose products are exact, with NaN, infinities and both zeros."""
    arrays = np.round(8 * RNG.normal(size=(2, *shape)))
    for x in arrays:
        x.flat[RNG.integers(x.size, size=5)] = np.nan, np.inf, -np.inf, -0.0, 0.0
    return arrays[0], arrays[1]


def assert_same(found, expected):
    if isinstance(expected, list | tuple):
        for x, y in zip(found, expected, strict=True):
            assert_same(x, y)
    else:
        np.testing.assert_array_equal(found, expected, strict=True)
        if expected.dtype.kind == "f":
            signs = [np.signbit(np.nan_to_num(x, nan=1.0)) for x in (found, expected)]
            np.testing.assert_array_equal(*signs)


def runs_of(function, *args):
    """Return the names of the calls in each run of more than one."""
    recording, *_ = PlanBuilder.record(function, args)
    runs = find_runs(recording.calls, set(), products=True)
    return [[call.function.__name__ for call in run] for run in runs if len(run) > 1]


def last_row(x):
    return x[-1:, :]


FUNCTIONS = {
    "chain": lambda a, b: ((a * 2.0 + b) - b * a) / (a * a + 1.0),
    "results used again": lambda a, b: ((a + b) * 0.5, a + b, xp.maximum(a + b, 0.0)),
    "sums of rows": lambda a, b: a * b - xp.sum(a * b, axis=-1, keepdims=True) * 0.25,
    "softmax": lambda a, b: xp.exp(a - xp.max(a, axis=-1, keepdims=True)) * b,
    "norms": lambda a, b: a * (1.0 / (xp.sqrt(xp.sum(a * a, axis=1, keepdims=True)) + 0.5)) + b,
    "a row and a column": lambda a, b: (a * b[:1, :] + b[:, :1]) * a + b[:1, :1],
    "choices": lambda a, b: xp.where(a > b, a * 2.0, 0.0) + xp.where(a > 0.0, a - b, xp.where(b < 0, b, a)),
    "choice of a result": lambda a, b: xp.where(a > b, b * 2.0, a) + b,
    "conversions": lambda a, b: xp.astype(xp.astype(a > b, xp.int32), xp.float64) * b - a,
    "bits": lambda a, b: ((a * b).view(xp.int64) & -4).view(xp.float64) + a.view(xp.int64),
    "other layouts": lambda a, b: (a * xp.matrix_transpose(xp.matrix_transpose(b) + 0.0) + b[::-1, :]) * 0.5,
    "largest of a column": lambda a, b: (a * b - xp.max(a * b, axis=0, keepdims=True)) * b,
    "last row": lambda a, b: (a * b + last_row(a * b)) * 2.0 - last_row(a),
    "products": lambda a, b: xp.matmul(a * b, xp.matrix_transpose(b + 1.0)) * 0.5 + 1.0,
    "product of two of a run": lambda a, b: xp.matmul((a * b)[:, :2], (a * b)[:2, :]) * (a * b) - b,
    "square": lambda a, b: [xp.matmul(c, c) + c for c in (xp.matmul(a * 2.0, xp.matrix_transpose(b)) * 3.0,)],
    "view of a result": lambda a, b: xp.matrix_transpose(a * b + 1.0)[1:, :],
    "view within and outside": lambda a, b: [(c & 255) + (c >> 3) for c in ((a * b).view(xp.int64),)],
}


@pytest.mark.parametrize("rows", [2, 3, 37])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_call_gives_what_the_function_gives(name, rows, workers):
    function, results = FUNCTIONS[name], []
    fast = compile_replay(function, workers=workers)
    for _ in range(4):
        a, b = operands(rows, COLUMNS)
        before = a.copy(), b.copy()
        results.append((fast(a, b), function(*before)))
        assert_same([a, b], before)
        for found, expected in results:
            assert_same(found, expected)


OPERATIONS = {
    "add": lambda x, y: x + y * 0.5,
    "mul": lambda x, y: x * y,
    "where": lambda x, y: xp.where(x > y, x, 0.0),
    "sum": lambda x, y: y - xp.sum(x, axis=-1, keepdims=True) * 0.125,
    "maxima": lambda x, y: y - xp.max(x, axis=0, keepdims=True),
    "turn": lambda x, y: xp.matrix_transpose(x),
    "matmul": lambda x, y: xp.matmul(x, y) * 0.25,
    "cut": lambda x, y: xp.concat([x[:2, :], y[2:, :]], axis=0),
}
STEP = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=80)
@given(st.lists(STEP, min_size=2, max_size=25))
def test_any_program_gives_the_same_also_in_donated_arrays(workers, steps):
    def program(arrays, y):
        values = [*arrays, y]
        for name, i, j in steps:
            values.append(OPERATIONS[name](values[-1 - i % len(values)], values[-1 - j % len(values)]))
        return values[-2:]

    state, y = [np.round(8 * x) for x in RNG.normal(size=(2, 7, 7))], np.round(RNG.normal(size=(7, 7)))
    fast = compile_replay(program, donated=True, workers=workers)
    for _ in range(4):
        expected = program([x.copy() for x in state], y)
        found = fast([x.copy() for x in state], y)
        np.testing.assert_array_equal(found, expected)


def test_results_are_written_into_donated_arrays_that_are_read_no_more(workers):
    def step(state, gradient):
        average, weight = state
        average = average * 0.9 + gradient
        return [average, weight - average * 0.1]

    fast, state = compile_replay(step, donated=True, workers=workers), [*operands(37, COLUMNS)]
    gradient, _ = operands(37, COLUMNS)
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
def test_donated_arrays_that_are_read_later_are_kept(step, workers):
    fast = compile_replay(step, donated=True, workers=workers)
    for _ in range(4):
        state, (x, _) = [*operands(9, 9)], operands(9, 9)
        expected = step([y.copy() for y in state], x)
        assert_same(fast(state, x), expected)


def test_interleaved_updates_of_several_arrays_are_a_run_each():
    def update(parameters, gradients):
        averages = [p * 0.9 + g for p, g in zip(parameters, gradients, strict=True)]
        return [p - m * 0.1 for p, m in zip(parameters, averages, strict=True)]

    arrays = [operands(rows, COLUMNS) for rows in (5, 4, 5)]
    first, second = zip(*arrays, strict=True)
    assert runs_of(update, list(first), list(second)) == [["multiply", "add", "multiply", "subtract"]] * 3


@pytest.mark.parametrize(
    ("function", "runs"),
    [
        (lambda a, b: (a * b - xp.max(a * b + 1.0, axis=0, keepdims=True)) * 2.0, 2),
        (lambda a, b: a * b + xp.matrix_transpose(xp.matrix_transpose(a * b)[:, ::-1]) * 2.0, 2),
        (lambda a, b: (a * 2.0 + 1.0, b * 3.0 - 1.0), 2),
        (lambda a, b: xp.sum(xp.sum(a * b, axis=-1, keepdims=True) * 2.0, axis=0), 1),
        (lambda a, b: (a[:1, :] * b[:1, :]) * 2.0 + 1.0, 0),
    ],
)
def test_calls_that_need_all_rows_end_a_run(function, runs):
    assert len(runs_of(function, *operands(5, COLUMNS))) == runs


def test_small_results_belong_to_a_run_only_if_it_needs_them():
    def function(a, b):
        total = xp.sum(a * b, axis=-1, keepdims=True)
        return a - total * 0.5, total * 3.0 + 1.0

    (run,) = runs_of(function, *operands(5, COLUMNS))
    assert run == ["multiply", "reduce", "multiply", "subtract"]


def test_chunks_are_divided_among_the_threads(three_workers):
    meeting, threads = threading.Barrier(3, timeout=30), set()

    def work(_):
        meeting.wait()
        threads.add(threading.get_ident())

    three_workers.share(work, range(3))
    assert len(threads) == 3
    assert threading.get_ident() in threads


def test_a_thread_makes_all_calls_alone_while_the_others_are_busy(three_workers):
    done, released, seen = [], threading.Event(), threading.Semaphore(0)

    def wait(_):
        seen.release()
        released.wait(30)

    def block():
        list(three_workers.map(wait, range(3)))

    blocker = threading.Thread(target=block)
    blocker.start()
    try:
        for _ in range(3):
            seen.acquire(timeout=30)
        three_workers.share(done.append, range(5))
        assert sorted(done) == [0, 1, 2, 3, 4]
    finally:
        released.set()
        blocker.join()


def test_an_error_in_a_thread_reaches_the_caller(three_workers):
    meeting, caller = threading.Barrier(3, timeout=30), threading.get_ident()

    def fail_elsewhere(_):
        meeting.wait()
        if threading.get_ident() != caller:
            msg = "of a thread"
            raise ValueError(msg)

    with pytest.raises(ValueError, match="of a thread"):
        three_workers.share(fail_elsewhere, range(3))


def test_threads_are_not_used_while_the_blas_has_its_own(three_workers):
    threads = set()
    three_workers.sharing = False
    try:
        three_workers.share(lambda _: threads.add(threading.get_ident()), range(9))
    finally:
        three_workers.sharing = True
    assert threads == {threading.get_ident()}


def test_threads_that_compute_blocks_divide_no_calls(three_workers):
    threads = set()
    fast = compile_replay(lambda a, b: [(a + b) * b - a], workers=three_workers)

    def work(_):
        a, b = operands(37, COLUMNS)
        for _ in range(3):
            assert_same(fast(a, b), [(a + b) * b - a])
        threads.add(three_workers.includes_caller)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(three_workers, "share", None)  # an error if it were called
        list(three_workers.map(work, range(6)))
    assert threads == {True}
    assert not three_workers.includes_caller
