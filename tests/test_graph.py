"""A captured function gives what the function gives. The graphs here are simulated on NumPy."""

import warnings

import numpy as np
import pytest

from xpnet.backends.graph import WARM_UP, Captured
from xpnet.tree import leaves


class Recorder:
    """Captures by running a function; a replay runs it again, on the memory that it was captured with."""

    def __init__(self, wrong=0.0, error=None):
        self.captures = self.replays = 0
        self.wrong, self.error = wrong, error

    def capture(self, function):
        if self.error:
            raise self.error
        self.captures += 1
        outputs = function()

        def replay():
            self.replays += 1
            for output, now in zip(leaves(outputs), leaves(function()), strict=True):
                output[...] = now + self.wrong

        return outputs, replay

    copy = staticmethod(np.copyto)
    clone = staticmethod(np.copy)

    def fill(self, target, number):
        target.fill(number)

    def scalar(self, number, like):
        return np.full((), number, dtype=like.dtype)

    def alike(self, a, b, *, exact):
        return np.array_equal(a, b) if exact else np.allclose(a, b, rtol=1e-3)


DATA = np.arange(40.0).reshape(8, 5)


def step(parameters, data, indices, rate):
    """A step with all kinds of arguments: nested, constant, changing, a number."""
    chosen = np.take(data, indices, axis=0)
    weight, bias = parameters[0]
    return [(weight - rate * chosen, bias * 0.5 + rate)], np.sum(chosen)[None]


def course(function, steps=8):
    """The results of some steps, each from the last one's."""
    parameters, found = [(np.ones((2, 5)), np.zeros(3))], []
    for at in range(steps):
        indices = np.array([at % 8, (3 * at + 1) % 8])
        parameters, total = function(parameters, DATA, indices, 1.0 / (at + 1))
        found.append([np.copy(array) for array in (*leaves(parameters), total)])
    return found


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_course_of_steps_is_replayed():
    recorder = Recorder()
    assert_same(course(Captured(step, recorder, exact=True)), course(step))
    assert recorder.captures == 1
    assert recorder.replays == 8 - WARM_UP + 1  # one more to compare


def test_constants_are_not_copied_until_they_change():
    recorder = Recorder()
    copied = []
    recorder.copy = lambda target, source: (copied.append(target.shape), np.copyto(target, source))
    fast = Captured(step, recorder, exact=True)
    course(fast)
    assert (8, 5) not in copied
    other = DATA * 2.0
    for at in range(5):
        parameters = [(np.full((2, 5), float(at)), np.zeros(3))]
        data = other if at % 2 else DATA
        indices = np.array([at, 1])
        found, expected = (function(parameters, data, indices, 0.5) for function in (fast, step))
        assert_same([list(leaves(found))], [list(leaves(expected))])
    assert recorder.captures == 2
    np.testing.assert_array_equal(DATA, np.arange(40.0).reshape(8, 5))


def test_each_form_has_a_graph():
    recorder = Recorder()
    fast = Captured(lambda x, y: x * 2.0 + y, recorder, exact=True)
    for _ in range(WARM_UP + 2):
        for size in (4, 3):
            x, y = np.random.default_rng(size).normal(size=(2, size))
            np.testing.assert_array_equal(fast(x, y), x * 2.0 + y)
    assert recorder.captures == 2


def test_results_are_copies():
    fast = Captured(lambda x: x + 1.0, Recorder(), exact=True)
    results = [fast(np.full(3, float(at))) for at in range(6)]
    for at, result in enumerate(results):
        np.testing.assert_array_equal(result, np.full(3, at + 1.0))


@pytest.mark.parametrize(
    ("recorder", "problem"),
    [
        (Recorder(error=RuntimeError("operation not\npermitted")), "operation not permitted"),
        (Recorder(wrong=1.0), "its results differ"),
    ],
)
def test_what_cannot_be_captured_runs_as_written_after_one_warning(recorder, problem):
    with pytest.warns(
        RuntimeWarning, match=f"no CUDA graph can be used here.*: {problem}"
    ) as caught:
        assert_same(course(Captured(step, recorder, exact=True)), course(step))
    assert len(caught) == 1


@pytest.mark.parametrize(("exact", "works"), [(True, False), (False, True)])
def test_native_results_need_to_be_close_only(exact, works):
    recorder = Recorder(wrong=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast = Captured(lambda x: x + 1.0, recorder, exact=exact)
        for at in range(6):
            fast(np.full(3, float(at)))
    assert (recorder.replays > 1) is works


def test_a_part_of_a_captured_function_has_no_graph_of_its_own():
    inner_recorder, recorder = Recorder(), Recorder()
    inner = Captured(lambda x: x * 3.0, inner_recorder, exact=True)
    fast = Captured(lambda x: inner(x) + inner(x + 1.0), recorder, exact=True)
    for at in range(8):
        x = np.full(2, float(at))
        np.testing.assert_array_equal(fast(x), x * 3.0 + (x + 1.0) * 3.0)
    assert (recorder.captures, inner_recorder.captures) == (1, 0)


def test_training_with_graphs_is_training():
    from networks import engine_for, feed_for, fitted, pixels

    from xpnet.backends.numpy import make
    from xpnet.loop import Engine
    from xpnet.model import initialize

    backend = make("cpu")
    x, labels = pixels(300, 20, 5)
    plain = engine_for(backend, x)
    recorder = Recorder()

    def captured(function, *, donated=()):
        return Captured(function, recorder, exact=True)

    fast = Engine(plain.ops, plain.inputs, plain.map_blocks, compile=captured)
    for batch_size in (None, 32):
        results = [
            fitted(
                engine,
                initialize((20, 10, 5), 0),
                feed_for(backend, x, labels),
                epochs=6,
                batch_size=batch_size,
            ).parameters
            for engine in (plain, fast)
        ]
        for layer, expected in zip(*results, strict=True):
            np.testing.assert_array_equal(layer.weight, expected.weight)
    assert recorder.replays > 20
