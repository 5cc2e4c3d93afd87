"""The calls of rp.Array have the same bits on every library."""

import warnings
from functools import cache

import array_calls
import numpy as np
import pytest
from array_calls import X, Y

import xpnet.reproducible as rp
from xpnet.backends.resolve import make


@cache
def of_numpy():
    return array_calls.digests(make("numpy", "cpu"))


def test_every_call_has_the_bits_of_numpys(case):
    digests = array_calls.digests(make(case.backend_name, "cpu"))
    assert {name for name, each in digests.items() if each != of_numpy()[name]} == set()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.needs("jax")
def test_jaxs_own_way_has_the_bits_of_numpys_but_for_subnormal_numbers(own_way):

    def tame(v):
        extreme = np.isfinite(v) & ((abs(v) > 2.0**200) | (abs(v) < 2.0**-200))
        return np.where(extreme, np.copysign(0.0, v), v)

    x, y = tame(X), tame(Y)
    expected = array_calls.digests(make("numpy", "cpu"), x, y)
    with warnings.catch_warnings(action="ignore"):
        found = array_calls.digests(make("jax", "cpu"), x, y)
    assert rp.namespace("jax").place(None).is_functional
    differing = {name for name, each in found.items() if each != expected[name]}
    assert differing == {"float32 operators", "conversions"}  # of which some results are subnormal
