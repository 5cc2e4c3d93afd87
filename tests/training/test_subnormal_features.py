"""A subnormal feature counts as a zero of its sign wherever features are used (8.1)."""

import numpy as np
import pytest

import xpnet
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.inference.predictor import Predictor
from xpnet.training.trainer import Trainer

NUMPY = make("numpy", "cpu")


def results(x, normalize):
    """What depends on the bits: parameters, evaluations of all parts, outputs of single samples."""
    config = TrainConfig(hidden=(3,), epochs=2, batch_size=510, validation=40, normalize=normalize)
    y = np.arange(1100, dtype=np.int32) % 2
    with Trainer.open(config, Dataset(x[:1060], y[:1060], x[1060:], y[1060:], "tiny"), NUMPY) as trainer:
        state = trainer.fit().state
        model = trainer.model(state)
        losses = [part(state).loss for part in (trainer.evaluate, trainer.validate, trainer.evaluate_test)]
    return model.fingerprint, losses, np.asarray(Predictor(model, NUMPY).outputs(x[1060:])).tobytes()


def tiny(dtype):
    smallest, scales = np.finfo(dtype).smallest_normal, np.array([0.5, 1.0, 2.0, 4.0, 8.0, 0.0])
    x = (np.random.default_rng(0).uniform(-1.0, 1.0, (1100, 6)) * scales * float(smallest)).astype(dtype)
    return x, np.where(np.abs(x) < smallest, np.copysign(dtype(0), x), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("normalize", ["scale", "standardize"])
def test_trainings_and_predictions_are_those_of_zeros(tmp_path, normalize, dtype):
    x, zeros = tiny(dtype)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", dtype, "r", shape=x.shape)
    assert results(x, normalize) == results(mapped, normalize) == results(zeros, normalize)


def test_means_of_missing_values_are_those_of_zeros():
    gaps = np.where(np.arange(1100)[:, None] % 7, 0.0, np.nan).astype(np.float32)
    options = {"epochs": 0, "missing": "mean", "normalize": "standardize"}
    one, other = (xpnet.fit(x + gaps, np.arange(1100) % 2, **options) for x in tiny(np.float32))
    assert one.network.columns == other.network.columns
