"""Small networks and data for the tests, and the engine that trains them."""

from __future__ import annotations

import numpy as np

from xpnet.arithmetic import random
from xpnet.arithmetic.native import Native
from xpnet.inference.context import Engine
from xpnet.nn.init import initialize
from xpnet.nn.inputs import fit_normalization
from xpnet.nn.layers import Linear
from xpnet.nn.optim import sgd
from xpnet.nn.schedules import constant
from xpnet.training.batches import Feed, Order, Samples
from xpnet.training.evaluation import evaluate
from xpnet.training.loop import fit
from xpnet.training.state import start


def pixels(samples, features, classes, seed=0):
    """Random 8-bit images (samples, features) and labels (samples,) that depend on them."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, size=(samples, features), dtype=np.uint8)
    mixture = generator.normal(size=(features, classes))
    return x, np.argmax((x / 255.0 - 0.5) @ mixture, axis=1).astype(np.int32)


def arithmetic(backend, dtype="float64"):
    """The native arithmetic on a backend."""
    return Native(backend.xp, backend.device, getattr(backend.xp, dtype))


def on_device(backend, layers, dtype="float64"):
    """Copy host layers to the backend."""
    return [
        Linear(*(backend.from_host(array.astype(dtype)) for array in layer)) for layer in layers
    ]


def on_host(backend, layers):
    """Copy layers to the host."""
    return [Linear(*(backend.to_host(array) for array in layer)) for layer in layers]


def engine_for(backend, x, dtype="float64", normalize="scale"):
    """An engine that computes natively with inputs normalised for `x`."""
    ops = arithmetic(backend, dtype)
    inputs = fit_normalization(normalize, x).on_device(ops, backend.from_host)
    return Engine(ops, inputs, backend.map_blocks)


def feed_for(backend, x, labels, order=None, seed=0):
    """All samples, in the order that `order` gives for an epoch, by default that of the seed."""

    def permutation(epoch):
        host = random.permutation(seed, len(labels), epoch=epoch) if order is None else order(epoch)
        return Order(host, backend.from_host(host))

    samples = Samples(backend.from_host(x), backend.from_host(labels))
    return Feed(samples, permutation, len(labels))


def fitted(engine, layers, feed, *, learning_rate=0.1, **settings):
    """Train with gradient descent; `settings` are those of `fit`."""
    return fit(
        engine,
        start(layers, [], sgd()),
        feed,
        sgd(),
        constant(learning_rate),
        evaluation=lambda state: evaluate(engine, state.parameters, feed.samples),
        **settings,
    )


def train(
    backend,
    x,
    labels,
    sizes,
    *,
    epochs,
    batch_size=None,
    dtype="float64",
    learning_rate=0.1,
    seed=0,
    log_every=1,
):
    """Train from a seed's parameters; return layers (on the device) and [(loss, accuracy), …]."""
    history = []

    def keep(epoch, evaluation, state):
        if evaluation is not None:
            history.append((evaluation.loss, evaluation.accuracy))

    found = fitted(
        engine_for(backend, x, dtype),
        on_device(backend, initialize(sizes, seed), dtype),
        feed_for(backend, x, labels, seed=seed),
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        log_every=log_every,
        on_epoch=keep,
    )
    return found.parameters, history
