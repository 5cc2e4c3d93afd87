"""Comparisons that a function which quietly returned NumPy would not pass."""

import array_api_compat
import numpy as np


def assert_same(actual, expected, backend):
    """Assert that `actual` is NumPy's `expected` on the backend: library, device, dtype, shape, values."""
    expected = np.asarray(expected)
    assert_on_backend(actual, backend)
    dtype = getattr(backend.xp, expected.dtype.name)
    assert actual.dtype == dtype, f"dtype is {actual.dtype}, expected {dtype}"
    assert tuple(actual.shape) == expected.shape, f"shape is {tuple(actual.shape)}, expected {expected.shape}"
    np.testing.assert_array_equal(backend.to_host(actual), expected, strict=True)


def assert_on_backend(actual, backend):
    kind = f"{type(actual).__module__}.{type(actual).__qualname__}"
    assert array_api_compat.is_array_api_obj(actual), f"a {kind} is not an array"
    xp = array_api_compat.array_namespace(actual)
    assert xp.__name__ == backend.xp.__name__, f"a {kind} is not an array of {backend.name}"
    device = array_api_compat.device(actual)
    assert device == backend.device, f"device is {device}, expected {backend.device}"
