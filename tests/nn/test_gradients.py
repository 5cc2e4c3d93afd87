"""The gradients of whole networks of every kind against central finite differences, in float64.

The gradient along a random direction u is compared with (f(x + εu) - f(x - εu)) / 2ε.
"""

import numpy as np
import pytest
from networks import arithmetic, total_loss

from xpnet._lib.tree import leaves, tree_map
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


@pytest.mark.parametrize("settings", NETWORKS, ids=str)
@pytest.mark.parametrize("hidden", [(), (5,), (7, 5, 6)], ids=str)
@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 3.0, 9)], ids=["", "weights"])
def test_gradients_are_finite_differences_of_the_loss(hidden, settings, weights):
    network, generator = Network((6, *hidden, 4), **settings), np.random.default_rng(0)
    x, labels = generator.normal(size=(6, 9)), generator.integers(0, 4, size=9)
    layers = initialize(network.sizes, 0, batch_norm=network.batch_norm)
    masks = dropout_masks(network, 0, 1, 0, 9).hidden
    gradients, _ = gradients_and_moments(OPS, layers, x, labels, network, masks=masks, weights=weights)
    factors = 1.0 if weights is None else weights
    direction = tree_map(lambda p: generator.normal(size=p.shape), layers)

    def loss(step):
        pairs = zip(layers, direction, strict=True)
        moved = [
            layer._make(p + step * u for p, u in zip(layer, towards, strict=True)) for layer, towards in pairs
        ]
        return total_loss(OPS, moved, x, labels, network, masks, factors).item()

    numeric = (loss(STEP) - loss(-STEP)) / (2 * STEP)
    analytic = sum(np.sum(g * u) for g, u in zip(leaves(gradients), leaves(direction), strict=True))
    assert analytic == pytest.approx(numeric, rel=1e-7, abs=1e-7)
