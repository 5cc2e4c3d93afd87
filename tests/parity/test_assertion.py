"""assert_parity: which functions it lets pass, and what it says of the others."""

import re

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
is_numpy, namespace = array_api_compat.is_numpy_array, array_api_compat.array_namespace


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
@pytest.mark.parametrize("case", [BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX])
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
    " returns result[0], NumPy result": lambda x: (x,),
}


@pytest.mark.parametrize("message", KINDS)
def test_results_of_another_kind_fail_in_every_tier(message):
    with pytest.raises(AssertionError, match=re.escape(f"array-api-strict on device1{message}")):
        assert_parity(lambda x: on_others(KINDS[message], x), X, rtol=1.0, backends=STRICT)


@pytest.mark.parametrize("tier", [{"ulp": 8}, {"rtol": 1e-14}, {"rtol": 0.0, "atol": 1e-14}], ids=str)
def test_ulp_and_rtol_let_pass_what_is_near_enough(tier):
    assert_parity(lambda x: on_others(lambda x: x * (1.0 + 2.0**-50), x), X, **tier, backends=STRICT)
    assert_parity(lambda x: on_others(lambda x: x * -1.0, x), np.zeros(2), **tier, backends=STRICT)


def test_an_error_of_the_function_says_with_which_library():
    with pytest.raises(ZeroDivisionError) as caught:
        assert_parity(lambda x: on_others(lambda _: 1 / 0, x), X, **EXACT, backends=STRICT)
    assert caught.value.__notes__ == ["raised with array-api-strict on device1"]


@pytest.mark.needs("torch")
def test_the_arguments_are_copies():
    x = X.copy()
    assert_parity(lambda x: x.__setitem__((0, 0), 9.0) or x, x, **EXACT, backends=["torch"])
    assert np.array_equal(x, X)


ONE_OF, FAR = "expected exactly one of .*, 0 or more, got", {**EXACT, "backends": ["torch:cuda:99"]}


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((X,), {}, ConfigError, ONE_OF),
        ((X,), {**EXACT, "ulp": 1}, ConfigError, ONE_OF),
        ((X,), {"ulp": 1, "atol": 1.0}, ConfigError, ONE_OF),
        ((X,), {"rtol": float("nan")}, ConfigError, ONE_OF),
        ((X, 2.0), EXACT, TypeError, "argument 1 is a float: expected a NumPy array"),
        ((X,), {**EXACT, "backends": ["tensorflow"]}, ConfigError, "unknown backend 'tensorflow'"),
        ((X,), FAR, BackendError, "the torch backend cannot run on cuda:99"),
        ((), EXACT, AssertionError, "numpy on cpu: the function returns no array"),
    ],
)
def test_wrong_arguments_are_errors(arrays, options, error, message):
    with pytest.raises(error, match=message):
        assert_parity(lambda *arrays: arrays, *arrays, **{"backends": STRICT, **options})
