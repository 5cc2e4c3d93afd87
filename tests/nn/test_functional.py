"""Activations against plain NumPy formulas, and what is delicate in softmax, in every arithmetic.

On NumPy: tests/arithmetic/test_closed_world.py shows that the other libraries compute the same.
test_oracles.py and test_gradients.py hold the losses.
"""

import math

import numpy as np
import pytest
from activations import ORACLES
from networks import arithmetic, reproducible

from xpnet.backends.resolve import make
from xpnet.nn import functional as F

Z = np.random.default_rng(0).normal(scale=3.0, size=(7, 5))
Z[2, 3] = 0.0
DA = np.random.default_rng(1).normal(size=(7, 5))
TOLERANCE = {"float32": 2e-6, "float64": 2e-14}  # a few units in the last place


@pytest.fixture(params=["float32", "float64", "reproducible"])
def ops(request):
    backend = make("numpy", "cpu")
    with backend.scope():
        yield reproducible(backend) if request.param == "reproducible" else arithmetic(backend, request.param)


def assert_close(ops, actual, expected):
    tolerance = TOLERANCE[ops.dtype.__name__]
    assert (actual.dtype, actual.shape) == (ops.dtype, np.shape(expected))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", F.ACTIVATIONS)
def test_activations(ops, name):
    activation, (formula, derivative, _) = F.ACTIVATIONS[name], ORACLES[name]
    for size in (1e-4, 0.3, 3.0, 30.0):
        z, da = (Z * (size / 3.0)).astype(ops.dtype), DA.astype(ops.dtype)
        a = activation.forward(ops, z)
        np.testing.assert_allclose(a, formula(z.astype("float64")), rtol=TOLERANCE[ops.dtype.__name__])
        assert_close(ops, activation.backward(ops, da, z, a), DA * derivative(z.astype("float64")))


@pytest.mark.parametrize("name", F.ACTIVATIONS)
def test_activations_of_large_and_missing_numbers(ops, name):
    large = float(np.finfo(ops.dtype).max)
    z = np.array([[-np.inf, np.inf, np.nan, -large, -1e4, 1e4, large]], ops.dtype)
    (a,) = F.ACTIVATIONS[name].forward(ops, z)
    with np.errstate(invalid="ignore"):
        limits = ORACLES[name].formula(np.array([-np.inf, np.inf, np.nan]))
    np.testing.assert_array_equal(a[:3], limits)
    assert np.isfinite(a[3:]).all()


def test_softmax_and_cross_entropy_are_right_of_large_and_infinite_logits(ops):
    z = np.array([[1e4, -3e4, 0.0, -np.inf, -np.inf], [-1e4, 2e4, 0.0, 0.0, 0.0]], ops.dtype)
    y = np.array([[1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0, 0.0]], ops.dtype)
    assert_close(ops, F.cross_entropy(ops, z, y), [[0.0, 5e4, math.log(2.0), 0.0, np.inf]])
    assert_close(ops, F.softmax(ops, z), [[1.0, 0.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.5, 1.0, 1.0]])
