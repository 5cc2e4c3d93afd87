"""assert_parity: which functions it lets pass, and what it says of the others."""

import array_api_compat
import numpy as np
import pytest
from backend_enum import BackendCase
from requirements import required

from xpnet.backends.probing import Probe
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import assert_parity, assertion, devices

X = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125]])
STRICT = ["array-api-strict"]


def is_numpy(x):
    return array_api_compat.is_numpy_array(x)


def namespace(x):
    return array_api_compat.array_namespace(x)


@pytest.fixture
def others():
    """The libraries that are here; one that the environment requires fails where it is missing."""
    cases = (BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX)
    return [case.value for case in cases if case.value in required() or case.probe().usable]


def failure(function, *arrays, backends=STRICT, **tier):
    with pytest.raises(AssertionError) as caught:
        assert_parity(function, *arrays, backends=backends, **(tier or {"tier": "bitwise"}))
    return str(caught.value)


@pytest.mark.parametrize("tier", [{"tier": "bitwise"}, {"ulp": 0}, {"rtol": 0.0}], ids=str)
def test_equal_results_pass_in_every_tier(tier):
    assert_parity(lambda x, y: x * y + 1.0, X, X, **tier)


def test_the_default_is_every_usable_backend(others):
    seen = set()

    def function(x):
        seen.add(type(x).__module__.partition(".")[0])
        return x

    assertion._find_targets.cache_clear()
    assert_parity(function, X, tier="bitwise")
    assert len(seen) >= 1 + len(others)
    assert {"numpy", "array_api_strict"} <= seen


def test_outputs_may_be_nested(others):
    def function(x):
        return {"sums": (x + 1.0, [x - 1.0]), 3: x}

    assert_parity(function, X, tier="bitwise", backends=others)


def test_a_parameter_named_xp_is_given_the_namespace(others):
    def keyword(x, *, xp):
        assert xp is namespace(x) or xp.__name__ == namespace(x).__name__
        return xp.where(x > 0, x, xp.zeros_like(x))

    def trailing(x, xp):
        return keyword(x, xp=xp)

    def default(x, scale=2.0, xp=None):
        return xp.abs(x) * scale

    for function in (keyword, trailing, default):
        assert_parity(function, X, tier="bitwise", backends=others)


def test_a_first_parameter_named_xp_is_an_array():
    assert_parity(lambda xp: xp + 1.0, X, tier="bitwise", backends=STRICT)


def test_integers_and_truth_values_are_compared(others):
    assert_parity(lambda x: (x > 0, x > 9), X, rtol=1.0, backends=others)
    message = failure(lambda x: x > 0 if is_numpy(x) else x > 1, X, rtol=1.0)
    assert message == (
        "array-api-strict on device1: result differs first at (0, 0): False where NumPy has True "
        "(unequal); 2 of 6 values; expected rtol 1"
    )


def test_the_message_names_output_index_values_and_distance():
    def function(x):
        other = x if is_numpy(x) else x + 2.0**-52
        return {"loss": [x, other]}

    assert failure(function, X, ulp=1) == (
        'array-api-strict on device1: result["loss"][1] differs first at (0, 0): '
        "0.5000000000000002 where NumPy has 0.5 (2 ulp); 3 of 6 values, at most 16 ulp; "
        "expected at most 1 ulp"
    )


def test_ulp_and_rtol_let_pass_what_is_near_enough():
    def function(x):
        return x if is_numpy(x) else x * (1.0 + 2.0**-50)

    assert_parity(function, X, ulp=8, backends=STRICT)
    assert_parity(function, X, rtol=1e-14, backends=STRICT)
    assert "the same bits" in failure(function, X)
    assert "at most 3 ulp" in failure(function, X, ulp=3)
    assert "rtol 1e-16" in failure(function, X, rtol=1e-16)
    assert "rtol 0, atol 1e-17" in failure(function, X, rtol=0.0, atol=1e-17)
    assert_parity(function, X, rtol=0.0, atol=1e-14, backends=STRICT)


def test_nan_equals_nan_and_nothing_else(others):
    x = np.asarray([np.nan, 1.0, np.inf])
    for tier in ({"tier": "bitwise"}, {"ulp": 0}, {"rtol": 0.0}):
        assert_parity(lambda x: x * 1.0, x, backends=others, **tier)
    message = failure(lambda x: x * 1.0 if is_numpy(x) else x * 0.0 + 1.0, x[::-1], rtol=9.0)
    assert "differs first at (0,): nan where NumPy has inf (inf ulp)" in message


def test_zeros_of_another_sign_differ_in_bits_only():
    def function(x):
        return x * (1.0 if is_numpy(x) else -1.0)

    zero = np.zeros(2)
    assert_parity(function, zero, ulp=0, backends=STRICT)
    assert_parity(function, zero, rtol=0.0, backends=STRICT)
    assert "-0.0 where NumPy has 0.0 (0 ulp, but of another sign)" in failure(function, zero)


def test_a_result_of_another_library_fails():
    def function(x):
        return np.asarray(X)

    message = failure(function, X)
    assert message == (
        "array-api-strict on device1: result is a numpy.ndarray, not an array of array-api-strict"
    )
    assert "not an array of numpy" in failure(lambda x: 1.0, X)


def test_a_result_on_another_device_fails():
    def function(x):
        return x if is_numpy(x) else x.to_device(namespace(x).Device("CPU_DEVICE"))

    message = failure(function, X)
    assert "result is on device" in message
    assert "CPU_DEVICE" in message


def test_another_dtype_fails():
    def function(x):
        xp = namespace(x)
        return xp.astype(x, xp.float64 if is_numpy(x) else xp.float32)

    assert failure(function, X, rtol=1.0) == (
        "array-api-strict on device1: result has dtype float32, NumPy's float64"
    )


def test_another_shape_fails():
    message = failure(lambda x: x if is_numpy(x) else x[:, :2], X, rtol=1.0)
    assert message == "array-api-strict on device1: result has shape (2, 2), NumPy's (2, 3)"


def test_other_outputs_fail():
    message = failure(lambda x: (x, x) if is_numpy(x) else (x,), X)
    assert message == "array-api-strict on device1 returns result[0], NumPy result[0], result[1]"
    assert "numpy on cpu: the function returns no array" in failure(lambda x: (), X)


def test_an_error_of_the_function_says_with_which_library():
    def function(x):
        if not is_numpy(x):
            raise ZeroDivisionError
        return x

    with pytest.raises(ZeroDivisionError) as caught:
        assert_parity(function, X, tier="bitwise", backends=STRICT)
    assert caught.value.__notes__ == ["raised with array-api-strict on device1"]


def test_the_arguments_are_copies():
    x = X.copy()

    def function(x):
        x[0, 0] = 9.0
        return x

    assert_parity(function, x, tier="bitwise", backends=["torch"])
    assert np.array_equal(x, X)


@pytest.mark.parametrize(
    "tier",
    [
        {},
        {"tier": "bitwise", "ulp": 1},
        {"ulp": 1, "rtol": 1.0},
        {"tier": "close"},
        {"ulp": 1, "atol": 1.0},
        {"ulp": -1},
        {"rtol": float("nan")},
    ],
    ids=str,
)
def test_exactly_one_tier_is_expected(tier):
    with pytest.raises(ConfigError, match="expected"):
        assert_parity(lambda x: x, X, **tier)


def test_arguments_must_be_numpy_arrays():
    with pytest.raises(TypeError, match="argument 1 is a float: expected a NumPy array"):
        assert_parity(lambda x, y: x * y, X, 2.0, tier="bitwise")


def test_unknown_backends_are_errors():
    with pytest.raises(ConfigError, match="unknown backend 'tensorflow'"):
        assert_parity(lambda x: x, X, tier="bitwise", backends=["tensorflow"])


def test_a_named_backend_that_cannot_run_is_an_error(monkeypatch):
    gone = Probe(usable=False, version=None, devices=(), reason="torch is not installed", fix="pip")
    monkeypatch.setattr("xpnet.backends.torch.TorchBackend.probe", lambda _: gone)
    with pytest.raises(BackendError, match="torch is not installed"):
        assert_parity(lambda x: x, X, tier="bitwise", backends=["torch"])


def test_numpy_alone_is_nothing_to_compare_with(monkeypatch):
    monkeypatch.setattr(devices, "find_usable", lambda: [devices.NUMPY])
    assertion._find_targets.cache_clear()
    with pytest.raises(BackendError, match="no array library but NumPy"):
        assert_parity(lambda x: x, X, tier="bitwise")
    assertion._find_targets.cache_clear()
