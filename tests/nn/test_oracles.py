"""Agreement is not correctness: the network against PyTorch's autograd, and the notebook."""

import importlib.util

import numpy as np
import pytest
from activations import ORACLES
from checkout import ROOT
from fingerprints import real_data
from networks import arithmetic, pixels, reproducible, total_loss, train

from xpnet.backends.resolve import make
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.init import initialize
from xpnet.nn.layers import BatchNorm
from xpnet.nn.network import gradients_and_moments

NUMPY = make("numpy", "cpu")
NOTEBOOK = ROOT / "scripts" / "benchmarks" / "notebook.py"


def torch_loss(torch, network, logits, labels):
    """The summed loss, by PyTorch's own functions."""
    if network.loss == "cross-entropy":
        return torch.nn.functional.cross_entropy(
            logits, labels, reduction="sum", label_smoothing=network.label_smoothing
        )
    classes = network.sizes[-1]
    y = torch.nn.functional.one_hot(labels, classes).double() * (1.0 - network.label_smoothing)
    y = y + network.label_smoothing / classes
    return 0.5 * torch.nn.functional.mse_loss(torch.softmax(logits, dim=1), y, reduction="sum")


def torch_logits(torch, network, layers, tensors, x, masks):
    """The logits by PyTorch's functions; samples are rows."""
    scale, a, masks = 1.0 / (1.0 - network.hidden_dropout), torch.tensor(x), list(masks)
    for index, (layer, parameters) in enumerate(zip(layers, tensors, strict=True)):
        if isinstance(layer, BatchNorm):
            a = torch.nn.functional.batch_norm(a, None, None, *parameters, training=True, eps=1e-5)
            continue
        if index > 0:
            a = ORACLES[network.activation].torch(torch, a)
            a = a * torch.tensor(masks.pop(0)) * scale if masks else a
        a = torch.nn.functional.linear(a, *parameters)
    return a


@pytest.mark.needs("torch")
@pytest.mark.parametrize("arithmetic_of", [arithmetic, reproducible])
@pytest.mark.parametrize(
    "settings",
    [
        *({"activation": name} for name, oracle in ORACLES.items() if oracle.torch),
        {"sizes": (20, 5)},
        {"label_smoothing": 0.1},
        {"loss": "squared-error", "label_smoothing": 0.2},
        {"batch_norm": True},
        {"activation": "tanh", "batch_norm": True, "input_dropout": 0.25, "hidden_dropout": 0.5},
    ],
    ids=str,
)
def test_networks_of_every_kind_are_those_of_autograd(settings, arithmetic_of):
    import torch

    network = Network(**{"sizes": (20, 9, 8, 5), **settings})
    x, labels = pixels(500, 20, 5)
    layers = initialize(network.sizes, 0, "glorot", batch_norm=network.batch_norm)
    masks = dropout_masks(network, 0, 1, 0, 500)
    factor = dropout_scale(network.input_dropout) / 255.0
    kept = x if masks.inputs is None else x * masks.inputs
    theirs = [
        [torch.tensor(p if p.shape[1] > 1 else p[:, 0], requires_grad=True) for p in layer]
        for layer in layers
    ]
    logits = torch_logits(torch, network, layers, theirs, kept * factor, masks.hidden)
    expected = torch_loss(torch, network, logits, torch.tensor(labels).long())
    expected.backward()

    ops, tolerance = arithmetic_of(NUMPY), 1e-12 if arithmetic_of is arithmetic else 1e-6
    operand = ops.integers(kept.T, factor)
    loss = total_loss(ops, layers, operand, labels, network, masks.hidden)
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=tolerance)
    gradients, _ = gradients_and_moments(ops, layers, operand, labels, network, masks=masks.hidden)
    for layer, tensors in zip(gradients, theirs, strict=True):
        for gradient, tensor in zip(layer, tensors, strict=True):
            right = tensor.grad.numpy().reshape(gradient.shape)
            np.testing.assert_allclose(gradient, right, rtol=0, atol=tolerance * 100)


def test_a_hundred_epochs_are_those_of_the_notebook():
    spec = importlib.util.spec_from_file_location("notebook_baseline", NOTEBOOK)
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)

    data = real_data(500, 1)
    start = [array for layer in initialize((784, 10, 10), 0) for array in layer]
    with NUMPY.workers(1):
        expected = notebook.gradient_descent(data.x_train.T / 255, data.y_train, 100, 0.1, start)
        layers, history = train(NUMPY, data.x_train, data.y_train, (784, 10, 10), epochs=100, log_every=100)
    for array, expected_array in zip((a for layer in layers for a in layer), expected, strict=True):
        np.testing.assert_allclose(array, expected_array, rtol=0, atol=1e-10)
    assert history[-1][1] > 0.5
