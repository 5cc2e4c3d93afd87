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
from xpnet.reproducible.array import ARITHMETIC, COMPARISONS, UNARY


def test_an_array_holds_one_of_the_library_on_its_device(case):
    backend = make(case.backend_name, "cpu")
    plain = backend.from_host(np.arange(6.0).reshape(2, 3))
    x = rp.asarray(plain)
    assert backend.owns(x.raw)
    assert (x.dtype, x.device, x.shape, x.size, x.nbytes) == (plain.dtype, backend.device, (2, 3), 6, 48)
    assert x.to_device(x.device) is rp.asarray(x) is x
    assert x.__array_namespace__() is rp.namespace(case.backend_name) is rp.namespace(backend.standard)
    assert [row.tolist() for row in x] == x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert (float(x[1, 2]), bool(x[0, 0]), 4.0 in x, x.T.shape) == (5.0, False, True, (3, 2))


def test_copies_keep_library_and_device_and_share_no_memory(wrap, xp):
    x = wrap([0.0, 1.0])
    copied, (pickled, space) = copy.deepcopy(x), pickle.loads(pickle.dumps((x, xp)))  # noqa: S301
    copied[...] = pickled + 7.0
    assert (x.tolist(), copied.tolist()) == ([0.0, 1.0], [7.0, 8.0])
    assert (copied.place, pickled.place, space) == (x.place, x.place, xp)


@pytest.mark.parametrize("short", [*ARITHMETIC, *COMPARISONS, *UNARY])
def test_every_operator_is_a_function_of_the_namespace(wrap, short):
    name = {**ARITHMETIC, **COMPARISONS, **UNARY}[short]
    host = np.asarray([[4, 9], [2, 7]], int if "bitwise" in name else float)
    x, count = wrap(host), 1 if short in UNARY else 2
    expected = getattr(np, name.removeprefix("bitwise_") if "shift" in name else name)
    result = getattr(operator, {"and": "and_", "or": "or_"}.get(short, short))(*[x] * count)
    np.testing.assert_allclose(result, expected(*[host] * count), rtol=1e-15)
    if short in ARITHMETIC:
        y = copy.copy(x)
        assert getattr(operator, f"i{short}")(y, x) is y
        assert (y.tolist(), x.tolist()) == (result.tolist(), host.tolist())
    if short in {*ARITHMETIC} - {"matmul"}:
        reflected = expected(np.asarray(2, host.dtype), host)
        np.testing.assert_allclose(getattr(x, f"__r{short}__")(2), reflected, rtol=1e-15)


PROMOTIONS = [
    *[("int64", 1.5, "float64"), ("float32", 1.5, "float32"), ("int8", 2, "int8"), ("bool", 2, "int64")],
    *[("float32", "int64", "float64"), ("int8", "uint8", "int16"), ("uint64", "int8", "float64")],
]


@pytest.mark.parametrize(("first", "second", "expected"), PROMOTIONS, ids=str)
def test_promotion_and_default_dtypes_are_one_table(wrap, xp, first, second, expected):
    x, y = wrap([1, 0], first), wrap([1, 1], second) if isinstance(second, str) else second
    results = [x + y, y + x, xp.where(x == 1, x, y)]
    if isinstance(second, str):
        results.append(xp.concat([x, y]))
    assert {result.dtype for result in results} == {xp.result_type(x, y)} == {getattr(xp, expected)}


def test_numbers_without_a_dtype_are_float64_int64_and_bool(wrap, xp):
    x = wrap([1, 2])
    floats = [xp.zeros(2), xp.linspace(0, 1, 3), xp.arange(0.0, 1.0, 0.5), x / x, xp.mean(x)]
    assert {made.dtype for made in floats} == {xp.float64}
    integers = [xp.arange(3), xp.asarray([1, 2]), xp.sum(wrap([1], "int8")), xp.argsort(x)]
    assert {made.dtype for made in integers} == {xp.int64}
    assert xp.asarray([True]).dtype == xp.bool
    whole = xp.sum(wrap([200, 200], "uint8"))
    assert (whole.dtype, int(whole)) == (xp.uint64, 400)


@pytest.mark.parametrize("name", ["exp", "sum", "cumulative_sum", "var"])
def test_float32_is_computed_in_float64_and_rounded_once(wrap, xp, name):
    single, function = wrap([0.5, 0.25], "float32"), getattr(xp, name)
    wide = np.asarray(function(xp.astype(single, xp.float64)))
    assert function(single).dtype == xp.float32
    assert np.asarray(function(single)).tobytes() == wide.astype("float32").tobytes()


def test_slices_write_through_and_other_views_refuse(wrap, xp):
    x = wrap(np.zeros((2, 3)))
    row = x[0, :]
    row += 1.0
    part = row[1:]
    part[0] += 4.0
    x[0, 2] = 7.0
    x[1][0][...] = 3.0
    x *= 2.0
    assert x.tolist() == [[2.0, 10.0, 14.0], [6.0, 0.0, 0.0]]
    assert (row.tolist(), part.tolist()) == ([2.0, 10.0, 14.0], [10.0, 14.0])
    flat = xp.reshape(x, (-1,))
    for view in (flat, x.T, xp.expand_dims(x, axis=0), flat[::2], x[::-1], xp.broadcast_to(x, (2, 2, 3))):
        for write in (operator.setitem, lambda view, *_: operator.iadd(view, 1.0)):
            with pytest.raises(ValueError, match="copy it before"):
                write(view, 0, 1.0)
    x[x > 9.0] = 100.0
    assert (flat[1].item(), x[0, 1].item()) == (10.0, 100.0)  # as it was
    del x
    y = xp.reshape(wrap([1.0, 2.0]), (2, 1))
    y += 1.0  # nobody else can see it
    assert y.tolist() == [[2.0], [3.0]]


@pytest.mark.slow
@pytest.mark.parametrize("case", [BackendCase.JAX], indirect=True)
def test_so_do_those_of_jaxs_own_way(own_way, wrap, xp):
    assert xp.place(None).is_functional
    test_slices_write_through_and_other_views_refuse(wrap, xp)


def test_negative_steps_masks_and_index_arrays_select_as_in_numpy(wrap):
    host = np.arange(12.0).reshape(3, 4)
    x = wrap(host)
    for key in (np.s_[1:, ::-2], np.s_[..., 2::-1], np.s_[None, 1], np.s_[-1, -1]):
        np.testing.assert_array_equal(x[key], host[key])
    np.testing.assert_array_equal(x[x > 4.0], host[host > 4.0])
    assert x[wrap(1)].tolist() == [4.0, 5.0, 6.0, 7.0]


def of_another(xp):
    return rp.namespace("array-api-strict" if "numpy" in repr(xp) else "numpy").ones(2)


REFUSED = {
    "another shape": (lambda x, xp: operator.iadd(x, xp.ones((2, 2))), TypeError, "in-place add: expe"),
    "another library": (lambda x, xp: x + of_another(xp), TypeError, "expected arrays of one library on one"),
    "plain operand": (lambda x, xp: xp.matmul(x, x.raw), TypeError, r"or a number, got a .*: wrap it by rp"),
    "NumPy's function": (lambda x, xp: np.exp(x), TypeError, "does not support"),
    "complex number": (lambda x, xp: x * 1j, TypeError, "complex numbers are not supported"),
    "unknown name": (lambda x, xp: xp.median, AttributeError, "has no median: it"),
    "fft": (lambda x, xp: xp.fft.fft(x), NotImplementedError, "is not part of xpnet.reproducible: compute"),
    "array of complex": (lambda x, xp: rp.asarray(np.ones(2, complex)), TypeError, "expected one of bool"),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_fixed_bits_is_refused_in_a_line(wrap, xp, call, error, message):
    with pytest.raises(error, match=message):
        call(wrap([1.0, 2.0]), xp)


def convert(x):
    return np.asarray(x)


def test_a_switch_warns_or_refuses_where_arrays_leave(wrap):
    x = wrap([1.0])
    assert convert(x).tolist() == [1.0]
    for leave, kind in ((convert, "NumPy array"), (np.from_dlpack, "DLPack capsule")):
        with rp.conversions("refuse"), pytest.raises(TypeError, match=rf"a {kind} of .*_array.py:\d+, in "):
            leave(x)
    with rp.conversions("warn"), pytest.warns(UserWarning, match="in convert$"):
        convert(x)
    assert rp.exp(x).tolist() == [math.e]


def test_the_namespace_describes_itself_on_numpy_2_0_too(monkeypatch, wrap, xp):
    monkeypatch.delattr(np, "__array_namespace_info__", raising=False)  # NumPy has it from 2.1 on
    info = xp.__array_namespace_info__()
    assert info.dtypes(kind="real floating").keys() == {"float32", "float64"}
    assert info.default_dtypes()["real floating"] == wrap([1.0]).dtype
