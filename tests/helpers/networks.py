"""Small networks, settings and data for the tests."""

import numpy as np

from xpnet.arithmetic import Arithmetic, Reproducible
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.network import forward, sample_losses
from xpnet.nn.optim import OPTIMIZERS

BASE = TrainConfig(epochs=3, batch_size=32, hidden=(8, 6), learning_rate=0.05)
SETTINGS = {
    **{name: {"activation": name} for name in ACTIVATIONS if name != BASE.activation},
    "initialisation": {"init": "he"},
    "glorot": {"init": "glorot"},
    "batch norm": {"batch_norm": True},
    "loss": {"loss": "squared-error"},
    "label smoothing": {"label_smoothing": 0.1},
    "class weight": {"class_weight": "balanced"},
    **{name: {"optimizer": name, "learning_rate": 0.01} for name in OPTIMIZERS if name != BASE.optimizer},
    "weight decay of adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.2},
    "clipping": {"clip_norm": 0.1},
    "max-norm": {"max_norm": 0.5},
    "step": {"schedule": "step", "schedule_step_epochs": 1, "schedule_factor": 0.5},
    "exponential": {"schedule": "exponential"},
    "cosine": {"schedule": "cosine"},
    "warm-up": {"warmup_epochs": 2},
    "dropout": {"dropout": 0.4},
    "input dropout": {"input_dropout": 0.2},
    "input dropout of standardised inputs": {"input_dropout": 0.2, "normalize": "standardize"},
    "input noise": {"input_noise": 0.3},
    "validation": {"validation": 40},
    "thickness": {"augment_thickness": 0.5},
    "fading": {"augment_rotate": 20.0, "augment_elastic_alpha": 8.0, "augment_fade_epochs": 1},
    "augmentation in full batch": {"augment_rotate": 20.0, "batch_size": "full"},
}
"""Changes of ``BASE``, which together call all operations."""


def image_data(train=180, test=50):
    generator = np.random.default_rng(1)
    x = generator.integers(0, 256, size=(230, 36), dtype=np.uint8)
    y = np.argmax(x[:, :4].astype(int) + x[:, 4:8], axis=1).astype(np.int32)
    return Dataset(x[:train], y[:train], x[180 : 180 + test], y[180 : 180 + test], "small")


def pixels(samples, features, classes):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(samples, features), dtype=np.uint8)
    mixture = generator.normal(size=(features, classes))
    return x, np.argmax((x / 255.0 - 0.5) @ mixture, axis=1).astype(np.int32)


def arithmetic(backend, dtype="float64"):
    return Arithmetic(backend.xp, backend.device, getattr(backend.xp, dtype))


def reproducible(backend):
    return Reproducible(backend.xp, backend.device, backend.xp.float64)


def total_loss(ops, layers, x, labels, network, masks=(), weights=1.0):
    logits, _ = forward(ops, layers, x, network, masks=masks)
    return ops.sum(sample_losses(ops, logits, labels, network) * weights, axis=-1)
