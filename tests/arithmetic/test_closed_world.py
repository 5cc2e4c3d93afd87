"""The mathematics consists of few array operations, and each has the bits of NumPy's on every library.

Networks with every setting run on an array namespace that records what is called (``spy.py``). Each
operation is in ``OPERATIONS``, and the recorded calls are compared with NumPy on every backend. So a network
has the same bits on every library that has these operations' bits, and tests of formulas need one library.
"""

import re
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
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

COMPILED = set()
"""The operations of compiled functions, once `world` has been called."""
WITHOUT_TRACE = {("sum(x)", "float64")}
"""A call that libraries round differently: a check for infinities."""


def calls_of(changes, *, data=None, stack=1):
    """The calls of a short training and its evaluation."""
    backend = SpyBackend()
    backend.stack = stack
    config = TrainConfig(
        **{**vars(BASE), "epochs": changes.get("warmup_epochs", 1), "batch_size": 25, **changes}
    )
    with Trainer.open(config, data or image_data(80, 20), backend) as trainer:
        trainer.evaluate_test(trainer.fit([Evaluate()]).state)
    COMPILED.update(backend.xp.compiled)
    return backend.xp.calls


@cache
def world():
    """The calls of networks with every setting, but those without a trace in the result."""
    decimals, many = image_data(80, 20), image_data()
    decimals = replace(decimals, x_train=decimals.x_train / 7.0, x_test=decimals.x_test / 7.0)
    many = replace(many, x_train=np.tile(many.x_train, (12, 1)), y_train=np.tile(many.y_train, 12))
    calls = calls_of({})
    for changes in SETTINGS.values():
        calls |= calls_of(changes)
    for kind in get_args(settings.Normalize):
        calls |= calls_of({"normalize": kind}, data=decimals)
    stacked = {"batch_size": 2100, "batch_norm": True, "dropout": 0.5, "class_weight": "balanced"}
    calls |= calls_of(stacked, data=many, stack=2)
    return {call: arguments for call, arguments in calls.items() if call not in WITHOUT_TRACE}


def test_every_choice_is_among_the_settings():
    choices = {
        "activation": settings.ActivationName,
        "loss": settings.LossName,
        "optimizer": settings.OptimizerName,
    }
    choices |= {"schedule": settings.ScheduleName, "init": settings.Initialization}
    for field, names in choices.items():
        trained = {changes[field] for changes in (vars(BASE), *SETTINGS.values()) if field in changes}
        assert trained == set(get_args(names))


def test_networks_consist_of_operations_with_fixed_bits():
    names = {form if form.startswith("truediv") else form.partition("(")[0] for form, _ in world()}
    assert names == OPERATIONS


NAMES = {"neg": "negative", "sub": "subtract", "mul": "multiply", "truediv": "divide", "abs": "absolute"}
NAMES |= {
    "and": "bitwise_and",
    "or": "bitwise_or",
    "rshift": "right_shift",
    "lshift": "left_shift",
    "astype": "convert",
}
NAMES |= {"lt": "less", "gt": "greater", "ge": "greater_equal", "eq": "equal"}
"""NumPy's names of operators, which are those of CUDA's expressions."""
TORCH_NAMES = {
    "truediv": "div",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "rshift": "bitwise_right_shift",
    "astype": "_convert",
    "max": "amax",
    "take": "index_select",
}
CONSTANTS = {"arange", "asarray", "zeros"}
"""What compiled functions call without arrays: made once."""


def find_missing(compiled, recorded, expressions, written):
    """The operations that CuPy's generator or PyTorch's replay does not know: names of the tables."""
    from xpnet.backends.cuda_source import REDUCTIONS, VIEWS

    names = {name.removeprefix("r") if name in {"radd", "rsub", "rmul"} else name for name in compiled}
    names -= {"view"}  # of the same memory
    likes, views = {"full_like", "ones_like", "zeros_like"}, {*VIEWS, "matrix_transpose"}
    generated = {*expressions, *REDUCTIONS, *views, *likes, "take", "concat", "matmul"}
    return (
        names - {*METHODS, *recorded} - CONSTANTS,
        {NAMES.get(name, name) for name in names - CONSTANTS} - generated,
        {TORCH_NAMES.get(name, name) for name in names - CONSTANTS} - {*written, *views, *likes},
    )


def source_of(name, pattern):
    """A part of a module's source, which would import CuPy or PyTorch."""
    return re.search(pattern, Path(find_spec(f"xpnet.backends.{name}").origin).read_text(), re.DOTALL)[1]


def test_compiled_operations_are_in_the_tables_of_cupys_generator_and_of_pytorchs_replay():
    """One that is missing is slow, which no result shows."""
    from xpnet.backends.cuda_source import EXPRESSIONS, ROUNDED

    world()
    recorded = source_of("cupy_compile", r'_RECORDED = """(.*?)"""').split()
    written = re.findall(r"\b(?:torch\.)?(\w+)", source_of("torch_replay", "_ARITHMETIC = (.*?)_METHODS ="))
    tables = recorded, {*EXPRESSIONS, *ROUNDED}, written
    assert len(COMPILED) > 25
    assert find_missing(COMPILED, *tables) == (set(), set(), set())
    without = [{*table} - {name} for table, name in zip(tables, ("take", "maximum", "where"), strict=True)]
    assert find_missing(COMPILED, *without) == ({"take"}, {"maximum"}, {"where"})


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


def results_of(calls, backend):
    """The results of calls on a backend, one by one; on JAX compiled with fences, in one compilation."""
    if backend.name != "jax":
        return [result_of(*call, backend) for call in calls]
    from xpnet.backends.fence import ZERO, fenced

    need_values = [name in {"float", "bool"} for name, _, _ in calls]

    def traced(arrays):
        values = iter(arrays)

        def put(part):
            return next(values) if isinstance(part, np.ndarray) else part

        parts = [(name, tree_map(put, args), keywords) for name, args, keywords in calls]
        return [
            [] if needed else result_of(*part, backend)
            for part, needed in zip(parts, need_values, strict=True)
        ]

    arrays = [leaf for _, args, _ in calls for leaf in leaves(args) if isinstance(leaf, np.ndarray)]
    with backend.scope():
        results = backend.library.jit(fenced(traced))(ZERO, arrays)
    return [
        result_of(*call, backend) if needed else result
        for call, needed, result in zip(calls, need_values, results, strict=True)
    ]


@pytest.mark.parametrize("backend", CASES[1:], indirect=True, ids=lambda case: case.value)
def test_every_call_has_the_bits_of_numpys(backend):
    generator, calls = np.random.default_rng(0), []
    for (form, _), (recorded, keywords) in world().items():
        name = form.partition("(")[0].removeprefix("exact ")
        change = of_many_magnitudes if name in ELEMENTWISE else lambda value, _: value
        args = tree_map(lambda value, change=change: change(value, generator), recorded)
        calls.append((name, args, keywords))
    of_both = (results_of(calls, each) for each in (backend, make("numpy", "cpu")))
    for call, *results in zip(world(), *of_both, strict=True):
        print(*call)  # shown if a comparison fails
        name = call[0].partition("(")[0].removeprefix("exact ")
        for actual, expected in zip(*results, strict=True):
            if type(expected) in (bool, float):
                assert actual == expected
                continue
            result = backend.xp.astype(actual, backend.xp.int64) if name == "argmax" else actual
            assert_same(result, expected, backend)
            if name in ELEMENTWISE:
                numbers = ~np.isnan(expected)
                signs = np.signbit(backend.to_host(result))[numbers]
                assert np.array_equal(signs, np.signbit(expected)[numbers])
