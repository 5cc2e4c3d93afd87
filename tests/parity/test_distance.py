"""Distances between arrays: in bits, in ulp, relative to the largest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.parity.distance import first_mismatch, relative_difference, ulp_distance, unequal_bits

DTYPES = ["float16", "float32", "float64"]


def distance(a, b, dtype="float64"):
    return float(ulp_distance(np.asarray(a, dtype), np.asarray(b, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("start", [1.0, -1.0, 0.0, 1024.0])
def test_neighbours_are_one_ulp_apart(dtype, start):
    x = np.asarray(start, dtype)
    above = np.nextafter(x, np.asarray(np.inf, dtype))
    assert distance(x, above, dtype) == distance(above, x, dtype) == 1


@given(st.floats(allow_nan=False), st.integers(0, 50))
def test_steps_are_counted(start, steps):
    x = start
    for _ in range(steps):
        x = np.nextafter(x, 0.0) if start > 0 else np.nextafter(x, 1.0)
    assert distance(start, x) == (steps if start <= 0 or x != 0 else distance(start, 0.0))


def test_the_largest_distance_does_not_overflow():
    largest = np.finfo("float64").max
    assert distance(-largest, largest) == pytest.approx(2.0**64, rel=0.01)
    assert 0 < distance(-np.inf, largest) < np.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_near_nan_only(dtype):
    assert distance(np.nan, -np.nan, dtype) == 0
    assert distance(np.nan, 1.0, dtype) == distance(1.0, np.nan, dtype) == np.inf


def test_the_two_zeros_are_no_ulp_apart_and_have_unequal_bits():
    plus, minus = np.asarray([0.0]), np.asarray([-0.0])
    assert ulp_distance(plus, minus)[0] == 0
    assert unequal_bits(plus, minus)[0]
    found = first_mismatch(unequal_bits(plus, minus), plus, minus)
    assert found is not None
    assert found.distance == "0 ulp, but of another sign"


def test_complex_numbers_are_compared_by_their_parts():
    a = np.asarray([1 + 1j, np.nan + 0j])
    b = np.asarray([1 + np.nextafter(1.0, 2.0) * 1j, np.nan + 0j])
    assert ulp_distance(a, b).tolist() == [1, 0]
    assert unequal_bits(a, b).tolist() == [True, False]


def test_the_first_mismatch_in_row_order_is_found():
    a = np.zeros((2, 3), "float32")
    b = a.copy()
    b[1, 0], b[0, 2] = 1.0, 2.0
    found = first_mismatch(unequal_bits(a, b), a, b)
    assert (found.index, found.left, found.right) == ((0, 2), 0.0, 2.0)
    assert first_mismatch(unequal_bits(a, a), a, a) is None


def test_integers_have_no_ulp():
    a, b = np.asarray([1, 2]), np.asarray([1, 3])
    found = first_mismatch(unequal_bits(a, b), a, b)
    assert (found.index, found.ulp, found.distance) == ((1,), None, "unequal")


def test_relative_difference_is_relative_to_the_largest():
    reference = np.asarray([1e-8, 100.0])
    assert relative_difference(reference + 1e-6, reference) == pytest.approx(1e-8, rel=1e-3)
    assert relative_difference(reference, reference) == 0.0
    assert relative_difference(np.asarray([np.nan, 1.0]), reference) == np.inf
    assert relative_difference(np.ones(2), np.zeros(2)) == np.inf
    assert relative_difference(np.zeros(0), np.zeros(0)) == 0.0
