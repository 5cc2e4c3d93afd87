"""NaN and infinities survive maxima and minima of 4,096 numbers, of which JAX 0.10's own lose NaN."""

import numpy as np
import pytest
from networks import reproducible
from scipy.special import softmax

import xpnet.reproducible as rp
from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.nn import functional as F
from xpnet.nn.layers import Linear
from xpnet.nn.optim import clip_gradients, limit_norms
from xpnet.training.shared_step import ExactPartialGradients

NAN, INF = np.nan, np.inf
PLACES = [{}, {0: NAN}, {-1: NAN}, {7: INF, 2050: NAN}, {7: INF}, {1: -INF, 4000: INF}, {5: -INF}, {}]
NUMPYS = {rp.sum: np.sum, rp.mean: np.mean, rp.var: np.var, rp.logsumexp: np.logaddexp.reduce}
NUMPYS |= {rp.cumulative_sum: np.cumsum, rp.softmax: softmax}


def numbers():
    """4,096 numbers a row, most with special ones among them; the last row is of -infinities."""
    x = np.random.default_rng(0).normal(size=(len(PLACES), 4096))
    for row, places in zip(x, PLACES, strict=True):
        row[[*places]] = [*places.values()]
    x[-1] = -INF
    return x


def compute(ops, x):
    columns = ops.xp.matrix_transpose(x)
    shared = ExactPartialGradients(ops.xp, ops.device, ops.dtype, ops.fuses)
    by_row, by_column = Linear(x, x[:, :1]), Linear(columns, columns[:, :1])
    return [
        ops.matmul(x, columns),
        ops.matmul(columns, x[:, :1]),
        F.softmax(ops, columns),
        F.cross_entropy(ops, columns, columns),
        F.predictions(ops, columns),
        clip_gradients(ops, [by_row], 1.0)[0],
        limit_norms(ops, [by_row, by_column], 1.0),
        ops.weight_and_bias_gradients(x, x),
        shared.partial_gradients(x, x, 4096, iter(shared.sample_maxima(x, x))),
    ]


def test_a_network_keeps_nan_and_infinities_as_numpy_does(backend):
    x, results = numbers(), []
    for each in (make("numpy", "cpu"), backend):
        compiled = each.compile(lambda x, each=each: [*leaves(compute(reproducible(each), x))], exact=True)
        with each.scope(), np.errstate(all="ignore"):
            compiled(each.from_host(x))  # NumPy's second call is recorded
            results.append([*map(each.to_host, compiled(each.from_host(x)))])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)
    product, _, shares, losses, *_ = results[0]
    assert np.isfinite(product).sum() == 1  # of the one row without special values
    for part in (shares, losses):
        assert np.isnan(part[:, 1:4]).all()
        assert np.isfinite(part[:, 0]).all()


@pytest.mark.parametrize("function", NUMPYS)
def test_public_functions_keep_nan_and_infinities_as_numpy_does(backend, function):
    x = numbers()
    with np.errstate(all="ignore"):
        result = backend.to_host(function(backend.from_host(x), axis=1))
        np.testing.assert_array_equal(result, function(x, axis=1))
        np.testing.assert_allclose(result, NUMPYS[function](x, axis=1), rtol=1e-9, atol=1e-9)
