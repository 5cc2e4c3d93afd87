"""The gradients of whole networks of every kind against central finite differences, in float64.

The gradient along a random direction u is compared with (f(x + εu) - f(x - εu)) / 2ε.
"""

import numpy as np
import pytest
from networks import arithmetic, total_loss

from xpnet.backends.resolve import make
from xpnet.nn import functional as F
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks
from xpnet.nn.init import initialize
from xpnet.nn.network import gradients_and_moments

OPS = arithmetic(make("numpy", "cpu"))
STEP = 1e-6
NETWORKS = [
    *({"activation": name} for name in F.ACTIVATIONS),
    *({"loss": name, "label_smoothing": 0.1} for name in F.LOSSES),
    {"batch_norm": True},
    {"hidden_dropout": 0.4},
    {"batch_norm": True, "hidden_dropout": 0.4, "activation": "tanh", "loss": "squared-error"},
    {"batch_norm": True, "hidden_dropout": 0.4, "activation": "sigmoid", "label_smoothing": 0.1},
]


def check(function, gradient, x):
    """Assert that `gradient` (x's shape) is the gradient of the number `function(x)`."""
    direction = np.random.default_rng(3).normal(size=x.shape)
    numeric = (function(x + STEP * direction) - function(x - STEP * direction)) / (2 * STEP)
    analytic = np.sum(gradient * direction)
    assert np.shape(gradient) == x.shape
    assert abs(analytic - numeric) <= 1e-7 * max(1.0, abs(numeric)), (analytic, numeric)


@pytest.mark.parametrize("settings", NETWORKS, ids=str)
@pytest.mark.parametrize("hidden", [(), (5,), (7, 5, 6)], ids=str)
@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 3.0, 9)], ids=["", "weights"])
def test_gradients_are_finite_differences_of_the_loss(hidden, settings, weights):
    network, generator = Network((6, *hidden, 4), **settings), np.random.default_rng(0)
    x, labels = generator.normal(size=(6, 9)), generator.integers(0, 4, size=9)
    layers = initialize(network.sizes, 0, batch_norm=network.batch_norm)
    masks = dropout_masks(network, 0, 1, 0, 9).hidden
    gradients, _ = gradients_and_moments(OPS, layers, x, labels, network, masks=masks, weights=weights)
    for index, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        for name in layer._fields:

            def changed_loss(value, index=index, name=name):
                changed = list(layers)
                changed[index] = layers[index]._replace(**{name: value})
                factors = 1.0 if weights is None else weights
                return total_loss(OPS, changed, x, labels, network, masks, factors).item()

            check(changed_loss, getattr(gradient, name), getattr(layer, name))
