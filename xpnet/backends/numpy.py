"""NumPy, on the CPU: the backend that is always there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import array_api_compat.numpy
import numpy as np

from xpnet.backends.base import Array, Backend, Probe, device_problem, require

if TYPE_CHECKING:
    import numpy.typing as npt

NAME = "numpy"
DEVICES = ("cpu",)


class NumPyBackend(Backend):
    """NumPy arrays, which are host arrays already."""

    name = NAME
    xp = array_api_compat.numpy
    device = "cpu"
    device_name = "cpu"

    def __init__(self, version: str) -> None:
        self.version = version

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Return `array` itself."""
        return array

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Return `array` itself."""
        return np.asarray(array)

    def synchronize(self) -> None:
        """Do nothing: NumPy has finished when it returns."""


def probe(device: str) -> Probe:
    """Say whether NumPy can run on `device`."""
    return Probe.of(device_problem(NAME, device, DEVICES), np.__version__, *DEVICES)


def make(device: str) -> Backend:
    """Return NumPy on `device`; raise BackendError when it cannot run there."""
    return NumPyBackend(require(NAME, device, probe(device)))
