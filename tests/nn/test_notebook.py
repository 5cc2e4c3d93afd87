"""Agreement is not correctness: training ends where the notebook's does."""

import runpy

import numpy as np
from checkout import ROOT
from fingerprints import real_data
from hooks import OnEpoch

from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.nn.init import initialize
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

NUMPY = make("numpy", "cpu")


def test_a_hundred_epochs_are_those_of_the_notebook():
    notebook = runpy.run_path(str(ROOT / "scripts" / "benchmarks" / "notebook.py"))
    data, start = real_data(500, 1), leaves(initialize((784, 10, 10), 0))
    with NUMPY.workers(1):
        expected = notebook["gradient_descent"](data.x_train.T / 255, data.y_train, 100, 0.1, [*start])
        config, logs = TrainConfig(arithmetic="native", dtype="float64", epochs=100), []
        trainer = Trainer(config, data, NUMPY)
        state = trainer.fit([Evaluate(), OnEpoch(logs.append)]).state
    for array, expected_array in zip(leaves(state.variables.parameters), expected, strict=True):
        np.testing.assert_allclose(array, expected_array, rtol=0, atol=1e-10)
    assert logs[-1].training.accuracy > 0.5
