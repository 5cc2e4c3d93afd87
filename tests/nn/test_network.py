"""Networks of every kind: their settings, starts and masks, and the same bits of stacked blocks."""

import itertools
import math

import numpy as np
import pytest
import reference
from networks import pixels, reproducible, total_loss

from xpnet._lib.tree import leaves, tree_map
from xpnet.arithmetic import random
from xpnet.backends.numpy import make
from xpnet.errors import ConfigError
from xpnet.nn import functional as F
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale, noise_scale
from xpnet.nn.init import initial_running_statistics, initialize
from xpnet.nn.layers import RunningStatistics, mean_and_variance_factors, update_running_statistics
from xpnet.nn.network import forward, gradients_and_moments, prepare, sample_losses

SIZES = (20, 9, 8, 5)
EVERYTHING = {"batch_norm": True, "input_dropout": 0.2, "hidden_dropout": 0.5, "label_smoothing": 0.1}
NETWORKS = {
    "plain": Network(SIZES),
    "no hidden layer": Network((20, 5), batch_norm=True, hidden_dropout=0.5, loss="squared-error"),
    "everything": Network(SIZES, activation="tanh", loss="squared-error", **EVERYTHING),
    "everything else": Network(SIZES, activation="sigmoid", **EVERYTHING),
}
OPS = reproducible(make("cpu"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("activation", "odd", f"activation: expected one of {', '.join(F.ACTIVATIONS)}, got 'odd'"),
        ("loss", "hinge", "loss: expected one of cross-entropy, squared-error, got 'hinge'"),
        ("input_dropout", 1.0, "input_dropout: expected a number from 0 to below 1, got 1.0"),
        ("hidden_dropout", -0.1, "hidden_dropout: expected a number from 0 to below 1, got -0.1"),
        ("label_smoothing", math.nan, "label_smoothing: expected a number from 0 to below 1, got nan"),
        ("sizes", (784,), r"sizes: expected at least features and classes, each positive, got \(784,\)"),
        ("sizes", (784, 0, 10), r"each positive, got \(784, 0, 10\)"),
    ],
)
def test_bad_settings_are_refused(name, value, message):
    with pytest.raises(ConfigError, match=message):
        Network(**{"sizes": SIZES, name: value})


@pytest.mark.parametrize("kind", ["he", "glorot"])
def test_weights_are_uniform_up_to_the_limit_and_biases_zero(kind):
    sizes = (300, 200, 50)
    starts = zip(initialize(sizes, 3, kind), initialize(sizes, 3), itertools.pairwise(sizes), strict=True)
    for layer, uniform, (inputs, units) in starts:
        limit = (6.0 / (inputs if kind == "he" else inputs + units)) ** 0.5
        np.testing.assert_allclose(layer.weight, uniform.weight * 2.0 * limit, rtol=1e-15)
        assert np.max(np.abs(layer.weight)) == pytest.approx(limit, rel=1e-3)
        assert np.array_equal(layer.bias, np.zeros((units, 1)))


# Masks


def specified_bits(purpose, layer, position, units):
    """The 16 bits of each unit, as docs/reproducibility.md has them, of seed 7 and epoch 3."""
    count = 4 * math.ceil(units / 16)
    stream = reference.words(purpose, index=layer, epoch=3, seed=7)
    words = list(itertools.islice(stream, position * count, (position + 1) * count))
    return [(words[unit // 4] >> (16 * (unit % 4))) % 65536 for unit in range(units)]


def test_masks_and_noise_are_those_of_the_specification():
    network = Network((20, 16, 33, 5), input_dropout=0.25, hidden_dropout=0.6, input_noise=0.3)
    masks = dropout_masks(network, 7, 3, 5, 9)
    for layer, (mask, p) in enumerate([(masks.inputs, 0.25), *((mask, 0.6) for mask in masks.hidden)]):
        bits = [specified_bits(4, layer, position, network.sizes[layer]) for position in range(5, 9)]
        assert mask.tolist() == [[b >= round(p * 65536) for b in row] for row in bits]
    bits = [specified_bits(9, 0, position, 20) for position in range(5, 9)]
    assert masks.noise.tolist() == [[b - 65536 * (b >= 32768) for b in row] for row in bits]
    assert noise_scale(0.3) == 0.3 / 32768


@pytest.mark.parametrize(
    ("probability", "steps"), [(0.5, 32768), (0.2, 13107), (1e-9, 0), (1.0 - 1e-9, 65535)]
)
def test_the_scale_is_that_of_the_probability_that_the_masks_have(probability, steps):
    assert dropout_scale(probability) == 65536 / (65536 - steps)
    network = Network((1, 1, 1), input_dropout=probability)
    bits = random.words(0, random.Purpose.DROPOUT, 800_000, epoch=1)[::4] & np.uint64(0xFFFF)
    mask = dropout_masks(network, 0, 1, 0, 200_000).inputs  # so many that bits are equal to the steps
    assert np.array_equal(mask[:, 0], bits >= steps)


# Stacked blocks

BLOCKS, SAMPLES = 3, 37


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_may_be_computed_in_one_call(name):
    network, generator = NETWORKS[name], np.random.default_rng(1)
    x, labels = pixels(BLOCKS * SAMPLES, network.sizes[0], network.sizes[-1])
    data = x, labels, dropout_masks(network, 0, 1, 0, len(labels)), generator.random(len(labels))
    data = tree_map(lambda array: array.reshape(BLOCKS, SAMPLES, *array.shape[1:]), data)
    parameters = tree_map(
        lambda p: p + 0.1 * generator.normal(size=p.shape),
        initialize(network.sizes, 0, "he", batch_norm=network.batch_norm),
    )
    running = [
        RunningStatistics(generator.normal(size=s.mean.shape), generator.uniform(0.5, 2.0, s.mean.shape))
        for s in initial_running_statistics(network)
    ]

    def compute(blocks):
        """Everything that a network computes from one block, or from several stacked ones."""
        layers, factor = prepare(OPS, parameters), dropout_scale(network.input_dropout) / 255.0
        x, labels, masks, weights = tree_map(lambda array: array[blocks], data)
        kept = OPS.integers(np.matrix_transpose(x if masks.inputs is None else x * masks.inputs), factor)
        loss = total_loss(OPS, layers, kept, labels, network, masks.hidden)
        weighted = {} if name == "plain" else {"weights": weights}
        gradients, moments = gradients_and_moments(
            OPS, layers, kept, labels, network, masks=masks.hidden, **weighted
        )
        updated = [
            update_running_statistics(*pair, *mean_and_variance_factors(SAMPLES))
            for pair in zip(running, moments, strict=True)
        ]
        x = OPS.integers(np.matrix_transpose(x), 1 / 255.0)
        logits, _ = forward(OPS, layers, x, network, running=updated)
        return leaves([loss, gradients, updated, sample_losses(OPS, logits, labels, network), logits])

    together = list(compute(slice(None)))
    for block in range(BLOCKS):
        for array, expected in zip(together, compute(block), strict=True):
            assert array[block].tobytes() == expected.tobytes()
