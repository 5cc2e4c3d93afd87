"""Small networks, settings and data for the tests, and what trains them."""

from types import SimpleNamespace

import numpy as np
from hooks import OnEpoch

from xpnet._lib.tree import tree_map
from xpnet.arithmetic import Native, Reproducible, random
from xpnet.compute.context import ComputeContext
from xpnet.compute.evaluation import evaluate_groups
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.distributed.ranks import ALONE
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.init import initialize
from xpnet.nn.inputs import fit_normalization
from xpnet.nn.network import forward, sample_losses
from xpnet.nn.optim import OPTIMIZERS, sgd
from xpnet.nn.schedules import constant
from xpnet.training.batches import BatchLoader, SampleOrder, Samples, single_batch
from xpnet.training.loop import TrainState, fit
from xpnet.training.step import Step, Variables

BASE = TrainConfig(epochs=3, batch_size=32, hidden=(8, 6), learning_rate=0.05)
SETTINGS = {
    **{name: {"activation": name} for name in ACTIVATIONS if name != BASE.activation},
    "initialisation": {"init": "he"},
    "glorot": {"init": "glorot"},
    "batch norm": {"batch_norm": True},
    "batch norm in full batch": {"batch_norm": True, "batch_size": "full"},
    "loss": {"loss": "squared-error"},
    "label smoothing": {"label_smoothing": 0.1},
    "class weight": {"class_weight": "balanced"},
    "another momentum": {"optimizer": "momentum", "momentum": 0.5},
    **{name: {"optimizer": name, "learning_rate": 0.01} for name in OPTIMIZERS if name != BASE.optimizer},
    "weight decay": {"weight_decay": 0.01},
    "weight decay of adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.2},
    "clipping": {"clip_norm": 0.1},
    "max-norm": {"max_norm": 0.5},
    "step": {"schedule": "step", "schedule_step_epochs": 1, "schedule_factor": 0.5},
    "exponential": {"schedule": "exponential"},
    "cosine": {"schedule": "cosine"},
    "cosine to a tenth": {"schedule": "cosine", "schedule_factor": 0.1},
    "warm-up": {"warmup_epochs": 2},
    "dropout": {"dropout": 0.4},
    "dropout in full batch": {"dropout": 0.4, "batch_size": "full"},
    "input dropout": {"input_dropout": 0.2},
    "input dropout of standardised inputs": {"input_dropout": 0.2, "normalize": "standardize"},
    "input noise": {"input_noise": 0.3},
    "input noise in full batch": {"input_noise": 0.3, "input_dropout": 0.2, "batch_size": "full"},
    "validation": {"validation": 40},
    "shift": {"augment_shift": 1.5},
    "rotation": {"augment_rotate": 20.0},
    "scale": {"augment_scale": 0.2},
    "shear": {"augment_shear": 0.3},
    "elastic": {"augment_elastic_alpha": 8.0, "augment_elastic_sigma": 2.0},
    "thickness": {"augment_thickness": 0.5},
    "fading": {"augment_rotate": 20.0, "augment_elastic_alpha": 8.0, "augment_fade_epochs": 1},
    "augmentation in full batch": {"augment_rotate": 20.0, "batch_size": "full"},
    "seed": {"seed": 1},
}
"""Changes of ``BASE``, each of which changes the result."""


def image_data(train=180, test=50):
    """Random images of 6 by 6 pixels, and labels that depend on them."""
    generator = np.random.default_rng(1)
    x = generator.integers(0, 256, size=(230, 36), dtype=np.uint8)
    y = np.argmax(x[:, :4].astype(int) + x[:, 4:8], axis=1).astype(np.int32)
    return Dataset(x[:train], y[:train], x[180 : 180 + test], y[180 : 180 + test], "small")


def pixels(samples, features, classes, seed=0):
    """Random 8-bit images (samples, features) and labels (samples,) that depend on them."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, size=(samples, features), dtype=np.uint8)
    mixture = generator.normal(size=(features, classes))
    return x, np.argmax((x / 255.0 - 0.5) @ mixture, axis=1).astype(np.int32)


def arithmetic(backend, dtype="float64"):
    """The native arithmetic on a backend."""
    return Native(backend.xp, backend.device, getattr(backend.xp, dtype))


def reproducible(backend):
    """The reproducible arithmetic on a backend."""
    return Reproducible(backend.xp, backend.device, backend.xp.float64)


def on_device(backend, layers):
    """Copy host layers to the backend."""
    return tree_map(backend.from_host, layers)


def context_for(backend, x):
    """The context that computes natively with inputs scaled for `x`."""
    ops = arithmetic(backend)
    inputs = fit_normalization("scale", x).on_device(ops, backend.from_host)
    return ComputeContext(ops, inputs, backend)


def loader_for(context, backend, x, labels, order=None, *, seed=0, batch_size=None):
    """All samples, in the order that `order` gives for an epoch, by default that of the seed."""

    def permutation(epoch):
        host = random.permutation(seed, len(labels), epoch=epoch) if order is None else order(epoch)
        return SampleOrder(host, backend.from_host(host))

    samples = Samples(backend.from_host(x), backend.from_host(labels))
    return BatchLoader(context, samples, permutation, len(labels), batch_size)


def evaluated(context, layers, samples, **options):
    """The evaluation of layers without batch norm on all samples."""
    batch = single_batch(context.ops, samples)

    def evaluate(group):
        block = batch.block(group)
        return context.block_evaluation(layers, [], block.x, block.labels)

    return evaluate_groups(context, batch.size, evaluate, **options)


def total_loss(ops, layers, x, labels, network, masks=(), weights=1.0):
    """The loss, times the weights, summed over the samples."""
    logits, _ = forward(ops, layers, x, network, masks=masks)
    return ops.sum(sample_losses(ops, logits, labels, network) * weights, axis=-1)


def fitted(context, layers, loader, *, epochs, learning_rate=0.1, callbacks=()):
    """Train with gradient descent; return the result and the trained layers."""
    parts = {"step": Step(context, sgd()), "loader": loader, "learning_rate": constant(learning_rate)}
    trainer = SimpleNamespace(**parts, ranks=ALONE)
    result = fit(trainer, TrainState(Variables(layers, [], ())), epochs=epochs, callbacks=callbacks)
    return result, result.state.variables.parameters


def train(backend, x, labels, sizes, *, epochs, batch_size=None, log_every=1):
    """Train natively from the parameters of seed 0; return layers and [(loss, accuracy), …]."""
    context = context_for(backend, x)
    loader = loader_for(context, backend, x, labels, batch_size=batch_size)
    history = []

    def keep(log):
        if log.epoch % log_every == 0:
            evaluation = evaluated(context, log.state.variables.parameters, loader.samples)
            history.append((evaluation.loss, evaluation.accuracy))

    layers = on_device(backend, initialize(sizes, 0))
    return fitted(context, layers, loader, epochs=epochs, callbacks=[OnEpoch(keep)])[1], history
