"""The training loop, on every backend: parity with NumPy, batches, stopping, divergence.

Tier "close", relative to the largest parameter: float32 1e-4, float64 1e-7 after the epochs trained here
(measured: 3e-6 and 3e-15).
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from assertions import assert_on_backend, assert_same
from networks import (
    OnEpoch,
    context_for,
    fitted,
    gradients_of,
    loader_for,
    on_device,
    on_host,
    pixels,
    train,
)

from xpnet.arithmetic import blocks
from xpnet.backends.numpy import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import DivergedError
from xpnet.nn.init import initialize
from xpnet.nn.optim import sgd
from xpnet.storage.model_file import fingerprint
from xpnet.training import step
from xpnet.training.batches import Samples, gather_rows
from xpnet.training.callbacks import Callback, Evaluate
from xpnet.training.evaluation import evaluate
from xpnet.training.trainer import Trainer

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
    context = context_for(backend, X)
    gradients = gradients_of(context, layers, samples)
    monkeypatch.setattr(step, "block_chunks", lambda count, stack: [[blocks.Group(0, count, 1)]])
    whole = gradients_of(context, layers, samples)
    for layer, expected in zip(gradients, on_host(backend, whole), strict=True):
        for array, expected_array in zip(layer, expected, strict=True):
            assert_same(array, expected_array, backend, rtol=1e-10, atol=1e-14)


def test_a_batch_of_chosen_samples_is_the_batch_of_those_rows(backend):
    layers = on_device(backend, initialize((20, 10, 5), 0))
    context = context_for(backend, X)
    chosen = np.array([5, 2599, 0, 17])
    whole = Samples(backend.from_host(X), backend.from_host(LABELS))
    rows = Samples(backend.from_host(X[chosen]), backend.from_host(LABELS[chosen]))
    gradients = gradients_of(context, layers, whole, backend.from_host(chosen))
    expected = on_host(backend, gradients_of(context, layers, rows))
    assert_same(gradients[0].weight, expected[0].weight, backend)


def test_stacked_blocks_are_the_blocks(backend):
    x, labels = pixels(3 * 1024 + 5, 20, 5)
    context, samples = (
        context_for(backend, x),
        Samples(backend.from_host(x), backend.from_host(labels)),
    )
    layers = on_device(backend, initialize((20, 10, 5), 0))
    stacked = replace(context, stack=2)
    for order in (None, backend.from_host(np.arange(len(labels))[::-1].copy())):
        expected = on_host(backend, gradients_of(context, layers, samples, order))
        found = gradients_of(stacked, layers, samples, order)
        for layer, expected_layer in zip(found, expected, strict=True):
            assert_same(layer.weight, expected_layer.weight, backend, rtol=1e-11, atol=1e-15)
        alone, together = (evaluate(c, layers, samples, (), order) for c in (context, stacked))
        assert together.loss == pytest.approx(alone.loss, rel=1e-13)
        assert together.accuracy == alone.accuracy


def test_evaluation_drops_no_sample(backend):
    layers = initialize((20, 10, 5), 0)
    samples = Samples(backend.from_host(X), backend.from_host(LABELS))
    evaluation = evaluate(context_for(backend, X), on_device(backend, layers), samples)
    a = X.T / 255.0
    z1 = layers[0].weight @ a + layers[0].bias
    z2 = layers[1].weight @ np.maximum(z1, 0) + layers[1].bias
    assert_on_backend(evaluation.predictions, backend)
    predicted = backend.to_host(evaluation.predictions)
    assert predicted.tolist() == np.argmax(z2, axis=0).tolist()
    assert evaluation.accuracy == np.mean(predicted == LABELS)
    losses = np.log(np.sum(np.exp(z2), axis=0)) - z2[LABELS, np.arange(len(LABELS))]
    assert evaluation.loss == pytest.approx(losses.mean(), rel=1e-12)


def run(epochs, *callbacks, order=lambda _: np.arange(100), batch_size=None, layers=None, **more):
    """Fit 100 samples on NumPy; return the result and the layers."""
    context = context_for(NUMPY, X)
    loader = loader_for(context, NUMPY, X[:100], LABELS[:100], order, batch_size=batch_size)
    start = initialize((20, 10, 5), 0) if layers is None else layers
    return fitted(context, start, loader, epochs=epochs, callbacks=callbacks, **more)


class Hooks(Callback):
    """Notes the calls of the hooks."""

    def __init__(self):
        self.calls = []

    def on_train_begin(self, state):
        self.calls.append(("begin", state.epoch, state.batch))

    def on_step_end(self, state):
        self.calls.append(("step", state.epoch, state.batch))

    def on_epoch_end(self, log):
        self.calls.append(("epoch", log.epoch, log.state.batch))

    def on_train_end(self, result):
        self.calls.append(("end", result.state.epoch, result.stopped))

    def close(self):
        self.calls.append(("close",))


def test_the_hooks_are_called_in_this_order():
    hooks = Hooks()
    run(2, hooks, batch_size=50)
    assert hooks.calls == [
        ("begin", 0, 0),
        *(("epoch", 0, 0), ("step", 0, 1), ("step", 0, 2)),
        *(("epoch", 1, 0), ("step", 1, 1), ("step", 1, 2)),
        *(("epoch", 2, 0), ("end", 2, None), ("close",)),
    ]


def test_callbacks_are_closed_after_an_error():
    class Fails(Callback):
        def on_step_end(self, _state):
            msg = "broken"
            raise ValueError(msg)

    hooks = Hooks()
    with pytest.raises(ValueError, match="broken"):
        run(2, hooks, Fails())
    assert hooks.calls[-1] == ("close",)
    assert not any(call[0] == "end" for call in hooks.calls)


@pytest.mark.parametrize(
    ("epochs", "log_every", "logged"),
    [(0, 10, [0]), (3, 10, [0, 3]), (20, 10, [0, 10, 20]), (5, 2, [0, 2, 4, 5])],
)
def test_evaluations_are_those_of_the_logged_epochs(epochs, log_every, logged):
    x, y = X[:40], LABELS[:40]
    config = TrainConfig(epochs=epochs, log_every=log_every, hidden=(4,))
    with Trainer.open(config, Dataset(x, y, x, y, "small"), NUMPY) as trainer:
        logs = []
        trainer.fit([Evaluate(trainer), OnEpoch(logs.append)])
    assert [log.epoch for log in logs] == list(range(epochs + 1))
    assert [log.epoch for log in logs if log.training is not None] == logged


@pytest.mark.parametrize("skip", [0, 2])
def test_mini_batches_visit_every_sample_once_an_epoch_in_that_epochs_order(skip):
    context = context_for(NUMPY, X)
    loader = loader_for(
        context, NUMPY, X[:100], LABELS[:100], lambda epoch: np.roll(np.arange(100), epoch), 0, 30
    )
    for epoch in (1, 2):
        batches = list(loader.batches(epoch, skip))
        assert [batch.size for batch in batches] == [30, 30, 30, 10][skip:]
        visited = [batch.block(blocks.Group(0, batch.size, 1)).indices for batch in batches]
        assert np.concatenate(visited).tolist() == np.roll(np.arange(100), epoch)[30 * skip :].tolist()


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_mini_batch_of_all_samples_has_the_order_of_its_epoch(in_memory):
    context = context_for(NUMPY, X)

    def order(epoch):
        return np.roll(np.arange(len(X)), epoch)

    for size, expected in ((len(X), 2), (None, 0)):
        loader = replace(loader_for(context, NUMPY, X, LABELS, order, batch_size=size), in_memory=in_memory)
        (batch,) = loader.batches(2)
        block = gather_rows(context.ops, batch.block(blocks.Group(0, 1024, 1)))
        assert np.array_equal(block.x, X[order(expected)[:1024]])


def test_ctrl_c_ends_training_with_the_parameters_of_the_last_step():
    steps = iter(range(3))

    class Press(Callback):
        def on_step_end(self, _state):
            if next(steps, None) == 2:
                raise KeyboardInterrupt

    result, layers = run(10, Press(), batch_size=50)
    assert result.interrupted
    assert (result.state.epoch, result.state.batch) == (1, 1)
    _, by_hand = run(1, batch_size=50)
    samples = Samples(X[:100], LABELS[:100])
    gradients = gradients_of(context_for(NUMPY, X), by_hand, samples, np.arange(50))
    expected, _ = sgd().update(gradients, (), by_hand, 0.1)
    for layer, expected_layer in zip(layers, expected, strict=True):
        assert np.array_equal(layer.weight, expected_layer.weight)


@pytest.mark.parametrize("batch_size", [None, 50])
def test_a_callback_ends_training_before_the_next_step(batch_size):
    class StopAfterFour(Callback):
        def on_step_end(self, state):
            steps = state.epoch * (2 if batch_size else 1) + state.batch
            self.stop = "enough" if steps == 4 else None

    result, _ = run(10, StopAfterFour(), batch_size=batch_size)
    assert result.stopped == "enough"
    assert not result.interrupted
    assert result.state.epoch == (2 if batch_size else 4)
    assert run(2, batch_size=batch_size)[0].stopped is None


def test_training_leaves_the_parameters_it_starts_from(backend):
    start = on_device(backend, initialize((20, 10, 5), 0))
    before = [np.copy(layer.weight) for layer in on_host(backend, start)]
    context = replace(context_for(backend, X), compile=partial(backend.compile, exact=False))
    loader = loader_for(context, backend, X[:200], LABELS[:200], batch_size=50)
    _, layers = fitted(context, start, loader, epochs=2)
    for layer, expected, changed in zip(
        on_host(backend, start), before, on_host(backend, layers), strict=True
    ):
        np.testing.assert_array_equal(layer.weight, expected)
        assert not np.array_equal(changed.weight, expected)


@pytest.mark.parametrize("batch_size", [None, 50, 1500])
@pytest.mark.parametrize("units", [10, 300])  # some products are made otherwise from 256 on
def test_compiled_training_is_training(backend, batch_size, units):
    generic = context_for(backend, X)
    fast = replace(generic, compile=partial(backend.compile, exact=False), whole_steps=True)
    start = on_device(backend, initialize((20, units, 5), 0))
    (_, found), (_, expected) = (
        fitted(
            context,
            start,
            loader_for(context, backend, X, LABELS, batch_size=batch_size),
            epochs=2,
        )
        for context in (fast, generic)
    )
    for layer, expected_layer in zip(found, on_host(backend, expected), strict=True):
        assert_same(layer.weight, expected_layer.weight, backend, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("changes", [{}, {"batch_norm": True, "dropout": 0.2, "optimizer": "adam"}], ids=str)
def test_a_step_compiled_as_a_whole_has_the_same_bits(backend, changes):
    x, y = X[:300], LABELS[:300]
    config = TrainConfig(epochs=2, hidden=(6,), batch_size=64, **changes)
    digests = set()
    for whole in (True, False):
        with Trainer.open(config, Dataset(x, y, x, y, "small"), backend) as trainer:
            trainer.context = replace(trainer.context, whole_steps=whole)
            model = trainer.model(trainer.fit().state)
            digests.add(fingerprint(model.layers, model.norms))
    assert len(digests) == 1


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
