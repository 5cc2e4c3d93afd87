"""Functions of rp beyond the standard: einsum, quantiles, covariances and random numbers."""

import math

import numpy as np
import pytest
import scipy.stats
from backend_enum import BackendCase

import xpnet.reproducible as rp
from xpnet.arithmetic.random import Purpose, integers, words
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError

GENERATOR = np.random.default_rng(0)
A, B, C, D = (GENERATOR.normal(size=shape) for shape in ((3, 4, 5), (5, 4, 2), (2, 2, 3), (3, 3, 3)))
COUNT = 100_000


@pytest.mark.parametrize(
    ("subscripts", "operands"),
    [
        ("ijk,kjl->il", (A, B)),
        ("ijk,kjl,llm->im", (A, B, C)),
        ("ijk, klm", (A, B)),
        ("iij->j", (D,)),
        ("iii", (D,)),
        ("iijj->ij", (GENERATOR.normal(size=(2, 2, 3, 3)),)),
        ("ijk->", (A,)),
        ("ijk->kji", (A,)),
        ("ij,ij->ij", (A[0], A[1])),
        ("i,j->ji", (A[0, 0], B[0, 1])),
        ("bij,bjk->bik", (A, A.mT)),
        ("ij,j,k->", (A[0], A[1, 0], B[0, 0])),
    ],
)
def test_einsum_is_numpys(subscripts, operands):
    expected = np.einsum(subscripts, *operands)
    for result in (rp.einsum(subscripts, *operands), rp.einsum(subscripts, *map(rp.asarray, operands)).raw):
        assert result.shape == expected.shape
        assert np.allclose(result, expected, rtol=1e-13, atol=1e-13)


def test_einsum_contracts_from_left_to_right_and_keeps_integers():
    a, b, c = map(rp.asarray, (A[0], A[1].T, B[:, :, 0]))
    assert rp.einsum("ij,jk,lk->il", a, b, c).tolist() == ((a @ b) @ c.mT).tolist()
    assert np.array_equal(rp.einsum("i,i->i", A[0, 0], A[0, 1]), A[0, 0] * A[0, 1])  # one rounding
    whole = rp.asarray(np.arange(6).reshape(2, 3))
    assert rp.einsum("ij,kj->ik", whole, whole).raw.dtype == np.int64


@pytest.mark.parametrize("subscripts", ["ij->k", "ij,jk", "i->i", "i...->i", "ij->ii", "ii->i", "ij,ij"])
def test_subscripts_that_do_not_fit_are_refused_in_a_line(subscripts):
    with pytest.raises(ValueError, match="does not fit arrays of shapes"):
        rp.einsum(subscripts, A[0])


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantiles_are_numpys(axis):
    x = A.reshape(6, 10)
    for q in (0.0, 0.3, 1.0, 1, [0.1, 0.5, 0.77]):
        assert np.allclose(rp.quantile(x, q, axis=axis), np.quantile(x, q, axis=axis), rtol=1e-12)
    assert np.array_equal(rp.median(x, axis=axis), rp.quantile(x, 0.5, axis=axis))


def test_quantiles_of_special_values():
    inf, nan = math.inf, math.nan
    assert rp.median(np.array([1, 2])) == 1.5
    assert rp.median(rp.asarray([3, 1, 2])).raw.dtype == np.float64
    assert rp.median(rp.asarray(np.float32([1, 2]))).raw.dtype == np.float32
    assert rp.quantile(np.array([-inf, inf, inf]), [0.0, 0.75, 1.0]).tolist() == [-inf, inf, inf]
    assert np.isnan(rp.quantile(np.array([[nan, 1.0], [2.0, 3.0]]), [0.0, 1.0], axis=1)[:, 0]).all()
    assert np.isnan(rp.median(np.zeros(0)))
    with pytest.raises(ValueError, match="from 0 to 1"):
        rp.quantile(A, 1.5)


def test_covariances_are_numpys():
    x = A.reshape(6, 10)
    assert np.allclose(rp.cov(x), np.cov(x), rtol=1e-13)
    assert np.allclose(rp.cov(x, correction=0), np.cov(x, bias=True), rtol=1e-13)
    assert np.allclose(rp.corrcoef(x), np.corrcoef(x), rtol=1e-13)
    assert np.abs(rp.corrcoef(np.stack([x[0], -x[0] * 3]))).max() <= 1.0
    for function in (rp.cov, rp.corrcoef):
        with pytest.raises(ValueError, match="a row for each variable"):
            function(A)


# Random numbers


def test_distributions():
    for values, name in ((rp.random.normal(3, COUNT), "norm"), (rp.random.exponential(3, COUNT), "expon")):
        assert scipy.stats.kstest(values, name).pvalue > 0.01
        assert np.isfinite(values).all()
        assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.01
    counts = np.bincount(rp.random.integers(5, -3, 4, COUNT) + 3)
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    orders = [tuple(rp.random.choice(seed, 4, 2).tolist()) for seed in range(1200)]
    of_pairs = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(of_pairs) == 12
    assert scipy.stats.chisquare(of_pairs).pvalue > 0.01


def test_maps_are_those_specified():
    u, v = (words(7, Purpose.PUBLIC_NORMAL, 6) >> np.uint64(11)).astype(float).reshape(3, 2).T * 2.0**-53
    expected = np.sqrt(-2 * np.log(u + 2.0**-53)) * np.cos(2 * math.pi * v)
    assert np.allclose(rp.random.normal(7, (1, 3)), [expected], rtol=1e-14)
    assert np.array_equal(rp.random.normal(7, 2), rp.random.normal(7, 3)[:2])
    pairs = words(1, Purpose.PUBLIC_INTEGERS, 8).tolist()
    whole = [(hi << 64) + lo for hi, lo in zip(pairs[::2], pairs[1::2], strict=True)]
    for low, high in ((0, 1), (-3, 4), (-(2**63), 2**63), (0, 10**18)):
        expected = [low + ((high - low) * w >> 128) for w in whole]
        assert rp.random.integers(1, low, high, 4).tolist() == expected
    assert integers(np.full(2, 2**64 - 1, np.uint64), 0, 7).tolist() == [6]
    x = np.arange(12).reshape(3, 4)
    assert sorted(rp.random.choice(2, 9, 9).tolist()) == list(range(9))
    order = rp.random.shuffle(2, x, axis=1)[0].tolist()
    assert order != [0, 1, 2, 3]
    assert np.array_equal(rp.random.shuffle(2, x, axis=1), x[:, order])
    assert rp.random.shuffle(2, rp.asarray(x), axis=1).tolist() == x[:, order].tolist()


@pytest.mark.parametrize("case", [BackendCase.TORCH, BackendCase.JAX], ids=lambda case: case.value)
def test_random_numbers_are_arrays_of_the_library(case):
    backend = make(case.backend_name, "cpu")
    like = backend.from_host(np.zeros(1))
    for result in (
        rp.random.normal(0, 3, like=like),
        rp.random.shuffle(0, like),
        rp.random.integers(0, 0, 5, (2, 2), like=like),
    ):
        assert backend.owns(result)


def test_numbers_that_cannot_be_drawn_are_refused():
    for call in (
        lambda: rp.random.integers(0, 3, 3, 1),
        lambda: rp.random.integers(0, 0, 2**63 + 1, 1),
        lambda: rp.random.choice(0, 3, 4),
        lambda: rp.random.normal(-1, 3),
    ):
        with pytest.raises(ConfigError, match="random: expected"):
            call()
