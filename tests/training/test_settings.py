"""Every setting reaches the training: it changes the result, and in the same bits on every backend."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from xpnet.backends.numpy import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError
from xpnet.training.trainer import Trainer

RNG = np.random.default_rng(1)
X = RNG.integers(0, 256, size=(230, 36), dtype=np.uint8)  # images of 6 by 6
Y = np.argmax(X[:, :4].astype(int) + X[:, 4:8], axis=1).astype(np.int32)
DATA = Dataset(X[:180], Y[:180], X[180:], Y[180:], "small")
BASE = TrainConfig(epochs=3, batch_size=32, hidden=(8, 6), learning_rate=0.05)

CHANGES = {
    "activation": {"activation": "leaky-relu"},
    "tanh": {"activation": "tanh"},
    "sigmoid": {"activation": "sigmoid"},
    "initialisation": {"init": "he"},
    "glorot": {"init": "glorot"},
    "batch norm": {"batch_norm": True},
    "batch norm in full batch": {"batch_norm": True, "batch_size": "full"},
    "loss": {"loss": "squared-error"},
    "label smoothing": {"label_smoothing": 0.1},
    "momentum": {"optimizer": "momentum"},
    "another momentum": {"optimizer": "momentum", "momentum": 0.5},
    "nesterov": {"optimizer": "nesterov"},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "weight decay": {"weight_decay": 0.01},
    "weight decay of adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.2},
    "clipping": {"clip_norm": 0.1},
    "max-norm": {"max_norm": 0.5},
    "step": {"schedule": "step", "schedule_step_epochs": 1, "schedule_factor": 0.5},
    "exponential": {"schedule": "exponential"},
    "cosine": {"schedule": "cosine"},
    "warm-up": {"warmup_epochs": 2},
    "dropout": {"dropout": 0.4},
    "dropout in full batch": {"dropout": 0.4, "batch_size": "full"},
    "input dropout": {"input_dropout": 0.2},
    "input dropout of standardised inputs": {"input_dropout": 0.2, "normalize": "standardize"},
    "validation": {"validation": 40},
    "shift": {"augment_shift": 1.5},
    "rotation": {"augment_rotate": 20.0},
    "scale": {"augment_scale": 0.2},
    "shear": {"augment_shear": 0.3},
    "elastic": {"augment_elastic_alpha": 8.0, "augment_elastic_sigma": 2.0},
    "augmentation in full batch": {"augment_rotate": 20.0, "batch_size": "full"},
    "seed": {"seed": 1},
}


def trained(backend, config, data=DATA):
    """The bytes of all parameters and running statistics."""
    with backend.scope():
        trainer = Trainer(config, data, backend)
        state = trainer.fit().state
        return [
            backend.to_host(array).tobytes()
            for part in (*state.variables.parameters, *state.variables.statistics)
            for array in part
        ]


@cache
def on_numpy(name):
    return trained(make("cpu"), replace(BASE, **CHANGES.get(name, {})))


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_the_result(name):
    others = {other: on_numpy(other) for other in ("base", *CHANGES) if other != name}
    assert on_numpy(name) not in others.values()


@pytest.mark.parametrize("name", CHANGES)
def test_every_backend_gives_the_same_bits(backend, name):
    assert trained(backend, replace(BASE, **CHANGES[name])) == on_numpy(name)


@pytest.mark.parametrize("name", ["dropout", "elastic", "batch norm", "adam", "validation"])
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_no_bit(name, workers):
    backend = make("cpu")
    with backend.workers(workers):
        assert trained(backend, replace(BASE, **CHANGES[name])) == on_numpy(name)


@pytest.mark.parametrize("name", ["dropout", "elastic", "batch norm", "adam", "validation", "loss"])
def test_native_arithmetic_comes_close(backend, name):
    if backend.name == "cupy":
        pytest.skip("natively, the distorted pixels may differ by one")
    native = replace(BASE, **CHANGES[name], arithmetic="native", dtype="float64")
    found = np.frombuffer(b"".join(trained(backend, native)))
    expected = np.frombuffer(b"".join(on_numpy(name)))
    tolerance = 2e-3 if name == "elastic" else 1e-6
    np.testing.assert_allclose(found, expected, atol=tolerance * np.max(np.abs(expected)))


def test_batches_over_several_blocks_feed_each_sample_once(monkeypatch):
    """Distortions and masks follow from a sample's place, not from the blocks."""
    x = np.tile(X[:180], (7, 1))
    data = replace(DATA, x_train=x, y_train=np.tile(Y[:180], 7))
    changes = {"dropout": 0.3, "input_dropout": 0.1, "augment_rotate": 10.0, "epochs": 1}
    two = replace(BASE, **changes, batch_size=1200)
    alone, beside = make("cpu"), make("cpu")
    with beside.workers(2):
        assert trained(beside, two, data) == trained(alone, two, data)


def test_validation_samples_are_not_trained_on():
    backend = make("cpu")
    config = replace(BASE, validation=60, augment_rotate=5.0)
    trainer = Trainer(config, DATA, backend)
    held_in = set(trainer.training_indices.tolist())
    held_out = set(range(180)) - held_in
    assert len(held_out) == 60
    for epoch in (0, 1, 2):
        assert sorted(trainer.loader.order(epoch).host.tolist()) == sorted(held_in)
    state = trainer.initial_state()
    validated = trainer.validate(state)
    rows = sorted(held_out)
    alone = replace(DATA, x_test=X[rows], y_test=Y[rows])
    expected = Trainer(BASE, alone, backend).evaluate_test(state)
    assert (validated.loss, validated.accuracy) == (expected.loss, expected.accuracy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"validation": 180},
            r"--validation: expected fewer than the 180 training samples, got 180",
        ),
        ({"validation": 160}, r"--batch-size: expected at most the 20 training samples, got 32"),
        ({"batch_norm": True, "batch_size": 179}, r"--batch-size: 179 leaves a last batch of one"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_one_line(changes, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(replace(BASE, **changes), DATA, make("cpu"))


def test_only_square_images_of_pixels_are_distorted():
    config = replace(BASE, augment_shift=1.0)
    wide = replace(DATA, x_train=DATA.x_train[:, :35], x_test=DATA.x_test[:, :35])
    with pytest.raises(ConfigError, match="35 features make no square"):
        Trainer(config, wide, make("cpu"))
    decimals = replace(DATA, x_train=DATA.x_train / 255, x_test=DATA.x_test / 255)
    with pytest.raises(ConfigError, match="needs images of pixels"):
        Trainer(config, decimals, make("cpu"))
