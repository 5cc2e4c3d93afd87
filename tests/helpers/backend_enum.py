"""The one list of backends that the tests run on."""

from enum import StrEnum
from functools import cache

import pytest

from xpnet.backends.resolve import make, probe
from xpnet.parity.devices import parse


class BackendCase(StrEnum):
    """A library on a device; the value names it in marks and in the environment."""

    NUMPY = "numpy"
    STRICT = "array-api-strict"
    TORCH = "torch"
    JAX = "jax"
    DPNP = "dpnp"
    CUPY = "cupy"
    TORCH_CUDA = "torch:cuda"
    JAX_CUDA = "jax:cuda"
    DPNP_GPU = "dpnp:gpu"

    @property
    def backend_name(self):
        return self.value.partition(":")[0]

    @property
    def device(self):
        """The device: array-api-strict pretends to have another than the host's."""
        return parse(self.value).device

    @cache
    def probe(self):
        return probe(self.backend_name, self.device)

    def make(self):
        return make(self.backend_name, self.device)


CASES = [pytest.param(case, marks=pytest.mark.slow) if "jax" in case.value else case for case in BackendCase]
"""Every backend, for parameters of tests; JAX, which compiles every operation for every shape, is slow."""

JAX_AT_NIGHT = [
    pytest.param(*case.values, marks=[*case.marks, pytest.mark.nightly]) if hasattr(case, "marks") else case
    for case in CASES
]
"""The same; on JAX, where it takes many seconds, the test is for .ci/nightly."""
