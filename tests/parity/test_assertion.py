"""assert_parity: which functions it lets pass, and what it says of the others."""

import re
import warnings
from dataclasses import make_dataclass

import array_api_compat
import numpy as np
import pytest
from backend_enum import BackendCase
from porting_bugs import add_to, check_and_root

from xpnet.backends.probing import Probe
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import assert_parity, devices
from xpnet.parity.session import Session

X = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125]])
SPECIAL = np.asarray([np.nan, 1.0, np.inf])
EXACT, STRICT, JAX = {"tier": "bitwise"}, ["array-api-strict"], {"backends": ["jax"]}
NARROW, NO_FLOAT64 = {**JAX, "jax_x64": False}, {"norm": 1e-6, "backends": STRICT, "float64": False}
is_numpy, namespace = array_api_compat.is_numpy_array, array_api_compat.array_namespace


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    """Hide the pytest session that runs these tests, and the backends that it requires."""
    monkeypatch.setattr("xpnet.parity.session.SESSIONS", [])
    monkeypatch.delenv(devices.REQUIRE, raising=False)


@pytest.fixture
def usable(monkeypatch):
    """Replace the backends that are usable by default."""

    def replace(*names):
        yes = Probe(usable=True, version="1", devices=())
        monkeypatch.setattr(devices, "probe_all", lambda: [(devices.parse(name), yes) for name in names])

    return replace


def on_others(change):
    """A function that changes its argument with every library but NumPy."""
    return lambda x: x if is_numpy(x) else change(x)


def failure(function, *arguments, **options):
    """Return the error that a function causes, with array-api-strict unless told otherwise."""
    with pytest.raises(AssertionError) as caught:
        assert_parity(function, *arguments, **{"backends": STRICT, **options})
    return caught.value


def to_float32(x):
    return namespace(x).astype(x, namespace(x).float32)


def to_host_device(x):
    return x.to_device(namespace(x).Device("CPU_DEVICE"))


# What passes


@pytest.mark.parametrize("case", [BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX, BackendCase.DPNP])
def test_equal_results_pass_in_every_tier(case):
    """Also of nested outputs, NaN, integers and truth values."""

    def function(x, y):
        return {"sums": (x + y, [x - y]), 3: x > 0.5, "special": y * 1.0}

    for tier in (EXACT, {"ulp": 0}, {"rtol": 0.0}):
        sync = case is not BackendCase.TORCH
        assert_parity(function, SPECIAL + 1.0, SPECIAL, **tier, backends=[case.value], sync=sync)


@pytest.mark.parametrize(
    ("function", "x", "options"),
    [
        (on_others(lambda x: x * (1.0 + 2.0**-50)), X, {"rtol": 0.0, "atol": 1e-14}),
        (on_others(lambda x: x * -1.0), np.zeros(2), {"ulp": 0}),
        (on_others(lambda x: x + 1e-6), np.asarray([1e-8, -100.0, np.inf, np.nan]), {"norm": 1.1e-8}),
        (on_others(to_float32), X, {**EXACT, "check_dtype": False}),
        (on_others(lambda x: namespace(x).reshape(x, (3, 2))), X, {**EXACT, "check_shape": False}),
        (on_others(to_host_device), X, {**EXACT, "check_device": False}),
        # A parameter named xp is given the namespace unless it is the first.
        (lambda x, scale=2.0, xp=None: xp.abs(x) * scale, X, EXACT),
        (lambda xp: xp + 1.0, X, EXACT),
        # Numbers of Python in the original may be numbers or arrays in the port.
        (lambda x, xp: (xp.sum(x), 3), X, {**EXACT, "reference": lambda x: (float(x.sum()), 3)}),
    ],
)
def test_what_is_near_enough_or_not_checked_passes(function, x, options):
    assert_parity(function, x, **options, backends=STRICT)


def test_the_default_is_every_usable_backend_and_numpy_alone_is_an_error(usable):
    seen = set()
    usable("numpy", "array-api-strict", "array-api-strict:cpu")
    assert_parity(lambda x: seen.add(str(x.device)) or x, X, **EXACT)
    assert len(seen) == 3
    usable("numpy")
    with pytest.raises(BackendError, match="no array library but NumPy"):
        assert_parity(lambda x: x, X, **EXACT)
    assert_parity(lambda x: x + 0.0, X, reference=np.copy, **EXACT)


def test_a_required_backend_that_is_missing_is_an_error(usable, monkeypatch):
    usable("numpy", "array-api-strict")
    monkeypatch.setenv(devices.REQUIRE, "torch:cuda:99, numpy")
    with pytest.raises(BackendError, match=r"the torch backend cannot run on cuda:99"):
        assert_parity(lambda x: x, X, **EXACT)


def test_plain_arguments_are_passed_as_they_are_and_arrays_by_keyword_are_copied_to_the_device():
    seen = []

    def function(x, scale, *rest, y, xp, **options):
        seen.append((scale, rest, options))
        return x * scale + y

    plain = (2.0, 1, True, None, "text", (0, (1, 2)))
    assert_parity(
        function, X, *plain, y=X, mode="same", axis=None, **EXACT, backends=STRICT, variations=False
    )
    assert seen == [(2.0, plain[1:], {"mode": "same", "axis": None})] * 2


# What fails


ULP = "0.5000000000000002 where NumPy has 0.5 (2 ulp); 3 of 6 values, at most 16 ulp, "
ULP += "1.8e-15 relative, 2.2e-16 absolute; expected at most 1 ulp"
NAN = (
    "nan where NumPy has inf (inf ulp); 1 of 1 values, at most inf ulp, inf relative, inf absolute; expected "
)
ZERO = (
    "-0.0 where NumPy has 0.0 (0 ulp, but of another sign); 1 of 1 values, at most 0 ulp, 0.0e+00 relative,"
)
NORM = "2.0 where NumPy has 1.0 (4.5e+15 ulp); 2 of 2 values, at most 4.5e+15 ulp, 1.0e+00 relative, "
NORM += "1.0e+00 absolute, norm 1.0e-02; expected norm"


@pytest.mark.parametrize(
    ("x", "change", "tier", "problem"),
    [
        (X, lambda x: x + 2.0**-52, {"ulp": 1}, f"(0, 0): {ULP}"),
        (X > 0, lambda x: x & ~x, {"rtol": 1.0}, "(0, 0): False where NumPy has True (unequal); 4 of 6"),
        (SPECIAL[2:], lambda x: x * 0, {"rtol": 9, "atol": 0.5}, f"(0,): {NAN}rtol 9, atol 0.5"),
        (np.asarray([1.0, -100.0]), lambda x: x + 1.0, {"norm": 0.009}, f"(0,): {NORM}"),
        (np.zeros(1), lambda x: -x, EXACT, f"(0,): {ZERO} 0.0e+00 absolute; expected the same bits"),
    ],
)
def test_the_message_names_output_index_values_and_distance(x, change, tier, problem):
    message = str(failure(lambda x: {"a": [x, on_others(change)(x)]}, x, **tier))
    assert message.startswith(f'array-api-strict on device1: result["a"][1] differs first at {problem}')


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (on_others(lambda _: X), {}, "result is a numpy.ndarray, not an array of array-api-strict"),
        (on_others(to_host_device), {}, "result is on device array_api_strict.Device"),
        (on_others(lambda x: x > 0), {"check_dtype": "kind"}, "result has dtype bool, NumPy's float64"),
        (on_others(lambda x: to_float32(x) + 4.0), {"check_dtype": False}, "result differs first"),
        (on_others(lambda x: x[:, :2]), {"check_shape": False}, "result has shape (2, 2), NumPy's (2, 3)"),
        (on_others(lambda x: to_host_device(x) + 4.0), {"check_device": False}, "result differs first"),
        (lambda x, xp: float(xp.sum(x)), {"reference": np.sum}, "result is a builtins.float, not an array"),
        (lambda x: x.y, {"reference": check_and_root, "raises": ValueError}, "AttributeError: 'Array' obj"),
    ],
)
def test_results_that_differ_or_are_of_another_kind_fail_at_any_tolerance(function, options, message):
    error = failure(function, X, rtol=1.0, **options)
    assert str(error).startswith(f"array-api-strict on device1: {message}")


def test_errors_of_the_function_are_the_cause_of_the_failure():
    error = failure(on_others(lambda _: 1 / 0), X, **EXACT).__cause__
    assert (type(error), error.__notes__) == (ZeroDivisionError, ["raised with array-api-strict on device1"])

    def fail(x):
        raise ValueError("first line\n\nsecond line") if x.device == "cpu" else KeyError

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        assert_parity(lambda x: 1 / 0, X, **EXACT)
    group = failure(fail, X, reference=np.copy, **EXACT, backends=["numpy", *STRICT])
    lines = ["numpy on cpu: ValueError: first line", "array-api-strict on device1: KeyError: no message"]
    assert re.sub(r" \(test_assertion.py:\d+\)", "", str(group)).splitlines() == lines
    assert [type(error) for error in group.__cause__.exceptions] == [ValueError, KeyError]


@pytest.mark.needs("jax")
def test_jit_runs_the_function_compiled_too():
    tracers = []

    def function(x, exponent, *, mask, xp):
        tracers.append("Tracer" in type(x).__name__)
        return {"x": [xp.where(mask, x, 0.0 if exponent == 2 else x)]}

    assert_parity(function, X, 2, mask=X > 0, **EXACT, **JAX, jit=True, variations=False)
    assert tracers == [False, False, True]
    message = str(failure(lambda x, xp: x / float(x[0, 0]), X, **EXACT, **JAX, jit=True))
    assert re.fullmatch(r"jax on cpu, jax.jit: Concret.*:\d+\); not inside jax.jit, where .*", message)


@pytest.mark.needs("jax")
def test_without_x64_jax_computes_in_32_bits_and_the_dtypes_follow_its_rule():
    dtypes = []

    def function(x, index, xp):
        dtypes.append(str(x.dtype))
        return x / 3.0, xp.argmax(x, axis=1), index, x > 0, xp.sum(x, axis=0)

    assert_parity(function, X / 7, np.arange(3), norm=1e-6, **NARROW, variations=False)
    assert_parity(function, X / 7, np.arange(3), ulp=1, **JAX, variations=False)
    assert dtypes == ["float64", "float32", "float64", "float64"]


@pytest.mark.needs("jax")
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (1e6 + X / 7, r"result differs first at .*, norm \d"),
        (np.asarray([2**32, 1]), "result has dtype int32, NumPy's int64"),
        (np.asarray([-1e39, 1]), "result has dtype float32, NumPy's float64"),
    ],
)
def test_what_32_bits_lose_is_found_without_x64(x, message):
    error = failure(lambda x, xp: x - xp.min(x), x, norm=1e-3, **NARROW)
    assert re.search(f"^jax on cpu, 32 bits: {message}", str(error))


# Nested arguments, and what is expected of a function besides its result

Record = make_dataclass("Record", ["weight", "scale"], frozen=True)


def test_arguments_and_results_may_be_nested_in_lists_tuples_dicts_and_dataclasses():
    def function(tree, record):
        return [Record(tree["a"][0] * record.scale, 1.0), (record.weight[0] + 1.0, {"b": tree["a"][0] - 1.0})]

    def replace(tree, record):
        tree["a"][0] = record.weight[0] + 0.0
        record.weight[0][0, 0] = 3.0
        return tree["a"][0] - 1.0

    arguments = {"a": [X]}, Record((X, "name"), 2.0)
    assert_parity(function, *arguments, reference=function, **EXACT, backends=["numpy", *STRICT])
    lines = str(failure(replace, *arguments, **EXACT)).splitlines()
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
    options = {**EXACT, "reference": reference, "backends": ["numpy", *STRICT]}
    assert_parity(function, np.abs(X), **options, **option)
    with pytest.raises(AssertionError, match=f"(?m)^(the reference|[a-z-]+ on [\\w, -]+): {message}"):
        assert_parity(function, np.abs(X), **options)


def test_errors_and_warnings_of_the_reference_are_right_and_other_warnings_are_given():
    def divide(x):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return x / x * 0.0

    both = {"backends": ["numpy", *STRICT]}
    assert_parity(lambda x: int("no"), X, reference=check_and_root, raises=(KeyError, ValueError), **both)
    with pytest.warns(DeprecationWarning, match="old"):
        assert_parity(divide, X * 0.0, reference=lambda x: x / x, **both, **EXACT)
    with pytest.warns(RuntimeWarning, match="slow"):  # of a library other than NumPy
        assert_parity(on_others(lambda x: warnings.warn("slow", RuntimeWarning, 1) or x), X, **both, **EXACT)


def test_without_float64_arguments_are_float32_on_devices_that_have_none_too(monkeypatch):
    seen = []

    def function(x, scale, xp):
        seen.append(f"{x.device} {(x * scale).dtype}")
        return xp.argmax(x / 3.0, axis=1), x * scale

    assert_parity(
        function, X, 3.0, reference=lambda x, s: (x.argmax(axis=1), x * s), **NO_FLOAT64, variations=False
    )
    found = [re.search(r"(device1|no_\w+).* \S*float32", text)[1] for text in seen]
    assert found == ["device1", "no_float64", "no_x64"]
    seen.clear()
    monkeypatch.setattr("xpnet.parity.session.SESSIONS", [Session(of_test=devices.NUMPY)])
    assert_parity(function, X, np.float64(3.0), **{**NO_FLOAT64, "backends": None})
    assert {*seen} == {"cpu float32"}


@pytest.mark.parametrize(
    ("port", "reference"),
    [
        (lambda x, xp: xp.argmin(x, axis=1), lambda x: x.argmin(axis=1)),
        (lambda x, xp: xp.argmax(x, axis=1), lambda x: x.argmax(axis=1)),
        (lambda x, xp: xp.take(x, xp.argsort(x[0, :]), axis=1), lambda x: x[:, x[0].argsort()]),
        (
            lambda x, xp: xp.searchsorted(xp.sort(x[0, :]), x[1, :]),
            lambda x: np.searchsorted(np.sort(x[0]), x[1]),
        ),
        (lambda x, xp: xp.count_nonzero(x > 0), lambda x: np.count_nonzero(x > 0)),
        (lambda x, xp: xp.arange(x.shape[0], device=x.device), lambda x: np.arange(len(x))),
        (lambda x, xp: x * xp.arange(3, dtype=x.dtype, device=x.device), lambda x: x * np.arange(3)),
    ],
)
def test_indices_and_counts_are_right_on_devices_without_64_bits(port, reference):
    assert_parity(port, X, reference=reference, ulp=0, backends=["numpy", *STRICT], float64=False)


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (
            lambda x, xp: xp.astype(x, xp.float64),
            "array-api-strict on no_x64: ValueError: Device .*=.*float64",
        ),
        (
            lambda x, xp: x + xp.zeros(3, dtype=xp.int64, device=x.device),
            "array-api-strict on no_x64: ValueError",
        ),
        (
            lambda x, xp: x > 0,
            "array-api-strict on no_float64, .* on no_x64: result has dtype bool, .* float32",
        ),
    ],
)
def test_what_a_port_asks_for_is_not_on_devices_without_64_bits(port, text):
    assert re.search(
        text, str(failure(port, X, reference=lambda x: x, ulp=0, backends=STRICT, float64=False))
    )


@pytest.mark.needs("jax")
@pytest.mark.parametrize(
    ("port", "reference", "hint"),
    [
        (
            lambda x, xp: xp.searchsorted(x[0, :], x[0, :]),
            lambda x: np.searchsorted(x[0], x[0]),
            "JAX's gives int32",
        ),
        (
            lambda x: x * 1e-308 * 0.5,
            lambda x: x * 1e-308 * 0.5,
            "2.2e-308 are subnormal, and jax may make them z",
        ),
        (lambda x: x * 0.0, lambda x: x + 1.0, "absolute; expected rtol 1e-12"),
    ],
)
def test_known_reasons_are_given_and_no_others(port, reference, hint):
    text = str(failure(port, np.asarray([[0.5, 1.0]]), reference=reference, rtol=1e-12, **JAX))
    assert hint in text
    assert ("view" in text, text.count("\n")) == (False, 0)


def test_warnings_are_compared_by_kind_and_libraries_that_fail_alike_share_a_line():
    zero, both = np.asarray([0.0, 1.0]), {"backends": ["numpy", *STRICT]}
    assert_parity(lambda x, xp: xp.log(x), zero, reference=lambda x: -np.log(1.0 / x), ulp=9, **both)
    text = str(
        failure(lambda x, xp: xp.sqrt(-x), zero, reference=lambda x: x + np.log(x * 0), rtol=9, **both)
    )
    assert re.match(
        r"numpy on cpu, array-api-strict on device1: result differs .* absolute; .*\nnumpy on c", text
    )
    assert "RuntimeWarning: invalid value encountered in sqrt" in text

    under, alone = np.errstate(under="warn"), {**EXACT, "backends": ["numpy"]}
    port = under(lambda x: x * 1e-308 * 1e-308)
    assert_parity(port, zero, reference=under(lambda x: x * 1e-200 * 1e-200), **alone)
    text = str(failure(port, zero, reference=lambda x: x * 0.0, **alone))
    assert "RuntimeWarning: underflow encountered in multiply" in text


@pytest.mark.needs("torch")
@pytest.mark.parametrize("loop", [lambda x: sum(iter(x)), lambda x: sum(x[i] for i in range(16))])
def test_loops_over_a_device_array_are_reported_with_their_place(loop):
    x = np.arange(20.0)
    options = {"rtol": 1e-9, "backends": ["torch"], "sync": False}
    assert_parity(lambda x: sum(x[i] for i in range(15)) + 0.0, x, **options)
    text = str(failure(lambda x: loop(x) + 0.0, x, **options))
    assert re.fullmatch(
        r"torch on meta: RuntimeError: .* of an array.* \(test_assertion.py:\d+\); sync=.* loops over arrays",
        text,
    )


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("port", "x", "text"),
    [
        (lambda x: x, np.ones(2, np.longdouble), "argument 0: torch has no (longdouble|float128): TypeError"),
        (
            lambda x, xp: xp.astype(x, xp.bfloat16),
            np.ones(2),
            "result has dtype torch.bfloat16, NumPy's float64: T",
        ),
    ],
)
def test_a_dtype_that_numpy_or_the_library_lacks_is_no_error_of_the_function(port, x, text):
    error = failure(port, x, reference=np.copy, rtol=1.0, backends=["torch"])
    assert re.match(f"torch on cpu: {text}".replace("NumPy's", "the reference's"), str(error))
    assert error.__cause__ is None


def test_keywords_that_clash_callables_dtypes_and_slices_are_arguments():
    def port(x, function, dtype, part, *, norm, xp):
        return xp.astype(function(x[part, :]), dtype) * norm

    arguments = (X, lambda x: x * 2.0, np.float32, slice(0, 1))
    original = lambda x, function, dtype, part, norm: np.asarray(function(x[part]) * norm, dtype)  # noqa: E731
    assert_parity(port, *arguments, reference=original, ulp=0, kwargs={"norm": 2})


ONE_OF = "expected exactly one of .*, finite and 0 or more, got"


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((X,), {}, ConfigError, ONE_OF),
        ((X,), {**EXACT, "ulp": 1}, ConfigError, ONE_OF),
        ((X,), {"norm": -1.0}, ConfigError, ONE_OF),
        ((X, [{2.0}]), EXACT, TypeError, r"argument 1\[0\] is a set: expected a NumPy array, a number, text"),
        ((X,), {**EXACT, "mutates": [1]}, ConfigError, r"mutates: expected a list .*, got \[1\]"),
        ((X,), {**EXACT, "check_dtype": "width"}, ConfigError, "check_dtype: expected .*, got 'width'"),
        ((X,), {"rtol": "x"}, ConfigError, "rtol: expected float .*, got 'x'"),
        ((X,), {**EXACT, "xfail": 5}, ConfigError, "xfail: expected .*, got 5"),
        ((X,), {**EXACT, "backends": 5}, ConfigError, "backends: expected .*, got 5"),
        ((X,), {**EXACT, "reference": 5}, ConfigError, "reference: expected .*, got 5"),
        ((X,), {**EXACT, "variations": ["blue"]}, ConfigError, "variations: expected .*'F order'.*, got"),
        ((X,), {**EXACT, "warnings": "none"}, ConfigError, "warnings: expected .*, got 'none'"),
        ((X,), {**EXACT, "xfail": {"keras": ""}}, ConfigError, "unknown backend 'keras'"),
        ((X,), {**EXACT, "backends": ["tensorflow"]}, ConfigError, "unknown backend 'tensorflow'"),
        ((X,), {**EXACT, "backends": "torch"}, ConfigError, "backends: expected a list .*, got 'torch'"),
        ((X,), {**EXACT, "backends": ()}, ConfigError, r"backends: expected a list .*, got \(\)"),
        ((X,), {**EXACT, "backends": ["torch:cuda:99"]}, BackendError, "the torch backend cannot run on cud"),
        ((), EXACT, AssertionError, "numpy on cpu: the function returns no array"),
        ((X,), {"raises": ValueError}, AssertionError, "numpy on cpu: raises no ValueError"),
        ((X,), {**EXACT, "xfail": {STRICT[0]: "slow"}}, AssertionError, "array-api-strict: does .*: slow"),
    ],
)
def test_wrong_arguments_are_errors(arrays, options, error, message):
    with pytest.raises(error, match=message):
        assert_parity(lambda *arrays: arrays, *arrays, **{"backends": STRICT, **options})
