"""CuPy: CUDA GPUs.

``import cupy`` succeeds on a machine without a GPU, ``cupy.cuda.is_available()`` swallows every
reason, and ``cupy.cuda.Device(0)`` constructs without one. `CuPyBackend.count_gpus` therefore goes from the
driver up, in the order in which the parts depend on each other, and keeps the first reason it meets.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet._typing import Array
from xpnet.backends.base import GPU_STACK, Backend
from xpnet.backends.probing import (
    DRIVER_FIX,
    NO_GPU_FIX,
    Problem,
    cuda_index,
    cuda_major,
    one_line,
)

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

    name = module = "cupy"
    device: Any
    stack = compiled_stack = GPU_STACK

    def __init__(self, device: str, version: str) -> None:
        super().__init__(device, version)
        self.xp = importlib.import_module("array_api_compat.cupy")
        self.device = self.library.cuda.Device(cuda_index(device))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make this GPU the current one, where CuPy puts whatever it computes."""
        with self.library.cuda.Device(self.device.id):
            yield

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Copy a NumPy array to the GPU, keeping its dtype."""
        with self.scope():
            copy: Array = self.library.asarray(array)
        return copy

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Copy `array` to a NumPy array, waiting for the GPU."""
        with self.scope():
            host: npt.NDArray[np.generic] = self.library.asnumpy(array)
        return host

    def synchronize(self) -> None:
        """Wait for the GPU."""
        with self.scope():
            self.device.synchronize()

    @classmethod
    def install(cls) -> str:
        """Return the command that installs CuPy for this machine's driver."""
        return _wheel(cuda_major())

    def install_for_cuda(self) -> str:
        """Return the command that installs CuPy with all it needs of CUDA."""
        return _wheel(int(self.library.cuda.runtime.runtimeGetVersion()) // 1000)

    @classmethod
    def host_devices(cls, library: ModuleType) -> tuple[str, ...]:  # noqa: ARG003
        """Return no device: CuPy runs on GPUs only."""
        return ()

    @classmethod
    def count_gpus(cls, library: ModuleType) -> tuple[int, Problem | None]:
        """Return how many GPUs the CUDA runtime counts, or 0 and what it says against using any."""
        runtime = library.cuda.runtime
        try:
            if problem := _driver_problem(runtime):
                return 0, problem
            count = int(runtime.getDeviceCount())
        except runtime.CUDARuntimeError as error:
            unlisted = Problem(f"CUDA does not start: {one_line(error)}", DRIVER_FIX)
            return 0, RUNTIME_PROBLEMS.get(error.status, unlisted)
        return count, None if count else RUNTIME_PROBLEMS[NO_DEVICE]


def _wheel(major: int) -> str:
    return f'pip install "cupy-cuda{major}x[ctk]"'


def _driver_problem(runtime: ModuleType) -> Problem | None:
    """Return that the driver is missing, or older than the CUDA that CuPy was built for."""
    driver = int(runtime.driverGetVersion())
    built_for = int(runtime.runtimeGetVersion())
    if driver == 0:
        return Problem("there is no NVIDIA driver", DRIVER_FIX)
    if driver // 1000 < built_for // 1000:
        older = driver // 1000
        wheel = f", or in place of this CuPy: {_wheel(older)}" if older >= 12 else ""
        return Problem(
            f"the NVIDIA driver supports CUDA {driver // 1000}.{driver % 1000 // 10} "
            f"and this CuPy needs CUDA {built_for // 1000}",
            DRIVER_FIX + wheel,
        )
    return None


probe, make = CuPyBackend.probe, CuPyBackend.make
