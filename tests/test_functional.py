"""The notebook's functions, on every backend, against the notebook's own NumPy formulas."""

import numpy as np
import pytest
from assertions import assert_same
from networks import arithmetic

from xpnet import functional as F

Z = np.random.default_rng(0).normal(scale=3.0, size=(7, 5))
DA = np.random.default_rng(1).normal(size=(7, 5))
LABELS = np.array([0, 6, 3, 3, 1], dtype=np.int32)
Y = (np.arange(7)[:, None] == LABELS).astype(float)
SOFTMAX = np.exp(Z) / np.sum(np.exp(Z), axis=0)

# Tolerances of elementwise functions: a few units in the last place.
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def ops(backend, dtype):
    return arithmetic(backend, dtype)


@pytest.fixture
def put(backend, dtype):
    return lambda array: backend.from_host(array.astype(dtype))


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


def test_softmax_and_cross_entropy_are_finite_where_the_notebook_overflows(
    ops, put, backend, dtype
):
    z = np.array([[1e4, -3e4, 0.0], [-1e4, 2e4, 0.0]])
    y = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    loss, probabilities = F.cross_entropy(ops, put(z), put(y)), F.softmax(ops, put(z))
    expected = np.array([[0.0, 5e4, np.log(2.0)]], dtype=dtype)
    assert_same(loss, expected, backend, rtol=TOLERANCE[dtype])
    assert_same(
        probabilities, np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], dtype=dtype), backend, rtol=1e-6
    )


def test_predictions_are_the_first_largest_unit(ops, put, backend):
    z = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [2.0, 1.0, 0.0]])
    predicted = F.predictions(ops, put(z))
    assert backend.to_host(predicted).tolist() == [1, 0, 0]


def test_correct_counts_right_predictions(ops, backend):
    predicted = backend.from_host(np.array([1, 2, 3, 4]))
    labels = backend.from_host(np.array([1, 0, 3, 0], dtype=np.int32))
    assert_same(F.correct(ops, predicted, labels), np.asarray(2, dtype=np.int32), backend)


def test_functions_take_stacks_of_blocks(ops, put, backend, dtype):
    stack = np.stack([Z, 2.0 * Z, -Z])
    result = backend.to_host(F.softmax(ops, put(stack)))
    for block, expected in zip(result, stack, strict=True):
        alone = backend.to_host(F.softmax(ops, put(expected)))
        np.testing.assert_allclose(block, alone, rtol=TOLERANCE[dtype])
