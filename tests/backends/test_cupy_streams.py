"""Streams of several threads share a predictor, its plans and its tables: each gets its own answers."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from backend_enum import BackendCase
from networks import image_data

import xpnet

pytestmark = pytest.mark.needs("cupy")

DATA = image_data()
TIMES, PATIENCE = 50, 0.05  # seconds in which another stream could overtake a paused one
SETTINGS = {"hidden": (8, 6), "activation": "tanh", "epochs": 1, "batch_size": 32, "batch_norm": True}


@pytest.fixture
def streams():
    """Two streams that wait neither for each other nor for the default stream."""
    with BackendCase.CUPY.make().scope():
        import cupy

        yield [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]


def test_a_predictor_gives_two_streams_their_own_answers(streams, monkeypatch):
    import cupy

    from xpnet.backends.cupy_compile import Plan

    first, other = streams
    original, lengths, place = Plan.__init__, list[int](), 0
    has_begun, is_over = threading.Event(), threading.Event()

    def pause(_):
        has_begun.set()
        assert is_over.wait(60.0)

    def make(plan, *args):
        def before(number):
            def step(_):
                if number == place and cupy.cuda.get_current_stream() == first:
                    first.launch_host_func(pause, None)

            return step

        original(plan, *args)
        lengths.append(len(plan.steps))
        plan.steps = [each for number, step in enumerate(plan.steps) for each in (before(number), step)]

    def predict(stream, x):
        with stream:
            return model.predict_proba(x)

    model, reference = (
        xpnet.fit(DATA.x_train, DATA.y_train, **SETTINGS, backend=backend, device=device)
        for backend, device in (("cupy", "cuda"), ("numpy", "cpu"))
    )
    parts = DATA.x_train[:40], DATA.x_test[:40]
    expected = [reference.predict_proba(x) for x in parts]
    monkeypatch.setattr(Plan, "__init__", make)
    np.testing.assert_array_equal(predict(other, parts[0]), expected[0])
    with ThreadPoolExecutor(2) as threads:
        for number in range(TIMES):
            place = 1 + number % (lengths[-1] - 1)
            has_begun.clear()
            is_over.clear()
            results = [threads.submit(predict, first, parts[0])]
            assert has_begun.wait(60.0)
            results.append(threads.submit(predict, other, parts[1]))
            wait(results[1:], PATIENCE)
            is_over.set()
            for result, answer in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result.result(60.0), answer)
