"""assert_parity: which functions it lets pass, and what it says of the others."""

import re
from dataclasses import make_dataclass

import array_api_compat
import numpy as np
import pytest
from backend_enum import BackendCase
from porting_bugs import add_to, check_and_root

from xpnet.errors import BackendError, ConfigError
from xpnet.parity import assert_parity, devices
from xpnet.parity.session import Session

X = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125]])
SPECIAL = np.asarray([np.nan, 1.0, np.inf])
EXACT, STRICT, JAX = {"tier": "bitwise"}, ["array-api-strict"], {"backends": ["jax"]}
BOTH, NARROW = {"backends": ["numpy", *STRICT]}, {**JAX, "jax_x64": False}
ULP = "0.5000000000000002 where NumPy has 0.5 (2 ulp); 3 of 6 values, at most 16 ulp, "
ULP += "1.8e-15 relative, 2.2e-16 absolute; expected at most 1 ulp"
ZERO = "-0.0 where NumPy has 0.0 (0 ulp, but of another sign); 1 of 1 values, at most 0 ulp"
Record = make_dataclass("Record", ["weight", "scale"], frozen=True)
is_numpy, namespace = array_api_compat.is_numpy_array, array_api_compat.array_namespace


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    monkeypatch.setattr("xpnet.parity.session.SESSIONS", [Session()])
    monkeypatch.delenv(devices.REQUIRE, raising=False)


def on_others(change):
    """A function that changes its argument with every library but NumPy."""
    return lambda x: x if is_numpy(x) else change(x)


def failure(function, *arguments, **options):
    with pytest.raises(AssertionError) as caught:
        assert_parity(function, *arguments, **{"backends": STRICT, **options})
    return str(caught.value)


def to_float32(x):
    return namespace(x).astype(x, namespace(x).float32)


def to_host_device(x):
    return x.to_device(namespace(x).Device("CPU_DEVICE"))


@pytest.mark.parametrize("case", [BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX, BackendCase.DPNP])
def test_equal_results_pass_also_nested_nan_integers_and_truth_values(case):
    def function(x, y):
        return {"sums": (x + y, [x - y]), 3: x > 0.5, "special": y * 1.0}

    sync = case is not BackendCase.TORCH
    assert_parity(function, SPECIAL + 1.0, SPECIAL, **EXACT, backends=[case.value], sync=sync)


@pytest.mark.parametrize(
    ("function", "x", "options"),
    [
        (on_others(lambda x: x * (1.0 + 2.0**-50)), X, {"rtol": 0.0, "atol": 1e-14}),
        (on_others(lambda x: x * -1.0), np.zeros(2), {"ulp": 0}),
        (on_others(lambda x: x + 1e-6), np.asarray([1e-8, -100.0, np.inf, np.nan]), {"norm": 1.1e-8}),
        (on_others(lambda x: namespace(x).reshape(x, (3, 2))), X, {**EXACT, "check_shape": False}),
        (on_others(to_host_device), X, {**EXACT, "check_device": False}),
        (lambda x, xp: (xp.sum(x), 3), X, {**EXACT, "reference": lambda x: (float(x.sum()), 3)}),
    ],
)
def test_what_is_near_enough_or_not_checked_passes(function, x, options):
    assert_parity(function, x, **options, backends=STRICT)


def test_plain_arguments_callables_and_slices_are_passed_and_dtypes_become_the_librarys():
    seen = []

    def port(x, function, dtype, part, *rest, y, norm, xp, **options):
        seen.append((rest, options))
        return xp.astype(function(x[part, :]), dtype) * norm + xp.astype(y, dtype)

    def original(x, function, dtype, part, *rest, y, norm, **options):
        return np.asarray(function(x[part]) * norm + y, dtype)

    plain = (2.0, 1, True, None, "text", (0, (1, 2)))
    arguments = (X, lambda x: x * 2.0, np.float32, slice(0, 1), *plain)
    options = {**EXACT, "backends": STRICT, "variations": False, "reference": original}
    assert_parity(port, *arguments, y=X, mode="same", axis=None, kwargs={"norm": 2}, **options)
    assert seen == [(plain, {"mode": "same", "axis": None})]


@pytest.mark.parametrize(
    ("x", "change", "tier", "problem"),
    [
        (X, lambda x: x + 2.0**-52, {"ulp": 1}, f"(0, 0): {ULP}"),
        (X > 0, lambda x: x & ~x, {"rtol": 1.0}, "(0, 0): False where NumPy has True (unequal); 4 of 6"),
        (np.zeros(1), lambda x: -x, EXACT, f"(0,): {ZERO}"),
    ],
)
def test_the_message_names_output_index_values_and_distance(x, change, tier, problem):
    message = failure(lambda x: {"a": [x, on_others(change)(x)]}, x, **tier)
    assert message.startswith(f'array-api-strict on device1: result["a"][1] differs first at {problem}')


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (on_others(to_host_device), {}, "result is on device array_api_strict.Device"),
        (on_others(lambda x: x > 0), {"check_dtype": "kind"}, "result has dtype bool, NumPy's float64"),
        (lambda x, xp: float(xp.sum(x)), {"reference": np.sum}, "result is a builtins.float, not an array"),
        (lambda x: x.y, {"reference": check_and_root, "raises": ValueError}, "AttributeError: 'Array' obj"),
    ],
)
def test_results_that_differ_or_are_of_another_kind_fail_at_any_tolerance(function, options, message):
    text = failure(function, X, rtol=1.0, **options)
    assert text.startswith(f"array-api-strict on device1: {message}")


@pytest.mark.needs("jax")
def test_jit_runs_the_function_compiled_too():
    tracers = []

    def function(x, exponent, *, mask, xp):
        tracers.append("Tracer" in type(x).__name__)
        return {"x": [xp.where(mask, x, 0.0 if exponent == 2 else x)]}

    assert_parity(function, X, 2, mask=X > 0, **EXACT, **JAX, jit=True, variations=False)
    assert tracers == [False, False, True]
    message = failure(lambda x, xp: x / float(x[0, 0]), X, **EXACT, **JAX, jit=True)
    assert re.fullmatch(r"jax on cpu, jax.jit: Concret.*:\d+\); not inside jax.jit, where .*", message)


@pytest.mark.needs("jax")
def test_without_x64_jax_computes_in_32_bits_and_the_dtypes_follow_its_rule():
    dtypes = []

    def function(x, index, xp):
        dtypes.append(str(x.dtype))
        return x / 3.0, xp.argmax(x, axis=1), index, x > 0, xp.sum(x, axis=0)

    assert_parity(function, X / 7, np.arange(3), norm=1e-6, **NARROW, variations=False)
    assert dtypes == ["float64", "float32"]
    text = failure(lambda x, xp: x - xp.min(x), np.asarray([2**32, 1]), norm=1e-3, **NARROW)
    assert text.startswith("jax on cpu, 32 bits: result has dtype int32, NumPy's int64")


def test_arguments_and_results_may_be_nested_in_lists_tuples_dicts_and_dataclasses():
    def function(tree, record):
        return [Record(tree["a"][0] * record.scale, 1.0), (record.weight[0] + 1.0, {"b": tree["a"][0] - 1.0})]

    def replace(tree, record):
        tree["a"][0] = record.weight[0] + 0.0
        record.weight[0][0, 0] = 3.0
        return tree["a"][0] - 1.0

    arguments = {"a": [X]}, Record((X, "name"), 2.0)
    assert_parity(function, *arguments, reference=function, **EXACT, **BOTH)
    lines = failure(replace, *arguments, **EXACT).splitlines()
    paths = [line.partition(": ")[2].partition(" is changed in place")[0] for line in lines]
    assert paths == ['argument 0["a"][0]', "argument 1.weight[0]"] * 2


@pytest.mark.parametrize(
    ("function", "reference", "option", "message"),
    [
        (to_float32, np.copy, {"check_dtype": "kind"}, "result has dtype float32"),
        (to_float32, np.copy, {"check_dtype": {"numpy": "kind", STRICT[0]: False}}, "result has dtype"),
        (to_float32, np.copy, {"xfail": {"numpy": "", STRICT[0]: ""}}, "result has dtype float32"),
        (lambda x: 1.0 / (x - x), lambda x: x + np.inf, {"warnings": "ignore"}, "RuntimeWarning: divide"),
        (lambda x: x + 0.0, lambda x: x[:], {"check_memory": False}, "result shares no memory with arg"),
        (lambda x, xp: xp.unique_values(x), np.unique, {"data_dependent_shapes": True}, "RuntimeError"),
        (lambda x: add_to(1.0, x), lambda x: add_to(1.0, x), {"mutates": [0]}, "argument 0 is changed"),
    ],
)
def test_an_option_allows_what_is_a_failure_without_it(function, reference, option, message):
    options = {**EXACT, **BOTH, "reference": reference}
    assert_parity(function, np.abs(X), **options, **option)
    with pytest.raises(AssertionError, match=f"(?m)^(the reference|[a-z-]+ on [\\w, -]+): {message}"):
        assert_parity(function, np.abs(X), **options)


def test_without_float64_arguments_are_float32_and_indices_right_on_devices_that_have_none_too():
    seen, options = [], {"norm": 1e-6, "float64": False, "variations": False}

    def port(x, scale, xp):
        seen.append(re.search(r"(cpu|device1|no_\w+)\b.* \S*float32", f"{x.device} {(x * scale).dtype}")[1])
        return xp.take(x, xp.argsort(x[0, :]), axis=1) * scale, xp.count_nonzero(x > 0)

    def original(x, scale):
        return x[:, x[0].argsort()] * scale, np.count_nonzero(x > 0)

    assert_parity(port, X, 3.0, reference=original, **options, backends=STRICT)
    assert seen == ["device1", "no_float64", "no_x64"]


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((X,), {**EXACT, "ulp": 1}, ConfigError, "expected exactly one of .*, got"),
        ((X, [{2.0}]), EXACT, TypeError, r"argument 1\[0\] is a set: expected a NumPy array, a number, text"),
        ((X,), {**EXACT, "mutates": [1]}, ConfigError, r"mutates: expected a list .*, got \[1\]"),
        ((X,), {**EXACT, "backends": "torch"}, ConfigError, "backends: expected a list .*, got 'torch'"),
        ((X,), {**EXACT, "backends": ["torch:cuda:99"]}, BackendError, "the torch backend cannot run on cud"),
        ((), EXACT, AssertionError, "numpy on cpu: the function returns no array"),
        ((X,), {**EXACT, "xfail": {STRICT[0]: "slow"}}, AssertionError, "array-api-strict: does .*: slow"),
    ],
)
def test_wrong_arguments_are_errors(arrays, options, error, message):
    with pytest.raises(error, match=message):
        assert_parity(lambda *arrays: arrays, *arrays, **{"backends": STRICT, **options})
