"""NaN and infinities survive every maximum and minimum, however many numbers it is of, on every library.

The maximum of 4,096 numbers with NaN among them is NaN on all libraries but JAX 0.10, which loses it.
"""

import numpy as np
import pytest
from networks import reproducible

import xpnet.reproducible as rp
from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.nn import functional as F
from xpnet.nn.layers import Linear
from xpnet.nn.optim import clip_gradients, limit_norms
from xpnet.training.shared_step import ExactPartialGradients

NAN, INF = np.nan, np.inf
PLACES = [{}, {0: NAN}, {-1: NAN}, {7: INF, 2050: NAN}, {7: INF}, {1: -INF, 4000: INF}, {5: -INF}, {}]


def numbers():
    """4,096 numbers a row, most with special ones among them; the last row is of -infinities."""
    x = np.random.default_rng(0).normal(size=(len(PLACES), 4096))
    for row, places in zip(x, PLACES, strict=True):
        row[[*places]] = [*places.values()]
    x[-1] = -INF
    return x


def compute(ops, x):
    """The results of all that takes a maximum or a minimum in training and prediction."""
    columns = ops.xp.matrix_transpose(x)
    shared = ExactPartialGradients(ops.xp, ops.device, ops.dtype, ops.fuses)
    by_row, by_column = Linear(x, x[:, :1]), Linear(columns, columns[:, :1])
    return {
        **{name: activation.forward(ops, x) for name, activation in F.ACTIVATIONS.items()},
        "exp": ops.exp(-ops.xp.abs(x)),
        "log": ops.log(x),
        "root": ops.sqrt(x),
        "product": ops.matmul(x, columns),
        "product of many vectors": ops.matmul(columns, x[:, :1]),
        "gradients": ops.weight_and_bias_gradients(x, x),
        "gradients of a rank": shared.partial_gradients(x, x, 4096, iter(shared.sample_maxima(x, x))),
        "softmax": F.softmax(ops, columns),
        "cross-entropy": F.cross_entropy(ops, columns, columns),
        "predictions": F.predictions(ops, columns),
        "clipping": clip_gradients(ops, [by_row], 1.0)[0],
        "max-norm": limit_norms(ops, [by_row, by_column], 1.0),
    }


def test_a_network_keeps_nan_and_infinities_as_numpy_does(backend):
    x, names, results = numbers(), [], []
    for each in (make("numpy", "cpu"), backend):

        def function(x, each=each):
            by_name = compute(reproducible(each), x)
            names[:] = by_name
            return [[*leaves(part)] for part in by_name.values()]

        compiled = each.compile(function, exact=True)
        with each.scope(), np.errstate(all="ignore"):
            compiled(each.from_host(x))  # NumPy's second call is recorded
            results.append([[*map(each.to_host, part)] for part in compiled(each.from_host(x))])
    for name, parts in zip(names, zip(*results, strict=True), strict=True):
        for expected, actual in zip(*parts, strict=True):
            np.testing.assert_array_equal(actual, expected, name)
    known = {name: part[0] for name, part in zip(names, results[0], strict=True)}
    assert np.array_equal(np.isnan(known["relu"]), np.isnan(x))
    assert np.isfinite(known["product"]).sum() == 1  # of the one row without special values
    for name in ("softmax", "cross-entropy"):
        assert np.isnan(known[name][:, 1:4]).all(), name
        assert np.isfinite(known[name][:, 0]).all(), name


def softmax(x, axis):
    exponentials = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return exponentials / np.sum(exponentials, axis=axis, keepdims=True)


NUMPYS = {rp.sum: np.sum, rp.mean: np.mean, rp.var: np.var, rp.logsumexp: np.logaddexp.reduce}
NUMPYS |= {rp.cumulative_sum: np.cumsum, rp.softmax: softmax}


@pytest.mark.parametrize("function", NUMPYS)
def test_public_functions_keep_nan_and_infinities_as_numpy_does(backend, function):
    x = numbers()
    with np.errstate(all="ignore"):
        result = backend.to_host(function(backend.from_host(x), axis=1))
        np.testing.assert_array_equal(result, function(x, axis=1))
        np.testing.assert_allclose(result, NUMPYS[function](x, axis=1), rtol=1e-9, atol=1e-9)
