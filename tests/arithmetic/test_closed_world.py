"""The mathematics consists of few array operations, and each has the bits of NumPy's on every library.

Networks with every setting run on an array namespace that records what is called (``spy.py``). Each
recorded call is in ``OPERATIONS``, whose examples are compared with NumPy on every backend, or in
``ROUNDED``, which only the native arithmetic uses. So a network has the same bits on every library that has
these operations' bits, and tests of formulas need one library.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from assertions import assert_same
from networks import BASE, SETTINGS, image_data
from spy import SpyBackend

from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig, settings
from xpnet.nn import functional as F
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

FLOATS = "float32 float64"
ANY = "int32 float32 float64"
CASTS = {
    "float32": "bool uint8 int16 float64",
    "float64": "bool uint8 int16 float64",
    "int32": "bool uint8 float32 float64",
    "uint8": "bool int32",
}

OPERATIONS = {
    "neg(x)": (FLOATS, lambda _, v: -v.x),
    "abs(x)": (FLOATS, lambda xp, v: xp.abs(v.x)),
    "add(x, x)": (ANY, lambda _, v: v.x + v.y),
    "add(x, broadcast)": (ANY, lambda _, v: v.x + v.column),
    "add(broadcast, x)": (FLOATS, lambda _, v: v.column + v.x),
    "add(broadcast, broadcast)": (FLOATS, lambda _, v: v.column + v.row),
    "add(x, number)": (ANY, lambda _, v: v.x + 3),
    "radd(x, number)": (FLOATS, lambda _, v: 0.3 + v.x),
    "sub(x, x)": (ANY, lambda _, v: v.x - v.y),
    "sub(x, broadcast)": (FLOATS, lambda _, v: v.x - v.column),
    "sub(x, number)": (FLOATS, lambda _, v: v.x - 0.3),
    "rsub(x, number)": (FLOATS, lambda _, v: 0.3 - v.x),
    "mul(x, x)": (f"uint8 {ANY}", lambda _, v: v.x * v.y),
    "mul(x, broadcast)": (FLOATS, lambda _, v: v.x * v.column),
    "mul(broadcast, x)": (FLOATS, lambda _, v: v.column * v.x),
    "mul(broadcast, broadcast)": (FLOATS, lambda _, v: v.column * v.row),
    "mul(x, number)": (ANY, lambda _, v: v.x * 3),
    "rmul(x, number)": (FLOATS, lambda _, v: 0.3 * v.x),
    "truediv(x, x)": (FLOATS, lambda _, v: v.x / v.y),
    "and(x, x)": ("bool", lambda _, v: v.x & v.y),
    "and(x, number)": ("int32", lambda _, v: v.x & 127),
    "lshift(x, number)": ("int32", lambda _, v: v.x << 16),
    "rshift(x, number)": ("int32", lambda _, v: v.x >> 7),
    "lt(x, number)": (FLOATS, lambda _, v: v.x < 0.5),
    "gt(x, number)": (FLOATS, lambda _, v: v.x > 0.5),
    "ge(x, number)": ("float64", lambda _, v: v.x >= 0.5),
    "eq(x, number)": ("float64", lambda _, v: v.x == 0),
    "eq(x, x)": ("float64", lambda _, v: v.x == v.y),
    "eq(x, int32 x)": ("int64", lambda _, v: v.x == v.labels),
    "eq(broadcast, broadcast)": ("int32", lambda _, v: v.column == v.row),
    "maximum(x, number)": (FLOATS, lambda xp, v: xp.maximum(v.x, 0.5)),
    "minimum(x, broadcast)": (FLOATS, lambda xp, v: xp.minimum(v.x, v.column)),
    "where(bool x, x, x)": (FLOATS, lambda xp, v: xp.where(v.flags, v.x, v.y)),
    "where(bool x, x, number)": (FLOATS, lambda xp, v: xp.where(v.flags, v.x, 0.3)),
    "where(bool x, number, x)": ("float64", lambda xp, v: xp.where(v.flags, 0.3, v.x)),
    **{
        f"astype(x, {to})": (dtypes, lambda xp, v, to=to: xp.astype(v.small, getattr(xp, to)))
        for to, dtypes in CASTS.items()
    },
    "arange(number)": ("int32", lambda xp, v: xp.arange(7, dtype=v.dtype, device=v.device)),
    "asarray(numbers)": (FLOATS, lambda xp, v: xp.asarray([0.1, 2.0], dtype=v.dtype, device=v.device)),
    "zeros(shape)": (ANY, lambda xp, v: xp.zeros((2, 3), dtype=v.dtype, device=v.device)),
    "zeros_like(x)": (FLOATS, lambda xp, v: xp.zeros_like(v.x)),
    "ones_like(x)": ("float64", lambda xp, v: xp.ones_like(v.x)),
    "full_like(x, number)": (FLOATS, lambda xp, v: xp.full_like(v.x, 0.3)),
    "reshape(x, shape)": (f"bool uint8 int64 {ANY}", lambda xp, v: xp.reshape(v.x, (19, -1, 1))),
    "expand_dims(x, axis)": ("int32", lambda xp, v: xp.expand_dims(v.x, axis=1)),
    "matrix_transpose(x)": (f"bool uint8 {FLOATS}", lambda xp, v: xp.matrix_transpose(v.x)),
    "concat(arrays)": ("uint8 int32 int64", lambda xp, v: xp.concat([v.x, v.y])),
    "concat(arrays, axis)": (ANY, lambda xp, v: xp.concat([v.x, v.y, v.column], axis=1)),
    "unstack(x)": ("int64", lambda xp, v: xp.unstack(v.x)),
    "getitem(x, 0, ...)": (ANY, lambda _, v: v.x[1, ...]),
    "getitem(x, :)": ("int32 int64", lambda _, v: v.line[2:30]),
    "getitem(x, :, ...)": ("float64", lambda _, v: v.x[:5, ...]),
    "getitem(x, :, :)": ("uint8 float64", lambda _, v: v.x[3:9, :]),
    "getitem(x, :, :, ...)": ("float64", lambda _, v: v.x[:, 4:8, ...]),
    "getitem(x, :, :, :, ...)": ("float64", lambda _, v: v.cube[:, :, :1, ...]),
    "getitem(x, :, :, 0)": (FLOATS, lambda _, v: v.cube[:, :, 1]),
    "take(x, x, axis)": ("int32", lambda xp, v: xp.take(v.x, v.labels[:9, 0] & 3, axis=0)),
    "take(x, int32 x, axis)": ("float64", lambda xp, v: xp.take(v.x, v.indices32, axis=0)),
    "take(x, int64 x, axis)": ("uint8 int32 float64", lambda xp, v: xp.take(v.x, v.indices, axis=0)),
    "argmax(x, axis)": (FLOATS, lambda xp, v: xp.argmax(v.small, axis=-2)),
    "max(x, axis, keepdims)": (FLOATS, lambda xp, v: xp.max(v.x, axis=-1, keepdims=True)),
    "all(x)": ("bool", lambda xp, v: xp.all(v.x)),
    "bool(x)": ("bool", lambda _, v: bool(v.one)),
    "float(x)": (ANY, lambda _, v: float(v.one)),
    "exact sum(x, axis, keepdims)": ("int32 float64", lambda xp, v: xp.sum(v.small, axis=-1, keepdims=True)),
    "exact matmul(x, x)": ("float64", lambda xp, v: xp.matmul(v.small, v.tall)),
}
"""The operations with the bits of NumPy's everywhere: their dtypes, and an example call."""

ROUNDED = {
    "exp(x)": (FLOATS, lambda xp, v: xp.exp(v.small * 0.1)),
    "log(x)": (FLOATS, lambda xp, v: xp.log(v.small + 0.5)),
    "sqrt(x)": (FLOATS, lambda xp, v: xp.sqrt(v.small)),
    "sum(x)": (FLOATS, lambda xp, v: xp.sum(v.small * 0.1)),
    "sum(x, axis, keepdims)": (FLOATS, lambda xp, v: xp.sum(v.small * 0.1, axis=-1, keepdims=True)),
    "matmul(x, x)": (FLOATS, lambda xp, v: xp.matmul(v.small * 0.1, v.tall * 0.1)),
}
"""The operations that libraries round differently, for the native arithmetic."""
TOLERANCE = {"float32": 1e-6, "float64": 2e-15}

WITHOUT_TRACE = {("sqrt(x)", "float64"), ("sum(x)", "float64")}
"""Of ``ROUNDED``, but used by both: an estimate of a power of two, and a check for infinities."""


def of_table(table):
    return {(form, dtype) for form, (dtypes, _) in table.items() for dtype in dtypes.split()}


def operands(dtype, put):
    """Arrays of a dtype for the examples: of many magnitudes, small whole numbers, indices, a single one."""
    generator = np.random.default_rng(0)
    shape = (37, 19)  # neither a multiple of a vector register
    small = generator.integers(0, 6, shape)
    if dtype.startswith("float"):
        x, y = np.ldexp(generator.normal(size=(2, *shape)), generator.integers(-20, 20, (2, *shape)))
        x[0, :4], y[0, 2:6] = (0.0, np.inf, -np.inf, np.nan), (0.0, np.inf, 1.0, 0.0)
    elif dtype == "int32":
        x, y = generator.integers(-(2**12), 2**12, (2, *shape))
    else:
        x, y = generator.integers(0, 2 if dtype == "bool" else 100, (2, *shape))
    arrays = {
        "x": x,
        "y": y,
        "small": small,
        "tall": small.T,
        "one": small[0, 1],
        "cube": np.stack([x, y], axis=2),
    }
    arrays |= {"column": y[:, :1] * 2, "row": x[1:2, :], "line": y[:, 0]}
    found = {name: put(np.array(array, dtype, order="C")) for name, array in arrays.items()}
    found |= {"indices": put(np.array([3, 0, 36, 3])), "indices32": put(np.array([3, 0, 36], np.int32))}
    found |= {"labels": put(generator.integers(-9, 9, shape).astype(np.int32)), "flags": put(small > 2)}
    return found


def example(function, backend, dtype):
    """The result of an example on a backend, as a list."""
    with backend.scope():
        values = operands(dtype, backend.from_host)
        extra = {"dtype": getattr(backend.xp, dtype), "device": backend.device}
        result = function(backend.xp, SimpleNamespace(**values, **extra))
    return list(result) if isinstance(result, list | tuple) else [result]


# The world is closed


def calls_of(changes, *, data=None, stack=1):
    """The calls of a short training and its evaluation."""
    backend = SpyBackend()
    backend.stack = backend.compiled_stack = stack
    config = TrainConfig(
        **{**vars(BASE), "epochs": changes.get("warmup_epochs", 1), "batch_size": 25, **changes}
    )
    with Trainer.open(config, data or image_data(80, 20), backend) as trainer:
        trainer.evaluate_test(trainer.fit([Evaluate(trainer)]).state)
    return backend.xp.calls


ARITHMETICS = {
    "reproducible": {"arithmetic": "reproducible"},
    "float64": {"arithmetic": "native", "dtype": "float64"},
    "float32": {"arithmetic": "native", "dtype": "float32"},
}


@pytest.fixture(scope="module")
def world():
    """The calls of networks with every setting, by arithmetic."""
    decimals, many = image_data(80, 20), image_data()
    decimals = replace(decimals, x_train=decimals.x_train / 7.0, x_test=decimals.x_test / 7.0)
    many = replace(many, x_train=np.tile(many.x_train, (12, 1)), y_train=np.tile(many.y_train, 12))
    runs = [({}, {}), *((changes, {}) for changes in SETTINGS.values())]
    runs += [({"normalize": kind}, {"data": decimals}) for kind in get_args(settings.Normalize)]
    runs += [({"batch_size": 2100, "batch_norm": True, "dropout": 0.5}, {"data": many, "stack": 2})]
    return {
        name: set().union(*(calls_of({**changes, **arithmetic}, **options) for changes, options in runs))
        for name, arithmetic in ARITHMETICS.items()
    }


@pytest.mark.parametrize(
    ("field", "names"),
    {
        "activation": settings.Activation,
        "loss": settings.Loss,
        "optimizer": settings.OptimizerName,
        "schedule": settings.ScheduleName,
        "init": settings.Initialization,
    }.items(),
)
def test_every_choice_is_among_the_settings(field, names):
    chosen = {getattr(BASE, field), *(changes[field] for changes in SETTINGS.values() if field in changes)}
    assert chosen == set(get_args(names))


def test_the_reproducible_arithmetic_uses_operations_with_fixed_bits_only(world):
    assert world["reproducible"] - of_table(OPERATIONS) == WITHOUT_TRACE


def test_the_native_arithmetic_uses_these_and_the_rounded_ones(world):
    assert world["float32"] | world["float64"] <= of_table(OPERATIONS) | of_table(ROUNDED)


def test_every_operation_of_the_tables_is_used(world):
    assert of_table(OPERATIONS) | of_table(ROUNDED) == set().union(*world.values())


# Its operations are the same on every backend


@pytest.mark.parametrize("form", OPERATIONS)
def test_an_operation_has_the_bits_of_numpys(backend, form):
    dtypes, function = OPERATIONS[form]
    for dtype in dtypes.split():
        results = (example(function, each, dtype) for each in (backend, make("numpy", "cpu")))
        for actual, expected in zip(*results, strict=True):
            if type(expected) in (bool, float):
                assert actual == expected
                continue
            found = backend.xp.astype(actual, backend.xp.int64) if form.startswith("argmax") else actual
            assert_same(found, expected, backend)
            if dtype in FLOATS:
                signs = (
                    np.signbit(array)[~np.isnan(expected)] for array in (backend.to_host(found), expected)
                )
                assert np.array_equal(*signs)


@pytest.mark.parametrize("form", ROUNDED)
def test_a_rounded_operation_is_near_numpys(backend, form):
    dtypes, function = ROUNDED[form]
    for dtype in dtypes.split():
        (actual,), (expected,) = (example(function, b, dtype) for b in (backend, make("numpy", "cpu")))
        assert_same(actual, expected, backend, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("form", [*OPERATIONS, *ROUNDED])
def test_an_example_is_a_call_of_its_form(form):
    dtypes, function = {**OPERATIONS, **ROUNDED}[form]
    for dtype in dtypes.split():
        backend = SpyBackend()
        example(function, backend, dtype)
        assert (form, dtype) in backend.xp.calls


# The spy sees what is outside


def test_an_operation_outside_the_tables_is_named(monkeypatch):
    clip = F.Activation(lambda ops, z: ops.xp.clip(z, 0.0, 6.0), F.ACTIVATIONS["relu"].backward)
    monkeypatch.setitem(F.ACTIVATIONS, "relu", clip)
    assert calls_of({}) - of_table(OPERATIONS) - WITHOUT_TRACE == {("clip(x, number, number)", "float64")}


def test_a_division_by_a_broadcast_operand_is_named(monkeypatch):
    monkeypatch.setattr(F, "reciprocal", lambda ops, x: ops.xp.ones_like(x) / x[:, :1])
    assert ("truediv(x, broadcast)", "float64") in calls_of({}) - of_table(OPERATIONS)


def test_a_product_of_unrounded_operands_is_not_exact(monkeypatch):
    monkeypatch.setattr(Reproducible, "_round_to_grid", lambda self, x, axis, bits, count: [x])
    outside = calls_of({}) - of_table(OPERATIONS) - WITHOUT_TRACE
    assert outside == {("matmul(x, x)", "float64"), ("sum(x, axis, keepdims)", "float64")}
