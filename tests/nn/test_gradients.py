"""Every backward pass against central finite differences, in float64.

The gradient of v · f(x) along a random direction u is compared with (v · f(x + εu) - v · f(x - εu)) / 2ε.
"""

import numpy as np
import pytest
from networks import arithmetic

from xpnet.backends.numpy import make
from xpnet.nn import functional as F
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks
from xpnet.nn.init import initialize
from xpnet.nn.layers import (
    BatchNorm,
    Linear,
    batch_norm,
    batch_norm_backward,
    dropout,
    linear,
    linear_backward,
    linear_backward_input,
)
from xpnet.nn.network import gradients, loss

OPS = arithmetic(make("cpu"))
STEP = 1e-6
GENERATOR = np.random.default_rng(3)
A, W, B = (GENERATOR.normal(size=shape) for shape in ((6, 9), (4, 6), (4, 1)))
LABELS = GENERATOR.integers(0, 4, size=9)
Z = GENERATOR.normal(size=(4, 9))


def check(function, gradient, x):
    """Assert that `gradient` (x's shape) is the gradient of the number `function(x)`."""
    direction = GENERATOR.normal(size=x.shape)
    numeric = (function(x + STEP * direction) - function(x - STEP * direction)) / (2 * STEP)
    analytic = np.sum(gradient * direction)
    assert np.shape(gradient) == x.shape
    assert abs(analytic - numeric) <= 1e-7 * max(1.0, abs(numeric)), (analytic, numeric)


@pytest.mark.parametrize("name", F.ACTIVATIONS)
@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
def test_activations(name, size):
    activation, v, z = F.ACTIVATIONS[name], GENERATOR.normal(size=Z.shape), Z * size
    gradient = activation.backward(OPS, v, z, activation.forward(OPS, z))
    check(lambda z: np.sum(v * activation.forward(OPS, z)), gradient, z)


@pytest.mark.parametrize("name", F.LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses(name, smoothing):
    y, found = F.targets(OPS, LABELS, 4, smoothing), F.LOSSES[name]
    gradient = found.backward(OPS, F.softmax(OPS, Z), y)
    check(lambda z: np.sum(found.per_sample(OPS, z, y)), gradient, Z)


def test_linear():
    v = GENERATOR.normal(size=Z.shape)

    def value(weight, bias, a):
        return np.sum(v * linear(OPS, Linear(weight, bias), a))

    gradients = linear_backward(OPS, A, v)
    check(lambda weight: value(weight, B, A), gradients.weight, W)
    check(lambda bias: value(W, bias, A), gradients.bias, B)
    check(lambda a: value(W, B, a), linear_backward_input(OPS, Linear(W, B), v), A)


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_batch_norm(mean):
    v, z = GENERATOR.normal(size=Z.shape), Z * 2.0 + mean
    gamma, beta = GENERATOR.normal(size=(2, 4, 1))

    def value(gamma, beta, z):
        return np.sum(v * batch_norm(OPS, BatchNorm(gamma, beta), z)[0])

    _, normalized = batch_norm(OPS, BatchNorm(gamma, beta), z)
    gradient, dz = batch_norm_backward(OPS, BatchNorm(gamma, beta), normalized, v)
    check(lambda gamma: value(gamma, beta, z), gradient.gamma, gamma)
    check(lambda beta: value(gamma, beta, z), gradient.beta, beta)
    check(lambda z: value(gamma, beta, z), dz, z)


def test_dropout():
    v, mask = GENERATOR.normal(size=Z.shape), GENERATOR.random(Z.shape) > 0.3
    check(lambda a: np.sum(v * dropout(OPS, a, mask, 1.4)), dropout(OPS, v, mask, 1.4), Z)


NETWORKS = [
    *({"activation": name} for name in F.ACTIVATIONS),
    *({"loss": name, "label_smoothing": 0.1} for name in F.LOSSES),
    {"batch_norm": True},
    {"hidden_dropout": 0.4},
    {"batch_norm": True, "hidden_dropout": 0.4, "activation": "tanh", "loss": "squared-error"},
    {"batch_norm": True, "hidden_dropout": 0.4, "activation": "sigmoid", "label_smoothing": 0.1},
]


@pytest.mark.parametrize("settings", NETWORKS, ids=str)
@pytest.mark.parametrize("hidden", [(), (7, 5, 6)], ids=str)
def test_whole_network(hidden, settings):
    network = Network((6, *hidden, 4), **settings)
    layers = initialize(network.sizes, 0, batch_norm=network.batch_norm)
    masks = dropout_masks(network, 0, 1, 0, 9).hidden
    found = gradients(OPS, layers, A, LABELS, network, masks=masks)
    for index, (layer, gradient) in enumerate(zip(layers, found, strict=True)):
        for name in layer._fields:

            def changed_loss(value, index=index, name=name):
                changed = list(layers)
                changed[index] = layers[index]._replace(**{name: value})
                return loss(OPS, changed, A, LABELS, network, masks=masks).item()

            check(changed_loss, getattr(gradient, name), getattr(layer, name))


def test_the_check_sees_a_wrong_gradient():
    y = F.targets(OPS, LABELS, 4)
    with pytest.raises(AssertionError):
        check(lambda z: np.sum(F.cross_entropy(OPS, z, y)), -y, Z)
