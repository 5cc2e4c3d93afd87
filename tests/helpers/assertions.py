"""Comparisons that a function which quietly returned NumPy would not pass."""

import array_api_compat
import numpy as np


def assert_same(actual, expected, backend, *, rtol=None, atol=None):
    """Assert that `actual` is NumPy's `expected` on the backend: library, device, dtype, shape, values.

    ``rtol`` and ``atol`` are those of ``numpy.testing.assert_allclose``; with neither, values must be equal.
    """
    expected = np.asarray(expected)
    assert_on_backend(actual, backend)
    dtype = getattr(backend.xp, expected.dtype.name)
    assert actual.dtype == dtype, f"dtype is {actual.dtype}, expected {dtype}"
    assert tuple(actual.shape) == expected.shape, f"shape is {tuple(actual.shape)}, expected {expected.shape}"
    host = backend.to_host(actual)
    if rtol is None and atol is None:
        np.testing.assert_array_equal(host, expected, strict=True)
    else:
        np.testing.assert_allclose(host, expected, rtol=rtol or 0.0, atol=atol or 0.0)


def assert_on_backend(actual, backend):
    kind = f"{type(actual).__module__}.{type(actual).__qualname__}"
    assert array_api_compat.is_array_api_obj(actual), f"a {kind} is not an array"
    xp = array_api_compat.array_namespace(actual)
    assert xp.__name__ == backend.xp.__name__, f"a {kind} is not an array of {backend.name}"
    device = array_api_compat.device(actual)
    assert device == backend.device, f"device is {device}, expected {backend.device}"
