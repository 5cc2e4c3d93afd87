"""Batch normalisation where its formulas, which test_oracles.py holds to PyTorch's, are delicate."""

import numpy as np
import pytest
from networks import arithmetic, reproducible

from xpnet.arithmetic.blocks import BLOCK_SIZE, block_bounds
from xpnet.backends.numpy import make
from xpnet.nn.layers import (
    BatchMoments,
    BatchNorm,
    RunningStatistics,
    batch_norm,
    batch_norm_backward,
    mean_and_variance_factors,
    update_running_statistics,
)

GENERATOR = np.random.default_rng(0)
Z = GENERATOR.normal(2.0, 3.0, size=(5, 77))
LAYER = BatchNorm(*GENERATOR.normal(1.0, 0.5, size=(2, 5, 1)))
OPS = reproducible(make("cpu"))


@pytest.mark.parametrize("ops", [arithmetic(make("cpu")), OPS], ids=lambda ops: ops.name)
@pytest.mark.parametrize("z", [np.full((5, 64), 3.0), Z[:, :1]], ids=["constant units", "a single sample"])
def test_what_does_not_vary_becomes_beta_and_has_no_gradient(ops, z):
    y, normalized = batch_norm(ops, LAYER, z)
    np.testing.assert_allclose(y, LAYER.beta + 0.0 * z, atol=1e-13)
    _, dz = batch_norm_backward(ops, LAYER, normalized, np.ones_like(z))
    np.testing.assert_allclose(dz, 0.0 * z, atol=1e-13)


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


def test_the_running_statistics_of_a_dead_unit_never_become_subnormal():
    one, moments = np.ones((1, 1)), BatchMoments(np.zeros((1, 1)), np.zeros((1, 1)))
    running, factors = RunningStatistics(one, one), mean_and_variance_factors(64)
    for _ in range(8000):
        running = update_running_statistics(running, moments, *factors)
        assert all(statistic.item() == 0.0 or statistic.item() >= 2.0**-953 for statistic in running)
    assert max(running.mean.item(), running.variance.item()) < 2.0**-940
