"""The training loop, on every backend: parity with NumPy, batches, stopping, divergence.

Tier "close", relative to the largest parameter: float32 1e-4, float64 1e-7 after the epochs trained here
(measured: 3e-6 and 3e-15).
"""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from assertions import assert_on_backend, assert_same
from networks import engine_for, feed_for, fitted, on_device, on_host, pixels, train

from xpnet.arithmetic import blocks
from xpnet.backends.numpy import make
from xpnet.errors import DivergedError
from xpnet.nn.init import initialize
from xpnet.nn.optim import sgd
from xpnet.training import loop
from xpnet.training.batches import Samples
from xpnet.training.evaluation import evaluate
from xpnet.training.step import batch_gradients

TOLERANCE = {"float32": 1e-4, "float64": 1e-7}
X, LABELS = pixels(2600, 20, 5)  # two blocks and a short one
NUMPY = make("cpu")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("hidden", "batch_size"),
    [((10,), None), ((), None), ((9, 8), None), ((10,), 1500), ((10,), 127)],
    ids=str,
)
def test_training_agrees_with_numpy(backend, dtype, hidden, batch_size):
    sizes, epochs = (20, *hidden, 5), 4
    settings = {"epochs": epochs, "batch_size": batch_size, "dtype": dtype}
    layers, history = train(backend, X, LABELS, sizes, **settings)
    expected, expected_history = train(NUMPY, X, LABELS, sizes, **settings)
    for layer, expected_layer in zip(layers, expected, strict=True):
        for array, expected_array in zip(layer, expected_layer, strict=True):
            atol = TOLERANCE[dtype] * float(np.max(np.abs(expected_array)))
            assert_same(array, expected_array, backend, atol=atol)
    (losses, accuracies), (expected_losses, expected_accuracies) = (
        zip(*figures, strict=True) for figures in (history, expected_history)
    )
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE[dtype])
    misjudged = 1.0 if dtype == "float32" else 0.0  # samples at a near-tie
    np.testing.assert_allclose(accuracies, expected_accuracies, atol=misjudged / len(X))
    assert losses[-1] < losses[0]


def test_a_batch_over_many_blocks_is_the_mean_over_its_samples(backend, monkeypatch):
    layers = on_device(backend, initialize((20, 10, 5), 0))
    samples = Samples(backend.from_host(X), backend.from_host(LABELS))
    engine = engine_for(backend, X)
    gradients = batch_gradients(engine, layers, samples)
    monkeypatch.setattr(loop, "block_chunks", lambda count, stack: [[blocks.Group(0, count, 1)]])
    whole = batch_gradients(engine, layers, samples)
    for layer, expected in zip(gradients, on_host(backend, whole), strict=True):
        for array, expected_array in zip(layer, expected, strict=True):
            assert_same(array, expected_array, backend, rtol=1e-10, atol=1e-14)


def test_a_batch_of_chosen_samples_is_the_batch_of_those_rows(backend):
    layers = on_device(backend, initialize((20, 10, 5), 0))
    engine = engine_for(backend, X)
    chosen = np.array([5, 2599, 0, 17])
    whole = Samples(backend.from_host(X), backend.from_host(LABELS))
    rows = Samples(backend.from_host(X[chosen]), backend.from_host(LABELS[chosen]))
    gradients = batch_gradients(engine, layers, whole, backend.from_host(chosen))
    expected = on_host(backend, batch_gradients(engine, layers, rows))
    assert_same(gradients[0].weight, expected[0].weight, backend)


def test_stacked_blocks_are_the_blocks(backend):
    x, labels = pixels(3 * 1024 + 5, 20, 5)
    engine, samples = (
        engine_for(backend, x),
        Samples(backend.from_host(x), backend.from_host(labels)),
    )
    layers = on_device(backend, initialize((20, 10, 5), 0))
    stacked = replace(engine, stack=2)
    expected = on_host(backend, batch_gradients(engine, layers, samples))
    for layer, expected_layer in zip(
        batch_gradients(stacked, layers, samples), expected, strict=True
    ):
        assert_same(layer.weight, expected_layer.weight, backend, rtol=1e-11, atol=1e-15)
    alone, together = (evaluate(e, layers, samples) for e in (engine, stacked))
    assert together.loss == pytest.approx(alone.loss, rel=1e-13)
    assert together.accuracy == alone.accuracy


def test_evaluation_drops_no_sample(backend):
    layers = initialize((20, 10, 5), 0)
    samples = Samples(backend.from_host(X), backend.from_host(LABELS))
    evaluation = evaluate(engine_for(backend, X), on_device(backend, layers), samples)
    a = X.T / 255.0
    z1 = layers[0].weight @ a + layers[0].bias
    z2 = layers[1].weight @ np.maximum(z1, 0) + layers[1].bias
    assert_on_backend(evaluation.predictions, backend)
    predicted = backend.to_host(evaluation.predictions)
    assert predicted.tolist() == np.argmax(z2, axis=0).tolist()
    assert evaluation.accuracy == np.mean(predicted == LABELS)
    losses = np.log(np.sum(np.exp(z2), axis=0)) - z2[LABELS, np.arange(len(LABELS))]
    assert evaluation.loss == pytest.approx(losses.mean(), rel=1e-12)


def run(epochs, **settings):
    """Fit 100 samples on NumPy; `settings` override."""
    order = settings.pop("order", lambda _: np.arange(100))
    return fitted(
        engine_for(NUMPY, X),
        settings.pop("layers", initialize((20, 10, 5), 0)),
        feed_for(NUMPY, X[:100], LABELS[:100], order),
        epochs=epochs,
        batch_size=settings.pop("batch_size", None),
        **settings,
    )


@pytest.mark.parametrize(
    ("epochs", "log_every", "logged"),
    [(0, 10, [0]), (3, 10, [0, 3]), (20, 10, [0, 10, 20]), (5, 2, [0, 2, 4, 5])],
)
def test_evaluations_are_those_of_the_logged_epochs(epochs, log_every, logged):
    seen, evaluated = [], []

    def on_epoch(epoch, evaluation, layers):
        seen.append(epoch)
        if evaluation is not None:
            evaluated.append(epoch)

    run(epochs, log_every=log_every, on_epoch=on_epoch)
    assert seen == list(range(epochs + 1))
    assert evaluated == logged


def test_mini_batches_visit_every_sample_once_an_epoch_in_that_epochs_order(monkeypatch):
    visited = []

    class Spy(loop._Step):
        def _plain(self, indices):
            visited.append(indices.tolist())
            return super()._plain(indices)

    monkeypatch.setattr(loop, "_Step", Spy)
    run(2, batch_size=30, order=lambda epoch: np.roll(np.arange(100), epoch))
    assert [len(batch) for batch in visited] == [30, 30, 30, 10] * 2
    assert list(itertools.chain(*visited[:4])) == np.roll(np.arange(100), 1).tolist()
    assert list(itertools.chain(*visited[4:])) == np.roll(np.arange(100), 2).tolist()


def test_ctrl_c_ends_training_with_the_parameters_of_the_last_step():
    steps = iter(range(3))

    def on_step(state):
        if next(steps, None) == 2:
            raise KeyboardInterrupt

    found = run(10, batch_size=50, on_step=on_step)
    assert found.interrupted
    assert found.epochs == 1
    by_hand = run(1, batch_size=50).parameters
    engine, samples = engine_for(NUMPY, X), Samples(X[:100], LABELS[:100])
    gradients = batch_gradients(engine, by_hand, samples, np.arange(50))
    expected, _ = sgd().update(gradients, (), by_hand, 0.1)
    for layer, expected_layer in zip(found.parameters, expected, strict=True):
        assert np.array_equal(layer.weight, expected_layer.weight)


@pytest.mark.parametrize("batch_size", [None, 50])
def test_stop_ends_training_after_the_step_at_hand(batch_size):
    answers = iter([False] * 4 + [True] * 9)
    found = run(10, batch_size=batch_size, stop=lambda: next(answers))
    assert found.interrupted
    assert found.epochs == (2 if batch_size else 4)
    assert not run(2, batch_size=batch_size).interrupted


def test_training_leaves_the_parameters_it_starts_from(backend):
    start = on_device(backend, initialize((20, 10, 5), 0))
    before = [np.copy(layer.weight) for layer in on_host(backend, start)]
    engine = replace(engine_for(backend, X), compile=partial(backend.compile, exact=False))
    feed = feed_for(backend, X[:200], LABELS[:200])
    found = fitted(engine, start, feed, epochs=2, batch_size=50)
    for layer, expected, changed in zip(
        on_host(backend, start), before, on_host(backend, found.parameters), strict=True
    ):
        np.testing.assert_array_equal(layer.weight, expected)
        assert not np.array_equal(changed.weight, expected)


@pytest.mark.parametrize("batch_size", [None, 50, 1500])
@pytest.mark.parametrize("units", [10, 300])  # some products are made otherwise from 256 on
def test_compiled_training_is_training(backend, batch_size, units):
    generic = engine_for(backend, X)
    fast = replace(generic, compile=partial(backend.compile, exact=False))
    start, feed = on_device(backend, initialize((20, units, 5), 0)), feed_for(backend, X, LABELS)
    found, expected = (
        fitted(engine, start, feed, epochs=2, batch_size=batch_size).parameters
        for engine in (fast, generic)
    )
    for layer, expected_layer in zip(found, on_host(backend, expected), strict=True):
        assert_same(layer.weight, expected_layer.weight, backend, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_loss_that_is_not_finite_ends_training_and_names_the_epoch(batch_size):
    with (
        pytest.raises(DivergedError, match=r"not finite in epoch [12]:"),
        np.errstate(all="ignore"),
    ):
        run(5, learning_rate=1e308, batch_size=batch_size)


def test_parameters_that_are_not_finite_are_found_before_training():
    layers = initialize((20, 10, 5), 0)
    layers[0].weight[0, 0] = math.nan
    with pytest.raises(DivergedError, match="in epoch 0:"):
        run(5, layers=layers)
