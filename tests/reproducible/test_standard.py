"""What the text of the array-API standard says, where libraries or a first version did otherwise."""

import math

import numpy as np
import pytest
from backend_enum import BackendCase

import xpnet.reproducible as rp
from xpnet.backends.resolve import make

CASES = [BackendCase.NUMPY, BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX]
INF, NAN = math.inf, math.nan


@pytest.fixture(params=CASES, ids=lambda case: case.value)
def wrap(request):
    """Return the wrapper of a list, by way of a plain array of the library."""
    backend = make(request.param.backend_name, "cpu")
    return lambda values, dtype=None: rp.asarray(backend.from_host(np.array(values, dtype)))


@pytest.fixture
def xp(wrap):
    return wrap([0.0]).__array_namespace__()


QUOTIENTS = [
    ([INF, -INF, 7.0, -7.0, 1.0, -1.0, 5.0, 0.0, NAN], [2.0, 2.0, 2.0, 2.0, INF, INF, 0.0, 0.0, 1.0],
     [INF, -INF, 3.0, -4.0, 0.0, -0.0, INF, NAN, NAN]),
]  # fmt: skip


def same(array, expected):
    host = np.asarray(array)
    np.testing.assert_array_equal(host, expected)
    numbers = ~np.isnan(np.asarray(expected, dtype=float))
    np.testing.assert_array_equal(np.signbit(host)[numbers], np.signbit(expected)[numbers])


def test_floor_division_by_infinity_and_zero(wrap, xp):
    for x, y, expected in QUOTIENTS:
        same(xp.floor_divide(wrap(x), wrap(y)), expected)
    same(xp.remainder(wrap([5.0, -5.0, 5.0]), wrap([3.0, 3.0, -3.0])), [2.0, 1.0, -1.0])
    assert ((wrap([7, -7]) // 2).tolist(), (wrap([7, -7]) % 4).tolist()) == ([3, -4], [3, 1])


def test_zeros_and_nan_of_extrema_signs_and_sets(wrap, xp):
    zeros, holes = wrap([-0.0, 0.0]), wrap([1.0, NAN, -0.0, NAN, 3.0])
    for array in (xp.max(zeros), xp.min(zeros), xp.maximum(zeros[0], zeros[1]), xp.sign(zeros[0])):
        same(array, 0.0)
    for function in (xp.max, xp.min):
        assert math.isnan(float(function(holes)))
    assert int(xp.argmax(holes)) == int(xp.argmin(holes)) == 1
    same(xp.sort(holes), [-0.0, 1.0, 3.0, NAN, NAN])
    same(xp.sort(holes, descending=True), [NAN, NAN, 3.0, 1.0, -0.0])
    same(xp.unique_values(holes), [0.0, 1.0, 3.0, NAN, NAN])
    assert xp.searchsorted(wrap([1.0, 2.0, NAN]), wrap([NAN, 1.5])).tolist() == [2, 1]
    assert xp.searchsorted(wrap([1.0]), wrap([1.0]), side="right").dtype == xp.int64


@pytest.mark.parametrize(
    ("stable", "descending", "expected"), [(True, False, [1, 3, 0, 2]), (False, True, [0, 2, 1, 3])]
)
def test_ties_keep_their_order(wrap, xp, stable, descending, expected):
    indices = xp.argsort(wrap([2.0, 1.0, 2.0, 1.0]), stable=stable, descending=descending)
    assert indices.tolist() == expected


def test_numbers_that_an_integer_cannot_hold_become_the_nearest(wrap, xp):
    x = wrap([NAN, INF, -INF, 1e300, -3.7, 2.5, 300.0])
    assert xp.astype(x, xp.int8).tolist() == [0, 127, -128, 127, -3, 2, 127]
    assert xp.astype(x, xp.uint8).tolist() == [0, 255, 0, 255, 0, 2, 255]
    assert xp.astype(x, xp.bool).tolist() == [True] * 7


def test_results_are_arrays_of_the_same_place_also_without_axes(wrap, xp):
    x = wrap([[1.0, 2.0], [3.0, 4.0]])
    for result in (
        xp.sum(x),
        xp.max(x),
        x[0, 0],
        x[0, 0] + 1,
        xp.any(x > 0),
        xp.prod(x),
        xp.vecdot(x[0], x[1]),
    ):
        assert isinstance(result, rp.Array)
        assert (result.place, result.shape) == (x.place, ())
    assert xp.matmul(xp.zeros((0, 2, 3)), xp.ones((3, 4))).shape == (0, 2, 4)
    assert xp.sum(xp.zeros((0, 3)), axis=0).tolist() == [0.0, 0.0, 0.0]
    assert xp.prod(xp.zeros((2, 0)), axis=1).tolist() == [1.0, 1.0]
    assert math.isnan(float(xp.var(wrap([1.0]), correction=1)))
    assert xp.cumulative_prod(wrap([2.0, 3.0]), include_initial=True).tolist() == [1.0, 2.0, 6.0]
    assert xp.clip(wrap([1, 5], "int8"), 2, 300).tolist() == [2, 5]
    assert xp.diff(wrap([1.0, 4.0, 9.0]), n=2, prepend=wrap([0.0])).tolist() == [2.0, 2.0]
    assert xp.tensordot(x, x, axes=((0,), (1,))).tolist() == [[7.0, 15.0], [10.0, 22.0]]


def test_inspection_and_limits(wrap, xp):
    info = xp.__array_namespace_info__()
    assert info.dtypes(kind="real floating").keys() == {"float32", "float64"}
    assert info.dtypes(kind="bool") == {"bool": xp.bool}
    assert info.default_dtypes()["indexing"] == xp.int64
    assert info.devices() == [info.default_device()] == [wrap([1.0]).device]
    assert {
        type(getattr(xp.finfo(xp.float32), name)) for name in ("eps", "max", "min", "smallest_normal")
    } == {float}
    assert (xp.iinfo(wrap([1], "int8")).max, xp.finfo(wrap([1.0])).bits) == (127, 64)
    assert xp.isdtype(xp.float32, ("real floating", "bool"))
    assert not xp.isdtype(xp.float32, "complex floating")
    assert not xp.can_cast(xp.float64, xp.float32)
    assert {"exp", "float32", "pi", "linalg"} <= {*dir(xp)}
    with pytest.raises(TypeError, match="complex128: expected one of bool"):
        xp.isdtype(np.dtype(complex), "numeric")


def test_subnormal_numbers_stay_in_operators_and_are_zero_in_results_of_formulas(wrap, xp):
    x = wrap([2.0**-600, 5e-324])
    same(x * x[0], [0.0, 0.0])
    same(x * wrap([2.0**-450, 1.0]), [2.0**-1050, 5e-324])
    same(xp.exp(wrap([-720.0])), [0.0])
    same(xp.pow(wrap([2.0]), wrap([-1050.0])), [0.0])
    same(xp.sinh(wrap([5e-324])), [5e-324])
    same(xp.exp(xp.astype(wrap([-100.0]), xp.float32)), np.zeros(1, "float32"))


@pytest.mark.needs("jax")
def test_jax_without_x64_computes_in_float64():
    import jax

    assert not jax.config.jax_enable_x64
    x = rp.asarray(jax.numpy.asarray([1.0, 2.0]))
    xp = x.__array_namespace__()
    assert (str(x.dtype), str(xp.zeros(1).dtype), str((xp.arange(3) / 3).raw.dtype)) == (
        "float32",
        "float64",
        "float64",
    )
