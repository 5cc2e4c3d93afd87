"""Weights of samples and of classes in the loss: their meaning, and what they do not change."""

import re

import numpy as np
import pytest
from networks import pixels

import xpnet
from xpnet._lib.tree import leaves

X, Y = pixels(120, 12, 3)
WEIGHTS = np.random.default_rng(0).integers(0, 4, size=120)
KEPT, DOUBLE = WEIGHTS > 0, np.where(Y == 1, 2, 1)


def fitted(x=X, y=Y, **settings):
    return xpnet.fit(x, y, device="cpu", **{"epochs": 3, "hidden": [8], "batch_size": 32, **settings})


SAME = {
    "equal weights": ({}, {"sample_weight": [0.1] * 120, "class_weight": {2: 1}}),
    "0": ({"x": X[KEPT], "y": Y[KEPT]}, {"sample_weight": KEPT}),
    "a class of 0": ({"x": X[Y < 2], "y": Y[Y < 2], "classes": 3}, {"class_weight": {2: 0}}),
    "product": ({"sample_weight": WEIGHTS * DOUBLE}, {"sample_weight": WEIGHTS, "class_weight": {1: 2.0}}),
}


@pytest.mark.parametrize(("expected", "settings"), SAME.values(), ids=SAME)
def test_equivalent_weights_give_the_same_bits(expected, settings):
    assert fitted(**settings).fingerprint == fitted(**expected).fingerprint


def test_integer_weights_in_full_batch_are_repeated_samples():
    settings = {"batch_size": "full", "optimizer": "adam", "arithmetic": "native", "dtype": "float64"}
    repeated = fitted(X.repeat(WEIGHTS, axis=0), Y.repeat(WEIGHTS), **settings)
    weighted = fitted(sample_weight=WEIGHTS, **settings)
    for array, expected in zip(*(leaves(m.network.parameters) for m in (weighted, repeated)), strict=True):
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-13)


WRONG = {
    "sample_weight: expected 120 numbers, one for each sample, got 119": [1] * 119,
    "sample_weight[0]: expected a finite number, 0 or more, got ": -DOUBLE,
    "sample_weight, class_weight: expected a sample of a weight above ": [0] * 120,
}


@pytest.mark.parametrize(("message", "weights"), WRONG.items())
def test_weights_that_cannot_be_are_one_line(message, weights):
    with pytest.raises(xpnet.XPNetError, match=f"^{re.escape(message)}[^\n]*$"):
        fitted(sample_weight=weights)
