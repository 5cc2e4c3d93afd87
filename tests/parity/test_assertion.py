"""assert_parity: which functions it lets pass, and what it says of the others."""

import re
from functools import partial

import array_api_compat
import numpy as np
import pytest
from backend_enum import BackendCase

from xpnet.backends.probing import Probe
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import assert_parity, devices

X = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125]])
SPECIAL = np.asarray([np.nan, 1.0, np.inf])
EXACT, STRICT = {"tier": "bitwise"}, ["array-api-strict"]
LIBRARIES = ["numpy", "torch", "jax", "array-api-strict"]
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


def on_others(change, x):
    """Return what a function returns that changes the result with every library but NumPy."""
    return x if is_numpy(x) else change(x)


@pytest.mark.parametrize("tier", [EXACT, {"ulp": 0}, {"rtol": 0.0}], ids=str)
@pytest.mark.parametrize("case", [BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX, BackendCase.DPNP])
def test_equal_results_pass_in_every_tier(tier, case):
    """Also of nested outputs, NaN, integers and truth values."""

    def function(x, y):
        return {"sums": (x + y, [x - y]), 3: x > 0.5, "special": y * 1.0}

    assert_parity(function, SPECIAL + 1.0, SPECIAL, **tier, backends=[case.value])


def test_the_default_is_every_usable_backend_and_numpy_alone_is_an_error(usable):
    seen = set()
    usable("numpy", "array-api-strict", "array-api-strict:cpu")
    assert_parity(lambda x: seen.add(str(x.device)) or x, X, **EXACT)
    assert len(seen) == 3
    usable("numpy")
    with pytest.raises(BackendError, match="no array library but NumPy"):
        assert_parity(lambda x: x, X, **EXACT)
    assert_parity(lambda x: x, X, reference=np.copy, **EXACT)


def test_a_required_backend_that_is_missing_is_an_error(usable, monkeypatch):
    usable("numpy", "array-api-strict")
    monkeypatch.setenv(devices.REQUIRE, "torch:cuda:99, numpy")
    with pytest.raises(BackendError, match=r"the torch backend cannot run on cuda:99"):
        assert_parity(lambda x: x, X, **EXACT)
    monkeypatch.setenv(devices.REQUIRE, "numpi")
    with pytest.raises(ConfigError, match=r"^XPNET_REQUIRE_BACKENDS: unknown backend 'numpi'"):
        assert_parity(lambda x: x, X, **EXACT)
    everything = "numpy cupy torch jax dpnp array-api-strict torch:cuda jax:cuda dpnp:gpu"
    for value, names in ("1", everything), ("TRUE", everything), ("off", ""):
        monkeypatch.setenv(devices.REQUIRE, value)
        assert " ".join(map(str, devices.find_required())) == names


@pytest.mark.parametrize(
    "function",
    [lambda x, *, xp: xp.abs(x), lambda x, scale=2.0, xp=None: xp.abs(x) * scale, lambda xp: xp + 1.0],
)
def test_a_parameter_named_xp_is_given_the_namespace_unless_it_is_the_first(function):
    assert_parity(function, X, **EXACT, backends=STRICT)


ULP = "0.5000000000000002 where NumPy has 0.5 (2 ulp); 3 of 6 values, at most 16 ulp"
TRUTH = "False where NumPy has True (unequal); 4 of 6 values"
NAN = "nan where NumPy has inf (inf ulp); 1 of 1 values, at most inf ulp"
ZERO = "-0.0 where NumPy has 0.0 (0 ulp, but of another sign); 1 of 1 values, at most 0 ulp"


@pytest.mark.parametrize(
    ("x", "change", "tier", "problem"),
    [
        (X, lambda x: x + 2.0**-52, {"ulp": 1}, f"(0, 0): {ULP}; expected at most 1 ulp"),
        (X > 0, lambda x: x & ~x, {"rtol": 1.0}, f"(0, 0): {TRUTH}; expected rtol 1"),
        (SPECIAL[2:], lambda x: x * 0, {"rtol": 9, "atol": 0.5}, f"(0,): {NAN}; expected rtol 9, atol 0.5"),
        (np.zeros(1), lambda x: -x, EXACT, f"(0,): {ZERO}; expected the same bits"),
    ],
)
def test_the_message_names_output_index_values_and_distance(x, change, tier, problem):
    with pytest.raises(AssertionError) as caught:
        assert_parity(lambda x: {"a": [x, on_others(change, x)]}, x, **tier, backends=STRICT)
    assert str(caught.value) == f'array-api-strict on device1: result["a"][1] differs first at {problem}'


KINDS = {
    ": result is a numpy.ndarray, not an array of array-api-strict": lambda x: X,
    ": result is on device array_api_strict.Device": lambda x: x.to_device(namespace(x).Device("CPU_DEVICE")),
    ": result has dtype float32, NumPy's float64": lambda x: namespace(x).astype(x, namespace(x).float32),
    ": result has shape (2, 2), NumPy's (2, 3)": lambda x: x[:, :2],
    ": returns result[0], NumPy result": lambda x: (x,),
}


@pytest.mark.parametrize("message", KINDS)
def test_results_of_another_kind_fail_in_every_tier(message):
    with pytest.raises(AssertionError, match=re.escape(f"array-api-strict on device1{message}")):
        assert_parity(lambda x: on_others(KINDS[message], x), X, rtol=1.0, backends=STRICT)


@pytest.mark.parametrize("tier", [{"ulp": 8}, {"rtol": 1e-14}, {"rtol": 0.0, "atol": 1e-14}], ids=str)
def test_ulp_and_rtol_let_pass_what_is_near_enough(tier):
    assert_parity(lambda x: on_others(lambda x: x * (1.0 + 2.0**-50), x), X, **tier, backends=STRICT)
    assert_parity(lambda x: on_others(lambda x: x * -1.0, x), np.zeros(2), **tier, backends=STRICT)


@pytest.mark.needs("torch", "jax")
def test_every_library_is_tried_and_every_problem_has_a_line():
    def function(x, xp):
        wrong = {"torch": x[:1], "jax.numpy": x + x}.get(xp.__name__.removeprefix("array_api_compat."), x)
        return {"wrong": wrong, "right": x, "wrong too": wrong}

    with pytest.raises(AssertionError) as caught:
        assert_parity(function, np.ones(2), **EXACT, backends=LIBRARIES)
    far = "differs first at (0,): 2.0 where NumPy has 1.0 (4.5e+15 ulp); 2 of 2 values, at most 4.5e+15 ulp"
    assert str(caught.value).splitlines() == [
        """torch on cpu: result["wrong"] has shape (1,), NumPy's (2,)""",
        """torch on cpu: result["wrong too"] has shape (1,), NumPy's (2,)""",
        f'jax on cpu: result["wrong"] {far}; expected the same bits',
        f'jax on cpu: result["wrong too"] {far}; expected the same bits',
    ]


def test_an_error_of_the_function_is_a_failure_and_its_cause():
    with pytest.raises(AssertionError) as caught:
        assert_parity(lambda x: on_others(lambda _: 1 / 0, x), X, **EXACT, backends=STRICT)
    assert str(caught.value) == "array-api-strict on device1: ZeroDivisionError: division by zero"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.__cause__.__notes__ == ["raised with array-api-strict on device1"]


def test_errors_with_several_libraries_are_a_group():
    def fail(x):
        raise ValueError("first line\n\nsecond line") if x.device == "cpu" else KeyError

    with pytest.raises(AssertionError) as caught:
        assert_parity(fail, X, reference=np.copy, **EXACT, backends=["numpy", *STRICT])
    lines = ["numpy on cpu: ValueError: first line", "array-api-strict on device1: KeyError: no message"]
    assert str(caught.value).splitlines() == lines
    assert [type(error) for error in caught.value.__cause__.exceptions] == [ValueError, KeyError]


@pytest.mark.parametrize(
    ("options", "where"), [({}, "numpy on cpu"), ({"reference": lambda x: 1 / 0}, "the reference")]
)
def test_an_error_with_numpy_itself_is_raised_as_it_is(options, where):
    with pytest.raises(ZeroDivisionError) as caught:
        assert_parity(lambda x: 1 / 0, X, **options, **EXACT, backends=STRICT)
    assert caught.value.__notes__ == [f"raised with {where}"]


# A port and its original


def column_sums(x):
    return x.sum(axis=0)


@pytest.mark.parametrize("case", [BackendCase.NUMPY, BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX])
def test_the_reference_takes_numpy_and_the_port_every_library(case):
    kinds = []

    def original(x):
        assert type(x) is np.ndarray
        return column_sums(x)

    def port(x, *, xp):
        kinds.append(namespace(x).__name__)
        return xp.sum(x, axis=0)

    assert_parity(port, X, reference=original, **EXACT, backends=[case.value])
    assert kinds == [case.make().xp.__name__]


def test_a_port_with_the_wrong_axis_fails(usable):
    usable("numpy", "array-api-strict")
    with pytest.raises(AssertionError) as caught:
        assert_parity(lambda x, xp: xp.sum(x, axis=1), X, reference=column_sums, **EXACT)
    problem = "result has shape (2,), the reference's (3,)"
    lines = [f"{where}: {problem}" for where in ("numpy on cpu", "array-api-strict on device1")]
    assert str(caught.value).splitlines() == lines
    square = np.asarray([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(AssertionError) as caught:
        assert_parity(lambda x, xp: xp.sum(x, axis=1), square, reference=column_sums, rtol=0.1)
    problem = "result differs first at (0,): 3.0 where the reference has 4.0 (2.3e+15 ulp); 2 of 2 values"
    assert str(caught.value).startswith(f"numpy on cpu: {problem}")


def test_results_that_are_numbers_of_python_in_the_original_may_be_numbers_or_arrays():
    def original(x):
        return float(x.sum()), 3

    assert_parity(lambda x, xp: (xp.sum(x), 3), X, reference=original, **EXACT, backends=STRICT)
    with pytest.raises(
        AssertionError, match=r"result\[1\] differs first at \(\): 4 where the reference has 3"
    ):
        assert_parity(lambda x, xp: (xp.sum(x), 4), X, reference=original, **EXACT, backends=STRICT)
    with pytest.raises(AssertionError, match=r"result is a builtins.float, not an array of array-api-strict"):
        assert_parity(lambda x, xp: float(xp.sum(x)), X, reference=np.sum, **EXACT, backends=STRICT)


# Arguments


def test_plain_arguments_are_passed_as_they_are_and_arrays_by_keyword_are_copied_to_the_device():
    seen = []

    def function(x, scale, *rest, y, xp, **options):
        seen.append((scale, rest, options))
        return x * scale + y

    plain = (2.0, 1, True, None, "text", (0, (1, 2)))
    assert_parity(function, X, *plain, y=X, mode="same", axis=None, **EXACT, backends=STRICT)
    assert seen == [(2.0, plain[1:], {"mode": "same", "axis": None})] * 2


def test_partial_binds_a_keyword_that_assert_parity_has_itself():
    def function(x, norm, xp):
        return x * norm

    assert_parity(partial(function, norm=2.0), X, norm=0.0, backends=STRICT)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'norm'"):
        assert_parity(function, X, norm=0.0, backends=STRICT)


def overwrite(x, **others):
    for array in others.values():
        array[0, 0] = 9.0
    return x + 0.0


@pytest.mark.parametrize("case", [BackendCase.STRICT, BackendCase.TORCH])
def test_an_argument_that_is_changed_in_place_is_an_error_and_the_arrays_are_copies(case):
    x, y = X.copy(), X.copy()
    with pytest.raises(AssertionError) as caught:
        assert_parity(overwrite, x, y=y, **EXACT, backends=[case.value])
    lines = [f"{case.make().name} on {case.device}", "numpy on cpu"]
    problem = "argument y is changed in place: compute a new array instead"
    assert sorted(str(caught.value).splitlines()) == sorted(f"{where}: {problem}" for where in lines)
    assert np.array_equal(x, X)
    assert np.array_equal(y, X)


def test_a_reference_must_not_change_its_arguments_either():
    def original(x):
        x += 1.0
        return x

    with pytest.raises(AssertionError, match=r"^the reference: argument 0 is changed in place: [^\n]*$"):
        assert_parity(lambda x: x + 1.0, X, reference=original, **EXACT, backends=STRICT)


@pytest.mark.needs("torch")
def test_defaults_of_pytorch_do_not_matter():
    import torch

    def function(x, xp):
        assert is_numpy(x) or not torch.backends.cuda.matmul.allow_tf32
        return x + xp.ones(3)

    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("high")
    try:
        assert_parity(function, X, **EXACT, backends=["torch"])
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_default_device() == torch.device("meta")
    finally:
        torch.set_default_device(None)
        torch.set_float32_matmul_precision("highest")


# Tiers and checks


def test_norm_is_relative_to_the_largest_magnitude():
    x = np.asarray([1e-8, -100.0, np.inf, np.nan])
    near = partial(on_others, lambda x: x + 1e-6)
    assert_parity(near, x, norm=1.1e-8, backends=STRICT)
    with pytest.raises(AssertionError) as caught:
        assert_parity(near, x[:2], norm=0.9e-8, backends=STRICT)
    assert re.search(
        r"at \(0,\): 1.00\d+e-06 where NumPy has 1e-08 \(.* ulp\); 2 of 2 values, "
        r"at most .* ulp, norm 1.0e-08; expected norm 9e-09$",
        str(caught.value),
    )
    with pytest.raises(AssertionError, match="where NumPy has inf"):
        assert_parity(lambda x: on_others(lambda x: x * 0.0, x), x[2:3], norm=1.0, backends=STRICT)


def to_float32(x):
    return namespace(x).astype(x, namespace(x).float32)


def to_host_device(x):
    return x.to_device(namespace(x).Device("CPU_DEVICE"))


@pytest.mark.parametrize(
    ("check", "change", "wrong"),
    [
        ("check_dtype", to_float32, lambda x: to_float32(x) + 1.0),
        ("check_shape", lambda x: namespace(x).reshape(x, (3, 2)), lambda x: x[:, :2]),
        ("check_device", to_host_device, lambda x: to_host_device(x) + 1.0),
    ],
)
def test_dtype_shape_and_device_are_checked_unless_told_otherwise(check, change, wrong):
    function = partial(on_others, change)
    with pytest.raises(AssertionError, match=check.removeprefix("check_")):
        assert_parity(function, X, **EXACT, backends=STRICT)
    assert_parity(function, X, **EXACT, **{check: False}, backends=STRICT)
    with pytest.raises(AssertionError, match="array-api-strict on device1: result"):
        assert_parity(partial(on_others, wrong), X, **EXACT, **{check: False}, backends=STRICT)


# JAX


@pytest.mark.needs("jax")
def test_jit_runs_the_function_compiled_too():
    tracers = []

    def function(x, exponent, *, mask, xp):
        tracers.append("Tracer" in type(x).__name__)
        positive = xp.where(mask, x, 0.0 if exponent == 2 else x)
        return {3: positive * positive, "x": [x]}

    assert_parity(function, X, 2, mask=X > 0, **EXACT, backends=["jax"], jit=True)
    assert tracers == [False, False, True]


@pytest.mark.needs("jax")
def test_a_function_that_only_jit_refuses_fails_there():
    with pytest.raises(AssertionError) as caught:
        assert_parity(lambda x: x[x > 0], X, **EXACT, backends=["jax"], jit=True)
    assert str(caught.value).startswith("jax on cpu, jax.jit: NonConcreteBooleanIndexError: Array boolean")
    assert "\n" not in str(caught.value)


@pytest.mark.needs("jax")
def test_without_x64_jax_computes_in_32_bits_and_the_dtypes_follow_its_rule():
    dtypes = []

    def function(x, index, xp):
        dtypes.append(str(x.dtype))
        return x / 3.0, xp.argmax(x, axis=1), index, x > 0, x * 1j, xp.sum(x, axis=0)

    assert_parity(function, X / 7, np.arange(3), norm=1e-6, backends=["jax"], jax_x64=False, jit=True)
    assert dtypes == ["float64", "float32", "float32"]
    assert_parity(function, X / 7, np.arange(3), ulp=1, backends=["jax"])
    assert dtypes[3:] == ["float64", "float64"]
    with pytest.raises(AssertionError, match=r"32 bits: result has dtype float16, NumPy's float32$"):
        assert_parity(
            lambda x: x if is_numpy(x) else x.astype("float16"), X, rtol=1, backends=["jax"], jax_x64=False
        )


@pytest.mark.needs("jax")
def test_what_32_bits_lose_is_found_without_x64():
    def center(x, xp):
        return x - xp.mean(x)

    x = 1e6 + X / 7
    assert_parity(center, x, norm=1e-9, backends=["jax"])
    with pytest.raises(AssertionError, match=r"^jax on cpu, 32 bits: result differs first at .*, norm \d"):
        assert_parity(center, x, norm=1e-3, backends=["jax"], jax_x64=False)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("value", [2**32, -(2**31) - 1, 1e300, -1e39])
def test_results_that_32_bits_cannot_hold_are_found_without_x64(value):
    options = {"rtol": 0.0, "backends": ["jax"], "jax_x64": False}
    with pytest.raises(AssertionError, match=r"^jax on cpu, 32 bits: result has dtype .*32, NumPy's .*64"):
        assert_parity(lambda x: x, np.asarray([value, 1]), **options)
    with pytest.raises(AssertionError, match=r"^jax on cpu, 32 bits: result differs first at \(0,\): "):
        assert_parity(lambda x: x, np.asarray([value, 1]), **options, check_dtype=False)
    assert_parity(lambda x: x, np.asarray([2.0**127, np.inf, np.nan, 0.0]), **options)
    assert_parity(lambda x: x, np.asarray([2**31 - 1, -(2**31)]), **options)


@pytest.mark.needs("jax")
def test_a_dtype_that_jax_lacks_in_32_bits_is_an_error_where_warnings_are():
    def port(x, xp):
        return xp.astype(x, xp.float64)

    with pytest.raises(
        AssertionError, match=r"^jax on cpu, 32 bits: UserWarning: Explicitly requested dtype"
    ):
        assert_parity(port, X.astype("float32"), rtol=1e-6, backends=["jax"], jax_x64=False)


ONE_OF, FAR = (
    "expected exactly one of .*, finite and 0 or more, got",
    {**EXACT, "backends": ["torch:cuda:99"]},
)


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((X,), {}, ConfigError, ONE_OF),
        ((X,), {**EXACT, "ulp": 1}, ConfigError, ONE_OF),
        ((X,), {"ulp": 1, "atol": 1.0}, ConfigError, ONE_OF),
        ((X,), {"rtol": float("nan")}, ConfigError, ONE_OF),
        ((X,), {"rtol": float("inf")}, ConfigError, ONE_OF),
        ((X,), {"rtol": 1.0, "atol": float("inf")}, ConfigError, ONE_OF),
        (
            (X, [2.0]),
            EXACT,
            TypeError,
            "argument 1 is a list: expected a NumPy array, a number, text, None, or",
        ),
        ((X, (2.0, X)), EXACT, TypeError, "argument 1 is a tuple: expected a NumPy array"),
        ((X,), {"norm": -1.0}, ConfigError, ONE_OF),
        ((X,), {"norm": 1.0, "ulp": 1}, ConfigError, ONE_OF),
        ((X,), {**EXACT, "backends": ["tensorflow"]}, ConfigError, "unknown backend 'tensorflow'"),
        ((X,), {**EXACT, "backends": []}, ConfigError, r"backends: expected a list of names .*, got \[\]"),
        ((X,), {**EXACT, "backends": "torch"}, ConfigError, "backends: expected a list .*, got 'torch'"),
        ((X,), FAR, BackendError, "the torch backend cannot run on cuda:99"),
        ((), EXACT, AssertionError, "numpy on cpu: the function returns no array"),
    ],
)
def test_wrong_arguments_are_errors(arrays, options, error, message):
    with pytest.raises(error, match=message):
        assert_parity(lambda *arrays: arrays, *arrays, **{"backends": STRICT, **options})
