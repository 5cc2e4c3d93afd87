"""Distances between arrays: in bits, in ulp, relative to the largest."""

import numpy as np
import pytest

from xpnet.parity.distance import ulp_distance, unequal_bits


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_steps_between_neighbours_are_counted_across_zero_too(dtype):
    first = x = np.asarray([-1024.0, -3 * np.finfo(dtype).smallest_subnormal, 0.0, 1.0], dtype)
    for _ in range(7):
        x = np.nextafter(x, np.full(4, np.inf, dtype))
    assert ulp_distance(first, x).tolist() == ulp_distance(x, first).tolist() == [7] * 4


def test_infinity_nan_zeros_and_complex_numbers():
    a = np.asarray([np.nan, np.nan, 1.0, 0.0, 1 + 1j])
    b = np.asarray([-np.nan, 1.0, np.nan, -0.0, 1 + np.nextafter(1.0, 2.0) * 1j])
    assert ulp_distance(a, b).tolist() == [0, np.inf, np.inf, 0, 1]
    assert unequal_bits(a, b).tolist() == [False, True, True, True, True]
