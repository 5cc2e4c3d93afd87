"""Optimisers: against PyTorch's, and where their formulas are delicate."""

import numpy as np
import pytest
from networks import arithmetic, reproducible

from xpnet._lib.tree import leaves, tree_map
from xpnet.backends.resolve import make
from xpnet.nn.layers import BatchNorm, Linear
from xpnet.nn.optim import OPTIMIZERS, build, clip_gradients

TORCH = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
}
"""PyTorch's optimiser with our defaults, if it has it."""

EXTRAS = [{}, {"weight_decay": 0.0}, {"weight_decay": 0.03, "max_norm": 0.8}, {"clip_norm": 0.05}]
NUMPY = make("numpy", "cpu")
OPS = reproducible(NUMPY)


def initial():
    random = np.random.default_rng(0)
    return [
        Linear(random.normal(size=(5, 7)), random.normal(size=(5, 1))),
        BatchNorm(np.ones((5, 1)), np.zeros((5, 1))),
        Linear(random.normal(size=(3, 5)), random.normal(size=(3, 1))),
    ]


def gradients_at(layers):
    return tree_map(lambda p: p * 0.5 - 0.1, layers)


def rate(step):
    return 0.05 / (1 + 0.1 * step)


def torch_result(name, clip_norm=None, max_norm=None, **decay):
    """The parameters after 20 steps of PyTorch's optimiser."""
    import torch

    parameters = [torch.tensor(array) for array in leaves(initial())]
    weights, others = [parameters[0], parameters[4]], [*parameters[1:4], parameters[5]]
    kind, options = TORCH[name]
    groups = [{"params": weights, **decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, kind)(groups, **options)
    for step in range(20):
        for parameter in parameters:
            parameter.grad = parameter * 0.5 - 0.1
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        if max_norm is not None:
            for weight in weights:
                norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
                weight.mul_(torch.clamp(max_norm / norms, max=1.0))
    return parameters


@pytest.mark.needs("torch")
@pytest.mark.parametrize("extras", EXTRAS, ids=str)
@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("ops", [arithmetic(NUMPY), OPS], ids=["native", "reproducible"])
def test_twenty_steps_of_pytorch(ops, name, extras):
    optimizer, layers = build(ops, name, **extras), initial()
    state = optimizer.init(layers)
    for step in range(20):
        layers, state = optimizer.update(gradients_at(layers), state, layers, rate(step))
    tolerance = 1e-5 if "clip_norm" in extras else 1e-12  # PyTorch adds 1e-6 to the norm
    for array, oracle in zip(leaves(layers), torch_result(name, **extras), strict=True):
        np.testing.assert_allclose(array, oracle, rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize("extras", [{"weight_decay": 0.9}, {"max_norm": 0.1}], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_fades_away_becomes_0_and_never_subnormal(name, extras):
    """One weight of each unit grows; the others have no gradient, and decay or are scaled down with it.

    The first biases have a gradient in the first step alone.
    """
    optimizer = build(OPS, name, **extras)
    layers = [Linear(np.array([[1.0, 2.0**-940, -(2.0**-941)]] * 2), np.full((2, 1), 0.5)), initial()[1]]
    state = optimizer.init(layers)
    for step in range(40):
        first = Linear(np.array([[-0.5, 0.0, 0.0]] * 2), np.full((2, 1), 0.0 if step else 2.0**-950))
        layers, state = optimizer.update([first, *gradients_at(layers[1:])], state, layers, 0.9)
        for array in leaves([layers, state]):
            assert not np.any((array != 0.0) & (np.abs(array) < 2.0**-1022))


def test_clipping_does_not_hide_a_gradient_that_is_not_a_number():
    gradients = initial()
    gradients[0].weight[2, 3] = np.nan
    assert all(np.isnan(array).all() for array in leaves(clip_gradients(OPS, gradients, 1.0)))
