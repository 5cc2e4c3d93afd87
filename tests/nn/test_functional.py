"""Activations, softmax and losses, on every backend, against plain NumPy formulas."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from assertions import assert_same
from networks import arithmetic

from xpnet.arithmetic import Reproducible
from xpnet.backends.numpy import make
from xpnet.nn import functional as F

Z = np.random.default_rng(0).normal(scale=3.0, size=(7, 5))
DA = np.random.default_rng(1).normal(size=(7, 5))
LABELS = np.array([0, 6, 3, 3, 1], dtype=np.int32)
Y = (np.arange(7)[:, None] == LABELS).astype(float)
SOFTMAX = np.exp(Z) / np.sum(np.exp(Z), axis=0)

# Tolerances of elementwise functions: a few units in the last place.
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


ACTIVATIONS = {  # name: its formula, and its derivative's, in z
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky-relu": (lambda z: np.maximum(z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "tanh": (np.tanh, lambda z: 1.0 / np.cosh(z) ** 2),
    "sigmoid": (lambda z: 1.0 / (1.0 + np.exp(-z)), lambda z: 0.25 / np.cosh(0.5 * z) ** 2),
}
AT_INFINITY = {  # name: its values at minus and plus infinity
    "relu": (0.0, np.inf),
    "leaky-relu": (-np.inf, np.inf),
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
}
ULPS = {"tanh": 1.9, "sigmoid": 3.3}
"""Largest errors in the reproducible arithmetic; a search of 8 · 10^6 points in each of several ranges found
1.79 and 3.19."""


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def ops(backend, dtype):
    return arithmetic(backend, dtype)


@pytest.fixture
def put(backend, dtype):
    return lambda array: backend.from_host(array.astype(dtype))


def test_every_activation_has_a_formula_here():
    assert set(ACTIVATIONS) == set(AT_INFINITY) == set(F.ACTIVATIONS)


@pytest.mark.parametrize("name", F.ACTIVATIONS)
@pytest.mark.parametrize("size", [1e-4, 0.3, 3.0, 30.0])
def test_activations(ops, put, backend, dtype, name, size):
    z = (Z * (size / 3.0)).astype(dtype)
    activation, (formula, derivative) = F.ACTIVATIONS[name], ACTIVATIONS[name]
    rtol = 2.0 * TOLERANCE[dtype]
    a = activation.forward(ops, put(z))
    assert_same(a, formula(z.astype("float64")).astype(dtype), backend, rtol=rtol)
    dz = activation.backward(ops, put(DA), put(z), a)
    expected = (DA * derivative(z.astype("float64"))).astype(dtype)
    assert_same(dz, expected, backend, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", F.ACTIVATIONS)
def test_activations_of_large_and_missing_numbers(ops, put, backend, dtype, name):
    large = float(np.finfo(dtype).max)
    z = put(np.array([[-np.inf, -large, -1e4, np.nan, 1e4, large, np.inf]]))
    low, high = AT_INFINITY[name]
    found = backend.to_host(F.ACTIVATIONS[name].forward(ops, z))[0]
    assert (found[0], found[-1]) == (low, high)
    assert np.isnan(found[3])
    assert np.isfinite(found[[1, 2, 4, 5]]).all()
    if name in ULPS:
        assert found[[1, 2, 4, 5]].tolist() == [low, low, high, high]


@pytest.mark.parametrize("name", F.ACTIVATIONS)
def test_activations_overflow_nowhere_on_the_way(name):
    ops = Reproducible(make("cpu").xp, "cpu", np.float64)
    z = np.array([[0.0, np.nan, -np.inf, np.inf, -1e300, 1e300, 709.0, -709.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        a = F.ACTIVATIONS[name].forward(ops, z)
    assert a.shape == z.shape


def decimal_tanh(x):
    t = (-2 * abs(x)).exp()
    return ((1 - t) / (1 + t)).copy_sign(x)


def decimal_sigmoid(x):
    return 1 / (1 + (-x).exp())


@pytest.mark.parametrize(
    ("name", "true", "low", "high"),
    [
        ("tanh", decimal_tanh, -1e-3, 1e-3),
        ("tanh", decimal_tanh, -0.7, 0.7),
        ("tanh", decimal_tanh, 0.62, 0.8),
        ("tanh", decimal_tanh, -20.0, 20.0),
        ("sigmoid", decimal_sigmoid, -2.8, -2.6),
        ("sigmoid", decimal_sigmoid, -30.0, 30.0),
        ("sigmoid", decimal_sigmoid, -669.0, -600.0),
    ],
)
def test_largest_error(name, true, low, high):
    ops = Reproducible(make("cpu").xp, "cpu", np.float64)
    z = np.random.default_rng(0).uniform(low, high, size=(1, 4000))
    a = F.ACTIVATIONS[name].forward(ops, z)
    worst = 0.0
    with localcontext(prec=50):
        for x, found in zip(z[0].tolist(), a[0].tolist(), strict=True):
            expected = true(Decimal(x))
            error = abs(Decimal(found) - expected) / Decimal(math.ulp(float(expected)))
            worst = max(worst, float(error))
    assert 0.1 < worst <= ULPS[name]


def test_relu(ops, put, backend, dtype):
    assert_same(F.relu(ops, put(Z)), np.maximum(Z.astype(dtype), 0), backend)


def test_relu_backward(ops, put, backend, dtype):
    expected = (DA * (Z > 0)).astype(dtype)
    assert_same(F.relu_backward(ops, put(DA), put(Z)), expected, backend)


def test_relu_keeps_nan(ops, put, backend):
    result = backend.to_host(F.relu(ops, put(np.array([[np.nan, -1.0, 2.0]]))))
    assert np.isnan(result[0, 0])
    assert result[0, 1:].tolist() == [0.0, 2.0]


def test_one_hot(ops, backend, dtype):
    assert_same(F.one_hot(ops, backend.from_host(LABELS), 7), Y.astype(dtype), backend)


def test_targets_are_pytorchs_smoothed_labels(ops, backend, dtype):
    found = F.targets(ops, backend.from_host(LABELS), 7, 0.3)
    rtol = TOLERANCE[dtype]
    assert_same(found, (0.7 * Y + 0.3 / 7).astype(dtype), backend, rtol=rtol)
    assert_same(F.targets(ops, backend.from_host(LABELS), 7), Y.astype(dtype), backend)


def test_losses_of_smoothed_targets(ops, put, backend, dtype):
    y, rtol = 0.7 * Y + 0.3 / 7, TOLERANCE[dtype]
    expected = {
        "cross-entropy": -np.sum(y * np.log(SOFTMAX), axis=0, keepdims=True),
        "squared-error": 0.5 * np.sum((SOFTMAX - y) ** 2, axis=0, keepdims=True),
    }
    assert set(expected) == set(F.LOSSES)
    for name, values in expected.items():
        found = F.LOSSES[name].per_sample(ops, put(Z), put(y))
        assert_same(found, values.astype(dtype), backend, rtol=2.0 * rtol, atol=rtol)


def test_a_logit_of_minus_infinity_costs_nothing_unless_it_is_the_labels(ops, put, backend):
    z = put(np.array([[-np.inf, -np.inf], [0.0, 0.0], [0.0, 0.0]]))
    y = put(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
    found = backend.to_host(F.cross_entropy(ops, z, y))[0]
    assert found[0] == pytest.approx(math.log(2.0))
    assert found[1] == np.inf


def test_settled_changes_only_what_is_nearly_subnormal(put, backend, dtype):
    x = np.array([[1.0, 1e-30, -3e-38, 0.0]], dtype=dtype)
    assert_same(F.flush_tiny(put(x)), x, backend)
    if dtype == "float64":
        assert_same(F.flush_tiny(put(np.array([[1e-310, 1e-255]]))), np.array([[0.0, 1e-255]]), backend)


def test_softmax(ops, put, backend, dtype):
    expected = SOFTMAX.astype(dtype)
    assert_same(F.softmax(ops, put(Z)), expected, backend, rtol=TOLERANCE[dtype])


def test_cross_entropy_and_its_gradient(ops, put, backend, dtype):
    loss, probabilities = F.cross_entropy(ops, put(Z), put(Y)), F.softmax(ops, put(Z))
    rtol = TOLERANCE[dtype]
    expected = -np.sum(Y * np.log(SOFTMAX), axis=0, keepdims=True)
    assert_same(loss, expected.astype(dtype), backend, rtol=rtol, atol=rtol)
    assert_same(probabilities, SOFTMAX.astype(dtype), backend, rtol=rtol)
    gradient = F.softmax_cross_entropy_backward(probabilities, put(Y))
    assert_same(gradient, (SOFTMAX - Y).astype(dtype), backend, rtol=rtol, atol=rtol)


def test_softmax_and_cross_entropy_are_finite_where_the_notebook_overflows(ops, put, backend, dtype):
    z = np.array([[1e4, -3e4, 0.0], [-1e4, 2e4, 0.0]])
    y = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    loss, probabilities = F.cross_entropy(ops, put(z), put(y)), F.softmax(ops, put(z))
    expected = np.array([[0.0, 5e4, np.log(2.0)]], dtype=dtype)
    assert_same(loss, expected, backend, rtol=TOLERANCE[dtype])
    assert_same(probabilities, np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], dtype=dtype), backend, rtol=1e-6)


def test_predictions_are_the_first_largest_unit(ops, put, backend):
    z = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [2.0, 1.0, 0.0]])
    predicted = F.predictions(ops, put(z))
    assert backend.to_host(predicted).tolist() == [1, 0, 0]


def test_correct_counts_right_predictions(ops, backend):
    predicted = backend.from_host(np.array([1, 2, 3, 4]))
    labels = backend.from_host(np.array([1, 0, 3, 0], dtype=np.int32))
    assert_same(F.count_correct(ops, predicted, labels), np.asarray([2], dtype=np.int32), backend)


def test_functions_take_stacks_of_blocks(ops, put, backend, dtype):
    stack = np.stack([Z, 2.0 * Z, -Z])
    result = backend.to_host(F.softmax(ops, put(stack)))
    for block, expected in zip(result, stack, strict=True):
        alone = backend.to_host(F.softmax(ops, put(expected)))
        np.testing.assert_allclose(block, alone, rtol=TOLERANCE[dtype])
