"""Optimisers: against PyTorch's, the same bits on every backend, compiled by JAX.

A new optimiser gets a row in ``TORCH``.
"""

import math
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from assertions import assert_on_backend, assert_same
from networks import arithmetic

from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError
from xpnet.nn.layers import Linear
from xpnet.nn.optim import (
    OPTIMIZERS,
    AdamState,
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
    "decay and clip": {"weight_decay": 0.03, "clip_norm": 0.05},
    "max-norm": {"max_norm": 0.8},
    "all": {"weight_decay": 0.03, "clip_norm": 0.05, "max_norm": 0.8},
}
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


def mapped(function, layers):
    return [type(layer)(*map(function, layer)) for layer in layers]


def put(backend, layers, dtype="float64"):
    return mapped(lambda array: backend.from_host(array.astype(dtype)), layers)


def leaves(tree):
    """The arrays of a state."""
    if isinstance(tree, list | tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def reproducible(backend):
    return Reproducible(backend.xp, backend.device, backend.xp.float64)


def rate(step):
    """Learning rates that change with every step."""
    return 0.05 / (1 + 0.1 * step)


def test_every_optimizer_has_a_row():
    assert set(TORCH) == set(OPTIMIZERS)


# Against PyTorch


def logistic_problem():
    """Inputs (6, 40) and one-hot labels (4, 40)."""
    random = np.random.default_rng(1)
    return random.normal(size=(6, 40)), np.eye(4)[random.integers(0, 4, 40)].T


def logistic_gradients(layers, x, y):
    """The gradients of the mean cross-entropy of softmax regression, in NumPy's closed form."""
    (layer,) = layers
    z = layer.weight @ x + layer.bias
    e = np.exp(z - z.max(axis=0))
    dz = (e / e.sum(axis=0) - y) / x.shape[1]
    return [Linear(dz @ x.T, dz.sum(axis=1, keepdims=True))]


def torch_result(name, start, steps, weight_decay=0.0, clip_norm=None, max_norm=None):
    """Weight and bias that PyTorch's optimiser and autograd give."""
    import torch

    x, y = map(torch.asarray, logistic_problem())
    weight, bias = (torch.tensor(array, requires_grad=True) for array in start[0])
    groups = [{"params": [weight], "weight_decay": weight_decay}]
    groups += [{"params": [bias], "weight_decay": 0.0}]
    optimizer = TORCH[name](torch, groups)
    for step in range(steps):
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


@pytest.mark.needs("torch")
@pytest.mark.parametrize("arithmetic_of", [arithmetic, reproducible], ids=["native", "reproducible"])
@pytest.mark.parametrize("extras", EXTRAS)
@every_optimizer
def test_twenty_steps_of_pytorch(name, extras, arithmetic_of):
    start = [Linear(*np.split(np.random.default_rng(2).normal(size=(4, 7)), [6], axis=1))]
    settings = EXTRAS[extras]
    optimizer = build(arithmetic_of(make("numpy", "cpu")), name, **settings)
    layers, state = start, optimizer.init(start)
    for step in range(20):
        gradients = logistic_gradients(layers, *logistic_problem())
        layers, state = optimizer.update(gradients, state, layers, rate(step))
    expected = torch_result(name, start, 20, **settings)
    for array, oracle in zip(layers[0], expected, strict=True):
        np.testing.assert_allclose(array, oracle, rtol=1e-12)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("extras", ["decay", "clip", "max-norm"])
def test_the_problem_shows_every_extra(extras):
    start = [Linear(*np.split(np.random.default_rng(2).normal(size=(4, 7)), [6], axis=1))]
    plain, _ = torch_result("sgd", start, 20)
    other, _ = torch_result("sgd", start, 20, **EXTRAS[extras])
    assert np.max(np.abs(plain - other)) > 1e-3


@pytest.mark.needs("torch")
def test_the_options_of_the_rules_reach_them():
    import torch

    rows = {
        "momentum": ({"decay": 0.5}, torch.optim.SGD, {"momentum": 0.5}),
        "nesterov": ({"decay": 0.5}, torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
        "adam": (
            {"b1": 0.8, "b2": 0.9, "eps": 1e-3},
            torch.optim.Adam,
            {"betas": (0.8, 0.9), "eps": 1e-3},
        ),
        "adamw": (
            {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.2},
            torch.optim.AdamW,
            {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.2},
        ),
    }
    gradient = np.random.default_rng(3).normal(size=(5, 4, 3))
    for name, (ours, theirs, its_options) in rows.items():
        parameter = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
        oracle = theirs([parameter], lr=0.1, **its_options)
        optimizer = build(arithmetic(make("numpy", "cpu")), name, **ours)
        layers = [Linear(np.ones((4, 3)), np.ones((4, 1)))]
        state = optimizer.init(layers)
        for g in gradient:
            parameter.grad = torch.asarray(g)
            oracle.step()
            layers, state = optimizer.update([Linear(g, g[:, :1])], state, layers, 0.1)
        np.testing.assert_allclose(layers[0].weight, parameter.detach().numpy(), rtol=1e-13)


def test_an_unknown_optimizer_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"expected one of sgd, momentum, .*, got 'lion'"):
        build(arithmetic(make("numpy", "cpu")), "lion")


# The same bits everywhere


def bits(backend, name, settings):
    """Parameters and state after 50 steps in the reproducible arithmetic, as bytes.

    Gradients depend on the parameters, and for some entries fade away to the smallest numbers there are.
    """
    optimizer = build(reproducible(backend), name, **settings)
    random = np.random.default_rng(4)
    slopes = put(backend, mapped(lambda p: random.uniform(0.1, 2.0, p.shape), initial()))
    layers = put(backend, initial())
    state = optimizer.init(layers)
    for step in range(50):
        noise = put(backend, mapped(lambda p: random.normal(size=p.shape), initial()))
        gradients = [
            type(layer)(*(p * s + n for p, s, n in zip(*group, strict=True)))
            for layer, group in zip(layers, zip(layers, slopes, noise, strict=True), strict=True)
        ]
        fading = backend.xp.zeros_like(gradients[0].bias) + 2.0 ** (-1000.0 - step)
        gradients[0] = gradients[0]._replace(bias=fading)
        layers, state = optimizer.update(gradients, state, layers, rate(step))
    return [backend.to_host(array).tobytes() for array in leaves([layers, state])]


@pytest.fixture(scope="module")
def table():
    numpy = make("numpy", "cpu")
    return {case: bits(numpy, case[0], EXTRAS[case[1]]) for case in product(OPTIMIZERS, EXTRAS)}


@pytest.mark.parametrize("extras", ["plain", "all"])
@every_optimizer
def test_the_same_bits_on_every_backend(backend, table, name, extras):
    assert bits(backend, name, EXTRAS[extras]) == table[name, extras]


@pytest.mark.parametrize("settings", [{"weight_decay": 0.9}, {"max_norm": 0.1}], ids=str)
@every_optimizer
def test_weights_and_state_that_fade_away_have_the_same_bits(backend, name, settings):
    """One weight of each unit grows; the others have no gradient, and decay or are scaled down with it.

    The biases have a gradient in the first step alone, so that averages of it fade away. Every step is
    compared, since in the end all is zero.
    """

    def faded(backend):
        optimizer = build(reproducible(backend), name, **settings)
        weight = np.array([[1.0, 2.0**-940, -(2.0**-941)]] * 2)
        layers = put(backend, [Linear(weight, np.full((2, 1), 0.5))])
        state, arrays = optimizer.init(layers), []
        slope = np.array([[-0.5, 0.0, 0.0]] * 2)
        for step in range(60):
            bias = np.full((2, 1), 0.0 if step else 2.0**-950)
            gradients = put(backend, [Linear(slope, bias)])
            layers, state = optimizer.update(gradients, state, layers, 0.9)
            arrays += [backend.to_host(array) for array in leaves([layers, state])]
        return arrays

    for array, expected in zip(faded(backend), faded(make("numpy", "cpu")), strict=True):
        assert array.tobytes() == expected.tobytes()
        assert not np.any((array != 0.0) & (np.abs(array) < 2.0**-1022))


def test_square_roots_have_the_same_bits(backend):
    x = np.random.default_rng(5).uniform(0.0, 100.0, (50, 20))
    result = reproducible(backend).sqrt(backend.from_host(x))
    expected = reproducible(make("numpy", "cpu")).sqrt(x)
    assert_same(result, expected, backend)
    np.testing.assert_allclose(expected, np.sqrt(x), rtol=2.0**-52)


def test_native_square_roots_are_the_librarys(backend):
    x = np.random.default_rng(5).uniform(0.0, 100.0, (50, 20)).astype(np.float32)
    result = arithmetic(backend, "float32").sqrt(backend.from_host(x))
    assert_same(result, np.sqrt(x), backend, rtol=1e-6)


# On every backend


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_optimizer
def test_native_steps_stay_on_the_device_in_their_dtype(backend, name, dtype):
    def stepped(backend, dtype):
        optimizer = build(arithmetic(backend, dtype), name, **EXTRAS["all"])
        layers = put(backend, initial(), dtype)
        state = optimizer.init(layers)
        for step in range(5):
            gradients = mapped(lambda p: p * p - 0.5, layers)
            layers, state = optimizer.update(gradients, state, layers, rate(step))
        return leaves([layers, state])

    expected = stepped(make("numpy", "cpu"), "float64")
    for array, oracle in zip(stepped(backend, dtype), expected, strict=True):
        rtol = {"float32": 1e-4, "float64": 1e-12}[dtype]
        assert_same(array, oracle.astype(dtype), backend, rtol=rtol, atol=rtol * 1e-2)


@pytest.mark.needs("torch")
@every_optimizer
def test_a_step_reads_nothing_back(name):
    """PyTorch's meta device has no numbers, so that a branch on one is an error."""
    meta = make("torch", "meta")
    for ops in (arithmetic(meta), reproducible(meta)):
        optimizer = build(ops, name, **EXTRAS["all"])
        layers = put(meta, initial())
        state = optimizer.init(layers)
        layers, state = optimizer.update(layers, state, layers, 0.1)
        for array in leaves([layers, state]):
            assert_on_backend(array, meta)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_optimizer
def test_jax_compiles_the_update_once(name, dtype):
    import jax

    backend = make("jax", "cpu")
    with backend.scope():
        optimizer = build(arithmetic(backend, dtype), name, **EXTRAS["all"])
        traces = []

        def update(*args):
            traces.append(args)
            return optimizer.update(*args)

        compiled = jax.jit(update)
        start = put(backend, initial(), dtype)
        eager = fast = (start, jax.jit(optimizer.init)(start))
        for step in range(10):
            eager, fast = (
                function(mapped(lambda p: p * p - 0.5, layers), state, layers, rate(step))
                for function, (layers, state) in ((optimizer.update, eager), (compiled, fast))
            )
        assert len(traces) == 1
        assert jax.tree.structure(fast) == jax.tree.structure(eager)
        rtol = {"float32": 1e-5, "float64": 1e-13}[dtype]
        for array, oracle in zip(leaves(fast), leaves(eager), strict=True):
            expected = backend.to_host(oracle)
            assert_same(array, expected, backend, rtol=rtol, atol=rtol * 1e-2)


@pytest.mark.parametrize("exact", [True, False], ids=["reproducible", "native"])
@every_optimizer
def test_updates_compiled_by_the_backend_are_the_same(backend, name, exact):
    ops = reproducible(backend) if exact else arithmetic(backend, "float32")
    dtype = "float64" if exact else "float32"
    optimizer = build(ops, name, **EXTRAS["all"])
    compiled = backend.compile(optimizer.update, exact=exact)
    start = put(backend, initial(), dtype)
    plain = fast = (start, optimizer.init(start))
    for step in range(4):
        plain, fast = (
            function(mapped(lambda p: p * p - 0.5, layers), state, layers, rate(step))
            for function, (layers, state) in ((optimizer.update, plain), (compiled, fast))
        )
    for array, oracle in zip(leaves(fast), leaves(plain), strict=True):
        expected = backend.to_host(oracle)
        assert_same(array, expected, backend, rtol=0.0 if exact else 1e-5, atol=0.0 if exact else 1e-7)


def test_update_leaves_its_arguments_alone(backend):
    for name in OPTIMIZERS:
        optimizer = build(reproducible(backend), name, **EXTRAS["all"])
        layers = put(backend, initial())
        gradients = put(backend, mapped(lambda p: p * p, initial()))
        _, state = optimizer.update(gradients, optimizer.init(layers), layers, 0.1)
        before = [backend.to_host(a).copy() for a in leaves([gradients, state, layers])]
        optimizer.update(gradients, state, layers, 0.1)
        for array, kept in zip(leaves([gradients, state, layers]), before, strict=True):
            np.testing.assert_array_equal(backend.to_host(array), kept)


# Each piece alone

NUMPY = make("numpy", "cpu")
OPS = reproducible(NUMPY)


def gradients_seen(wrap, gradients, parameters=None):
    """What a wrapped optimiser hands to gradient descent: with rate 1 from 0 that is minus its step."""
    at = parameters or mapped(np.zeros_like, gradients)
    stepped, _ = wrap(sgd()).update(gradients, (), at, 1.0)
    return [
        type(layer)(*(p - q for p, q in zip(start, layer, strict=True)))
        for start, layer in zip(at, stepped, strict=True)
    ]


def global_norm(layers):
    return math.sqrt(math.fsum(float(v) ** 2 for a in leaves(layers) for v in np.ravel(a)))


def test_gradient_descent_is_the_notebooks_formula():
    layers, gradients = initial(), mapped(lambda p: p * p - 0.5, initial())
    stepped, state = sgd().update(gradients, sgd().init(layers), layers, 0.1)
    assert state == ()
    for new, p, g in zip(leaves(stepped), leaves(layers), leaves(gradients), strict=True):
        np.testing.assert_array_equal(new, p - 0.1 * g)


def test_clipping_scales_all_gradients_to_the_norm():
    gradients = initial()
    norm = global_norm(gradients)
    clip = gradients_seen(lambda optimizer: with_gradient_clipping(optimizer, OPS, 0.25), gradients)
    assert global_norm(clip) == pytest.approx(0.25, rel=1e-14)
    for scaled, g in zip(leaves(clip), leaves(gradients), strict=True):
        np.testing.assert_allclose(scaled, g * (0.25 / norm), rtol=1e-14)


def test_clipping_leaves_gradients_within_the_norm_as_they_are():
    gradients = initial()
    limit = global_norm(gradients) * 1.001
    clip = gradients_seen(lambda optimizer: with_gradient_clipping(optimizer, OPS, limit), gradients)
    for kept, g in zip(leaves(clip), leaves(gradients), strict=True):
        np.testing.assert_array_equal(kept, g)


def test_clipping_zero_gradients_gives_zero():
    clip = gradients_seen(
        lambda optimizer: with_gradient_clipping(optimizer, OPS, 1.0), mapped(np.zeros_like, initial())
    )
    assert all(np.all(array == 0.0) for array in leaves(clip))


def test_clipping_does_not_hide_a_gradient_that_is_not_a_number():
    gradients = initial()
    gradients[0].weight[2, 3] = np.nan
    clip = gradients_seen(lambda optimizer: with_gradient_clipping(optimizer, OPS, 1.0), gradients)
    assert all(np.all(np.isnan(array)) for array in leaves(clip))


def test_decay_is_the_gradient_of_a_penalty_on_the_weights():
    """Central differences of λ/2 Σ W² over the weights of all layers."""
    layers, weight_decay, h = initial(), 0.3, 1e-4

    def penalty(layers):
        weights = [layer.weight for layer in layers if isinstance(layer, Linear)]
        return 0.5 * weight_decay * math.fsum(float(v) ** 2 for w in weights for v in np.ravel(w))

    none = mapped(np.zeros_like, layers)
    seen = gradients_seen(lambda optimizer: with_weight_decay(optimizer, weight_decay), none, layers)
    for layer, found in zip(layers, seen, strict=True):
        for array, gradient in zip(layer, found, strict=True):
            for index in np.ndindex(array.shape):
                kept = array[index]
                array[index] = kept + h
                high = penalty(layers)
                array[index] = kept - h
                low = penalty(layers)
                array[index] = kept
                assert gradient[index] == pytest.approx((high - low) / (2 * h), abs=1e-9)


def test_decoupled_decay_does_not_enter_the_averages():
    layers = initial()
    gradients = mapped(lambda p: p * p - 0.5, layers)
    plain = adam(OPS)
    both = [
        optimizer.update(gradients, optimizer.init(layers), layers, 0.01)
        for optimizer in (plain, adamw(OPS, weight_decay=0.5))
    ]
    for a, b in zip(leaves(both[0][1]), leaves(both[1][1]), strict=True):
        np.testing.assert_array_equal(a, b)
    for start, without, with_decay in zip(layers, both[0][0], both[1][0], strict=True):
        for field in start._fields:
            shrunk = 0.01 * 0.5 * getattr(start, field) if field == "weight" else 0.0
            difference = getattr(without, field) - getattr(with_decay, field)
            np.testing.assert_allclose(difference, shrunk + 0.0 * difference, atol=1e-15)


@pytest.mark.parametrize("wrap", [with_weight_decay, with_decoupled_decay])
def test_no_decay_adds_no_operation(wrap):
    optimizer = sgd()
    assert wrap(optimizer, 0.0) is optimizer


def test_max_norm_limits_each_units_weights_and_nothing_else():
    layers = initial()
    layers[0].weight[1, :] *= 0.01  # one unit within the limit
    none = mapped(np.zeros_like, layers)
    limited, _ = with_max_norm(sgd(), OPS, 0.8).update(none, (), layers, 0.1)
    for before, after in zip(layers, limited, strict=True):
        for field in before._fields:
            old, new = getattr(before, field), getattr(after, field)
            if field != "weight":
                np.testing.assert_array_equal(new, old)
                continue
            norms = np.linalg.norm(old, axis=1, keepdims=True)
            np.testing.assert_allclose(new, old * np.minimum(1.0, 0.8 / norms), rtol=1e-14)
    np.testing.assert_array_equal(limited[0].weight[1, :], layers[0].weight[1, :])


@pytest.mark.needs("torch")
def test_max_norm_is_renorm():
    import torch

    (weight, _), *_ = layers = initial()
    none = mapped(np.zeros_like, layers)
    limited, _ = with_max_norm(sgd(), OPS, 2.5).update(none, (), layers, 0.1)
    expected = torch.renorm(torch.asarray(weight), p=2, dim=0, maxnorm=2.5).numpy()
    assert 0 < np.sum(np.any(expected != weight, axis=1)) < len(weight)
    np.testing.assert_allclose(limited[0].weight, expected, rtol=1e-7)  # it adds 1e-7 to the norm


def test_max_norm_acts_on_the_weights_after_the_step():
    layers = [Linear(np.array([[0.3, 0.4]]), np.array([[9.0]]))]
    gradients = [Linear(np.array([[-30.0, -40.0]]), np.array([[0.0]]))]
    limited, _ = with_max_norm(sgd(), OPS, 1.0).update(gradients, (), layers, 1.0)
    np.testing.assert_allclose(limited[0].weight, [[0.6, 0.8]], rtol=1e-15)
    assert limited[0].bias == 9.0


def test_the_first_step_of_adam_is_the_learning_rate():
    """Bias correction makes m̂ = g and v̂ = g² after one step, in float32 too."""
    layers = [Linear(np.zeros((1, 3), np.float32), np.zeros((1, 1), np.float32))]
    g = np.array([[3.0, -2e-2, 1e3]], np.float32)
    optimizer = adam(arithmetic(NUMPY, "float32"))
    stepped, _ = optimizer.update([Linear(g, g[:, :1])], optimizer.init(layers), layers, 0.125)
    np.testing.assert_allclose(stepped[0].weight, -0.125 * np.sign(g), rtol=1e-6)


def test_the_totals_of_adam_are_what_bias_correction_divides_by():
    layers = initial()
    optimizer = adam(OPS)
    state = optimizer.init(layers)
    for step in range(1, 101):
        layers, state = optimizer.update(layers, state, layers, 1e-3)
        assert isinstance(state, AdamState)
        assert state.m_total.shape == state.v_total.shape == (1, 1)
        np.testing.assert_allclose(state.m_total, 1.0 - 0.9**step, rtol=1e-13)
        np.testing.assert_allclose(state.v_total, 1.0 - 0.999**step, rtol=1e-11)
