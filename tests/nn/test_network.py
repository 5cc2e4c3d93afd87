"""Networks: their settings, starts and masks."""

import itertools
import math

import numpy as np
import pytest
import reference

from xpnet.arithmetic import random
from xpnet.errors import ConfigError
from xpnet.nn import functional as F
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale, noise_scale
from xpnet.nn.init import initialize

SIZES = (20, 9, 8, 5)


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
