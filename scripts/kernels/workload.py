"""Computations that use all of the reproducible arithmetic: networks of every kind, and its functions."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

import xpnet
from xpnet import reproducible as r
from xpnet.backends.base import Backend
from xpnet.backends.resolve import make
from xpnet.data import datasets

MNIST: list[dict[str, Any]] = [{}, {"batch_size": 2000}]
"""Settings of the default network 784-10-10, for one epoch on the first images of MNIST."""
IMAGES = 6_000

SMALL: list[dict[str, Any]] = [
    {"activation": "leaky-relu", "init": "he", "optimizer": "momentum", "clip_norm": 0.1},
    {"activation": "tanh", "init": "glorot", "optimizer": "nesterov", "max_norm": 0.5},
    {"activation": "sigmoid", "loss": "squared-error", "schedule": "step", "schedule_step_epochs": 1},
    {"optimizer": "adam", "batch_norm": True, "dropout": 0.4, "schedule": "cosine", "warmup_epochs": 1},
    {"optimizer": "adamw", "weight_decay": 0.2, "label_smoothing": 0.1, "schedule": "exponential"},
    {"optimizer": "adam", "weight_decay": 0.01, "input_dropout": 0.2, "normalize": "standardize"},
    {"class_weight": "balanced", "validation": 40, "weight_decay": 0.01, "normalize": "none"},
    {"batch_norm": True, "dropout": 0.4, "input_dropout": 0.2, "batch_size": "full"},
    {"augment_rotate": 20.0, "augment_shift": 1.5, "augment_scale": 0.2, "augment_shear": 0.3},
    {"augment_thickness": 0.5},
    {"batch_size": 1, "validation": 170, "activation": "elu"},
    {"augment_elastic_alpha": 8.0, "augment_elastic_sigma": 2.0, "batch_size": "full"},
]
"""Settings of networks 36-8-6-4 on small images: every activation, loss, optimiser, schedule and layer."""

AXES = (None, -1, 0)
FUNCTIONS: dict[str, Callable[[Any], object]] = {
    "matmul": lambda x: [r.matmul(x, x.T, slices=slices) for slices in (None, 1, 7)],
    "vecdot": lambda x: [r.vecdot(x, x, axis=axis) for axis in (-1, -2)],
    "sum": lambda x: [r.sum(x, axis=axis) for axis in AXES],
    "mean": lambda x: [r.mean(x, axis=axis) for axis in AXES],
    "var": lambda x: [r.var(x, axis=axis, correction=1.0) for axis in AXES],
    "logsumexp": lambda x: [r.logsumexp(x, axis=axis) for axis in AXES],
    "softmax": lambda x: [r.softmax(x, axis=axis) for axis in AXES[1:]],
    "exp": r.exp,
    "log": r.log,
    "sqrt": r.sqrt,
    "tanh": r.tanh,
    "sigmoid": r.sigmoid,
    "random": lambda x: [r.random.uniform(0, 5, like=x), r.random.permutation(0, 5, like=x)],
}
"""Calls of each public function of xpnet.reproducible."""
DTYPES = ("float64", "float32", "int64", "int32", "uint8", "bool")


def run(backend: str = "cupy", device: str = "cuda") -> None:
    """Compute all of it."""
    mnist = datasets.load()
    for settings in MNIST:
        x, y = mnist.x_train[:IMAGES], mnist.y_train[:IMAGES]
        model = xpnet.fit(x, y, epochs=1, backend=backend, device=device, **settings)
        model.evaluate(x, y)
    generator = np.random.default_rng(1)
    x = generator.integers(0, 256, size=(180, 36), dtype=np.uint8)
    y = np.argmax(x[:, :4], axis=1)
    for settings in SMALL:
        fixed = {"hidden": (8, 6), "epochs": 2, "batch_size": 32, "learning_rate": 0.01}
        for features in [x] if "augment" in "".join(settings) else [x, x / 7.0, (x / 7.0).astype(np.float32)]:
            model = xpnet.fit(features, y, backend=backend, device=device, **(fixed | settings))
            model.evaluate(features, y)
            model.predict_proba(features)
    compute_functions(make(backend, f"{device}:0"))


def compute_functions(backend: Backend) -> None:
    """Call each public function with arrays of several dtypes and layouts."""
    with backend.scope():
        x = np.random.default_rng(2).uniform(0.1, 3.0, size=(3, 40, 50))
        stacks = [x, x[0], x[0, :, ::2].T, x[0, 0], x[0, 0, 0], np.ones((2, 3000))]
        for function in FUNCTIONS.values():
            for stack in stacks:
                for dtype in DTYPES:
                    with contextlib.suppress(xpnet.XPNetError):  # no such axis, or dtype
                        function(backend.from_host(stack.astype(dtype)))
