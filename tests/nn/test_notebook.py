"""Agreement is not correctness: training ends where the notebook's does."""

import runpy

import numpy as np
from checkout import ROOT
from fingerprints import real_data
from networks import train

from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.nn.init import initialize


def test_a_hundred_epochs_are_those_of_the_notebook():
    notebook, numpy = (
        runpy.run_path(str(ROOT / "scripts" / "benchmarks" / "notebook.py")),
        make("numpy", "cpu"),
    )
    data, start = real_data(500, 1), [*leaves(initialize((784, 10, 10), 0))]
    with numpy.workers(1):
        expected = notebook["gradient_descent"](data.x_train.T / 255, data.y_train, 100, 0.1, start)
        layers, history = train(numpy, data.x_train, data.y_train, (784, 10, 10), epochs=100, log_every=100)
    for array, expected_array in zip(leaves(layers), expected, strict=True):
        np.testing.assert_allclose(array, expected_array, rtol=0, atol=1e-10)
    assert history[-1][1] > 0.5
