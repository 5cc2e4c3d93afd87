"""Streams of several threads share a predictor, its plans and its tables: each gets its own answers."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from backend_enum import BackendCase
from networks import image_data, reproducible

import xpnet
from xpnet.nn import functional as F

pytestmark = pytest.mark.needs("cupy")

DATA = image_data()
TIMES, PATIENCE = 50, 0.05  # seconds in which another stream could overtake a paused one
ON_CUDA = {"backend": "cupy", "device": "cuda"}


@pytest.fixture
def streams():
    """Two streams that wait neither for each other nor for the default stream."""
    with BackendCase.CUPY.make().scope():
        import cupy

        yield [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]


class Pause:
    """Pauses a stream before one of the steps of a plan that runs in it."""

    def __init__(self, stream):
        self.stream, self.place = stream, 0
        self.has_begun, self.is_over = threading.Event(), threading.Event()

    def step(self, number):
        """A step that pauses the stream if its number is that of the place."""
        import cupy

        def run(_):
            if number == self.place and cupy.cuda.get_current_stream() == self.stream:
                self.stream.launch_host_func(self._wait, None)

        return run

    def _wait(self, _):
        self.has_begun.set()
        assert self.is_over.wait(60.0)


def train(**settings):
    """A small model, whose activation takes the table of the exponential function."""
    options = {"hidden": (8, 6), "activation": "tanh", "epochs": 1, "batch_size": 32, "batch_norm": True}
    return xpnet.fit(DATA.x_train, DATA.y_train, **{**options, **settings})


def test_a_predictor_gives_two_streams_their_own_answers(streams, monkeypatch):
    from xpnet.backends.cupy_compile import Plan

    first, other = streams
    pause, original, lengths = Pause(first), Plan.__init__, list[int]()

    def make(plan, *args):
        original(plan, *args)
        lengths.append(len(plan.steps))
        plan.steps = [each for n, step in enumerate(plan.steps) for each in (pause.step(n), step)]

    def predict(stream, x):
        with stream:
            return model.predict_proba(x)

    model, reference, parts = train(**ON_CUDA), train(backend="numpy"), (DATA.x_train[:40], DATA.x_test[:40])
    expected = [reference.predict_proba(x) for x in parts]
    monkeypatch.setattr(Plan, "__init__", make)
    np.testing.assert_array_equal(predict(other, parts[0]), expected[0])
    with ThreadPoolExecutor(2) as threads:
        for number in range(TIMES):
            pause.place = 1 + number % (lengths[-1] - 1)
            pause.has_begun.clear()
            pause.is_over.clear()
            results = [threads.submit(predict, first, parts[0])]
            assert pause.has_begun.wait(60.0)
            results.append(threads.submit(predict, other, parts[1]))
            wait(results[1:], PATIENCE)
            pause.is_over.set()
            for result, answer in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result.result(60.0), answer)


def test_weights_are_there_for_a_stream_that_did_not_make_them(streams):
    model, expected = train(**ON_CUDA), train(backend="numpy").predict_proba(DATA.x_test)
    model.predictor.is_of_pixels  # noqa: B018  makes it, in the default stream
    with streams[0]:
        np.testing.assert_array_equal(model.predict_proba(DATA.x_test), expected)


def exponentials(ops, x, _):
    return ops.exp(x)


def one_hot(ops, _, labels):
    return F.one_hot(ops, labels, 5)


@pytest.mark.parametrize(
    ("function", "compiled"), [(exponentials, False), (exponentials, True), (one_hot, True)]
)
def test_tables_and_counters_are_there_for_a_stream_that_did_not_make_them(streams, function, compiled):
    x, labels, results = -np.arange(10000.0) / 50, np.arange(10000, dtype=np.int32) % 5, []
    backend, host = BackendCase.CUPY.make(), BackendCase.NUMPY.make()
    ops, run = reproducible(backend), lambda *args: [function(ops, *args)]
    run = backend.compile(run, exact=True) if compiled else run
    for stream in streams:
        with stream:
            results = run(backend.from_host(x), backend.from_host(labels))
    with streams[1]:
        result = backend.to_host(results[0])
    np.testing.assert_array_equal(result, function(reproducible(host), x, labels), strict=True)
