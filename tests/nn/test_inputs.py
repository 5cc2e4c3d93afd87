"""Normalising: statistics of the training data, applied on the device."""

import numpy as np
import pytest
from assertions import assert_same

from xpnet.arithmetic.native import Native
from xpnet.nn.inputs import fit_normalization

PIXELS = np.random.default_rng(0).integers(0, 256, size=(50, 6), dtype=np.uint8)
FEATURES = np.random.default_rng(1).normal(3.0, 2.0, size=(50, 6))


def applied(backend, x, kind):
    """The network's inputs as a host matrix (samples, features), by multiplying with the identity."""
    ops = Native(backend.xp, backend.device, backend.xp.float64)
    inputs = fit_normalization(kind, x).on_device(ops, backend.from_host)
    identity = backend.from_host(np.eye(x.shape[1]))
    return ops.matmul(identity, inputs(backend.from_host(x)))


@pytest.mark.parametrize(
    ("kind", "x", "expected"),
    [
        ("scale", PIXELS, PIXELS / 255),
        ("none", PIXELS, PIXELS.astype(float)),
        ("standardize", PIXELS, (PIXELS - PIXELS.mean()) / PIXELS.std()),
        ("scale", FEATURES, FEATURES / np.abs(FEATURES).max()),
        ("none", FEATURES, FEATURES),
        ("standardize", FEATURES, (FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0)),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_inputs_are_what_the_name_says(backend, kind, x, expected):
    assert_same(applied(backend, x, kind), expected.T, backend, rtol=1e-12, atol=1e-12)


def test_a_constant_feature_is_only_shifted():
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    normalization = fit_normalization("standardize", x)
    assert normalization.shift.tolist() == [2.0, 5.0]
    assert normalization.scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["scale", "standardize", "none"])
def test_all_zero_features_stay_zero(kind):
    normalization = fit_normalization(kind, np.zeros((4, 3)))
    assert np.all((np.zeros(3) - normalization.shift) * normalization.scale == 0.0)


def test_statistics_do_not_depend_on_the_order_of_the_samples():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1001, 3)) * 10.0 ** rng.integers(-8, 8, size=(1001, 1))
    for data in (x, PIXELS):
        a = fit_normalization("standardize", data)
        b = fit_normalization("standardize", data[::-1])
        assert a.shift.tobytes() == b.shift.tobytes()
        assert a.scale.tobytes() == b.scale.tobytes()
