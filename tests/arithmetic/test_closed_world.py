"""The mathematics consists of few array operations, and each has the bits of NumPy's on every library.

Networks with every setting run on an array namespace that records what is called (``spy.py``). Each
operation is in ``OPERATIONS``, and the recorded calls are compared with NumPy on every backend. So a network
has the same bits on every library that has these operations' bits, and tests of formulas need one library.
"""

from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
from assertions import assert_same
from backend_enum import CASES
from networks import BASE, SETTINGS, image_data
from spy import ELEMENTWISE, METHODS, SpyBackend

from xpnet._lib.tree import leaves, tree_map
from xpnet.arithmetic.host import view
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig, settings
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

OPERATIONS = {
    *("neg", "abs", "add", "radd", "sub", "rsub", "mul", "rmul", "and", "or", "lshift", "rshift", "view"),
    *("lt", "gt", "ge", "eq", "maximum", "minimum", "where", "max", "argmax", "all", "bool", "float"),
    *("arange", "asarray", "astype", "zeros", "zeros_like", "full_like", "take", "getitem"),
    *("concat", "expand_dims", "matrix_transpose", "reshape", "signbit"),
    *("truediv(x, x)", "exact sum", "exact matmul"),
}
"""The operations with the bits of NumPy's everywhere; quotients of equal shapes only."""

WITHOUT_TRACE = {("sum(x)", "float64")}
"""A call that libraries round differently: a check for infinities."""


def calls_of(changes, *, data=None, stack=1):
    """The calls of a short training and its evaluation."""
    backend = SpyBackend()
    backend.stack = stack
    settings = {**vars(BASE), "epochs": changes.get("warmup_epochs", 1), "batch_size": 25, **changes}
    with Trainer.open(TrainConfig(**settings), data or image_data(80, 20), backend) as trainer:
        trainer.evaluate_test(trainer.fit([Evaluate()]).state)
    return backend.xp.calls


@cache
def world():
    """The calls of networks with every setting, but those without a trace in the result."""
    decimals, many = image_data(80, 20), image_data()
    decimals = replace(decimals, x_train=decimals.x_train / 7.0, x_test=decimals.x_test / 7.0)
    many = replace(many, x_train=np.tile(many.x_train, (12, 1)), y_train=np.tile(many.y_train, 12))
    stacked = {"batch_size": 2100, "batch_norm": True, "dropout": 0.5, "class_weight": "balanced"}
    calls = calls_of({}) | calls_of(stacked, data=many, stack=2)
    for changes in SETTINGS.values():
        calls |= calls_of(changes)
    for kind in get_args(settings.Normalize):
        calls |= calls_of({"normalize": kind}, data=decimals)
    return {call: arguments for call, arguments in calls.items() if call not in WITHOUT_TRACE}


CHOICES = {"activation": "ActivationName", "loss": "LossName", "optimizer": "OptimizerName"}
CHOICES |= {"schedule": "ScheduleName", "init": "Initialization"}


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_is_among_the_settings(field):
    trained = {changes[field] for changes in (vars(BASE), *SETTINGS.values()) if field in changes}
    assert trained == {*get_args(getattr(settings, CHOICES[field]))}


def test_networks_consist_of_operations_with_fixed_bits():
    names = {form if form.startswith("truediv") else form.partition("(")[0] for form, _ in world()}
    assert names == OPERATIONS


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
        if name == "view":
            return [view(backend.xp, put(args[0]), np.dtype(args[1]).name)]
        args, keywords = tree_map(put, args), {key: put(value) for key, value in keywords.items()}
        if "device" in keywords:
            keywords["device"] = backend.device
        if name in METHODS:
            return list(leaves(getattr(args[0], f"__{name}__")(*args[1:])))
        return list(leaves(getattr(backend.xp, name)(*args, **keywords)))


@pytest.mark.parametrize("backend", CASES[1:], indirect=True, ids=lambda case: case.value)
def test_every_call_has_the_bits_of_numpys(backend):
    generator, calls = np.random.default_rng(0), []
    for (form, _), (recorded, keywords) in world().items():
        name = form.partition("(")[0].removeprefix("exact ")
        drawn = tree_map(lambda value: of_many_magnitudes(value, generator), recorded)
        calls.append((name, drawn if name in ELEMENTWISE else recorded, keywords))
    for form, call in zip(world(), calls, strict=True):
        print(*form)  # shown if a comparison fails
        name, results = call[0], (result_of(*call, each) for each in (backend, make("numpy", "cpu")))
        for actual, expected in zip(*results, strict=True):
            if type(expected) in (bool, float):
                assert actual == expected
                continue
            result = backend.xp.astype(actual, backend.xp.int64) if name == "argmax" else actual
            assert_same(result, expected, backend)
            if name in ELEMENTWISE:
                signs = (np.signbit(np.nan_to_num(x, nan=1.0)) for x in (backend.to_host(result), expected))
                np.testing.assert_array_equal(*signs)
