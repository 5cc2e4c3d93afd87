"""The mathematics consists of few array operations, and each has the bits of NumPy's on every library.

Networks with every setting run on an array namespace that records what is called (``spy.py``). Each
operation is in ``OPERATIONS``, and the recorded calls are compared with NumPy on every backend; the native
arithmetic alone also uses ``ROUNDED``. So a network has the same bits on every library that has these
operations' bits, and tests of formulas need one library.
"""

from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
from assertions import assert_same
from backend_enum import CASES, BackendCase
from networks import BASE, SETTINGS, image_data
from spy import ELEMENTWISE, METHODS, SpyBackend

from xpnet._lib.tree import leaves, tree_map
from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig, settings
from xpnet.nn import functional as F
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

OPERATIONS = {
    *("neg", "abs", "add", "radd", "sub", "rsub", "mul", "rmul", "and", "lshift", "rshift"),
    *("lt", "gt", "ge", "eq", "maximum", "minimum", "where", "max", "argmax", "all", "bool", "float"),
    *("arange", "asarray", "astype", "zeros", "zeros_like", "ones_like", "full_like", "take", "getitem"),
    *("concat", "expand_dims", "matrix_transpose", "reshape", "signbit"),
    *("truediv(x, x)", "exact sum", "exact matmul"),
}
"""The operations with the bits of NumPy's everywhere; quotients of equal shapes only."""

ROUNDED = {"exp", "log", "sqrt", "sum", "matmul"}
"""The operations that libraries round differently, for the native arithmetic."""
TOLERANCE = 1e-5

WITHOUT_TRACE = {("sqrt(x)", "float64"), ("sum(x)", "float64")}
"""Of ``ROUNDED``, but used by both: an estimate of a power of two, and a check for infinities."""


def operations(calls):
    """The operations of calls, as ``OPERATIONS`` and ``ROUNDED`` name them."""
    return {form if form.startswith("truediv") else form.partition("(")[0] for form, _ in calls}


def calls_of(changes, *, data=None, stack=1):
    """The calls of a short training and its evaluation."""
    backend = SpyBackend()
    backend.stack = stack
    config = TrainConfig(
        **{**vars(BASE), "epochs": changes.get("warmup_epochs", 1), "batch_size": 25, **changes}
    )
    with Trainer.open(config, data or image_data(80, 20), backend) as trainer:
        trainer.evaluate_test(trainer.fit([Evaluate()]).state)
    return backend.xp.calls


@cache
def world(arithmetic):
    """The calls of networks with every setting, in an arithmetic."""
    decimals, many = image_data(80, 20), image_data()
    decimals = replace(decimals, x_train=decimals.x_train / 7.0, x_test=decimals.x_test / 7.0)
    many = replace(many, x_train=np.tile(many.x_train, (12, 1)), y_train=np.tile(many.y_train, 12))
    runs = [({}, {}), *((changes, {}) for changes in SETTINGS.values())]
    runs += [({"normalize": kind}, {"data": decimals}) for kind in get_args(settings.Normalize)]
    stacked = {"batch_size": 2100, "batch_norm": True, "dropout": 0.5, "class_weight": "balanced"}
    runs += [(stacked, {"data": many, "stack": 2})]
    return {
        form: call
        for changes, options in runs
        for form, call in calls_of({**changes, "arithmetic": arithmetic}, **options).items()
    }


def test_every_choice_is_among_the_settings():
    choices = {"activation": settings.Activation, "loss": settings.Loss, "optimizer": settings.OptimizerName}
    choices |= {"schedule": settings.ScheduleName, "init": settings.Initialization}
    for field, names in choices.items():
        chosen = {changes[field] for changes in (vars(BASE), *SETTINGS.values()) if field in changes}
        assert chosen == set(get_args(names))


def test_the_reproducible_arithmetic_uses_operations_with_fixed_bits_only():
    assert operations(world("reproducible").keys() - WITHOUT_TRACE) <= OPERATIONS


def test_both_arithmetics_use_all_the_operations_and_no_others():
    assert operations(world("reproducible")) | operations(world("native")) == OPERATIONS | ROUNDED


def test_operations_outside_of_the_tables_are_named(monkeypatch):
    clip = F.Activation(lambda ops, z: ops.xp.clip(z, 0.0, 6.0), F.ACTIVATIONS["relu"].backward)
    monkeypatch.setitem(F.ACTIVATIONS, "relu", clip)
    monkeypatch.setattr(F, "reciprocal", lambda ops, x: ops.xp.ones_like(x) / x[:, :1])
    monkeypatch.setattr(Reproducible, "_round_to_grid", lambda self, x, axis, bits, count: [x])
    outside = operations(calls_of({}).keys() - WITHOUT_TRACE) - OPERATIONS
    assert outside == {"clip", "truediv(x, broadcast)", "matmul", "sum"}


# The same on every backend


def of_many_magnitudes(value, generator):
    """Floats of an array's shape and dtype, some of them 0, infinite or NaN; other values as they are."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    numbers = np.ldexp(generator.normal(size=value.shape), generator.integers(-20, 20, value.shape))
    special = generator.choice([0.0, np.inf, -np.inf, np.nan], value.shape)
    return np.where(generator.random(value.shape) < 0.1, special, numbers).astype(value.dtype)


def result_of(name, args, keywords, backend):
    """The result of a call on a backend, a list of arrays and numbers."""

    def put(value):
        if isinstance(value, type | np.dtype):
            return getattr(backend.xp, np.dtype(value).name)
        return backend.from_host(value) if isinstance(value, np.ndarray) else value

    with backend.scope():
        args, keywords = tree_map(put, args), {key: put(value) for key, value in keywords.items()}
        if "device" in keywords:
            keywords["device"] = backend.device
        if name in METHODS:
            return list(leaves(getattr(args[0], f"__{name}__")(*args[1:])))
        return list(leaves(getattr(backend.xp, name)(*args, **keywords)))


def check_every_call(backend, arithmetic):
    generator = np.random.default_rng(0)
    for (form, dtype), (recorded, keywords) in world(arithmetic).items():
        print(form, dtype)  # shown if a comparison fails
        operation = form.partition("(")[0]
        name = operation.removeprefix("exact ")
        change = of_many_magnitudes if name in ELEMENTWISE else lambda value, _: value
        args = tree_map(lambda value, change=change: change(value, generator), recorded)
        results = (result_of(name, args, keywords, each) for each in (backend, make("numpy", "cpu")))
        for actual, expected in zip(*results, strict=True):
            if type(expected) in (bool, float):
                assert actual == expected
                continue
            found = backend.xp.astype(actual, backend.xp.int64) if name == "argmax" else actual
            rtol = TOLERANCE if operation in ROUNDED else None
            assert_same(found, expected, backend, rtol=rtol, atol=rtol and rtol * np.max(np.abs(expected)))
            if name in ELEMENTWISE:
                numbers = ~np.isnan(expected)
                signs = np.signbit(backend.to_host(found))[numbers]
                assert np.array_equal(signs, np.signbit(expected)[numbers])


# JAX, which is slow in many other tests, takes part in this one by default.
@pytest.mark.parametrize("backend", BackendCase, indirect=True, ids=lambda case: case.value)
def test_every_call_has_the_bits_of_numpys(backend):
    check_every_call(backend, "reproducible")


@pytest.mark.parametrize("backend", CASES, indirect=True, ids=lambda case: case.value)
def test_every_native_call_has_the_bits_of_numpys_or_is_near(backend):
    check_every_call(backend, "native")


def trace_fenced(name, recorded, keywords, backend):
    """Let JAX trace a call with arithmetic fences."""
    from xpnet.backends.fence import ZERO, fenced

    def call(arrays):
        values = iter(arrays)
        args = tree_map(lambda leaf: next(values) if isinstance(leaf, np.ndarray) else leaf, recorded)
        return result_of(name, args, keywords, backend)

    arrays = [leaf for leaf in leaves(recorded) if isinstance(leaf, np.ndarray)]
    with backend.scope():
        return backend.library.eval_shape(fenced(call), ZERO, arrays)


@pytest.mark.needs("jax")
def test_jax_knows_every_primitive_of_the_reproducible_arithmetic():
    backend = make("jax", "cpu")
    for (form, _), (recorded, keywords) in world("reproducible").items():
        name = form.partition("(")[0].removeprefix("exact ")
        if name not in {"float", "bool"}:  # which need values
            assert trace_fenced(name, recorded, keywords, backend)
