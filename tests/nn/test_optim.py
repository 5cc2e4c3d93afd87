"""Optimisers: against PyTorch's, the same bits on every backend, compiled by JAX.

A new optimiser gets a row in ``TORCH``.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from assertions import assert_on_backend, assert_same
from networks import arithmetic, reproducible, rows_on_backends

from xpnet._lib.tree import leaves, tree_map
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError
from xpnet.nn.layers import Linear
from xpnet.nn.optim import (
    OPTIMIZERS,
    adam,
    adamw,
    build,
    sgd,
    with_decoupled_decay,
    with_gradient_clipping,
    with_max_norm,
    with_weight_decay,
)

TORCH = {
    "sgd": lambda torch, groups: torch.optim.SGD(groups),
    "momentum": lambda torch, groups: torch.optim.SGD(groups, momentum=0.9),
    "nesterov": lambda torch, groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    "adam": lambda torch, groups: torch.optim.Adam(groups),
    "adamw": lambda torch, groups: torch.optim.AdamW(groups),
}
"""PyTorch's optimiser with our defaults, for parameter groups that hold their weight decay."""

EXTRAS: dict[str, dict[str, float]] = {
    "plain": {},
    "decay": {"weight_decay": 0.03},
    "clip": {"clip_norm": 0.05},
    "max-norm": {"max_norm": 0.8},
    "all": {"weight_decay": 0.03, "clip_norm": 0.05, "max_norm": 0.8},
}
NUMPY = make("numpy", "cpu")
OPS = reproducible(NUMPY)
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


class Scale(NamedTuple):
    """Parameters without a weight, as those of batch normalisation."""

    gamma: Any  # (units, 1)
    beta: Any  # (units, 1)


def initial():
    """Two linear layers and one of another kind, between them."""
    random = np.random.default_rng(0)
    return [
        Linear(random.normal(size=(5, 7)), random.normal(size=(5, 1))),
        Scale(np.ones((5, 1)), np.zeros((5, 1))),
        Linear(random.normal(size=(3, 5)), random.normal(size=(3, 1))),
    ]


def put(backend, layers, dtype="float64"):
    return tree_map(lambda array: backend.from_host(array.astype(dtype)), layers)


def gradients_at(layers):
    return tree_map(lambda p: p * p - 0.5, layers)


def halve(p):
    return p * 0.5


def rate(step):
    """Learning rates that change with every step."""
    return 0.05 / (1 + 0.1 * step)


def steps(update, start, state, count):
    """Parameters and state after steps against ``gradients_at``."""
    layers = start
    for step in range(count):
        layers, state = update(gradients_at(layers), state, layers, rate(step))
    return layers, state


# Against PyTorch


def logistic_problem():
    """Inputs (6, 40), one-hot labels (4, 40), and the layer to start from."""
    random = np.random.default_rng(1)
    x, y = random.normal(size=(6, 40)), np.eye(4)[random.integers(0, 4, 40)].T
    return x, y, Linear(*np.split(np.random.default_rng(2).normal(size=(4, 7)), [6], axis=1))


def logistic_gradients(layers, x, y):
    """The gradients of the mean cross-entropy of softmax regression, in NumPy's closed form."""
    (layer,) = layers
    z = layer.weight @ x + layer.bias
    e = np.exp(z - z.max(axis=0))
    dz = (e / e.sum(axis=0) - y) / x.shape[1]
    return [Linear(dz @ x.T, dz.sum(axis=1, keepdims=True))]


@cache
def torch_result(name, extras):
    """Weight and bias that 20 steps of PyTorch's optimiser and autograd give."""
    import torch

    weight_decay, clip_norm, max_norm = map(EXTRAS[extras].get, ("weight_decay", "clip_norm", "max_norm"))
    x, y, start = logistic_problem()
    x, y = torch.asarray(x), torch.asarray(y)
    weight, bias = (torch.tensor(array, requires_grad=True) for array in start)
    groups = [
        {"params": [weight], "weight_decay": weight_decay or 0.0},
        {"params": [bias], "weight_decay": 0.0},
    ]
    optimizer = TORCH[name](torch, groups)
    for step in range(20):
        optimizer.zero_grad()
        loss = -(y * torch.log_softmax(weight @ x + bias, dim=0)).sum() / x.shape[1]
        loss.backward()
        if clip_norm is not None:
            # torch.nn.utils.clip_grad_norm_ without the 1e-6 that it adds to the norm.
            norm = torch.nn.utils.get_total_norm([weight.grad, bias.grad])
            for parameter in (weight, bias):
                parameter.grad.mul_(min(1.0, clip_norm / norm.item()))
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        if max_norm is not None:
            with torch.no_grad():
                norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
                weight.mul_(torch.clamp(max_norm / norms, max=1.0))
    return weight.detach().numpy(), bias.detach().numpy()


def test_every_optimizer_has_a_row():
    assert set(TORCH) == set(OPTIMIZERS)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("extras", EXTRAS)
@every_optimizer
def test_twenty_steps_of_pytorch(name, extras):
    x, y, start = logistic_problem()
    expected, plain = torch_result(name, extras), torch_result(name, "plain")
    assert extras == "plain" or np.max(np.abs(expected[0] - plain[0])) > 1e-4  # the problem shows it
    for ops in (arithmetic(NUMPY), OPS):
        optimizer = build(ops, name, **EXTRAS[extras])
        layers, state = [start], optimizer.init([start])
        for step in range(20):
            layers, state = optimizer.update(logistic_gradients(layers, x, y), state, layers, rate(step))
        for array, oracle in zip(layers[0], expected, strict=True):
            np.testing.assert_allclose(array, oracle, rtol=1e-12)


OPTIONS = {
    "momentum": ({"decay": 0.5}, "SGD", {"momentum": 0.5}),
    "nesterov": ({"decay": 0.5}, "SGD", {"momentum": 0.5, "nesterov": True}),
    "adam": ({"b1": 0.8, "b2": 0.9, "eps": 1e-3}, "Adam", {"betas": (0.8, 0.9), "eps": 1e-3}),
    "adamw": ({"b1": 0.8, "b2": 0.9, "eps": 1e-3}, "AdamW", {"betas": (0.8, 0.9), "eps": 1e-3}),
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_of_the_rules_reach_them(name):
    import torch

    options, rule, torch_options = OPTIONS[name]
    parameter = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    oracle = getattr(torch.optim, rule)([parameter], lr=0.1, weight_decay=0.2, **torch_options)
    optimizer = build(arithmetic(NUMPY), name, weight_decay=0.2, **options)
    layers = [Linear(np.ones((4, 3)), np.ones((4, 1)))]
    state = optimizer.init(layers)
    for g in np.random.default_rng(3).normal(size=(5, 4, 3)):
        parameter.grad = torch.asarray(g)
        oracle.step()
        layers, state = optimizer.update([Linear(g, g[:, :1])], state, layers, 0.1)
    np.testing.assert_allclose(layers[0].weight, parameter.detach().numpy(), rtol=1e-13)


def test_an_unknown_optimizer_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"expected one of sgd, momentum, .*, got 'lion'"):
        build(OPS, "lion")


# The same bits everywhere


def fading(backend, name, extras):
    """Parameters and state after each step, while some weights and averages fade away to nothing.

    One weight of each unit grows; the others have no gradient, and decay or are scaled down with it. The
    first biases have a gradient in the first step alone.
    """
    optimizer = build(reproducible(backend), name, **extras)
    weight = np.array([[1.0, 2.0**-940, -(2.0**-941)]] * 2)
    layers = put(backend, [Linear(weight, np.full((2, 1), 0.5)), *initial()])
    state, arrays = optimizer.init(layers), []
    for step in range(40):
        bias = np.full((2, 1), 0.0 if step else 2.0**-950)
        first = put(backend, [Linear(np.array([[-0.5, 0.0, 0.0]] * 2), bias)])
        layers, state = optimizer.update([*first, *tree_map(halve, layers[1:])], state, layers, 0.9)
        arrays += [backend.to_host(array) for array in leaves([layers, state])]
    return arrays


FADING = [{"weight_decay": 0.9}, {"max_norm": 0.1}, EXTRAS["all"]]
fading_on_numpy = cache(lambda name, index: fading(NUMPY, name, FADING[index]))


@rows_on_backends("name", OPTIMIZERS, "momentum", jax=False)
def test_the_same_bits_on_every_backend_even_of_what_fades_away(backend, name):
    for index, extras in enumerate(FADING):
        found = fading(backend, name, extras)
        for array, expected in zip(found, fading_on_numpy(name, index), strict=True):
            assert array.tobytes() == expected.tobytes()
            assert not np.any((array != 0.0) & (np.abs(array) < 2.0**-1022))


@rows_on_backends("name", OPTIMIZERS, "adam", jax=False)
def test_native_steps_stay_on_the_device_in_their_dtype(backend, name):
    def stepped(backend, dtype):
        optimizer, start = (
            build(arithmetic(backend, dtype), name, **EXTRAS["all"]),
            put(backend, initial(), dtype),
        )
        return leaves(steps(optimizer.update, start, optimizer.init(start), 5))

    for dtype, rtol in (("float32", 1e-4), ("float64", 1e-12)):
        for array, oracle in zip(stepped(backend, dtype), stepped(NUMPY, "float64"), strict=True):
            assert_same(array, oracle.astype(dtype), backend, rtol=rtol, atol=rtol * 1e-2)


@rows_on_backends("name", OPTIMIZERS, "momentum", jax=False)
def test_compiled_updates_are_the_same(backend, name):
    for ops, dtype, tolerance in (
        (reproducible(backend), "float64", 0.0),
        (arithmetic(backend, "float32"), "float32", 1e-5),
    ):
        optimizer, start = build(ops, name, **EXTRAS["all"]), put(backend, initial(), dtype)
        compiled = backend.compile(optimizer.update, exact=tolerance == 0.0)
        results = (steps(update, start, optimizer.init(start), 4) for update in (compiled, optimizer.update))
        for array, oracle in zip(*map(leaves, results), strict=True):
            expected = backend.to_host(oracle)
            assert_same(array, expected, backend, rtol=tolerance, atol=tolerance * 1e-2)


@pytest.mark.needs("jax")
def test_jax_traces_an_update_once():
    import jax

    backend = make("jax", "cpu")
    with backend.scope():
        optimizer, start = build(arithmetic(backend), "adam", **EXTRAS["all"]), put(backend, initial())
        traces = []

        def update(*args):
            traces.append(args)
            return optimizer.update(*args)

        layers, state = steps(jax.jit(update), start, optimizer.init(start), 4)
        assert jax.tree.structure((layers, state)) == jax.tree.structure((start, optimizer.init(start)))
    assert len(traces) == 1


@pytest.mark.needs("torch")
@every_optimizer
def test_a_step_reads_nothing_back(name):
    """PyTorch's meta device has no numbers, so that a branch on one is an error."""
    meta = make("torch", "meta")
    for ops in (arithmetic(meta), reproducible(meta)):
        optimizer, layers = build(ops, name, **EXTRAS["all"]), put(meta, initial())
        for array in leaves(optimizer.update(layers, optimizer.init(layers), layers, 0.1)):
            assert_on_backend(array, meta)


@every_optimizer
def test_an_update_leaves_its_arguments_alone(name):
    optimizer, layers = build(OPS, name, **EXTRAS["all"]), initial()
    _, state = steps(optimizer.update, layers, optimizer.init(layers), 2)
    arguments = gradients_at(layers), state, layers
    before = tree_map(np.copy, arguments)
    optimizer.update(*arguments, 0.1)
    for array, kept in zip(leaves(arguments), leaves(before), strict=True):
        np.testing.assert_array_equal(array, kept)


# Each piece alone


def step_of(wrap, gradients, layers=None):
    """The arrays that a wrapped gradient descent subtracts from layers, by default 0, with rate 1."""
    start = layers or tree_map(np.zeros_like, gradients)
    stepped, _ = wrap(sgd()).update(gradients, (), start, 1.0)
    return [p - q for p, q in zip(leaves(start), leaves(stepped), strict=True)]


def global_norm(arrays):
    return math.sqrt(math.fsum(float(v) ** 2 for array in arrays for v in np.ravel(array)))


def test_gradient_descent_is_the_notebooks_formula():
    layers, gradients = initial(), gradients_at(initial())
    stepped, state = sgd().update(gradients, sgd().init(layers), layers, 0.1)
    assert state == ()
    for new, p, g in zip(leaves(stepped), leaves(layers), leaves(gradients), strict=True):
        np.testing.assert_array_equal(new, p - 0.1 * g)


@pytest.mark.parametrize("share", [0.1, 1.001])
def test_clipping_scales_all_gradients_to_the_norm_if_theirs_is_larger(share):
    gradients = initial()
    limit = share * global_norm(leaves(gradients))
    for scaled, g in zip(
        step_of(lambda rule: with_gradient_clipping(rule, OPS, limit), gradients),
        leaves(gradients),
        strict=True,
    ):
        np.testing.assert_allclose(scaled, g * min(share, 1.0), rtol=1e-14 if share < 1 else 0.0)


def test_clipping_keeps_zero_and_does_not_hide_a_gradient_that_is_not_a_number():
    zeros, broken = tree_map(np.zeros_like, initial()), initial()
    broken[0].weight[2, 3] = np.nan
    for gradients, is_expected in ((zeros, lambda array: array == 0.0), (broken, np.isnan)):
        step = step_of(lambda rule: with_gradient_clipping(rule, OPS, 1.0), gradients)
        assert all(np.all(is_expected(array)) for array in step)


@pytest.mark.parametrize("wrap", [with_weight_decay, with_decoupled_decay])
def test_weights_decay_and_nothing_else(wrap):
    layers = initial()
    step = step_of(lambda rule: wrap(rule, 0.3), tree_map(np.zeros_like, layers), layers)
    decayed = [
        0.3 * array if field == "weight" else 0.0 * array
        for layer in layers
        for field, array in layer._asdict().items()
    ]
    for found, expected in zip(step, decayed, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("wrap", [with_weight_decay, with_decoupled_decay])
def test_no_decay_adds_no_operation(wrap):
    optimizer = sgd()
    assert wrap(optimizer, 0.0) is optimizer


def test_decoupled_decay_does_not_enter_the_averages():
    layers = initial()
    _, state = steps(adam(OPS).update, layers, adam(OPS).init(layers), 1)
    _, with_decay = steps(adamw(OPS, weight_decay=0.5).update, layers, adam(OPS).init(layers), 1)
    for a, b in zip(leaves(state), leaves(with_decay), strict=True):
        np.testing.assert_array_equal(a, b)


def test_max_norm_limits_each_units_weights_and_nothing_else():
    layers = initial()
    layers[0].weight[1, :] *= 0.01  # one unit within the limit
    none = tree_map(np.zeros_like, layers)
    limited, _ = with_max_norm(sgd(), OPS, 0.8).update(none, (), layers, 0.1)
    for before, after in zip(layers, limited, strict=True):
        for field, old in before._asdict().items():
            norms = np.linalg.norm(old, axis=1, keepdims=True) if field == "weight" else 0.8
            np.testing.assert_allclose(getattr(after, field), old * np.minimum(1.0, 0.8 / norms), rtol=1e-14)
    np.testing.assert_array_equal(limited[0].weight[1, :], layers[0].weight[1, :])
