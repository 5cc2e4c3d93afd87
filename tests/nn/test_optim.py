"""Optimisers: against PyTorch's, and where their formulas are delicate."""

import math

import numpy as np
import pytest
from networks import arithmetic, reproducible

from xpnet._lib.tree import leaves, tree_map
from xpnet.backends.resolve import make
from xpnet.nn.layers import BatchNorm, Linear
from xpnet.nn.optim import OPTIMIZERS, build, clip_gradients

TORCH = {
    "sgd": lambda torch, groups: torch.optim.SGD(groups),
    "momentum": lambda torch, groups: torch.optim.SGD(groups, momentum=0.9),
    "nesterov": lambda torch, groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    "adam": lambda torch, groups: torch.optim.Adam(groups),
    "adamw": lambda torch, groups: torch.optim.AdamW(groups),
}
"""PyTorch's optimiser with our defaults, for parameter groups, if it has it."""

EXTRAS = [{}, {"weight_decay": 0.0}, {"weight_decay": 0.03}]
EXTRAS += [{"weight_decay": 0.03, "clip_norm": 0.05, "max_norm": 0.8}]
NUMPY = make("numpy", "cpu")
OPS = reproducible(NUMPY)
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def initial():
    """Two linear layers, and one without a weight between them."""
    random = np.random.default_rng(0)
    return [
        Linear(random.normal(size=(5, 7)), random.normal(size=(5, 1))),
        BatchNorm(np.ones((5, 1)), np.zeros((5, 1))),
        Linear(random.normal(size=(3, 5)), random.normal(size=(3, 1))),
    ]


def gradients_at(layers):
    return tree_map(lambda p: p * 0.5 - 0.1, layers)


def rate(step):
    """Learning rates that change with every step."""
    return 0.05 / (1 + 0.1 * step)


def torch_result(name, clip_norm=None, max_norm=None, **decay):
    """The parameters after 20 steps of PyTorch's optimiser."""
    import torch

    parameters = [torch.tensor(array) for array in leaves(initial())]
    weights = [parameters[0], parameters[4]]
    groups = [{"params": weights, **decay}]
    groups += [{"params": parameters[1:4] + parameters[5:], "weight_decay": 0.0}]
    optimizer = TORCH[name](torch, groups)
    for step in range(20):
        for parameter in parameters:
            parameter.grad = parameter * 0.5 - 0.1
        if clip_norm is not None:
            # torch.nn.utils.clip_grad_norm_ without the 1e-6 that it adds to the norm.
            norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
            for parameter in parameters:
                parameter.grad.mul_(min(1.0, clip_norm / norm.item()))
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        if max_norm is not None:
            for weight in weights:
                norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
                weight.mul_(torch.clamp(max_norm / norms, max=1.0))
    return [parameter.numpy() for parameter in parameters]


@pytest.mark.needs("torch")
@pytest.mark.parametrize("extras", EXTRAS, ids=str)
@pytest.mark.parametrize("name", TORCH)
def test_twenty_steps_of_pytorch(name, extras):
    expected = torch_result(name, **extras)
    for ops in (arithmetic(NUMPY), OPS):
        optimizer, layers = build(ops, name, **extras), initial()
        state = optimizer.init(layers)
        for step in range(20):
            layers, state = optimizer.update(gradients_at(layers), state, layers, rate(step))
        for array, oracle in zip(leaves(layers), expected, strict=True):
            np.testing.assert_allclose(array, oracle, rtol=1e-12, atol=1e-14)


def test_the_weights_of_a_decoupled_row_decay_beside_the_step_by_its_own_decay(monkeypatch):
    row = OPTIMIZERS["sgd"]._replace(weight_decay=0.25, is_decoupled=True)
    monkeypatch.setitem(OPTIMIZERS, "sgdw", row)
    (layer,), gradients = initial()[:1], [Linear(np.zeros((5, 7)), np.zeros((5, 1)))]
    for decay, factor in {None: 0.875, 0.5: 0.75}.items():
        optimizer = build(OPS, "sgdw", weight_decay=decay, clip_norm=1.0)
        (new,), _ = optimizer.update(gradients, optimizer.init([layer]), [layer], 0.5)
        np.testing.assert_allclose(new.weight, layer.weight * factor, rtol=1e-15)
        np.testing.assert_array_equal(new.bias, layer.bias)


@pytest.mark.parametrize("extras", [{"weight_decay": 0.9}, {"max_norm": 0.1}], ids=str)
@every_optimizer
def test_what_fades_away_becomes_0_and_never_subnormal(name, extras):
    """One weight of each unit grows; the others have no gradient, and decay or are scaled down with it.

    The first biases have a gradient in the first step alone.
    """
    optimizer = build(OPS, name, **extras)
    weight = np.array([[1.0, 2.0**-940, -(2.0**-941)]] * 2)
    layers = [Linear(weight, np.full((2, 1), 0.5)), initial()[1]]
    state = optimizer.init(layers)
    for step in range(40):
        bias = np.full((2, 1), 0.0 if step else 2.0**-950)
        first = Linear(np.array([[-0.5, 0.0, 0.0]] * 2), bias)
        layers, state = optimizer.update([first, *gradients_at(layers[1:])], state, layers, 0.9)
        for array in leaves([layers, state]):
            assert not np.any((array != 0.0) & (np.abs(array) < 2.0**-1022))


def test_clipping_keeps_what_is_within_the_norm_and_does_not_hide_a_gradient_that_is_not_a_number():
    within, zeros, broken = initial(), tree_map(np.zeros_like, initial()), initial()
    norm = math.sqrt(sum(np.sum(array**2) for array in leaves(within)))
    broken[0].weight[2, 3] = np.nan
    for gradients, limit in ((within, norm * 1.001), (zeros, 1.0), (broken, 1.0)):
        for new, g in zip(leaves(clip_gradients(OPS, gradients, limit)), leaves(gradients), strict=True):
            np.testing.assert_array_equal(new, np.nan * g if gradients is broken else g)
