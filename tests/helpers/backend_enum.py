"""The one list of backends that the tests run on."""

from __future__ import annotations

import os
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

import pytest

from xpnet.backends.resolve import make, probe

if TYPE_CHECKING:
    from xpnet.backends.base import Backend
    from xpnet.backends.probing import Probe

REQUIRE_VARIABLE = "XPNET_REQUIRE_BACKENDS"


class BackendCase(Enum):
    """A library on a device; the value names it on the command line and in the environment."""

    NUMPY = "numpy"
    STRICT = "array-api-strict"
    TORCH = "torch"
    JAX = "jax"
    CUPY = "cupy"
    TORCH_CUDA = "torch:cuda"
    JAX_CUDA = "jax:cuda"

    @property
    def backend_name(self) -> str:
        """The library's name, as in ``--backend``."""
        return self.value.partition(":")[0]

    @property
    def device(self) -> str:
        """The device: array-api-strict pretends to have another than the host's."""
        if self is BackendCase.STRICT:
            return "device1"
        return "cuda:0" if self is BackendCase.CUPY or self.value.endswith(":cuda") else "cpu"

    @property
    def required(self) -> bool:
        """Whether the environment asks for it, so that it must not be missing."""
        return self in required_cases()

    def probe(self) -> Probe:
        """Whether it can run here; asked once."""
        return _probe(self)

    def make(self) -> Backend:
        """Return the backend."""
        return make(self.backend_name, self.device)


def usable_backend(case: BackendCase) -> Backend:
    """Return the case's backend; skip the test when it is missing, fail it when it is required."""
    found = case.probe()
    if found.usable:
        return case.make()
    message = f"{case.value}: {found.reason}; to fix it: {found.fix}"
    if case.required:
        pytest.fail(f"{message} ({REQUIRE_VARIABLE} names it)", pytrace=False)
    pytest.skip(message)


@cache
def _probe(case: BackendCase) -> Probe:
    return probe(case.backend_name, case.device)


def required_cases() -> set[BackendCase]:
    """Return the cases that ``XPNET_REQUIRE_BACKENDS`` names; ValueError when it names another."""
    names = os.environ.get(REQUIRE_VARIABLE, "").split(",")
    return {BackendCase(name.strip()) for name in names if name.strip()}
