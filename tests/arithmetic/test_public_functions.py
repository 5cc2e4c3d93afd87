"""xpnet.reproducible on every library: the same bits, arrays of that library, and errors in one line.

The values are those of NumPy, which test_elementary.py and test_public_reductions.py compare with their
definitions.
"""

import math

import numpy as np
import pytest
import reference
from assertions import assert_same

import xpnet.reproducible as rp
from xpnet.errors import BackendError, ConfigError, DataError

INF, NAN, NORMAL = math.inf, math.nan, 2.0**-1022
SPECIAL = [0.0, INF, 5e-324, 1e-310, NORMAL, math.nextafter(INF, 0.0), 1.0, 800.0, 709.782712893384, 1e-200]
GENERATOR = np.random.default_rng(1)


def wide(shape, low=-40, high=8):
    """Numbers of both signs and many magnitudes."""
    return np.ldexp(GENERATOR.normal(size=shape), GENERATOR.integers(low, high, shape))


EDGES = np.array([*SPECIAL, *(-x for x in SPECIAL), NAN, *wide(500, -1074, 1024), *wide(500, -20, 9)])
TINY = wide((3, 5, 4))
TINY[0, 0, :] = 5e-324, 1e-310, -1e-310, NORMAL
INFINITE = np.array([[INF, 1], [-INF, 1], [INF, -INF], [NAN, 1], [-INF, -INF], [1e308, 1e308]])
SUBNORMAL = np.array([2.0**-128, -(2.0**-128), 2.0**-126, -0.0, NAN, INF], dtype=np.float32)
NOTHING, NUMBER = np.ones((2, 0)), np.array(0.5)
CALLS = {
    **{name: (getattr(rp, name), EDGES) for name in ("exp", "log", "sqrt", "tanh", "sigmoid")},
    **{
        f"exp of {kind}": (rp.exp, np.array([0, 1, 3, 1]).astype(kind))
        for kind in ("float32", "uint8", "bool")
    },
    "sqrt of subnormal float32 numbers": (rp.sqrt, SUBNORMAL),
    "log of a number": (rp.log, NUMBER),
    "log of nothing": (rp.log, NOTHING),
    "sum over axes": (lambda x: rp.sum(x, axis=(0, 2)), TINY),
    "mean with axes kept": (lambda x: rp.mean(x, keepdims=True), TINY),
    "var": (lambda x: rp.var(x, axis=-1, correction=1), TINY),
    "logsumexp": (lambda x: rp.logsumexp(x, axis=0), TINY),
    "softmax": (lambda x: rp.softmax(x, axis=1), TINY),
    **{
        f"{function.__name__} of {kind}": (lambda x, function=function: function(x, axis=1), rows)
        for function in (rp.sum, rp.mean, rp.var, rp.logsumexp)
        for kind, rows in (("infinities", INFINITE), ("nothing", NOTHING))
    },
    "softmax of nothing": (rp.softmax, NOTHING),
    "matmul": (lambda x: rp.matmul(x[:, :4, :], x[0, :4, :], slices=3), TINY),
    "vecdot": (lambda x: rp.vecdot(x, x[0, :, :], axis=-2), TINY),
    "uniform": (lambda x: rp.random.uniform(5, (2, 3), like=x), NUMBER),
    "permutation": (lambda x: rp.random.permutation(5, 20, like=x), NUMBER),
}
"""Functions of an array, and the array."""


@pytest.mark.parametrize("name", CALLS)
def test_every_backend_gives_the_same_bits(backend, name):
    function, x = CALLS[name]
    result, expected = function(backend.from_host(x)), function(x)
    assert_same(result, expected, backend)
    numbers = ~np.isnan(expected)
    assert backend.to_host(result)[numbers].tobytes() == expected[numbers].tobytes()


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "sigmoid"])
def test_a_mode_that_replaces_subnormal_numbers_by_zero_does_not_matter(name):
    import torch

    function, x = CALLS[name]
    expected = function(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        result = function(torch.asarray(x)).numpy()
    finally:
        torch.set_flush_denormal(False)
    numbers = ~np.isnan(expected)
    assert result[numbers].tobytes() == expected[numbers].tobytes()


def test_long_arrays_are_computed_in_pieces_with_the_same_bits():
    x = np.random.default_rng(0).uniform(-700, 700, (3, 20_001))
    assert rp.exp(x).tobytes() == np.concatenate([rp.exp(x[:, :7]), rp.exp(x[:, 7:])], axis=1).tobytes()


@pytest.mark.needs("jax")
def test_jax_has_float64_for_the_call_only_and_compiles_no_function():
    import jax

    result = rp.exp(jax.numpy.asarray([1.0], dtype="float32"))
    assert (result.dtype, jax.numpy.asarray([1.0]).dtype) == (np.float64, np.float32)
    with pytest.raises(DataError, match=r"^exp: expected an array of .*, with values, got a \w*Tracer"):
        jax.jit(rp.exp)(jax.numpy.ones(3))


@pytest.mark.needs("torch")
def test_results_have_no_gradient_and_arrays_of_two_libraries_are_refused():
    import torch

    x = torch.ones((2, 2), dtype=torch.float64, requires_grad=True)
    assert not rp.tanh(x).requires_grad
    with pytest.raises(DataError, match=r"^matmul: .* one device, got numpy on cpu and torch on cpu$"):
        rp.matmul(np.ones((2, 2)), x)


@pytest.mark.needs("array-api-strict", "torch")
def test_devices_without_float64_and_arrays_without_values_are_refused_in_one_line():
    import array_api_strict
    import torch

    x = array_api_strict.ones(2, device=array_api_strict.Device("no_float64"), dtype=array_api_strict.float32)
    with pytest.raises(BackendError, match=r"^array-api-strict on no_float64 has no float64, [^\n]*$"):
        rp.exp(x)
    with pytest.raises(BackendError, match=r"^torch on meta does not compute in float64: [^\n]*$"):
        rp.exp(torch.ones(2, device="meta"))


ONES = np.ones((3, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rp.exp([1.0]), DataError, "exp: expected an array of NumPy, CuPy, PyTorch, .* a list"),
        (lambda: rp.exp(np.ma.ones(2)), DataError, "exp: expected .*, with values, got a MaskedArray"),
        (lambda: rp.exp(ONES * 1j), DataError, "exp: expected real numbers, got an array of complex128"),
        (lambda: rp.exp(np.array(["a"])), DataError, "exp: expected real numbers, got an array of <U1"),
        (
            lambda: rp.matmul(ONES, ONES * 2.0**401),
            DataError,
            r"matmul: a magnitude is above 2\^400 .*: scale .*",
        ),
        (lambda: rp.vecdot(-ONES * 1e200, ONES), DataError, r"vecdot: a magnitude is above 2\^400 .*"),
        (lambda: rp.matmul(ONES, ONES[:2]), DataError, r"matmul: .* shapes .*, got \(3, 3\) and \(2, 3\)"),
        (lambda: rp.matmul(ONES, ONES[0, 0]), DataError, r"matmul: .* shapes .*, got \(3, 3\) and \(\)"),
        (lambda: rp.matmul(np.ones((2, 3, 3)), np.ones((3, 3, 3))), DataError, "matmul: expected stacks .*"),
        (lambda: rp.vecdot(ONES, ONES[:, :1]), DataError, "vecdot: expected the same length of axis -1, .*"),
        (lambda: rp.vecdot(ONES, ONES, axis=0), ConfigError, "vecdot: expected an axis from -2 to -1, got 0"),
        (
            lambda: rp.matmul(ONES, ONES, slices=0),
            ConfigError,
            "matmul: expected slices from 1 to 7, .* got 0",
        ),
        (lambda: rp.sum(ONES, axis=2), ConfigError, "sum: expected an axis from -2 to 1, .*, got 2"),
        (lambda: rp.mean(ONES, axis=(0, -2)), ConfigError, r"mean: .* different ones, got \(0, -2\)"),
        (lambda: rp.softmax(ONES, axis=-3), ConfigError, r"softmax: .* from -2 to 1, .*, got \(-3,\)"),
        *(
            (
                lambda seed=seed: rp.random.uniform(seed, 3),
                ConfigError,
                r"random: expected a seed from 0 to 2\^64 - 1, .*",
            )
            for seed in (-1, 2**64, 0.5)
        ),
    ],
)
def test_calls_that_cannot_be_computed_are_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        call()


def test_random_numbers_are_the_upper_53_bits_of_the_words_and_their_order():
    words = reference.words(7, index=0, epoch=0, seed=5)
    assert rp.random.uniform(5, (2, 3)).ravel().tolist() == [(next(words) >> 11) * 2.0**-53 for _ in range(6)]
    words = reference.words(8, index=0, epoch=0, seed=5)
    drawn = [next(words) for _ in range(20)]
    assert rp.random.permutation(5, 20).tolist() == sorted(range(20), key=drawn.__getitem__)
