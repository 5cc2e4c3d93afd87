"""The backend interface: an array namespace on one device, and conversion to and from NumPy.

A library file beside this one holds a subclass of `Backend`.
"""

import importlib
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from types import ModuleType
from typing import Any, Self

import array_api_compat

from xpnet._lib.switches import read_switch
from xpnet._typing import Array, Context, Device, Function, HostArray, Names, Namespace
from xpnet.backends.probing import Probe, Problem, cuda_major, expand_device, find_fix, is_gpu, one_line
from xpnet.backends.workers import Workers
from xpnet.errors import BackendError, ConfigError, setting

GPU_STACK, LARGE_STACK = 16, 64
"""Blocks that a GPU computes in one call: 100 MB of MNIST's pixels in float64, or 400 MB."""
WHOLE_BATCHES = "XPNET_WHOLE_BATCHES"
"""The environment variable, a switch, that has a GPU take a step on large stacks of blocks in one call."""


class Backend:
    """One array library on one device.

    Attributes
    ----------
    name
        As in ``--backend``: numpy, cupy, torch, jax, dpnp or array-api-strict.
    module
        The library's name in an import statement.
    install, install_gpu
        The commands that install the library, and with support of GPUs; ``{}`` is CUDA's major version.
    library
        The library itself.
    xp
        The array-API namespace that the mathematics takes.
    device
        The library's own device object, for ``xp.asarray(..., device=device)``.
    device_name
        As in ``--device``: cpu, cuda:0, ...
    gpu_kind
        The GPUs that the library can use, as in ``--device``: cuda or gpu.
    version
        The library's version.
    has_float64, has_int64
        True if the device has numbers of these dtypes.
    on_host
        True if its arrays are host arrays, so that none are copied and files may be memory-mapped.
    on_gpu
        True if the device is a GPU: copies from the host take time, and the host goes on while it computes.
    writable
        True if the elements of its arrays can be assigned to.
    parallel_blocks
        True if starting an operation takes no time, and `workers` has an effect.
    fuses
        True if its compiler fuses elementwise operations.
    compiles_shapes
        True if a function is compiled for each shape of its arguments, which takes time and memory.
    stack
        The number of blocks to compute in one call: large if starting an operation takes longer than
        computing it.
    takes_batches
        True if a step on a batch of one stack of blocks and a short block is one call.
    reverses
        True if slices may have negative steps.
    hidden_devices
        Devices of the library that are not offered to users.
    pool
        The threads of `workers`, whose ``map`` yields the results of a function for several blocks in order.
    """

    name: str
    module: str
    install: str
    install_gpu: str
    xp: Namespace
    device: Device
    has_float64 = True
    has_int64 = True
    on_host = False
    on_gpu = False
    writable = False
    parallel_blocks = False
    fuses = False
    compiles_shapes = False
    stack = 1
    takes_batches = False
    reverses = True
    gpu_kind = "cuda"
    hidden_devices: Names = ()

    def __init__(self, device: str) -> None:
        self.library = importlib.import_module(self.module)
        self.device_name, self.version = device, str(self.library.__version__)
        self.on_gpu = is_gpu(device)
        if self.on_gpu:
            self.takes_batches = read_switch(WHOLE_BATCHES)
            self.stack = LARGE_STACK if self.takes_batches else GPU_STACK
        self.pool = Workers()
        self.set_up(device)

    def set_up(self, device: str) -> None:
        """Set the namespace, the device, and what else is the library's own."""

    @classmethod
    def probe(cls, device: str) -> Probe:
        """Report whether the library can run on `device`, and if not, the reason and how to fix it."""
        try:
            library = importlib.import_module(cls.module)
        except Exception as error:  # noqa: BLE001  each library raises its own errors
            missing = isinstance(error, ModuleNotFoundError) and error.name == cls.module
            reason = "not installed" if missing else f"installed but does not import: {one_line(error)}"
            fix = cls.install.format(cuda_major())
            return Probe(usable=False, version=None, devices=(), reason=f"{cls.module} is {reason}", fix=fix)
        device = expand_device(device)
        count, problem = cls.count_gpus(library) if device.startswith(f"{cls.gpu_kind}:") else (0, None)
        gpus = tuple(f"{cls.gpu_kind}:{index}" for index in range(count))
        devices = cls.host_devices(library) + gpus
        if problem is None and device not in devices + cls.hidden_devices:
            names = gpus or devices or (cls.gpu_kind,)
            reason = f"{cls.name} has no {device} here, only {', '.join(names)}"
            problem = Problem(reason, setting("device", names[0]))
        if problem is None and is_gpu(device):
            problem = cls(device).run_smoke_test()
        if problem is not None:
            problem = problem._replace(fix=find_fix(*problem))
        return Probe(problem is None, str(library.__version__), devices, *(problem or ()))

    @classmethod
    def make(cls, device: str) -> Self:
        """Return the backend on `device`.

        Raises
        ------
        BackendError
            The library cannot run there.
        """
        probe = cls.probe(device)
        if not probe.usable:
            msg = f"the {cls.name} backend cannot run on {device}: {probe.reason}; to fix it: {probe.fix}"
            raise BackendError(msg)
        return cls(expand_device(device))

    @classmethod
    def of(cls, array: Array) -> Self:
        """Return the backend on the device of an array of this library, without probing it."""
        return cls(cls.name_device(array))

    @classmethod
    def name_device(cls, array: Any) -> str:
        """Return the name of the device of an array of this library."""
        return str(array.device)

    @classmethod
    def host_devices(cls, library: ModuleType) -> Names:
        """Return the names of the library's devices other than GPUs."""
        return ("cpu",)

    @classmethod
    def count_gpus(cls, library: ModuleType) -> tuple[int, Problem | None]:
        """Return the number of GPUs that the library sees, and the problem that keeps it from using any."""
        return 0, None

    def run_smoke_test(self) -> Problem | None:
        """Return the problem of a small matrix product, addition and sum, None if they work.

        Only a computation reveals a missing cuBLAS or NVRTC, or a GPU that the library was not built for.
        """
        try:
            with self.scope():
                x = self.xp.ones((2, 2), dtype=self.xp.float32, device=self.device)
                total = float(self.xp.sum(x @ x + 1.0))
        except Exception as error:  # noqa: BLE001  each library raises its own errors
            reason = f"failed: {one_line(error)}"
        else:
            if total == 12.0:
                return None
            reason = f"gave {total} where 12 is right"
        return Problem(f"a test computation {reason}", self.install_gpu.format(cuda_major()))

    def scope(self) -> Context:
        """Return the context in which to compute with this backend."""
        return nullcontext()

    def operation_scope(self) -> Context:
        """Return the context of one operation of `standard`, of arrays on the device."""
        return self.scope()

    @cached_property
    def standard(self) -> Namespace:
        """The library's functions by the array-API standard, none replaced by a faster one."""
        return array_api_compat.array_namespace(self.xp.zeros(0))

    def workers(self, count: int) -> Context:
        """Return the context in which the ``pool`` computes `count` blocks in parallel.

        Libraries without `parallel_blocks` manage their own threads and take one block at a time.
        """
        return nullcontext()

    def single_blocks(self, multiplications: int) -> Context:
        """Return the context for batches of a single block, in which the library may use all threads.

        ``multiplications`` are those of a block, from the inputs to the logits.
        """
        return nullcontext()

    def from_host(self, array: HostArray) -> Array:
        """Put a NumPy array on the device, keeping its dtype.

        The result may share memory with `array`, so do not write to `array` afterwards.
        """
        return self.xp.asarray(array, device=self.device)

    def to_host(self, array: Array) -> HostArray:
        """Return `array` as a NumPy array, waiting for the device.

        The result may share memory with `array` and may be read-only.
        """
        import numpy as np

        return np.asarray(array)

    def narrow(self, array: HostArray) -> HostArray:
        """Convert float64 to float32, and int64 to int32, if the device has none."""
        has, name = {"float64": self.has_float64, "int64": self.has_int64}, array.dtype.name
        return array if has.get(name, True) else array.astype(name.replace("64", "32"))

    def put(self, array: HostArray) -> Array:
        """Put a NumPy array on the device, as `from_host`, in a dtype that it has."""
        return self.from_host(self.narrow(array))

    def to_user(self, array: HostArray) -> Array:
        """Put results on the device, in the dtypes that the user has allowed the library."""
        return self.from_host(array)

    def compile(
        self, function: Function, *, exact: bool, donated: bool = False, transient: bool = False
    ) -> Function:
        """Return a function equivalent to `function`, perhaps faster.

        Arguments and results are arrays, Python numbers, None, and lists, tuples and named tuples of
        them; the function is pure, and its control flow depends only on their shapes. If `exact`, each of its
        operations must remain one operation, with the same bits. If `donated`, the memory of the first
        argument may be used for the results: it must not be used after the call. `transient` results must
        not be used after the next call, in any thread.
        """
        return function

    def compile_steps(self, step: Function, compiled: Function, *, exact: bool) -> Function:
        """Return a function that takes several steps, in one compiled loop if the library has one.

        `step` takes the variables, a block of all samples with the indices of those of the batch, and a
        learning rate, and returns the new variables; `compiled` is what `compile` has made of it. The
        function takes a block with the indices of each step's samples, (steps, samples), and on a GPU their
        masks, and the rates. The indices are on the host, unless the device is a GPU.
        """

        def take_steps(variables: Any, block: Any, rates: Sequence[float]) -> Any:
            block = block._replace(indices=self.xp.asarray(block.indices, device=self.device))
            for number, rate in enumerate(rates):
                variables = compiled(variables, block.of_step(number), rate)
            return variables

        return take_steps

    def owns(self, value: object) -> bool:
        """Return True if `value` is an array of this library.

        Several functions of the CuPy namespace silently return NumPy arrays for NumPy arrays, so input from
        outside is checked once, where it enters.
        """
        try:
            namespace = array_api_compat.array_namespace(value)
        except TypeError:
            return False
        return getattr(namespace, "__name__", None) == getattr(self.xp, "__name__", None)


def replace_functions(namespace: ModuleType, **functions: Function) -> ModuleType:
    """Return a namespace that is another one but for the functions of these names."""
    changed = ModuleType(namespace.__name__)
    changed.__dict__.update(vars(namespace), **functions)
    return changed


PRECISION_VARIABLES = {
    "CUPY_TF32": "CuPy then shortens float32 operands to 10 bits",
    "NVIDIA_TF32_OVERRIDE": "cuBLAS may then shorten float32 operands to 10 bits",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "PyTorch then shortens float32 operands to 10 bits",
    "CUBLAS_EMULATE_SINGLE_PRECISION": "cuBLAS then emulates float32 with smaller numbers",
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "cuBLAS then emulates float64 with integers",
    "CUBLAS_EMULATION_STRATEGY": "cuBLAS may then emulate float64 with integers",
}
"""Environment variables that change the precision of products on GPUs, with their effects; 0 is off."""


def check_environment() -> None:
    """Check the environment for variables that change the bits of products.

    Raises
    ------
    ConfigError
        One of ``PRECISION_VARIABLES`` is set.
    """
    for name, effect in PRECISION_VARIABLES.items():
        value = os.environ.get(name, "")
        if value not in ("", "0"):
            raise ConfigError(f"{name}={value}: {effect}, so results would not be comparable: unset {name}")
