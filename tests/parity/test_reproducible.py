"""assert_parity(…, reproducible=True): equal bits of rp.Array, and where a function leaves them."""

import numpy as np
import pytest

from xpnet.errors import ConfigError
from xpnet.parity import assert_parity

X = np.random.default_rng(0).normal(size=(200, 30))


def covariance(x, xp, scale=1.0):
    centred = x - xp.mean(x, axis=0)
    return {"covariance": scale * (centred.T @ centred), "norms": [xp.sqrt(xp.sum(x * x, axis=1))]}


def by_numpy(x):
    plain = np.asarray(x)
    return plain.T @ plain  # by its BLAS, whose bits depend on the kernel


def sorted_by_numpy(x, xp):
    return xp.asarray(np.sort(np.asarray(x), axis=0))


@pytest.mark.slow
@pytest.mark.needs("torch", "jax", "array-api-strict")
def test_functions_of_the_namespace_have_equal_bits_everywhere():
    assert_parity(covariance, X, scale=2.0, reproducible=True)


@pytest.mark.slow
def test_a_kernel_that_changes_bits_is_named_with_the_line_that_leaves():
    with pytest.raises(AssertionError) as raised:
        assert_parity(by_numpy, X, reproducible=True, backends=[])
    lines = str(raised.value).splitlines()
    assert "numpy with the kernel Nehalem: the result: other bits than with numpy" in lines
    assert lines[-1].endswith("in by_numpy")


@pytest.mark.slow
def test_leaving_with_equal_bits_is_a_warning():
    with pytest.warns(UserWarning, match=r"leaves xpnet.reproducible.*in sorted_by_numpy"):
        assert_parity(sorted_by_numpy, X, reproducible=True, backends=[])


def test_a_function_that_other_processes_cannot_find_is_refused():
    with pytest.raises(ConfigError, match="is not at the top level of a module"):
        assert_parity(lambda x: x, X, reproducible=True, backends=[])
