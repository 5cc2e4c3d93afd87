"""The public elementwise functions and random numbers: errors, special values, the same bits everywhere."""

import math
import re
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import reference
from assertions import assert_same
from true_functions import TRUE, uniform

import xpnet.reproducible as rp
from xpnet.errors import BackendError, ConfigError, DataError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "arithmetic.md").read_text("utf-8")
INF, NAN = math.inf, math.nan
NORMAL, LARGEST = 2.0**-1022, math.nextafter(INF, 0.0)

ULPS = {"exp": 1.3, "log": 2.1, "sqrt": 0.76, "tanh": 1.9, "sigmoid": 3.3}
FUNCTIONS = {name: getattr(rp, name) for name in ULPS}


def numpy_value(name, x):
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    return getattr(np, name)(x)


# The largest errors


def magnitudes(low, high, smallest=1.0):
    """Positive numbers from 2^low to 2^high, all exponents alike."""
    return lambda generator, count: np.ldexp(
        generator.uniform(smallest, 2.0, count), generator.integers(low, high, count)
    )


POINTS = {
    "exp": [
        uniform(-708.3964, 709.7827),
        uniform(-708.3964, -690.0),
        uniform(690.0, 709.7827),
        uniform(-2, 2),
    ],
    "log": [
        magnitudes(-1022, 1024),
        magnitudes(-1074, -1022),
        uniform(0.7055, 0.7071),
        uniform(0.999, 1.001),
    ],
    "sqrt": [magnitudes(-1022, 1024), magnitudes(-1074, -1022), uniform(1.0, 4.0)],
    "tanh": [uniform(-0.7, 0.7), uniform(0.62, 0.8), uniform(-20, 20), magnitudes(-60, -20)],
    "sigmoid": [uniform(-2.8, -2.6), uniform(-30, 30), uniform(-708.3964, -660), uniform(30, 800)],
}


@pytest.mark.parametrize("name", POINTS)
def test_largest_error(name):
    x = np.concatenate([points(np.random.default_rng(0), 1000) for points in POINTS[name]])
    with localcontext(prec=50, Emin=-(10**6)):
        pairs = zip(FUNCTIONS[name](x).tolist(), map(TRUE[name], map(Decimal, x.tolist())), strict=True)
        worst = max(abs(Decimal(y) - true) / Decimal(math.ulp(float(true))) for y, true in pairs)
    assert ULPS[name] / 2 < worst <= ULPS[name]


def test_page_and_docstrings_state_these_errors():
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) ulp \|", PAGE, re.MULTILINE)
    assert {name: float(bound) for name, bound in rows} == ULPS
    for name, bound in ULPS.items():
        assert f"within {bound} ulp" in FUNCTIONS[name].__doc__


# The whole range

SPECIAL = [0.0, -0.0, INF, -INF, NAN, 5e-324, -5e-324, 1e-310, -1e-310, NORMAL, -NORMAL, LARGEST, -LARGEST]
SPECIAL += [math.nextafter(NORMAL, 0.0), 1.0, -1.0, 800.0, -800.0, 709.782712893384, 709.782712893385, 1e-200]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_those_of_numpy(backend, name):
    x = np.array(SPECIAL)
    with np.errstate(all="ignore"):
        expected = numpy_value(name, x)
    result = backend.to_host(FUNCTIONS[name](backend.from_host(x)))
    np.testing.assert_allclose(result, expected, rtol=1e-14, atol=0.0)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("name", ["exp", "sigmoid"])
def test_what_would_be_subnormal_is_zero(name):
    lowest = -708.3964185322641  # log of 2^-1022
    x = np.array([lowest, lowest - 1e-10, -745.0, -LARGEST])
    assert (FUNCTIONS[name](x) >= NORMAL).tolist() == [True, False, False, False]
    assert FUNCTIONS[name](x)[1:].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_backend_gives_the_same_bits(backend, name):
    parts = [points(np.random.default_rng(1), 500) for points in POINTS[name]]
    wide = magnitudes(-1074, 1024)(np.random.default_rng(2), 500)
    x = np.concatenate([SPECIAL, *parts, wide, -wide])
    result, expected = backend.to_host(FUNCTIONS[name](backend.from_host(x))), FUNCTIONS[name](x)
    assert result.shape == expected.shape
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.isnan(result), ~numbers)
    assert result[numbers].tobytes() == expected[numbers].tobytes()


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_mode_that_replaces_subnormal_numbers_by_zero_does_not_matter(name):
    import torch

    x = np.concatenate([SPECIAL, magnitudes(-1074, -1000)(np.random.default_rng(0), 100)])
    expected = FUNCTIONS[name](x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        result = FUNCTIONS[name](torch.asarray(x)).numpy()
    finally:
        torch.set_flush_denormal(False)
    numbers = ~np.isnan(expected)
    assert result[numbers].tobytes() == expected[numbers].tobytes()


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_bits_are_those_of_the_specification_within_its_limits(name):
    x = {"exp": uniform(-670, 709), "log": magnitudes(-1022, 1024), "sqrt": magnitudes(-1022, 1024)}[name]
    numbers = x(np.random.default_rng(3), 500)
    assert FUNCTIONS[name](numbers).tolist() == [getattr(reference, name)(each) for each in numbers.tolist()]


def test_long_arrays_are_computed_in_pieces_with_the_same_bits():
    x = np.random.default_rng(0).uniform(-700, 700, (3, 20_001))
    assert rp.exp(x).tobytes() == np.stack([rp.exp(x[:, j]) for j in range(x.shape[1])], axis=1).tobytes()


# Arrays


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_other_dtypes_are_converted_to_float64(backend, dtype):
    x = np.array([0, 1, 3, 1]).astype(dtype)
    assert_same(rp.exp(backend.from_host(x)), rp.exp(x.astype(np.float64)), backend)


def test_subnormal_float32_numbers_count_as_zero(backend):
    smallest = np.float32(2.0**-126)
    x = np.array([smallest / 4, -smallest / 4, smallest, -0.0, NAN, INF], dtype=np.float32)
    expected = np.array([0.0, -0.0, smallest, -0.0, NAN, INF], dtype=np.float64)
    assert_same(rp.sqrt(backend.from_host(x)), rp.sqrt(expected), backend)


@pytest.mark.parametrize("shape", [(), (2, 0, 3)])
def test_shapes_are_kept(backend, shape):
    x = np.full(shape, 0.5)
    assert_same(rp.log(backend.from_host(x)), np.full(shape, rp.log(np.array([0.5]))[0]), backend)


@pytest.mark.needs("jax")
def test_float64_is_allowed_in_jax_for_the_call_only():
    import jax

    result = rp.exp(jax.numpy.asarray([1.0], dtype="float32"))
    assert result.dtype == np.float64
    assert jax.numpy.asarray([1.0]).dtype == np.float32


@pytest.mark.needs("jax")
def test_functions_that_jax_compiles_are_refused():
    import jax

    with pytest.raises(DataError, match=r"^exp: expected an array of .*, with values, got a \w*Tracer"):
        jax.jit(rp.exp)(jax.numpy.ones(3))


@pytest.mark.needs("torch")
def test_results_have_no_gradient():
    import torch

    assert not rp.tanh(torch.ones(2, dtype=torch.float64, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            [1.0, 2.0],
            "exp: expected an array of NumPy, CuPy, PyTorch, JAX, dpnp or array-api-strict, .* a list",
        ),
        (np.ma.ones(2), "exp: expected an array of .*, with values, got a MaskedArray"),
        (np.ones(2, dtype=complex), "exp: expected real numbers, got an array of complex128"),
        (np.array(["a"]), "exp: expected real numbers, got an array of <U1"),
    ],
)
def test_other_values_are_refused_in_one_line(x, message):
    with pytest.raises(DataError, match=f"^{message}$"):
        rp.exp(x)


@pytest.mark.needs("array-api-strict", "torch")
def test_devices_without_float64_and_arrays_without_values_are_refused_in_one_line():
    import array_api_strict
    import torch

    x = array_api_strict.ones(2, device=array_api_strict.Device("no_float64"), dtype=array_api_strict.float32)
    with pytest.raises(BackendError, match=r"^array-api-strict on no_float64 has no float64, [^\n]*$"):
        rp.exp(x)
    with pytest.raises(BackendError, match=r"^torch on meta does not compute in float64: [^\n]*$"):
        rp.exp(torch.ones(2, device="meta"))


def test_the_check_of_a_device_says_what_it_computes_wrongly(monkeypatch):
    message = "no sums here"

    def refuse(*_):
        raise BackendError(message)

    monkeypatch.setattr(rp, "check", refuse)
    with pytest.raises(BackendError, match=f"^{message}$"):
        rp._arithmetic.__wrapped__("numpy", "cpu")


# Random numbers


def test_uniform_numbers_are_the_upper_53_bits_of_the_words(backend):
    words = reference.words(7, index=0, epoch=0, seed=5)
    expected = np.array([(next(words) >> 11) * 2.0**-53 for _ in range(6)]).reshape(2, 3)
    assert_same(rp.random.uniform(5, (2, 3), like=backend.from_host(np.ones(1))), expected, backend)


def test_a_permutation_is_the_sort_of_the_words(backend):
    words = reference.words(8, index=0, epoch=0, seed=5)
    drawn = [next(words) for _ in range(20)]
    expected = np.array(sorted(range(20), key=drawn.__getitem__))
    assert_same(rp.random.permutation(5, 20, like=backend.from_host(np.ones(1))), expected, backend)


def test_without_an_array_random_numbers_are_numpys():
    assert type(rp.random.uniform(0, 3)) is type(rp.random.permutation(0, 3)) is np.ndarray


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ConfigError, match=r"^random: expected a seed from 0 to 2\^64 - 1, got "):
        rp.random.uniform(seed, 3)
