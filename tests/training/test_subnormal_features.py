"""A subnormal feature counts as a zero of its sign wherever features are used, on every library (8.1)."""

import numpy as np
import pytest
from backend_enum import CASES, BackendCase
from published_vectors import FILES
from vectors import trainings

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.inference.predictor import Predictor
from xpnet.training.trainer import Trainer

SAMPLES, FEATURES, ROWS = 1100, 6, {"train": slice(0, 1060), "test": slice(1060, None)}
(VECTOR,) = (case for case in FILES["trainings"]["trainings"] if case["name"] == "subnormal features")


def features(dtype):
    """Features of which many are subnormal, and some as large as the smallest normal number; labels."""
    generator, smallest = np.random.default_rng(0), float(np.finfo(dtype).smallest_normal)
    scales = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 0.0])
    x = (generator.uniform(-1.0, 1.0, (SAMPLES, FEATURES)) * scales * smallest).astype(dtype)
    x[:4, 0] = np.array([1, -1, 1 - 2.0**-20, 2.0**-20 - 1], dtype) * dtype(smallest)
    return x, (x[:, 4] > x[:, 3]).astype(np.int32)


def with_zeros(x):
    return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, np.copysign(x.dtype.type(0), x), x)


def dataset(x, y):
    rows = (ROWS[part] for part in ("train", "test"))
    return Dataset(*(each for part in rows for each in (x[part], y[part])), "subnormal")


def results(data, backend, **settings):
    """What depends on the bits: parameters, evaluations of all parts, outputs of single samples."""
    config = TrainConfig(hidden=(3,), epochs=2, batch_size=510, validation=40, learning_rate=0.5, **settings)
    with Trainer.open(config, data, backend) as trainer:
        state = trainer.fit([]).state
        model = trainer.model(state)
        evaluations = trainer.evaluate(state), trainer.validate(state), trainer.evaluate_test(state)
        figures = [(each.loss, each.accuracy) for each in evaluations]
    logits, probabilities = Predictor(model, backend).outputs(data.x_test)
    return model.fingerprint, figures, logits.tobytes(), probabilities.tobytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.value)
def test_the_published_training_has_its_results_on_every_library(case):
    inputs = {name: VECTOR[name] for name in ("name", "features", "samples", "settings")}
    assert trainings.train(inputs, case.make()) == VECTOR


WHERE = [
    *((BackendCase.NUMPY, kind, np.float32) for kind in ("scale", "standardize", "none")),
    *((BackendCase.NUMPY, "scale", np.float64), (BackendCase.TORCH, "scale", np.float32)),
    *(
        (BackendCase.CUPY, "scale", np.float32),
        pytest.param(BackendCase.JAX, "scale", np.float32, marks=pytest.mark.slow),
    ),
]


@pytest.mark.parametrize(("case", "normalize", "dtype"), WHERE, ids=lambda x: getattr(x, "value", x))
def test_trainings_and_predictions_are_those_of_zeros(tmp_path, case, normalize, dtype):
    x, y = features(dtype)
    expected = results(dataset(with_zeros(x), y), make("numpy", "cpu"), normalize=normalize)
    assert results(dataset(x, y), case.make(), normalize=normalize) == expected
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", dtype, "r", shape=x.shape)
    assert results(dataset(mapped, y), case.make(), normalize=normalize) == expected
