"""Networks of every kind: their settings, starts and masks, and the same bits on every backend."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import reference
from networks import pixels, reproducible, rows_on_backends, total_loss

from xpnet._lib.tree import leaves, tree_map
from xpnet.arithmetic import random
from xpnet.backends.numpy import make
from xpnet.errors import ConfigError
from xpnet.nn import functional as F
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import Masks, dropout_masks, dropout_scale, noise_scale
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"activation": "unheard-of"},
            f"activation: expected one of {', '.join(F.ACTIVATIONS)}, got 'unheard-of'",
        ),
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


def test_the_noise_is_that_of_the_specification():
    noise = dropout_masks(Network((20, 3), input_noise=0.3), 7, 3, 5, 9).noise
    stream = reference.words(9, index=0, epoch=3, seed=7)
    words = list(itertools.islice(stream, 8 * 9))  # two groups of four words a sample
    for row, position in zip(noise, range(5, 9), strict=True):
        bits = [(words[8 * position + feature // 4] >> (16 * (feature % 4))) % 65536 for feature in range(20)]
        assert row.tolist() == [b - 65536 * (b >= 32768) for b in bits]
    assert noise_scale(0.3) == 0.3 / 32768


def test_there_are_no_masks_without_dropout_and_no_noise_without_an_amplitude():
    assert dropout_masks(NETWORKS["plain"], 0, 1, 0, 10) == Masks(None, [], None)
    assert dropout_masks(NETWORKS["dropout of inputs"], 0, 1, 0, 10).hidden == []
    assert dropout_masks(Network(SIZES, hidden_dropout=0.5), 0, 1, 0, 10).inputs is None


@pytest.mark.parametrize(
    ("probability", "steps"), [(0.5, 32768), (0.2, 13107), (1e-9, 0), (1.0 - 1e-9, 65535)]
)
def test_the_scale_is_that_of_the_probability_that_the_masks_have(probability, steps):
    assert dropout_scale(probability) == 65536 / (65536 - steps)
    network = Network((1, 1, 1), input_dropout=probability)
    bits = random.words(0, random.Purpose.DROPOUT, 800_000, epoch=1)[::4] & np.uint64(0xFFFF)
    mask = dropout_masks(network, 0, 1, 0, 200_000).inputs  # so many that bits are equal to the steps
    assert np.array_equal(mask[:, 0], bits >= steps)


# The same bits

BLOCKS, SAMPLES = 3, 37


@cache
def host_data(network):
    """Parameters, running statistics, and the stacked blocks of pixels, labels and masks, as NumPy arrays."""
    generator, samples = np.random.default_rng(1), BLOCKS * SAMPLES
    parameters = tree_map(
        lambda p: p + 0.1 * generator.normal(size=p.shape),
        initialize(network.sizes, 0, "he", batch_norm=network.batch_norm),
    )
    running = [
        RunningStatistics(generator.normal(size=s.mean.shape), generator.uniform(0.5, 2.0, s.mean.shape))
        for s in initial_running_statistics(network)
    ]
    data = *pixels(samples, network.sizes[0], network.sizes[-1]), dropout_masks(network, 0, 1, 0, samples)
    return parameters, running, tree_map(lambda a: a.reshape(BLOCKS, SAMPLES, *a.shape[1:]), data)


def results(backend, name, blocks):
    """Everything that a network computes from one block, or from several stacked ones."""
    network, ops = NETWORKS[name], reproducible(backend)
    parameters, running, data = host_data(network)
    layers, running = (
        prepare(ops, tree_map(backend.from_host, parameters)),
        tree_map(backend.from_host, running),
    )
    x, labels, masks = tree_map(lambda array: backend.from_host(array[blocks]), data)
    columns, scale = ops.xp.matrix_transpose, dropout_scale(network.input_dropout)
    weights = ops.xp.astype(labels, ops.dtype) * 0.3
    kept = x if masks.inputs is None else x * ops.xp.astype(masks.inputs, ops.xp.uint8)
    operand = ops.integers(columns(kept), scale / 255.0)
    loss = total_loss(ops, layers, operand, labels, network, masks.hidden)
    options = {"masks": masks.hidden} if name == "plain" else {"masks": masks.hidden, "weights": weights}
    gradients, moments = gradients_and_moments(ops, layers, operand, labels, network, **options)
    updated = [
        update_running_statistics(*pair, *mean_and_variance_factors(SAMPLES))
        for pair in zip(running, moments, strict=True)
    ]
    logits, _ = forward(ops, layers, ops.integers(columns(x), 1 / 255.0), network, running=updated)
    evaluated = sample_losses(ops, logits, labels, network), logits
    return map(backend.to_host, leaves([loss, gradients, updated, evaluated]))


@cache
def results_on_numpy(name, block):
    with NUMPY.scope():
        return list(results(NUMPY, name, block))


@rows_on_backends("name", NETWORKS, "no hidden layer", strict=NETWORKS, jax=True)
def test_every_backend_gives_the_same_bits_and_blocks_may_be_computed_in_one_call(backend, name):
    together = list(results(backend, name, slice(None)))
    for block in range(BLOCKS):
        for array, expected in zip(together, results_on_numpy(name, block), strict=True):
            assert array[block].tobytes() == expected.tobytes()
