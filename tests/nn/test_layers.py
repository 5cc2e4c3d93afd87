"""Batch normalisation and dropout, on every backend, against their formulas and PyTorch."""

import numpy as np
import pytest
from assertions import assert_same
from networks import arithmetic

from xpnet.arithmetic import Reproducible
from xpnet.arithmetic.blocks import BLOCK_SIZE, block_bounds
from xpnet.backends.numpy import make
from xpnet.nn.layers import (
    BatchMoments,
    BatchNorm,
    RunningStatistics,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    dropout,
    mean_and_variance_factors,
    update_running_statistics,
)

GENERATOR = np.random.default_rng(0)
Z = GENERATOR.normal(2.0, 3.0, size=(5, 77))
DY = GENERATOR.normal(size=Z.shape)
LAYER = BatchNorm(*GENERATOR.normal(1.0, 0.5, size=(2, 5, 1)))
RUNNING = RunningStatistics(GENERATOR.normal(size=(5, 1)), GENERATOR.uniform(0.5, 2.0, size=(5, 1)))
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}


@pytest.fixture(params=["float32", "float64", "reproducible"])
def ops(backend, request):
    if request.param == "reproducible":
        return Reproducible(backend.xp, backend.device, backend.xp.float64)
    return arithmetic(backend, request.param)


@pytest.fixture
def dtype(request):
    name = request.node.callspec.params["ops"]
    return "float64" if name == "reproducible" else name


@pytest.fixture
def put(backend, dtype):
    return lambda array: backend.from_host(array.astype(dtype))


def put_all(put, arrays):
    return type(arrays)(*map(put, arrays))


def close(found, expected, backend, dtype):
    tolerance = TOLERANCE[dtype]
    assert_same(found, expected.astype(dtype), backend, rtol=tolerance, atol=tolerance)


def test_batch_norm_gives_each_unit_mean_beta_and_deviation_gamma(ops, put, backend, dtype):
    y, normalized = batch_norm(ops, put_all(put, LAYER), put(Z))
    centred = Z - Z.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt(Z.var(axis=1, keepdims=True) + 1e-5)
    close(normalized.values, expected, backend, dtype)
    close(y, LAYER.gamma * expected + LAYER.beta, backend, dtype)
    scale = 100.0 * TOLERANCE[dtype]
    sums = normalized.sums
    assert_same(sums.values, Z.sum(axis=1, keepdims=True).astype(dtype), backend, rtol=scale)
    squares = (centred**2).sum(axis=1, keepdims=True)
    assert_same(sums.squares, squares.astype(dtype), backend, rtol=scale)


def test_batch_norm_takes_stacks_of_blocks(ops, put, backend):
    layer, stack = put_all(put, LAYER), np.stack([Z, DY, Z + DY])
    y, normalized = batch_norm(ops, layer, put(stack))
    gradient, dz = batch_norm_backward(ops, layer, normalized, put(stack[::-1]))
    together = [y, *gradient, dz, *normalized.sums]
    for index in range(3):
        y, normalized = batch_norm(ops, layer, put(stack[index]))
        gradient, dz = batch_norm_backward(ops, layer, normalized, put(stack[2 - index]))
        alone = [y, *gradient, dz, *normalized.sums]
        for found, expected in zip(together, alone, strict=True):
            one, other = backend.to_host(found)[index], backend.to_host(expected)
            tolerance = 0.0 if isinstance(ops, Reproducible) else 1e-4
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_constant_units_become_beta_and_single_samples_have_no_gradient(ops, put, backend, dtype):
    layer = put_all(put, LAYER)
    for z in (np.full((5, 64), 3.0), Z[:, :1]):
        y, normalized = batch_norm(ops, layer, put(z))
        close(y, LAYER.beta + 0.0 * z, backend, dtype)
        _, dz = batch_norm_backward(ops, layer, normalized, put(np.ones_like(z)))
        close(dz, 0.0 * z, backend, dtype)


def test_evaluation_uses_the_running_statistics(ops, put, backend, dtype):
    y = batch_norm_inference(ops, put_all(put, LAYER), put_all(put, RUNNING), put(Z))
    expected = (Z - RUNNING.mean) / np.sqrt(RUNNING.variance + 1e-5)
    close(y, LAYER.gamma * expected + LAYER.beta, backend, dtype)


def torch_batch_norm(z, layer, running, training):
    import torch

    gamma, beta, mean, variance = (torch.tensor(array.reshape(-1)) for array in (*layer, *running))
    gamma.requires_grad_()
    beta.requires_grad_()
    x = torch.tensor(z.T, requires_grad=True)
    with torch.enable_grad():  # the backend's scope switches it off
        y = torch.nn.functional.batch_norm(
            x, mean, variance, gamma, beta, training=training, momentum=0.1, eps=1e-5
        )
    return x, y, gamma, beta, RunningStatistics(*(s.numpy()[:, None] for s in (mean, variance)))


@pytest.mark.needs("torch")
def test_batch_norm_is_that_of_pytorch(ops, put, backend, dtype):
    import torch

    x, y, gamma, beta, running = torch_batch_norm(Z, LAYER, RUNNING, training=True)
    y.backward(torch.tensor(DY.T))
    layer = put_all(put, LAYER)
    found, normalized = batch_norm(ops, layer, put(Z))
    close(found, y.detach().numpy().T, backend, dtype)
    gradient, dz = batch_norm_backward(ops, layer, normalized, put(DY))
    close(dz, x.grad.numpy().T, backend, dtype)
    close(gradient.gamma, gamma.grad.numpy()[:, None], backend, dtype)
    close(gradient.beta, beta.grad.numpy()[:, None], backend, dtype)
    updated = update_running_statistics(
        put_all(put, RUNNING), normalized.sums, *mean_and_variance_factors(Z.shape[1])
    )
    for statistic, expected in zip(updated, running, strict=True):
        close(statistic, expected, backend, dtype)


def sums_of_blocks(z):
    """The sums of each block, with plain NumPy, added up."""
    blocks = [z[:, start:stop] for start, stop in block_bounds(z.shape[1])]
    squares = [np.sum((b - b.mean(axis=1, keepdims=True)) ** 2, axis=1) for b in blocks]
    return BatchMoments(z.sum(axis=1, keepdims=True), np.sum(squares, axis=0)[:, None])


def test_the_variance_over_several_blocks_has_no_bias():
    count = 2 * BLOCK_SIZE + 2
    found = [
        update_running_statistics(
            RunningStatistics(np.zeros((8, 1)), np.zeros((8, 1))),
            sums_of_blocks(np.random.default_rng(seed).normal(5.0, 2.0, size=(8, count))),
            *mean_and_variance_factors(count),
        )
        for seed in range(20)
    ]
    means, variances = (np.concatenate(part) for part in zip(*found, strict=True))
    assert np.mean(means) == pytest.approx(0.1 * 5.0, abs=0.1 * 4 * 2.0 / (160 * count) ** 0.5)
    assert np.mean(variances) == pytest.approx(0.1 * 4.0, abs=0.1 * 4 * 4.0 * (2 / 160 / count) ** 0.5)
    degrees, running = count - 3, RunningStatistics(np.zeros((1, 1)), np.zeros((1, 1)))
    exact = update_running_statistics(
        running, BatchMoments(np.zeros((1, 1)), np.full((1, 1), degrees)), *mean_and_variance_factors(count)
    )
    assert exact.variance.item() == pytest.approx(0.1, rel=1e-15)


def test_the_running_statistics_of_a_dead_unit_never_become_subnormal():
    zero = np.zeros((1, 1))
    running = RunningStatistics(np.ones((1, 1)), np.ones((1, 1)))
    for _ in range(8000):
        running = update_running_statistics(running, BatchMoments(zero, zero), *mean_and_variance_factors(64))
        for statistic in running:
            assert statistic.item() == 0.0 or statistic.item() >= 2.0**-953
    assert max(running.mean.item(), running.variance.item()) < 2.0**-940


def test_dropout_scales_what_it_keeps(ops, put, backend, dtype):
    mask = GENERATOR.random(Z.shape) > 0.5
    found = dropout(ops, put(Z), backend.from_host(mask), 2.0)
    assert_same(found, np.where(mask, 2.0 * Z.astype(dtype), 0.0).astype(dtype), backend)


def test_batch_norm_keeps_its_digits_beside_a_large_mean():
    ops = Reproducible(make("cpu").xp, "cpu", np.float64)
    z = Z + 1e6
    _, normalized = batch_norm(ops, LAYER, z)
    centred = Z - Z.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt(Z.var(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normalized.values, expected, rtol=0, atol=1e-8)
