"""Activations against plain NumPy formulas, and what is delicate in softmax, in every arithmetic.

On NumPy: tests/arithmetic/test_closed_world.py shows that the other libraries compute the same.
test_gradients.py holds the losses.
"""

import math

import numpy as np
import pytest
from activations import ORACLES
from networks import arithmetic, reproducible

from xpnet.backends.resolve import make
from xpnet.nn import functional as F

Z = np.random.default_rng(0).normal(size=(7, 5))
Z[2, 3] = 0.0
NUMPY = make("numpy", "cpu")
EVERY_ARITHMETIC = pytest.mark.parametrize(
    ("ops", "tolerance"),  # a few units in the last place
    [(arithmetic(NUMPY, "float32"), 2e-6), (arithmetic(NUMPY), 2e-14), (reproducible(NUMPY), 2e-14)],
    ids=["float32", "float64", "reproducible"],
)


@EVERY_ARITHMETIC
@pytest.mark.parametrize("size", [1e-4, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("name", F.ACTIVATIONS)
def test_activations(ops, tolerance, name, size):
    activation, (formula, derivative) = F.ACTIVATIONS[name], ORACLES[name]
    z, da = (Z * size).astype(ops.dtype), Z[::-1].astype(ops.dtype)
    with NUMPY.scope():
        a = activation.forward(ops, z)
        dz = activation.backward(ops, da, z, a)
    expected = da * derivative(z.astype("float64"))
    np.testing.assert_allclose(a, formula(z.astype("float64")), rtol=tolerance)
    np.testing.assert_allclose(dz, expected, rtol=tolerance, atol=tolerance)
    assert a.dtype == dz.dtype == ops.dtype


@EVERY_ARITHMETIC
def test_softmax_and_cross_entropy_are_right_of_large_and_infinite_logits(ops, tolerance):
    z = np.array([[1e4, -3e4, 0.0, -np.inf, -np.inf], [-1e4, 2e4, 0.0, 0.0, 0.0]], ops.dtype)
    y = np.array([[1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0, 0.0]], ops.dtype)
    with NUMPY.scope():
        losses, shares = F.cross_entropy(ops, z, y), F.softmax(ops, z)
    np.testing.assert_allclose(losses, [[0.0, 5e4, math.log(2.0), 0.0, np.inf]], rtol=tolerance)
    np.testing.assert_allclose(shares, [[1.0, 0.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.5, 1.0, 1.0]], rtol=tolerance)
