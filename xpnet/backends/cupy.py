"""CuPy: CUDA GPUs.

``import cupy`` succeeds on a machine without a GPU, ``cupy.cuda.is_available()`` hides the reason for a
failure, and ``cupy.cuda.Device(0)`` can be constructed without a GPU. `CuPyBackend.count_gpus` therefore
checks the driver, then the runtime, and returns the first problem.
"""

import importlib
from types import ModuleType
from typing import Any, cast

from xpnet._typing import Array, Context, Function, HostArray, Names
from xpnet.backends.base import Backend
from xpnet.backends.probing import DRIVER_FIX, NO_GPU_FIX, GpuCount, Problem, cuda_index, one_line

# By cudaError_t, the status code of the CUDA runtime.
NO_DEVICE = 100
RUNTIME_PROBLEMS = {
    35: Problem("the NVIDIA driver is missing or too old for this CuPy", DRIVER_FIX),
    NO_DEVICE: Problem("the NVIDIA driver sees no GPU", NO_GPU_FIX),
    802: Problem("the NVIDIA driver is not ready", "sudo systemctl start nvidia-fabricmanager, or wait"),
    803: Problem("the NVIDIA driver's library and kernel module differ in version", "sudo reboot"),
    999: Problem("the NVIDIA driver reports an unknown error", "sudo modprobe -r nvidia_uvm, or sudo reboot"),
}


class CuPyBackend(Backend):
    """CuPy arrays on one GPU."""

    name = module = "cupy"
    install = install_gpu = 'pip install "cupy-cuda{}x[ctk]"'
    writable = compiles_shapes = True

    def set_up(self, device: str) -> None:
        """Set the namespace and the device."""
        from xpnet.backends.cupy_compile import make_namespace

        self.xp = make_namespace(importlib.import_module("array_api_compat.cupy"))
        self.device = self.library.cuda.Device(cuda_index(device))

    def scope(self) -> Context:
        """Return the context in which this GPU is the current one, on which CuPy puts its results."""
        return cast("Context", self.library.cuda.Device(cuda_index(self.device_name)))

    def compile(self, function: Function, **_: object) -> Function:
        """Return a function that runs in a few kernels; see `xpnet.backends.cupy_compile`."""
        from xpnet.backends.cupy_compile import compile_kernels

        return compile_kernels(function)

    def compile_steps(self, step: Function, compiled: Function, *, exact: bool) -> Function:
        """Return a function that starts the kernels of several steps."""

        def take_steps(variables: Any, block: Any, rates: Any) -> Any:
            block = block._replace(indices=self.library.asarray(block.indices))
            first, *more = [(block.of_step(number), rate) for number, rate in enumerate(rates)]
            return compiled(variables, *first, more=more)

        return take_steps

    def from_host(self, array: HostArray) -> Array:
        """Copy a NumPy array to the GPU, keeping its dtype."""
        with self.scope():
            return self.library.asarray(array)

    def to_host(self, array: Array) -> HostArray:
        """Copy `array` to a NumPy array, waiting for the GPU."""
        with self.scope():
            return cast("HostArray", self.library.asnumpy(array))

    @classmethod
    def name_device(cls, array: Any) -> str:
        """Return the name of the GPU that holds an array."""
        return f"cuda:{array.device.id}"

    @classmethod
    def host_devices(cls, library: ModuleType) -> Names:
        """Return no device: CuPy runs on GPUs only."""
        return ()

    @classmethod
    def count_gpus(cls, library: ModuleType) -> GpuCount:
        """Return the number of GPUs that the CUDA runtime reports, or 0 and the problem."""
        runtime = library.cuda.runtime
        try:
            driver, needed = int(runtime.driverGetVersion()), int(runtime.runtimeGetVersion()) // 1000
            major, minor = driver // 1000, driver % 1000 // 10
            if driver == 0:
                return 0, Problem("there is no NVIDIA driver", DRIVER_FIX)
            if major < needed:
                wheel = f", or in place of this CuPy: {cls.install.format(major)}" if major >= 12 else ""
                reason = f"the NVIDIA driver supports CUDA {major}.{minor} and this CuPy needs CUDA {needed}"
                return 0, Problem(reason, DRIVER_FIX + wheel)
            count = int(runtime.getDeviceCount())
        except runtime.CUDARuntimeError as error:
            unlisted = Problem(f"CUDA does not start: {one_line(error)}", DRIVER_FIX)
            return 0, RUNTIME_PROBLEMS.get(error.status, unlisted)
        return count, None if count else RUNTIME_PROBLEMS[NO_DEVICE]
