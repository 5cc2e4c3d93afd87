"""Running statistics, masks and standardising where they are delicate, beyond the vectors."""

import numpy as np
import pytest

from xpnet.arithmetic import random
from xpnet.arithmetic.blocks import BLOCK_SIZE, block_bounds
from xpnet.errors import DataError
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.inputs import fit_normalization
from xpnet.nn.layers import (
    BatchMoments,
    RunningStatistics,
    mean_and_variance_factors,
    update_running_statistics,
)


def test_the_variance_over_several_blocks_has_no_bias():
    """Each block has a mean of its own, and takes away a degree of freedom."""
    count, zeros = 2 * BLOCK_SIZE + 2, RunningStatistics(np.zeros((400, 1)), np.zeros((400, 1)))
    z = np.random.default_rng(0).normal(5.0, 2.0, size=(400, count))
    blocks = [z[:, start:stop] for start, stop in block_bounds(count)]
    squares = sum(block.shape[1] * block.var(axis=1, keepdims=True) for block in blocks)
    moments = BatchMoments(z.sum(axis=1, keepdims=True), squares)
    running = update_running_statistics(zeros, moments, mean_and_variance_factors(count))
    np.testing.assert_allclose(running.mean, 0.1 * z.mean(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(running.variance, 0.1 * squares / (count - 3), rtol=1e-14)


@pytest.mark.parametrize(("probability", "steps"), [(0.2, 13107), (1e-9, 0), (1.0 - 1e-9, 65535)])
def test_masks_and_their_scale_have_the_probability_rounded_to_65536ths(probability, steps):
    bits = random.words(0, random.Purpose.DROPOUT, 800_000, epoch=1)[::4] & np.uint64(0xFFFF)
    network = Network((1, 1, 1), input_dropout=probability)
    mask = dropout_masks(network, 0, 1, 0, 200_000).inputs  # so many that bits are equal to the steps
    assert np.array_equal(mask[:, 0], bits >= steps)
    assert dropout_scale(probability) == 65536 / (65536 - steps)


def test_features_too_large_to_standardize_are_named():
    x = np.array([[1.0, 1e200], [2.0, -1e200], [3.0, 1e200]])
    with pytest.raises(
        DataError, match=r"^feature 1: values from -1e\+200 to 1e\+200 are too large to stand"
    ):
        fit_normalization("standardize", x)
