"""Functions of rp beyond the standard: einsum, quantiles, covariances and random numbers."""

import math

import numpy as np
import pytest

import xpnet.reproducible as rp
from xpnet.arithmetic.random import Purpose, integers, words
from xpnet.errors import ConfigError

GENERATOR = np.random.default_rng(0)
A, B, C, D = (GENERATOR.normal(size=shape) for shape in ((3, 4, 5), (5, 4, 2), (2, 2, 3), (3, 3, 3)))


@pytest.mark.parametrize(
    ("subscripts", "operands"),
    [
        ("ijk,kjl,llm->im", (A, B, C)),
        ("iii", (D,)),
        ("ijk->kji", (A,)),
        ("ij,j,k->", (A[0], A[1, 0], B[0, 0])),
    ],
)
def test_einsum_is_numpys(subscripts, operands):
    expected = np.einsum(subscripts, *operands)
    for result in (rp.einsum(subscripts, *operands), rp.einsum(subscripts, *map(rp.asarray, operands)).raw):
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-13, strict=True)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantiles_are_numpys(axis):
    x = A.reshape(6, 10)
    q = [0.0, 0.1, 0.5, 0.77, 1.0]
    assert np.allclose(rp.quantile(x, q, axis=axis), np.quantile(x, q, axis=axis), rtol=1e-12)
    assert np.array_equal(rp.median(x, axis=axis), rp.quantile(x, 0.5, axis=axis))


def test_quantiles_of_special_values():
    assert rp.median(rp.asarray(np.float32([1, 2]))).raw.dtype == np.float32
    x = np.array([[-math.inf, math.inf, math.inf], [math.nan, 1.0, 2.0]])
    expected = [[-math.inf, math.inf], [math.nan, math.nan]]
    np.testing.assert_array_equal(rp.quantile(x, [0.0, 0.75], axis=1).T, expected)


REFUSED = {
    "does not fit arrays of shapes": lambda: rp.einsum("ij->k", A[0]),
    "from 0 to 1": lambda: rp.quantile(A, 1.5),
    "a row for each variable": lambda: rp.cov(A),
    "random: expected": lambda: rp.random.choice(0, 3, 4),
}


@pytest.mark.parametrize("message", REFUSED)
def test_arguments_that_do_not_fit_are_refused_in_a_line(message):
    with pytest.raises((ValueError, ConfigError), match=message):
        REFUSED[message]()


def test_covariances_are_numpys():
    x = A.reshape(6, 10)
    assert np.allclose(rp.cov(x), np.cov(x), rtol=1e-13)
    assert np.allclose(rp.corrcoef(x), np.corrcoef(x), rtol=1e-13)
    assert np.abs(rp.corrcoef(np.stack([x[0], -x[0] * 3]))).max() <= 1.0


def test_random_numbers_are_those_specified_and_choices_and_shuffles_permute():
    values = rp.random.exponential(3, 100_000)
    assert (abs(values.mean() - 1.0) < 0.01, np.isfinite(values).all()) == (True, True)
    u, v = (words(7, Purpose.PUBLIC_NORMAL, 6) >> np.uint64(11)).astype(float).reshape(3, 2).T * 2.0**-53
    expected = np.sqrt(-2 * np.log(u + 2.0**-53)) * np.cos(2 * math.pi * v)
    assert np.allclose(rp.random.normal(7, (1, 3)), [expected], rtol=1e-14)
    assert integers(np.full(2, 2**64 - 1, np.uint64), 0, 7).tolist() == [6]
    assert sorted(rp.random.choice(2, 9, 9).tolist()) == list(range(9))
    x = np.arange(12).reshape(3, 4)
    shuffled = rp.random.shuffle(2, rp.asarray(x), axis=1).raw
    assert np.array_equal(shuffled, x[:, shuffled[0]])
    assert sorted(shuffled[0].tolist()) == [0, 1, 2, 3] != shuffled[0].tolist()
