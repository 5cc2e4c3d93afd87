"""CuPy: CUDA GPUs.

``import cupy`` succeeds on a machine without a GPU, ``cupy.cuda.is_available()`` swallows every
reason, and ``cupy.cuda.Device(0)`` constructs without one. `probe` therefore goes from the driver
up, in the order in which the parts depend on each other, and keeps the first reason it meets.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xpnet.backends.base import GPU_STACK, Backend
from xpnet.backends.probing import (
    DRIVER_FIX,
    NO_GPU_FIX,
    Probe,
    Problem,
    cuda_index,
    cuda_major,
    cuda_names,
    device_problem,
    import_library,
    one_line,
    require,
    smoke_problem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from xpnet._typing import Array

NAME = "cupy"

# By status, the CUDA runtime's cudaError_t.
NO_DEVICE = 100
RUNTIME_PROBLEMS = {
    35: Problem("the NVIDIA driver is missing or too old for this CuPy", DRIVER_FIX),
    NO_DEVICE: Problem("the NVIDIA driver sees no GPU", NO_GPU_FIX),
    802: Problem(
        "the NVIDIA driver is not ready",
        "wait, or start the fabric manager: sudo systemctl start nvidia-fabricmanager",
    ),
    803: Problem(
        "the NVIDIA driver's library and its kernel module differ in version",
        "restart the machine: sudo reboot",
    ),
    999: Problem(
        "the NVIDIA driver reports an unknown error",
        "reload its module, sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm, or restart",
    ),
}


class CuPyBackend(Backend):
    """CuPy arrays on one GPU."""

    name = NAME
    stack = compiled_stack = GPU_STACK

    def __init__(self, index: int, version: str) -> None:
        self._cupy = importlib.import_module("cupy")
        self.xp = importlib.import_module("array_api_compat.cupy")
        self.device_name = f"cuda:{index}"
        self.device = self._cupy.cuda.Device(index)
        self.version = version

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make this GPU the current one, where CuPy puts whatever it computes."""
        with self._cupy.cuda.Device(self.device.id):
            yield

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Copy a NumPy array to the GPU, keeping its dtype."""
        with self.scope():
            return self._cupy.asarray(array)

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Copy `array` to a NumPy array, waiting for the GPU."""
        with self.scope():
            host: npt.NDArray[np.generic] = self._cupy.asnumpy(array)
        return host

    def synchronize(self) -> None:
        """Wait for the GPU."""
        with self.scope():
            self.device.synchronize()


def _wheel(major: int) -> str:
    return f'pip install "cupy-cuda{major}x[ctk]"'


def _version_name(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _driver_problem(cupy: Any) -> Problem | None:
    """Return that the driver is missing, or older than the CUDA that CuPy was built for."""
    driver = int(cupy.cuda.runtime.driverGetVersion())
    built_for = int(cupy.cuda.runtime.runtimeGetVersion())
    if driver == 0:
        return Problem("there is no NVIDIA driver", DRIVER_FIX)
    if driver // 1000 < built_for // 1000:
        older = driver // 1000
        other = f", or in place of this CuPy: {_wheel(older)}" if older >= 12 else ""
        return Problem(
            f"the NVIDIA driver supports CUDA {_version_name(driver)} "
            f"and this CuPy needs CUDA {built_for // 1000}",
            DRIVER_FIX + other,
        )
    return None


def _count_problem(cupy: Any) -> Problem | None:
    """Return that the driver counts no GPU; CUDARuntimeError when it cannot count."""
    return None if int(cupy.cuda.runtime.getDeviceCount()) else RUNTIME_PROBLEMS[NO_DEVICE]


def _runtime_problem(cupy: Any) -> Problem | None:
    """Return what the CUDA runtime says against using any GPU, or None."""
    try:
        return _driver_problem(cupy) or _count_problem(cupy)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        unlisted = Problem(f"CUDA does not start: {one_line(error)}", DRIVER_FIX)
        return RUNTIME_PROBLEMS.get(error.status, unlisted)


def _smoke_problem(cupy: Any, index: int) -> Problem | None:
    """Compute something, which alone finds a missing cuBLAS or NVRTC."""
    major = int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
    xp = importlib.import_module("array_api_compat.cupy")
    with cupy.cuda.Device(index) as device:
        return smoke_problem(xp, device, _wheel(major))


def probe(device: str) -> Probe:
    """Say whether CuPy can run on `device`; nothing here happens when xpnet is imported."""
    index = cuda_index(device)
    cupy, problem = import_library("cupy", _wheel(cuda_major()))
    if problem:
        return Probe.of(problem, None)
    version = str(cupy.__version__)
    if index is None:
        return Probe.of(Problem("cupy runs on CUDA GPUs only", "--device cuda"), version)
    problem = _runtime_problem(cupy)
    if problem:
        return Probe.of(problem, version)
    devices = cuda_names(int(cupy.cuda.runtime.getDeviceCount()))
    problem = device_problem(NAME, f"cuda:{index}", devices) or _smoke_problem(cupy, index)
    return Probe.of(problem, version, *devices)


def make(device: str) -> Backend:
    """Return CuPy on `device`; raise BackendError when it cannot run there."""
    version = require(NAME, device, probe(device))
    return CuPyBackend(cuda_index(device) or 0, version)
