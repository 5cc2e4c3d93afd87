"""array-api-strict, the standard and nothing more: a stand-in for a GPU where there is none.

It refuses what other libraries only frown at: NumPy arrays in place of its own, arrays of two
devices in one operation, indexing and promotion outside the array-API standard.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backends.base import Backend
from xpnet.backends.probing import Probe, device_problem, import_library, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from xpnet._typing import Array

NAME = "array-api-strict"
INSTALL = "pip install array-api-strict"
CPU_DEVICE = "CPU_DEVICE"


class StrictBackend(Backend):
    """array-api-strict on ``cpu`` or on one of its pretended devices, such as ``device1``."""

    name = NAME

    def __init__(self, device: str, version: str) -> None:
        self.xp = importlib.import_module("array_api_strict")
        self.device_name = device
        self.device = self.xp.Device(_library_name(device))
        self.version = version
        dtypes = self.xp.__array_namespace_info__().dtypes(device=self.device)
        self.has_float64 = "float64" in dtypes

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Refuse what a compiler or a GPU could not do: shapes that depend on values."""
        flags = self.xp.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False)
        with flags, np.errstate(all="ignore"):
            yield

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Put a NumPy array on the device, keeping its dtype."""
        return self.xp.asarray(array, device=self.device)

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Return `array` as a NumPy array, by way of the one device that allows it."""
        return np.asarray(array.to_device(self.xp.Device(CPU_DEVICE)))

    def synchronize(self) -> None:
        """Do nothing: the library has finished when it returns."""


def _library_name(device: str) -> str:
    return CPU_DEVICE if device == "cpu" else device


def _devices(xp: Any) -> tuple[str, ...]:
    names = [repr(device).split("'")[1] for device in xp.__array_namespace_info__().devices()]
    return tuple("cpu" if name == CPU_DEVICE else name for name in names)


def probe(device: str) -> Probe:
    """Say whether array-api-strict can run on `device`."""
    xp, problem = import_library("array_api_strict", INSTALL)
    if problem:
        return Probe.of(problem, None)
    devices = _devices(xp)
    return Probe.of(device_problem(NAME, device, devices), xp.__version__, *devices)


def make(device: str) -> Backend:
    """Return array-api-strict on `device`; raise BackendError when it cannot run there."""
    return StrictBackend(device, require(NAME, device, probe(device)))
