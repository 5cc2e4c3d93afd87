"""The calls of rp.Array have the same bits on every library, kernel and number of threads."""

import hashlib
import warnings
from functools import cache

import array_calls
import numpy as np
import pytest
from array_calls import X, Y
from backend_enum import BackendCase
from other_kernels import printed_with_others

import xpnet.reproducible as rp
from xpnet.backends.resolve import make
from xpnet.reproducible import places, standard


@cache
def of_numpy():
    return array_calls.digests(make("numpy", "cpu"))


@pytest.mark.parametrize(
    "case", [BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX], ids=lambda case: case.value
)
def test_every_call_has_the_bits_of_numpys(case):
    digests = array_calls.digests(make(case.backend_name, "cpu"))
    assert {name for name, each in digests.items() if each != of_numpy()[name]} == set()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.needs("jax")
def test_jaxs_own_way_has_the_bits_of_numpys_but_for_subnormal_numbers(monkeypatch):
    """A GPU takes this way; the CPU's counts subnormal numbers as 0, which are left out."""
    with np.errstate(all="ignore"):
        x, y = (
            np.where(np.isfinite(v) & ((abs(v) > 2.0**200) | (abs(v) < 2.0**-200)), np.copysign(0.0, v), v)
            for v in (X, Y)
        )
    expected = array_calls.digests(make("numpy", "cpu"), x, y)
    monkeypatch.setattr(places, "HOSTED", set())
    monkeypatch.setattr(standard, "_namespace_of", cache(standard.Namespace))
    with warnings.catch_warnings(action="ignore"):
        found = array_calls.digests(make("jax", "cpu"), x, y)
    assert rp.namespace("jax").place(None).is_functional
    differing = {name for name, each in found.items() if each != expected[name]}
    assert differing == {"float32 operators", "conversions"}  # of which some results are subnormal


@pytest.mark.slow
@pytest.mark.needs("torch", "jax")
def test_views_of_jaxs_own_way_are_those_of_the_others(monkeypatch):
    results = []
    for name, hosted in (("numpy", places.HOSTED), ("torch", places.HOSTED), ("jax", set())):
        monkeypatch.setattr(places, "HOSTED", hosted)
        monkeypatch.setattr(standard, "_namespace_of", cache(standard.Namespace))
        x = rp.asarray(make(name, "cpu").from_host(np.zeros((2, 3))))
        row = x[0, :]
        row += 1.0
        part = row[1:]
        part[0] = 5.0
        x[0, 2] = 7.0
        x[1][0][...] = 3.0
        flat = x.__array_namespace__().reshape(x, (-1,))
        x *= 2.0
        x[x > 9.0] -= 1.0
        assert flat[1].item() == 5.0  # as it was
        with pytest.raises(ValueError, match="copy it before"):
            x.T[0, 0] = 1.0
        results.append([x.tolist(), row.tolist(), part.tolist()])
    assert results[0] == results[1] == results[2] == [
        [[2.0, 9.0, 13.0], [6.0, 0.0, 0.0]], [2.0, 9.0, 13.0], [9.0, 13.0]
    ]  # fmt: skip


@pytest.mark.slow
def test_every_call_has_the_same_bits_with_other_kernels_and_threads():
    digest = hashlib.sha256(repr(of_numpy()).encode()).hexdigest()
    assert printed_with_others(array_calls.__file__) == {digest}
