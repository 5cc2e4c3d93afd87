"""What the text of the array-API standard says, where libraries or a first version did otherwise."""

import math

import numpy as np
import pytest

import xpnet.reproducible as rp

INF, NAN = math.inf, math.nan


def same(array, expected):
    host = np.asarray(array)
    np.testing.assert_array_equal(host, expected)
    numbers = ~np.isnan(np.asarray(expected, dtype=float))
    np.testing.assert_array_equal(np.signbit(host)[numbers], np.signbit(expected)[numbers])


def test_floor_division_by_infinity_and_zero(wrap, xp):
    x = wrap([INF, -INF, 7.0, -7.0, 1.0, -1.0, 5.0, 0.0, NAN])
    y = wrap([2.0, 2.0, 2.0, 2.0, INF, INF, 0.0, 0.0, 1.0])
    same(xp.floor_divide(x, y), [INF, -INF, 3.0, -4.0, 0.0, -0.0, INF, NAN, NAN])
    assert (wrap([5.0, -5.0, 5.0]) % wrap([3.0, 3.0, -3.0])).tolist() == [2.0, 1.0, -1.0]
    assert ((wrap([7, -7]) // 2).tolist(), (wrap([7, -7]) % 4).tolist()) == ([3, -4], [3, 1])


def test_zeros_and_nan_of_extrema_signs_and_sets(wrap, xp):
    zeros, holes = wrap([-0.0, 0.0]), wrap([1.0, NAN, -0.0, NAN, 3.0])
    for array in (xp.max(zeros), xp.min(zeros), xp.maximum(zeros[0], zeros[1]), xp.sign(zeros[0])):
        same(array, 0.0)
    same(xp.stack([xp.max(holes), xp.min(holes)]), [NAN, NAN])
    assert int(xp.argmax(holes)) == int(xp.argmin(holes)) == 1
    same(xp.sort(holes, descending=True), [NAN, NAN, 3.0, 1.0, -0.0])
    same(xp.unique_values(holes), [0.0, 1.0, 3.0, NAN, NAN])
    assert xp.searchsorted(wrap([1.0, 2.0, NAN]), wrap([NAN, 1.5])).tolist() == [2, 1]


@pytest.mark.parametrize(("descending", "expected"), [(False, [1, 3, 0, 2]), (True, [0, 2, 1, 3])])
def test_ties_keep_their_order(wrap, xp, descending, expected):
    indices = xp.argsort(wrap([2.0, 1.0, 2.0, 1.0]), stable=not descending, descending=descending)
    assert indices.tolist() == expected


def test_numbers_that_an_integer_cannot_hold_become_the_nearest(wrap, xp):
    x = wrap([NAN, INF, -INF, 1e300, -3.7, 2.5, 300.0])
    assert xp.astype(x, xp.int8).tolist() == [0, 127, -128, 127, -3, 2, 127]
    assert xp.astype(x, xp.uint8).tolist() == [0, 255, 0, 255, 0, 2, 255]


def test_results_without_axes_or_elements_are_arrays_of_the_same_place(wrap, xp):
    x = wrap([[1.0, 2.0], [3.0, 4.0]])
    for result in (xp.sum(x), x[0, 0] + 1, xp.any(x > 0), xp.vecdot(x[0], x[1])):
        assert (type(result), result.place, result.shape) == (rp.Array, x.place, ())
    assert xp.sum(xp.zeros((0, 3)), axis=0).tolist() == [0.0, 0.0, 0.0]


def test_subnormal_numbers_stay_in_operators_and_are_zero_in_results_of_formulas(wrap, xp):
    x = wrap([2.0**-600, 5e-324])
    same(x * wrap([2.0**-450, 1.0]), [2.0**-1050, 5e-324])
    same(xp.exp(wrap([-720.0])), [0.0])
    same(xp.pow(wrap([2.0]), wrap([-1050.0])), [0.0])
    same(xp.sinh(wrap([5e-324])), [5e-324])
    same(xp.exp(xp.astype(wrap([-100.0]), xp.float32)), np.zeros(1, "float32"))


@pytest.mark.needs("jax")
def test_jax_without_x64_computes_in_float64():
    import jax

    assert not jax.config.jax_enable_x64
    xp = rp.asarray(jax.numpy.asarray([1.0, 2.0])).__array_namespace__()
    assert (str(xp.zeros(1).dtype), str((xp.arange(3) / 3).raw.dtype)) == ("float64", "float64")
