"""The running statistics of batch normalisation; test_oracles.py holds its formulas to PyTorch's."""

import numpy as np
import pytest

from xpnet.arithmetic.blocks import BLOCK_SIZE, block_bounds
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
    running = update_running_statistics(zeros, moments, *mean_and_variance_factors(count))
    np.testing.assert_allclose(running.mean, 0.1 * z.mean(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(running.variance, 0.1 * squares / (count - 3), rtol=1e-14)
    assert np.mean(running.variance) == pytest.approx(0.1 * 4.0, rel=4 * (2 / 400 / count) ** 0.5)


def test_the_statistics_of_a_dead_unit_never_become_subnormal():
    moments, factors = BatchMoments(np.zeros((1, 1)), np.zeros((1, 1))), mean_and_variance_factors(64)
    running = RunningStatistics(np.full((1, 1), 2.0**-900), np.full((1, 1), 2.0**-900))
    for _ in range(1000):
        running = update_running_statistics(running, moments, *factors)
        assert all(statistic.item() == 0.0 or statistic.item() >= 2.0**-953 for statistic in running)
    assert max(running.mean.item(), running.variance.item()) < 2.0**-940
