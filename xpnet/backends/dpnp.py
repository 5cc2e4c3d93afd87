"""dpnp: Intel's devices, the CPU through OpenCL and GPUs through Level Zero or OpenCL.

Each array belongs to a SYCL queue of a device. dpnp refuses operations on arrays of two queues, and the
implicit conversion of its arrays to NumPy's. Its quotients of equal shapes are oneMKL's, of which one in a
thousand is not correctly rounded; inside `DpnpBackend.scope` they are those of SYCL, which are.
"""

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from types import ModuleType
from typing import Any, Self, cast

from xpnet._typing import Array, HostArray, Names
from xpnet.backends.base import GPU_STACK, Backend
from xpnet.backends.probing import GpuCount, Probe, Problem

OPENCL_DRIVERS = "OCL_ICD_FILENAMES"
"""The environment variable that names further OpenCL drivers."""
NO_CPU_FIX = f"pip install intel-opencl-rt, or set {OPENCL_DRIVERS} to the path of libintelocl.so"
NO_GPU = Problem("dpnp sees no Intel GPU", "install the driver of the GPU: https://dgpu-docs.intel.com")


class DpnpBackend(Backend):
    """dpnp arrays on the default queue of one device."""

    name = module = "dpnp"
    install = install_gpu = "pip install dpnp intel-opencl-rt"
    gpu_kind = "gpu"
    stack = GPU_STACK
    writable = True

    def set_up(self, device: str) -> None:
        """Set the namespace and the device."""
        self.xp = self.library
        sycl_device = _sycl_devices().get(device, device)
        self.device = self.library.empty(0, dtype=self.library.int8, device=sycl_device).device
        self.has_float64 = bool(self.device.sycl_device.has_aspect_fp64)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Divide with correct rounding. This holds for the calling thread alone."""
        _replace_division(self.library)
        _scopes.depth += 1
        try:
            yield
        finally:
            _scopes.depth -= 1

    @classmethod
    def probe(cls, device: str) -> Probe:
        """Report whether dpnp can run on `device`. OpenCL's driver for the CPU is found before the import."""
        _name_opencl_driver()
        probe = super().probe(device)
        if probe.version is not None and device == "cpu" and not probe.usable:
            return probe._replace(reason="dpnp sees no CPU: OpenCL has no driver for it", fix=NO_CPU_FIX)
        return probe

    @classmethod
    def of(cls, array: Any) -> Self:
        """Return the backend on the device and the queue of an array, without probing it."""
        backend = super().of(array)
        backend.device = array.device
        return backend

    def to_host(self, array: Array) -> HostArray:
        """Copy `array` to a NumPy array, waiting for the device."""
        return cast("HostArray", self.library.asnumpy(array))

    @classmethod
    def name_device(cls, array: Any) -> str:
        """Return the name of the device of an array, SYCL's own for those that are neither CPU nor GPU."""
        device = array.device.sycl_device
        names = (name for name, known in _sycl_devices().items() if known == device)
        return next(names, str(device.filter_string))

    @classmethod
    def host_devices(cls, library: ModuleType) -> Names:
        """Return the CPU, if OpenCL has a driver for it."""
        return tuple(name for name in _sycl_devices() if name == "cpu")

    @classmethod
    def count_gpus(cls, library: ModuleType) -> GpuCount:
        """Return the number of GPUs that SYCL sees, or 0 and the problem."""
        count = sum(name != "cpu" for name in _sycl_devices())
        return count, None if count else NO_GPU


class _Scopes(threading.local):
    depth = 0


_scopes = _Scopes()
"""The number of scopes that the thread is in."""


def _replace_division(dpnp: ModuleType) -> None:
    """Make dpnp divide as ``dpnp.tensor`` does, without oneMKL, in threads that are in a scope."""
    division, exact = dpnp.divide, dpnp.tensor.divide.get_implementation_function()
    by_mkl = division.get_implementation_function()
    if by_mkl.__module__ == __name__:
        return

    def divide(*arguments: Any, **keywords: Any) -> Any:
        return (exact if _scopes.depth else by_mkl)(*arguments, **keywords)

    division.binary_fn_ = divide


def _name_opencl_driver() -> None:
    """Name the OpenCL driver of the package intel-opencl-rt, unless the user has named one.

    In a virtual environment, no folder of the system's lists it. It is read when dpnp is imported.
    """
    if OPENCL_DRIVERS in os.environ:
        return
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("intel-opencl-rt") or ():
            if file.name == "libintelocl.so":
                os.environ[OPENCL_DRIVERS] = os.path.realpath(file.locate())


def _sycl_devices() -> dict[str, Any]:
    """Return SYCL's devices by name: cpu and gpu:N, whose order is SYCL's.

    Where Level Zero has GPUs, OpenCL's are the same ones again.
    """
    dpctl = importlib.import_module("dpctl")
    cpus = dpctl.get_devices(device_type="cpu")
    gpus = dpctl.get_devices("level_zero", "gpu") or dpctl.get_devices(device_type="gpu")
    devices = {f"gpu:{index}": device for index, device in enumerate(gpus)}
    return {"cpu": cpus[0], **devices} if cpus else devices
