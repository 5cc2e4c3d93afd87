from functools import cache

import numpy as np
import pytest
from backend_enum import BackendCase

import xpnet.reproducible as rp
from xpnet.backends.resolve import make
from xpnet.reproducible import places, standard

CASES = [BackendCase.NUMPY, BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX]


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def wrap(case):
    backend = make(case.backend_name, "cpu")
    return lambda values, dtype=None: rp.asarray(backend.from_host(np.array(values, dtype)))


@pytest.fixture
def xp(wrap):
    return wrap([0.0]).__array_namespace__()


@pytest.fixture
def own_way(monkeypatch):
    """Have JAX compute with its own arrays on the CPU, as it does on a GPU, in place of NumPy's."""
    monkeypatch.setattr(places, "HOSTED", set())
    monkeypatch.setattr(standard, "_namespace_of", cache(standard.Namespace))
