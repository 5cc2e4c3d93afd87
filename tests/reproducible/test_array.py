"""rp.Array: the rules of an array library, and the traps that gave other numbers by the library."""

import copy
import math
import operator
import pickle

import numpy as np
import pytest
from backend_enum import BackendCase

import xpnet.reproducible as rp
from xpnet.backends.resolve import make
from xpnet.errors import BackendError, DataError
from xpnet.reproducible.array import ARITHMETIC, COMPARISONS, UNARY

CASES = [BackendCase.NUMPY, BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX]
INF, NAN = math.inf, math.nan


@pytest.fixture(params=CASES, ids=lambda case: case.value)
def case(request):
    return request.param


@pytest.fixture
def wrap(case):
    """Return the wrapper of a list, by way of a plain array of the library."""
    backend = make(case.backend_name, "cpu")
    return lambda values, dtype=None: rp.asarray(backend.from_host(np.array(values, dtype)))


def test_an_array_holds_one_of_the_library_on_its_device(case, wrap):
    backend = make(case.backend_name, "cpu")
    plain = backend.from_host(np.arange(6.0).reshape(2, 3))
    x = rp.asarray(plain)
    assert backend.owns(x.raw)
    assert x.dtype == plain.dtype
    assert (x.shape, x.ndim, x.size, x.itemsize, x.nbytes, len(x)) == ((2, 3), 2, 6, 8, 48, 2)
    assert x.device == backend.device
    assert x.to_device(x.device) is rp.asarray(x) is x
    assert x.__array_namespace__() is rp.namespace(case.backend_name) is rp.namespace(backend.standard)
    assert [float(x[1, 2]), int(x[0, 1]), bool(x[0, 0]), complex(x[0, 1])] == [5.0, 1, False, 1 + 0j]
    assert (x.T.shape, x[0].tolist(), x[0, 1].item()) == ((3, 2), [0.0, 1.0, 2.0], 1.0)
    assert 4.0 in x
    assert [row.tolist() for row in x] == x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    for copied in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):  # noqa: S301  our own
        assert (copied.tolist(), copied.place) == (x.tolist(), x.place)
        copied[...] = 7.0
    assert float(x[0, 0]) == 0.0
    assert repr(x).startswith("rp.asarray(")
    assert f"{x[0, 1]:.2f}" == "1.00"
    assert pickle.loads(pickle.dumps(x.__array_namespace__())) is x.__array_namespace__()  # noqa: S301


def test_every_operator_is_a_function_of_the_namespace(wrap):
    floats, integers = wrap([[4.0, 9.0], [2.0, 7.0]]), wrap([[4, 9], [2, 7]])
    for short, name in {**ARITHMETIC, **COMPARISONS}.items():
        x = integers if "bitwise" in name else floats
        expected = getattr(np, name.removeprefix("bitwise_") if "shift" in name else name)
        host = np.asarray(x)
        result = getattr(operator, {"and": "and_", "or": "or_"}.get(short, short))(x, x)
        np.testing.assert_allclose(np.asarray(result), expected(host, host), rtol=1e-15)
        if short in ARITHMETIC:
            other = 2 if "bitwise" in name else 2.0
            if short != "matmul":
                reflected = getattr(x, f"__r{short}__")(other)
                np.testing.assert_allclose(np.asarray(reflected), expected(other, host), rtol=1e-15)
            y, before = copy.copy(x), x.tolist()
            kept = y
            y = getattr(operator, f"i{short}")(y, x)
            assert kept is y
            np.testing.assert_array_equal(np.asarray(y), np.asarray(result))
            assert x.tolist() == before
    for short, name in UNARY.items():
        x = integers if name == "bitwise_invert" else -floats
        result = getattr(operator, short)(x)
        np.testing.assert_array_equal(np.asarray(result), getattr(np, name)(np.asarray(x)))


PROMOTIONS = [
    *[("int64", 1.5, "float64"), ("float32", 1.5, "float32"), ("float32", 2, "float32"), ("int8", 2, "int8")],
    *[
        ("bool", 2, "int64"),
        ("float32", "int64", "float64"),
        ("int8", "uint8", "int16"),
        ("uint64", "int8", "float64"),
    ],
    *[("float32", "float64", "float64"), ("uint8", "int16", "int16"), ("int64", np.float64(2), "float64")],
]


@pytest.mark.parametrize(("first", "second", "expected"), PROMOTIONS, ids=str)
def test_promotion_and_default_dtypes_are_one_table(wrap, first, second, expected):
    x, xp = wrap([1, 0], first), wrap([1.0]).__array_namespace__()
    y = wrap([1, 1], second) if isinstance(second, str) else second
    for result in (x + y, y + x, xp.where(x == 1, x, y)):
        assert result.dtype == getattr(xp, expected)
    if isinstance(second, str):
        assert xp.concat([x, y]).dtype == xp.result_type(x, y) == getattr(xp, expected)


def test_numbers_without_a_dtype_are_float64_int64_and_bool(wrap):
    xp, x = wrap([1.0]).__array_namespace__(), wrap([1, 2])
    for made in (
        xp.zeros(2),
        xp.ones(2),
        xp.linspace(0, 1, 3),
        xp.arange(0.0, 1.0, 0.5),
        xp.eye(2),
        xp.full(2, 0.5),
    ):
        assert made.dtype == xp.float64
    for made in (x / x, xp.asarray([1.0]), xp.mean(x), xp.exp(x)):
        assert made.dtype == xp.float64
    for made in (
        xp.arange(3),
        xp.asarray([1, 2]),
        xp.full(2, 3),
        xp.sum(wrap([1], "int8")),
        xp.argmax(x),
        xp.argsort(x),
    ):
        assert made.dtype == xp.int64
    assert xp.sum(wrap([200, 200], "uint8")).dtype == xp.uint64
    assert int(xp.sum(wrap([200, 200], "uint8"))) == 400
    assert xp.asarray([True]).dtype == xp.full(1, fill_value=True).dtype == xp.bool
    for name in ("exp", "sum", "mean", "std", "prod", "cumulative_sum", "sqrt", "var", "log1p"):
        single = wrap([0.5, 0.25], "float32")
        result = getattr(xp, name)(single)
        assert result.dtype == xp.float32
        wide = getattr(xp, name)(xp.astype(single, xp.float64))
        assert np.asarray(result).tobytes() == np.asarray(wide).astype("float32").tobytes()


def test_slices_write_through_and_other_views_refuse(wrap):
    xp = wrap([1.0]).__array_namespace__()
    x = wrap(np.zeros((2, 3)))
    row = x[0, :]
    row += 1.0
    part = row[1:]
    part[0] = 5.0
    x[0, 2] = 7.0
    x[1][0][...] = 3.0
    x *= 2.0
    assert x.tolist() == [[2.0, 10.0, 14.0], [6.0, 0.0, 0.0]]
    assert (row.tolist(), part.tolist()) == ([2.0, 10.0, 14.0], [10.0, 14.0])
    flat, before = xp.reshape(x, (-1,)), x.tolist()
    for view in (flat, x.T, xp.expand_dims(x, axis=0), flat[::2], x[::-1], xp.broadcast_to(x, (2, 2, 3))):
        with pytest.raises(ValueError, match="copy it before"):
            view[0] = 1.0
        with pytest.raises(ValueError, match="copy it before"):
            operator.iadd(view, 1.0)
    x[0, 0] = 100.0
    assert flat[0].item() == before[0][0]  # as it was
    del x
    y = xp.reshape(wrap([1.0, 2.0]), (2, 1))
    y += 1.0  # nobody else can see it
    assert y.tolist() == [[2.0], [3.0]]


def test_a_loop_over_rows_writes_as_scikit_learns_mixture_does(wrap):
    covariances = wrap(np.zeros((2, 2, 2)))
    for k in range(2):
        matrix = covariances[k, :, :]
        for i in range(2):
            matrix[i, i] += 1e-6
    assert covariances.tolist() == (np.eye(2)[None] * 1e-6 * np.ones((2, 1, 1))).tolist()


def test_negative_steps_masks_and_index_arrays_select_as_in_numpy(wrap):
    host = np.arange(12.0).reshape(3, 4)
    x = wrap(host)
    for key in (np.s_[::-1], np.s_[1:, ::-2], np.s_[..., 2::-1], np.s_[None, 1], np.s_[-1, -1]):
        np.testing.assert_array_equal(np.asarray(x[key]), host[key])
    np.testing.assert_array_equal(np.asarray(x[x > 4.0]), host[host > 4.0])
    x[x > 4.0] = 0.0
    assert float(x.__array_namespace__().sum(x)) == 10.0
    assert x[wrap(1)].tolist() == [4.0, 0.0, 0.0, 0.0]


def test_in_place_results_of_another_shape_or_dtype_are_refused(wrap):
    x, n = wrap([1.0]), wrap([1, 2])
    for array, other in ((x, wrap([[1.0], [2.0]])), (n, 1.5)):
        with pytest.raises(TypeError, match="in-place add: expected a result of"):
            operator.iadd(array, other)


def test_other_arrays_numbers_and_functions_are_refused_by_name(case, wrap):
    x = wrap([1.0, 2.0])
    xp = x.__array_namespace__()
    other = (
        rp.asarray([1.0, 2.0]) if case is not BackendCase.NUMPY else rp.namespace("array-api-strict").ones(2)
    )
    for function in (operator.add, xp.maximum, xp.matmul, xp.atan2, lambda a, b: xp.concat([a, b])):
        with pytest.raises(
            TypeError, match=f"expected arrays of one library on one device, got {case.backend_name}"
        ):
            function(x, other)
        with pytest.raises(
            TypeError, match=r"expected an rp.Array or a number, got a .*: wrap it by rp.asarray"
        ):
            function(x, x.raw)
    with pytest.raises(TypeError, match=r"expected an rp.Array or a number, got a numpy.ndarray"):
        np.ones(2) + x
    for function in (np.exp, np.sum, lambda x: np.add(x, 1.0)):
        with pytest.raises(TypeError):
            function(x)
    with pytest.raises(TypeError, match="complex numbers are not supported"):
        x * 1j
    for name in ("median", "special", "complex128", "random"):
        with pytest.raises(AttributeError, match=f"has no {name}: it"):
            getattr(xp, name)
    with pytest.raises(
        NotImplementedError, match=r"is not part of xpnet.reproducible: compute it on the host"
    ):
        xp.fft.fft(x)
    assert xp.linalg.matmul is xp.matmul
    with pytest.raises(TypeError):
        hash(x)


def test_what_cannot_be_wrapped_is_refused_in_a_line():
    for value in (np.ones(2, complex), np.ones(2, "float16"), np.array(["a"]), [1j], object()):
        with pytest.raises(TypeError, match="expected one of bool"):
            rp.asarray(value)
    with pytest.raises(BackendError, match="expected one of numpy"):
        rp.namespace("pandas")
    with pytest.raises(DataError, match="got a str"):
        rp.sum("text")


def convert(x):
    return np.asarray(x)


def test_a_switch_warns_or_refuses_where_arrays_leave(wrap):
    x = wrap([1.0])
    assert convert(x).tolist() == [1.0]
    for leave, what in ((convert, "NumPy array"), (np.from_dlpack, "DLPack capsule")):
        with (
            rp.conversions("refuse"),
            pytest.raises(TypeError, match=rf"a {what} of .*test_array.py:\d+, in "),
        ):
            leave(x)
    with rp.conversions("warn"), pytest.warns(UserWarning, match="in convert$"):
        convert(x)
    assert rp.exp(x).tolist() == [math.e]
