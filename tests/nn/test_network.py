"""Networks of every kind: their settings, starts and masks, and the same bits however they are computed."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import reference
from backend_enum import BackendCase
from networks import arithmetic, pixels, reproducible, rows_on_backends, total_loss

from xpnet._lib.tree import leaves, tree_map
from xpnet.arithmetic import random
from xpnet.backends.numpy import make
from xpnet.errors import ConfigError
from xpnet.nn import functional as F
from xpnet.nn.architecture import NOTEBOOK, Network
from xpnet.nn.dropout import Masks, dropout_masks, dropout_scale
from xpnet.nn.init import initial_running_statistics, initialize
from xpnet.nn.layers import (
    BatchNorm,
    Linear,
    RunningStatistics,
    mean_and_variance_factors,
    update_running_statistics,
)
from xpnet.nn.network import forward, gradients_and_moments, prepare, sample_losses

SIZES = (20, 9, 8, 5)
EVERYTHING = {"batch_norm": True, "input_dropout": 0.2, "hidden_dropout": 0.5, "label_smoothing": 0.1}
NETWORKS = {
    "plain": Network(SIZES),
    **{name: Network(SIZES, activation=name) for name in F.ACTIVATIONS if name != "relu"},
    "batch norm": Network(SIZES, batch_norm=True),
    "dropout": Network(SIZES, input_dropout=0.2, hidden_dropout=0.5),
    "dropout of inputs": Network(SIZES, input_dropout=0.3),
    "smoothing": Network(SIZES, label_smoothing=0.1),
    "squared error": Network(SIZES, loss="squared-error"),
    "no hidden layer": Network((20, 5), batch_norm=True, hidden_dropout=0.5, loss="squared-error"),
    "everything": Network(SIZES, activation="tanh", loss="squared-error", **EVERYTHING),
    "everything else": Network(SIZES, activation="sigmoid", **EVERYTHING),
}
NUMPY = make("cpu")
every_network = pytest.mark.parametrize("name", NETWORKS)


# What a network is


def test_networks_are_values():
    assert len({Network(SIZES), Network(SIZES), Network(SIZES, batch_norm=True)}) == 2
    assert Network((784, 10, 10)) == NOTEBOOK


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "gelu"}, "activation: expected one of relu, leaky-relu, tanh, sigmoid, got 'gelu'"),
        ({"loss": "hinge"}, "loss: expected one of cross-entropy, squared-error, got 'hinge'"),
        ({"input_dropout": 1.0}, "input_dropout: expected a number from 0 to below 1, got 1.0"),
        ({"hidden_dropout": -0.1}, "hidden_dropout: expected a number from 0 to below 1, got -0.1"),
        ({"label_smoothing": math.nan}, "label_smoothing: expected a number from 0 to below 1, got nan"),
        ({"sizes": (784,)}, r"sizes: expected at least features and classes, each positive, got \(784,\)"),
        ({"sizes": (784, 0, 10)}, r"each positive, got \(784, 0, 10\)"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Network(**{"sizes": SIZES, **settings})


# Starts


def test_the_notebooks_start():
    for layer, (inputs, units) in zip(initialize(SIZES, 3), itertools.pairwise(SIZES), strict=True):
        assert layer.weight.shape == (units, inputs)
        assert -0.5 <= np.min(layer.weight) < np.max(layer.weight) < 0.5
        assert np.any(layer.bias != 0.0)


@pytest.mark.parametrize("kind", ["he", "glorot"])
def test_weights_are_uniform_up_to_the_limit_and_biases_zero(kind):
    sizes = (300, 200, 50)
    starts = zip(initialize(sizes, 3, kind), initialize(sizes, 3), itertools.pairwise(sizes), strict=True)
    for layer, uniform, (inputs, units) in starts:
        limit = (6.0 / (inputs if kind == "he" else inputs + units)) ** 0.5
        np.testing.assert_allclose(layer.weight, uniform.weight * 2.0 * limit, rtol=1e-15)
        assert np.max(np.abs(layer.weight)) == pytest.approx(limit, rel=1e-3)
        assert np.array_equal(layer.bias, np.zeros((units, 1)))


def test_hidden_layers_are_followed_by_their_batch_norm():
    layers, plain = (initialize(SIZES, 0, "he", batch_norm=batch_norm) for batch_norm in (True, False))
    assert [type(layer) for layer in layers] == [Linear, BatchNorm] * 2 + [Linear]
    for layer, expected in zip(layers[::2], plain, strict=True):
        assert np.array_equal(layer.weight, expected.weight)
    statistics = initial_running_statistics(NETWORKS["batch norm"])
    for norm, running, units in zip(layers[1::2], statistics, SIZES[1:-1], strict=True):
        assert [array.tolist() for array in norm] == [[[1.0]] * units, [[0.0]] * units]
        assert [array.tolist() for array in running] == [[[0.0]] * units, [[1.0]] * units]
    assert initial_running_statistics(NETWORKS["plain"]) == []


# Masks


def specified_mask(probability, units, layer, seed, epoch, position):
    """What docs/reproducibility.md says, one number at a time."""
    count = 4 * math.ceil(units / 16)
    stream = reference.words(4, index=layer, epoch=epoch, seed=seed)
    words = list(itertools.islice(stream, position * count, (position + 1) * count))
    bits = [(words[unit // 4] >> (16 * (unit % 4))) % 65536 for unit in range(units)]
    return [b >= round(probability * 65536) for b in bits]


def test_masks_are_those_of_the_specification():
    network = Network((20, 16, 33, 5), input_dropout=0.25, hidden_dropout=0.6)
    masks = dropout_masks(network, 7, 3, 5, 9)
    for layer, (mask, p) in enumerate([(masks.inputs, 0.25), *((mask, 0.6) for mask in masks.hidden)]):
        units = network.sizes[layer]
        expected = [specified_mask(p, units, layer, 7, 3, position) for position in range(5, 9)]
        assert mask.dtype == np.bool_
        assert mask.tolist() == expected


def test_there_are_no_masks_without_dropout():
    assert dropout_masks(NETWORKS["plain"], 0, 1, 0, 10) == Masks(None, [])
    assert dropout_masks(NETWORKS["dropout of inputs"], 0, 1, 0, 10).hidden == []
    assert dropout_masks(Network(SIZES, hidden_dropout=0.5), 0, 1, 0, 10).inputs is None


@pytest.mark.parametrize(
    ("probability", "steps"), [(0.5, 32768), (0.2, 13107), (1e-9, 0), (1.0 - 1e-9, 65535)]
)
def test_the_scale_is_that_of_the_probability_that_the_masks_have(probability, steps):
    assert dropout_scale(probability) == 65536 / (65536 - steps)
    network = Network((1, 1, 1), input_dropout=probability)
    bits = random.words(0, random.Purpose.DROPOUT, 40_000, epoch=1)[::4] & np.uint64(0xFFFF)
    mask = dropout_masks(network, 0, 1, 0, 10_000).inputs
    assert np.array_equal(mask[:, 0], bits >= steps)


# However it is computed


def inputs(ops, network, x, mask):
    """Pixels by rows (..., samples, features) as the operand of the first layer, after dropout."""
    kept = x if mask is None else x * ops.xp.astype(mask, ops.xp.uint8)
    scale = dropout_scale(network.input_dropout)
    return ops.integers(ops.xp.matrix_transpose(kept), scale / 255.0)


def training(ops, network):
    """The function from parameters, pixels, labels and masks to loss, gradients and sums of a block."""

    def of_block(parameters, x, labels, masks):
        layers, operand = prepare(ops, parameters), inputs(ops, network, x, masks.inputs)
        found = gradients_and_moments(ops, layers, operand, labels, network, masks=masks.hidden)
        return total_loss(ops, layers, operand, labels, network, masks.hidden), *found

    return of_block


def evaluation(ops, network):
    """The function from parameters, pixels, labels and statistics to losses and logits."""

    def of_block(parameters, x, labels, running):
        operand = inputs(ops, network, x, None)
        logits, _ = forward(ops, prepare(ops, parameters), operand, network, running=running)
        return sample_losses(ops, logits, labels, network), logits

    return of_block


def host_data(network, samples=37):
    """Parameters, pixels, labels, masks and statistics, as NumPy arrays."""
    generator = np.random.default_rng(1)
    parameters = tree_map(
        lambda p: p + 0.1 * generator.normal(size=p.shape),
        initialize(network.sizes, 0, "he", batch_norm=network.batch_norm),
    )
    x, labels = pixels(samples, network.sizes[0], network.sizes[-1])
    running = [
        RunningStatistics(generator.normal(size=s.mean.shape), generator.uniform(0.5, 2.0, s.mean.shape))
        for s in initial_running_statistics(network)
    ]
    return parameters, x, labels, dropout_masks(network, 0, 1, 0, samples), running


def results(backend, ops, name, samples=37, wrap=lambda f: f):
    """Everything that a network computes from the data, as arrays on the backend."""
    network, dtype = NETWORKS[name], "float32" if ops.dtype == backend.xp.float32 else "float64"

    def put(array):
        return backend.from_host(array.astype(dtype) if array.dtype == np.float64 else array)

    parameters, x, labels, masks, running = tree_map(put, host_data(network, samples))
    trained = wrap(training(ops, network))(parameters, x, labels, masks)
    updated = [
        update_running_statistics(statistics, sums, *mean_and_variance_factors(samples))
        for statistics, sums in zip(running, trained[2], strict=True)
    ]
    evaluated = wrap(evaluation(ops, network))(parameters, x, labels, updated)
    return list(leaves([trained, updated, evaluated]))


@cache
def expected_results(name):
    with NUMPY.scope():
        return results(NUMPY, reproducible(NUMPY), name)


@rows_on_backends("name", NETWORKS, "no hidden layer")
def test_every_backend_gives_the_same_bits(backend, name):
    found = results(backend, reproducible(backend), name)
    for array, expected in zip(found, expected_results(name), strict=True):
        assert np.ascontiguousarray(backend.to_host(array)).tobytes() == expected.tobytes()


@rows_on_backends("name", NETWORKS, "everything", jax=False)
def test_blocks_may_be_computed_in_one_call(backend, name):
    network, blocks, size = NETWORKS[name], 3, 37
    parameters, *parts, _ = host_data(network, size * blocks)
    parameters, of_block = tree_map(backend.from_host, parameters), training(reproducible(backend), network)

    def compute(change):
        return leaves(of_block(parameters, *tree_map(lambda array: backend.from_host(change(array)), parts)))

    together = list(compute(lambda array: array.reshape(blocks, size, *array.shape[1:])))
    for index in range(blocks):
        alone = compute(lambda array, start=size * index: array[start : start + size])
        for one, other in zip(together, alone, strict=True):
            assert np.array_equal(backend.to_host(one)[index], backend.to_host(other))


@every_network
@pytest.mark.parametrize("ops", [reproducible(NUMPY), arithmetic(NUMPY)], ids=lambda ops: ops.name)
def test_numpys_plans_change_no_bit(name, ops):
    compiled = {}

    def wrap(function):
        return compiled.setdefault(function.__qualname__, NUMPY.compile(function, exact=True))

    for samples in (64, 37, 64, 1):
        expected, found = (results(NUMPY, ops, name, samples, *wraps) for wraps in ((), (wrap,)))
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name", [name if name == "plain" else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_xla_compiles_the_native_arithmetic(name, dtype):
    backend, tolerance = BackendCase.JAX.make(), {"float32": 1e-4, "float64": 1e-11}[dtype]
    with backend.scope():
        ops = arithmetic(backend, dtype)
        expected = results(backend, ops, name)
        found = results(backend, ops, name, 37, lambda f: backend.compile(f, exact=False))
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=10 * tolerance)


def test_the_defaults_are_the_notebooks_network():
    ops, network = arithmetic(NUMPY), NETWORKS["plain"]
    parameters, x, *_ = host_data(network)
    operand = inputs(ops, network, x, None)
    _, cache = forward(ops, parameters, operand)
    for index, (a, z) in enumerate(cache[:-1]):
        assert np.array_equal(cache[index + 1][0], np.maximum(z, 0.0))
        assert (a is operand) == (index == 0)
