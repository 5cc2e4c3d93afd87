"""Agreement is not correctness: the network against PyTorch's autograd, and the notebook."""

import runpy
from functools import partial

import numpy as np
import pytest
from activations import ORACLES
from checkout import ROOT
from fingerprints import real_data
from hooks import OnEpoch
from networks import arithmetic, pixels, reproducible, total_loss

from xpnet._lib.tree import leaves, tree_map
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.init import initialize
from xpnet.nn.layers import BatchNorm
from xpnet.nn.network import gradients_and_moments
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

NUMPY = make("numpy", "cpu")


def torch_loss(torch, network, layers, a, masks, labels):
    """The summed loss by PyTorch's own functions; samples are rows, masks are scaled."""
    of, masks = torch.nn.functional, iter(masks)
    for index, (layer, (weight, bias)) in enumerate(zip(layers[0], layers[1], strict=True)):
        if isinstance(layer, BatchNorm):
            a = of.batch_norm(a, None, None, weight[:, 0], bias[:, 0], training=True, eps=1e-5)
            continue
        if index > 0:
            a = ORACLES[network.activation].torch(torch, a) * next(masks, 1.0)
        a = of.linear(a, weight, bias[:, 0])
    smoothing = network.label_smoothing
    if network.loss == "cross-entropy":
        return of.cross_entropy(a, labels, reduction="sum", label_smoothing=smoothing)
    classes = network.sizes[-1]
    y = of.one_hot(labels, classes).double() * (1.0 - smoothing) + smoothing / classes
    return 0.5 * of.mse_loss(torch.softmax(a, dim=1), y, reduction="sum")


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("arithmetic_of", "tolerance"), [(arithmetic, 1e-12), (reproducible, 1e-6)])
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
def test_networks_of_every_kind_are_those_of_autograd(settings, arithmetic_of, tolerance):
    import torch

    network = Network(**{"sizes": (20, 9, 8, 5), **settings})
    x, labels = pixels(500, 20, 5)
    layers = initialize(network.sizes, 0, "glorot", batch_norm=network.batch_norm)
    masks = dropout_masks(network, 0, 1, 0, 500)
    factor = dropout_scale(network.input_dropout) / 255.0
    kept = x if masks.inputs is None else x * masks.inputs
    scaled = [torch.tensor(mask / (1.0 - network.hidden_dropout)) for mask in masks.hidden]
    theirs = tree_map(partial(torch.tensor, requires_grad=True), layers)
    expected = torch_loss(
        torch, network, (layers, theirs), torch.tensor(kept * factor), scaled, torch.tensor(labels).long()
    )
    expected.backward()

    ops = arithmetic_of(NUMPY)
    operand = ops.integers(kept.T, factor)
    loss = total_loss(ops, layers, operand, labels, network, masks.hidden)
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=tolerance)
    gradients, _ = gradients_and_moments(ops, layers, operand, labels, network, masks=masks.hidden)
    for gradient, tensor in zip(leaves(gradients), leaves(theirs), strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=0, atol=tolerance * 100)


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
