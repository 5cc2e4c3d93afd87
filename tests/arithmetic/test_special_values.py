"""NaN and infinities survive every maximum and minimum, however many numbers it is of, on every library.

The maximum of 4,096 numbers with NaN among them is NaN on all libraries but JAX 0.10, which loses it.
"""

from functools import partial

import numpy as np
import pytest
from backend_enum import BackendCase
from networks import reproducible

import xpnet.reproducible as rp
from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.nn import functional as F
from xpnet.nn.layers import Linear
from xpnet.nn.optim import clip_gradients, limit_norms
from xpnet.training.shared_step import ExactPartialGradients

COUNTS = [4095, 4096, 100_000]
NAN, INF = np.nan, np.inf
PLACES = [{}, {0: NAN}, {-1: NAN}, {7: INF, 2050: NAN}, {7: INF}, {1: -INF, 4000: INF}, {5: -INF}]
HAS_NAN = [False, True, True, True, False, False, False, False]


def numbers(count):
    """Rows of numbers, most with special ones among them; the last one is of -infinities."""
    x = np.random.default_rng(0).normal(size=(len(HAS_NAN), count))
    for row, places in zip(x, PLACES, strict=False):
        row[[*places]] = [*places.values()]
    x[-1] = -INF
    return x


def compute(ops, x):
    """The results of all that takes a maximum or a minimum in training and prediction."""
    columns, shared = (
        ops.xp.matrix_transpose(x),
        ExactPartialGradients(ops.xp, ops.device, ops.dtype, ops.fuses),
    )
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


def softmax(x):
    exponentials = np.exp(x - np.max(x, axis=1, keepdims=True))
    return exponentials / np.sum(exponentials, axis=1, keepdims=True)


EXPECTED = {
    rp.logsumexp: lambda x: np.logaddexp.reduce(x, axis=1),
    rp.softmax: softmax,
    rp.cumulative_sum: lambda x: np.cumsum(x, axis=1),
    **{
        function: partial(numpys, axis=1)
        for function, numpys in ((rp.sum, np.sum), (rp.mean, np.mean), (rp.var, np.var))
    },
}
"""Public functions along an axis, and NumPy's formulas."""


def marks_of(case, count):
    """JAX compiles anew for each count: the one below that of which it loses NaN is tested at night."""
    is_slow = count != 4096 or "jax" in case.value
    is_rare = count == 4095 and case is BackendCase.JAX
    return [pytest.mark.slow] * is_slow + [pytest.mark.nightly] * is_rare


ON_EVERY_BACKEND = pytest.mark.parametrize(
    ("case", "count"),
    [pytest.param(case, count, marks=marks_of(case, count)) for case in BackendCase for count in COUNTS],
    ids=lambda value: getattr(value, "value", value),
)


@ON_EVERY_BACKEND
def test_a_network_keeps_nan_and_infinities_as_numpy_does(case, count):
    x, names, results = numbers(count), [], []
    for backend in (make("numpy", "cpu"), case.make()):

        def function(x, backend=backend):
            by_name = compute(reproducible(backend), x)
            names[:] = [name for name, result in by_name.items() for _ in leaves(result)]
            return [*leaves([*by_name.values()])]

        compiled = backend.compile(function, exact=True)
        with backend.scope(), np.errstate(all="ignore"):
            for _ in range(2):  # NumPy's second call is recorded
                result = compiled(backend.from_host(x))
            results.append([backend.to_host(each) for each in result])
    for name, expected, actual in zip(names, *results, strict=True):
        np.testing.assert_array_equal(actual, expected, name)
    known = dict(zip(names, results[0], strict=True))
    assert np.array_equal(np.isnan(known["relu"]), np.isnan(x))
    assert np.isfinite(known["product"]).sum() == 1  # of the one row without special values
    for name in ("softmax", "cross-entropy"):
        assert np.isnan(known[name][:, 1:4]).all(), name
        assert np.isfinite(known[name][:, 0]).all(), name


@ON_EVERY_BACKEND
def test_public_functions_keep_nan_and_infinities_as_numpy_does(case, count):
    x, backend = numbers(count), case.make()
    with backend.scope(), np.errstate(all="ignore"):
        rows = backend.from_host(x)
        for function, numpys in EXPECTED.items():
            result = backend.to_host(function(rows, axis=1))
            np.testing.assert_array_equal(result, function(x, axis=1), function.__name__)
            np.testing.assert_allclose(result, numpys(x), rtol=1e-9, atol=1e-9, err_msg=function.__name__)
