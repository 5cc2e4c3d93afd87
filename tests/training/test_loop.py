"""The training loop: native training near NumPy's, batches, evaluation, hooks, divergence."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from backend_rows import on_numpy
from networks import OnEpoch, context_for, loader_for, pixels, train

from xpnet._lib.tree import leaves
from xpnet.arithmetic import blocks
from xpnet.backends.numpy import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import DivergedError
from xpnet.nn.init import initialize
from xpnet.training.batches import Samples
from xpnet.training.callbacks import Evaluate
from xpnet.training.loop import Callback
from xpnet.training.step import Variables, evaluate
from xpnet.training.trainer import Trainer

X, LABELS = pixels(2600, 20, 5)  # two blocks and a short one
NUMPY = make("cpu")
LAYERS = initialize((20, 10, 5), 0)


def data_of(count):
    return Dataset(X[:count], LABELS[:count], X[:10], LABELS[:10], "small")


CASES = {  # hidden layers and batch size
    "no hidden layer": ((), None),
    "batches of two blocks": ((9, 8), 1500),
    "many units": ((300,), 1300),  # some products are made otherwise from 256 on
}
TOLERANCE = {"float32": 1e-4, "float64": 1e-7}  # relative to the largest parameter; measured: 3e-6 and 3e-15


@cache
def uncompiled(name):
    """Parameters and losses of plain NumPy, in float64."""
    hidden, batch_size = CASES[name]
    layers, history = train(NUMPY, X, LABELS, (20, *hidden, 5), epochs=2, batch_size=batch_size)
    return list(leaves(layers)), [loss for loss, _ in history]


@on_numpy("name", CASES, elsewhere=["batches of two blocks"])
def test_native_training_agrees_with_plain_numpy(backend, name):
    hidden, batch_size = CASES[name]
    config = TrainConfig(epochs=2, hidden=hidden, batch_size=batch_size or "full", log_every=1)
    expected, expected_losses = uncompiled(name)
    for dtype, tolerance in TOLERANCE.items():
        logs = []
        with Trainer.open(
            replace(config, arithmetic="native", dtype=dtype), data_of(2600), backend
        ) as trainer:
            state = trainer.fit([Evaluate(), OnEpoch(logs.append)]).state
            parameters = trainer.to_host(state.variables.parameters)
        np.testing.assert_allclose([log.training.loss for log in logs], expected_losses, rtol=tolerance)
        for array, right in zip(leaves(parameters), expected, strict=True):
            assert array.dtype == dtype
            np.testing.assert_allclose(array, right, rtol=0, atol=tolerance * np.max(np.abs(right)))


def test_evaluation_drops_no_sample_and_keeps_their_order():
    x, labels = np.tile(X, (2, 1)), np.tile(LABELS, 2)  # six blocks, in two chunks
    evaluation = evaluate(context_for(NUMPY, X), Variables(LAYERS, [], ()), Samples(x, labels), predict=True)
    z1 = LAYERS[0].weight @ (x.T / 255.0) + LAYERS[0].bias
    z2 = LAYERS[1].weight @ np.maximum(z1, 0) + LAYERS[1].bias
    assert evaluation.predictions.tolist() == np.argmax(z2, axis=0).tolist()
    assert evaluation.accuracy == np.mean(evaluation.predictions == labels)
    losses = np.log(np.sum(np.exp(z2), axis=0)) - z2[labels, np.arange(len(labels))]
    assert evaluation.loss == pytest.approx(losses.mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("size", "skip", "at_once", "steps"),
    [
        (30, 2, 1, [1, 1]),
        (1, 0, 24, [20] * 5),
        (3, 11, 24, [22, 1]),
        (30, 0, 24, [3, 1]),
        (60, 0, 24, [1, 1]),
    ],
)
def test_batches_visit_every_sample_once_an_epoch_in_that_epochs_order(size, skip, at_once, steps):
    def order(epoch):
        return np.roll(np.arange(100), epoch)

    loader = loader_for(context_for(NUMPY, X), NUMPY, X[:100], LABELS[:100], order, batch_size=size)
    for epoch in (1, 2):
        batches = list(loader.batches(epoch, skip, at_once=at_once))
        assert [batch.steps for batch in batches] == steps
        visited = [batch.block(blocks.Group(0, batch.size, 1)).indices.ravel() for batch in batches]
        assert np.concatenate(visited).tolist() == order(epoch)[size * skip :].tolist()


class Hooks(Callback):
    """Notes the calls of the hooks, and calls a function after each step."""

    needs_every_step = True

    def __init__(self, after_step=lambda state: None):
        self.calls, self.after_step = [], after_step

    def on_train_begin(self, trainer, state):
        self.calls.append(("begin", state.epoch, state.batch))

    def on_step_end(self, trainer, state):
        self.calls.append(("step", state.epoch, state.batch))
        self.stop = self.after_step(state)

    def on_epoch_end(self, trainer, log):
        self.calls.append(("epoch", log.epoch, log.state.batch))

    def on_train_end(self, trainer, result):
        self.calls.append(("end", result.state.epoch, result.stopped))

    def close(self):
        self.calls.append(("close",))


def test_steps_at_once_give_the_model_of_single_steps(backend):
    config = TrainConfig(epochs=2, batch_size=30, hidden=(4,), optimizer="adam", schedule="cosine")
    ends, models = [], []
    for single in (False, True):
        hooks = Hooks()
        hooks.needs_every_step = single
        with Trainer.open(config, data_of(640), backend) as trainer:
            models.append(trainer.fingerprint(trainer.fit([hooks]).state))
        ends.append([batch for hook, epoch, batch in hooks.calls[1:-2] if (hook, epoch) == ("step", 1)])
    assert models[0] == models[1]
    assert ends == [[21, 22], [*range(1, 23)]]


def run(*callbacks):
    """Train two epochs of two batches."""
    config = TrainConfig(epochs=2, hidden=(), batch_size=50)
    with Trainer.open(config, data_of(100), NUMPY) as trainer:
        trainer.fit(callbacks)


def test_the_hooks_are_called_in_this_order_and_closed_after_an_error():
    def break_in_second_epoch(state):
        if state.epoch == 1:
            raise ValueError("broken")

    hooks, stopped, broken = Hooks(), Hooks(lambda state: "enough" if state.epoch == 1 else None), Hooks()
    run(hooks)
    start = [("begin", 0, 0), ("epoch", 0, 0), ("step", 0, 1), ("step", 0, 2), ("epoch", 1, 0)]
    start.append(("step", 1, 1))
    assert hooks.calls == [*start, ("step", 1, 2), ("epoch", 2, 0), ("end", 2, None), ("close",)]
    run(stopped)
    assert stopped.calls == [*start, ("end", 1, "enough"), ("close",)]
    with pytest.raises(ValueError, match="broken"):
        run(broken, Hooks(break_in_second_epoch))
    assert broken.calls == [*start, ("close",)]


@pytest.mark.parametrize(
    ("epochs", "log_every", "logged"),
    [(0, 10, [0]), (3, 10, [0, 3]), (5, 2, [0, 2, 4, 5]), (3, "auto", [0, 1, 2, 3])],
)
def test_evaluations_are_those_of_the_logged_epochs(epochs, log_every, logged):
    config, logs = TrainConfig(epochs=epochs, log_every=log_every, hidden=(4,)), []
    with Trainer.open(config, data_of(40), NUMPY) as trainer:
        trainer.fit([Evaluate(), OnEpoch(logs.append)])
    assert [log.epoch for log in logs] == list(range(epochs + 1))
    assert [log.epoch for log in logs if log.training is not None] == logged


@pytest.mark.parametrize("batch_size", ["full", 10])
def test_values_that_are_not_finite_end_training_and_name_the_epoch(batch_size):
    config = TrainConfig(epochs=5, hidden=(4,), batch_size=batch_size, learning_rate=1e308)
    with Trainer.open(config, data_of(40), NUMPY) as trainer:
        with pytest.raises(DivergedError, match=r"not finite in epoch [12]:"):
            trainer.fit([Evaluate()])
        state = trainer.initial_state()
        state.variables.parameters[0].weight[0, 0] = math.nan
        with pytest.raises(DivergedError, match="in epoch 0:"):
            trainer.fit([Evaluate()], state)
        with pytest.raises(DivergedError, match="in epoch 1:"):  # which is not evaluated
            trainer.fit((), state)
