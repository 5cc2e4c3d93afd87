"""array-api-strict, the standard and nothing more: a stand-in for a GPU where there is none.

It refuses what other libraries only frown at: NumPy arrays in place of its own, arrays of two
devices in one operation, indexing and promotion outside the array-API standard.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet._typing import Array
from xpnet.backends.base import Backend

CPU_DEVICE = "CPU_DEVICE"


class StrictBackend(Backend):
    """array-api-strict on ``cpu`` or on one of its pretended devices, such as ``device1``."""

    name, module = "array-api-strict", "array_api_strict"
    xp: Any

    def __init__(self, device: str, version: str) -> None:
        super().__init__(device, version)
        self.xp = self.library
        self.device = self.xp.Device(CPU_DEVICE if device == "cpu" else device)
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
        put: Array = self.xp.asarray(array, device=self.device)
        return put

    def to_host(self, array: Any) -> npt.NDArray[np.generic]:
        """Return `array` as a NumPy array, by way of the one device that allows it."""
        return np.asarray(array.to_device(self.xp.Device(CPU_DEVICE)))

    def synchronize(self) -> None:
        """Do nothing: the library has finished when it returns."""

    @classmethod
    def host_devices(cls, library: ModuleType) -> tuple[str, ...]:
        """Return the names of the host and of the pretended devices."""
        names = [repr(device).split("'")[1] for device in library.__array_namespace_info__().devices()]
        return tuple("cpu" if name == CPU_DEVICE else name for name in names)


probe, make = StrictBackend.probe, StrictBackend.make
