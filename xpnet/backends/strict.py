"""array-api-strict, a minimal implementation of the array-API standard, used in tests in place of a GPU.

It rejects what other libraries tolerate: NumPy arrays in place of its own, arrays of two devices in one
operation, indexing and type promotion outside the standard.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from xpnet._typing import Context, HostArray, Names
from xpnet.backends.base import Backend
from xpnet.backends.workers import find_blas

CPU_DEVICE = "CPU_DEVICE"


class StrictBackend(Backend):
    """array-api-strict on ``cpu`` or on one of its simulated devices, such as ``device1``."""

    name, module = "array-api-strict", "array_api_strict"
    install = "pip install array-api-strict"

    def set_up(self, device: str) -> None:
        """Set the namespace and the device."""
        self.xp = self.library
        self.device = self.library.Device(CPU_DEVICE if device == "cpu" else device)
        dtypes = self.library.__array_namespace_info__().dtypes(device=self.device)
        self.has_float64, self.has_int64 = "float64" in dtypes, "int64" in dtypes

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Reject operations whose shapes depend on values, which compilers cannot handle.

        Indices and sums of integers, which the library's own functions make int64, are also so on a device
        that has none, but not what a caller asks for.
        """
        flags = self.library.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False)
        module, int64 = self.library._array_object, self.library.int64
        supports = getattr(module, "device_supports_dtype", None)
        with flags, np.errstate(all="ignore"), ExitStack() as stack:
            if supports is not None and not self.has_int64:
                stack.callback(setattr, module, "device_supports_dtype", supports)
                module.device_supports_dtype = lambda device, dtype: dtype == int64 or supports(device, dtype)
            yield

    def operation_scope(self) -> Context:
        """Silence floating-point warnings."""
        return np.errstate(all="ignore")

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Give the BLAS of NumPy one thread: the products of a block gain nothing from more."""
        with find_blas().limit(limits=1):
            yield

    def to_host(self, array: Any) -> HostArray:
        """Return `array` as a NumPy array, via the one device that allows the conversion."""
        return np.asarray(array.to_device(self.library.Device(CPU_DEVICE)))

    @classmethod
    def host_devices(cls, library: ModuleType) -> Names:
        """Return the names of the CPU and of the simulated devices."""
        return tuple(map(_name, library.__array_namespace_info__().devices()))

    @classmethod
    def name_device(cls, array: Any) -> str:
        """Return the name of the simulated device of an array."""
        return _name(array.device)


def _name(device: object) -> str:
    name = repr(device).split("'")[1]
    return "cpu" if name == CPU_DEVICE else name
