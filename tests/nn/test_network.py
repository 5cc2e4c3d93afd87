"""Networks: their first weights, and masks."""

import itertools

import numpy as np
import pytest

from xpnet.arithmetic import random
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.init import initialize


@pytest.mark.parametrize("kind", ["he", "glorot"])
def test_weights_are_uniform_up_to_the_limit_and_biases_zero(kind):
    sizes = (300, 200, 50)
    starts = zip(initialize(sizes, 3, kind), initialize(sizes, 3), itertools.pairwise(sizes), strict=True)
    for layer, uniform, (inputs, units) in starts:
        limit = (6.0 / (inputs if kind == "he" else inputs + units)) ** 0.5
        np.testing.assert_allclose(layer.weight, uniform.weight * 2.0 * limit, rtol=1e-15)
        assert np.max(np.abs(layer.weight)) == pytest.approx(limit, rel=1e-3)
        assert np.array_equal(layer.bias, np.zeros((units, 1)))


def test_masks_and_their_scale_have_the_probability_rounded_to_65536ths():
    bits = random.words(0, random.Purpose.DROPOUT, 800_000, epoch=1)[::4] & np.uint64(0xFFFF)
    for probability, steps in ((0.5, 32768), (0.2, 13107), (1e-9, 0), (1.0 - 1e-9, 65535)):
        assert dropout_scale(probability) == 65536 / (65536 - steps)
        network = Network((1, 1, 1), input_dropout=probability)
        mask = dropout_masks(network, 0, 1, 0, 200_000).inputs  # so many that bits are equal to the steps
        assert np.array_equal(mask[:, 0], bits >= steps)
