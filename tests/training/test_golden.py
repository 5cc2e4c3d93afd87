"""The default run, on all of MNIST, has the fingerprints of docs/reproducibility.md, on every backend."""

import numpy as np
import pytest
from backend_enum import BackendCase
from fingerprints import GOLDEN, mnist
from hooks import OnEpoch

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.storage.model_file import fingerprint
from xpnet.training.trainer import Trainer

EPOCHS = [
    *((BackendCase.NUMPY, 10), (BackendCase.STRICT, 1), (BackendCase.CUPY, 10), (BackendCase.DPNP, 10)),
    *(pytest.param(case, 10, marks=pytest.mark.slow) for case in (BackendCase.TORCH, BackendCase.JAX)),
    *(pytest.param(case, 100, marks=[pytest.mark.slow, pytest.mark.nightly]) for case in [*BackendCase][2:]),
]


@pytest.mark.parametrize(("backend", "epochs"), EPOCHS, indirect=["backend"])
def test_the_default_run(backend, epochs):
    digests = {}

    def keep(log):
        if log.epoch in GOLDEN:
            digests[log.epoch] = fingerprint(trainer.model(log.state).layers)

    with Trainer.open(TrainConfig(epochs=epochs, log_every=100), mnist(), backend) as trainer:
        state = trainer.fit([OnEpoch(keep)]).state
        assert trainer.evaluate_test(state).accuracy >= (0.55 if epochs == 100 else 0.1)
    assert digests == {epoch: digest for epoch, digest in GOLDEN.items() if epoch <= epochs}


@pytest.mark.slow
@pytest.mark.nightly
def test_after_a_hundred_epochs_the_parameters_are_those_of_plain_float64():
    trained = []
    for arithmetic in ("reproducible", "native"):
        config = TrainConfig(arithmetic=arithmetic, dtype="float64", log_every=100)
        with Trainer.open(config, mnist(), make("numpy", "cpu")) as trainer:
            trained.append(trainer.model(trainer.fit().state).layers)
    assert fingerprint(trained[0]) == GOLDEN[100]
    for ours, plain in zip(*trained, strict=True):
        for name, tensor in ours.items():
            assert np.max(np.abs(tensor - plain[name])) <= 5e-8
    assert not np.array_equal(trained[0][0]["weight"], trained[1][0]["weight"])
