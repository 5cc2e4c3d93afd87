"""Normalising: statistics of the training data, applied on the device."""

import numpy as np
import pytest
from networks import arithmetic

from xpnet.backends.resolve import make
from xpnet.errors import DataError
from xpnet.nn.inputs import fit_normalization

PIXELS = np.random.default_rng(0).integers(0, 256, size=(50, 6), dtype=np.uint8)
FEATURES = np.random.default_rng(1).normal(3.0, 2.0, size=(50, 6))
FEATURES[3, 2] = -12.0  # the largest magnitude


@pytest.mark.parametrize(
    ("kind", "x", "expected"),
    [
        ("scale", PIXELS, PIXELS / 255),
        ("none", PIXELS, PIXELS.astype(float)),
        ("standardize", PIXELS, (PIXELS - PIXELS.mean()) / PIXELS.std()),
        ("scale", FEATURES, FEATURES / 12.0),
        ("none", FEATURES, FEATURES),
        ("standardize", FEATURES, (FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0)),
    ],
)
def test_inputs_are_what_the_name_says(kind, x, expected):
    ops = arithmetic(make("numpy", "cpu"))
    inputs = fit_normalization(kind, x).on_device(ops, np.asarray)
    product = ops.matmul(np.eye(6), inputs(x))  # pixels have a factor, which products apply
    np.testing.assert_allclose(product, expected.T, rtol=1e-12, atol=1e-12)


def test_features_too_large_to_standardize_are_named():
    x = np.array([[1.0, 1e200], [2.0, -1e200], [3.0, 1e200]])
    expected = r"^feature 1: values from -1e\+200 to 1e\+200 are too large to standardise: "
    with pytest.raises(DataError, match=expected):
        fit_normalization("standardize", x)


def test_a_constant_feature_is_only_shifted():
    normalization = fit_normalization("standardize", np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert normalization.shift.tolist() == [2.0, 5.0]
    assert normalization.scale.tolist() == [1.0, 1.0]
