"""Small networks and data for the tests, and what trains them."""

from __future__ import annotations

import math

import numpy as np

from xpnet.arithmetic import random
from xpnet.arithmetic.native import Native
from xpnet.errors import DivergedError
from xpnet.inference.context import ComputeContext
from xpnet.nn.init import initialize
from xpnet.nn.inputs import fit_normalization
from xpnet.nn.layers import Linear
from xpnet.nn.optim import sgd
from xpnet.nn.schedules import constant
from xpnet.training.batches import BatchLoader, SampleOrder, Samples, single_batch
from xpnet.training.callbacks import Callback
from xpnet.training.evaluation import evaluate
from xpnet.training.loop import fit
from xpnet.training.state import initial_state
from xpnet.training.step import Step


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
    return [Linear(*(backend.from_host(array.astype(dtype)) for array in layer)) for layer in layers]


def on_host(backend, layers):
    """Copy layers to the host."""
    return [Linear(*(backend.to_host(array) for array in layer)) for layer in layers]


def context_for(backend, x, dtype="float64", normalize="scale"):
    """What computes natively with inputs normalised for `x`."""
    ops = arithmetic(backend, dtype)
    inputs = fit_normalization(normalize, x).on_device(ops, backend.from_host)
    return ComputeContext(ops, inputs, backend.map_blocks)


def loader_for(context, backend, x, labels, order=None, seed=0, batch_size=None):
    """All samples, in the order that `order` gives for an epoch, by default that of the seed."""

    def permutation(epoch):
        host = random.permutation(seed, len(labels), epoch=epoch) if order is None else order(epoch)
        return SampleOrder(host, backend.from_host(host))

    samples = Samples(backend.from_host(x), backend.from_host(labels))
    return BatchLoader(
        context.ops,
        samples,
        permutation,
        len(labels),
        batch_size,
        map_blocks=context.map_blocks,
        stack=context.stack,
    )


def gradients_of(context, parameters, samples, order=None):
    """The gradients of the mean loss of samples, all or those with the indices in `order`."""
    step = Step(context, sgd())
    return step.gradients(parameters, single_batch(context.ops, samples, order))


class OnEpoch(Callback):
    """Calls a function with the log of each epoch."""

    def __init__(self, function):
        self.on_epoch_end = function


class EvaluateEvery(Callback):
    """Evaluates on the samples of a loader every few epochs."""

    def __init__(self, context, samples, every, epochs):
        self.context, self.samples, self.every, self.epochs = context, samples, every, epochs

    def on_epoch_end(self, log):
        if log.epoch % self.every == 0 or log.epoch == self.epochs:
            parameters = log.state.variables.parameters
            log.training = evaluate(self.context, parameters, self.samples)
            if not math.isfinite(log.training.loss):
                raise DivergedError.in_epoch(log.epoch)


def fitted(context, layers, loader, *, epochs, learning_rate=0.1, log_every=10, callbacks=()):
    """Train with gradient descent; return the result and the trained layers."""
    evaluation = EvaluateEvery(context, loader.samples, log_every, epochs)
    result = fit(
        Step(context, sgd()),
        loader,
        constant(learning_rate),
        initial_state(layers, [], sgd()),
        epochs=epochs,
        callbacks=[evaluation, *callbacks],
    )
    return result, result.state.variables.parameters


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

    def keep(log):
        if log.training is not None:
            history.append((log.training.loss, log.training.accuracy))

    context = context_for(backend, x, dtype)
    _, layers = fitted(
        context,
        on_device(backend, initialize(sizes, seed), dtype),
        loader_for(context, backend, x, labels, seed=seed, batch_size=batch_size),
        learning_rate=learning_rate,
        epochs=epochs,
        log_every=log_every,
        callbacks=[OnEpoch(keep)],
    )
    return layers, history
