"""PyTorch: the CPU, CUDA GPUs, Apple GPUs, and the ``meta`` device, which computes shapes without numbers."""

import importlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from operator import attrgetter
from threading import Lock
from types import ModuleType
from typing import Any, cast

import numpy as np

from xpnet._typing import Array, Context, Function, HostArray, Names
from xpnet.backends.base import Backend, replace_functions
from xpnet.backends.probing import NO_GPU_FIX, GpuCount, Problem, cuda_index, missing_driver_or, one_line
from xpnet.backends.replay import compile_replay

THREADED_MULTIPLICATIONS = 1 << 23
"""Multiplications of a forward pass from which all threads together are faster than one."""

SUBSCRIPTS = 16
"""Subscripts of a tensor by integers that are a loop."""
EACH = "each of which is an operation, for which a GPU has a kernel"


class TorchBackend(Backend):
    """PyTorch tensors on one device."""

    name = module = "torch"
    install = "pip install torch"
    install_gpu = "pip install --force-reinstall torch for your CUDA: https://pytorch.org/get-started/locally"
    hidden_devices = ("meta",)
    writable = True
    reverses = False

    def set_up(self, device: str) -> None:
        """Set the namespace and the device."""
        self.xp = _make_namespace(self.library)
        self.device = self.library.device(device)
        self._current: Callable[[], Context] = nullcontext
        if cuda_index(device) is not None:
            self._current = partial(self.library.cuda.device, self.device)  # makes it the current GPU
        self.has_float64 = not device.startswith("mps")
        self.parallel_blocks = device == "cpu"

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Compute on this device in full precision, without automatic differentiation and casts.

        A default device that the user has set, other than the CPU, is replaced by this one.
        """
        torch = self.library
        is_usual = torch.get_default_device() in (torch.device("cpu"), self.device)
        default = nullcontext() if is_usual else self.device
        kind = self.device_name.partition(":")[0]
        casts = nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)
        with torch.no_grad(), casts, self._current(), _full_precision(torch), default:
            yield

    def operation_scope(self) -> Context:
        """Compute on this device."""
        return self._current()

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Keep a pool of `count` threads for blocks, in each of which an operation uses that thread alone.

        PyTorch's number of threads holds for the thread that sets it, and for those that start later.
        """
        if not self.parallel_blocks:
            yield
            return
        with self._limit_threads(1), self.pool.start(count, partial(_prepare_thread, self.library)):
            yield

    @contextmanager
    def _limit_threads(self, count: int) -> Iterator[None]:
        before = self.library.get_num_threads()
        self.library.set_num_threads(count)
        try:
            yield
        finally:
            self.library.set_num_threads(before)

    def single_blocks(self, multiplications: int) -> Context:
        """Let operations use all threads if the products are large enough to outweigh synchronisation."""
        if not self.parallel_blocks:
            return nullcontext()
        return self._limit_threads(self.pool.count if multiplications >= THREADED_MULTIPLICATIONS else 1)

    def compile(self, function: Function, *, exact: bool, **options: Any) -> Function:
        """Return a function that replays `function` in preallocated memory, on the CPU."""
        if self.device_name != "cpu":
            return function
        from xpnet.backends.torch_replay import TorchTape

        return compile_replay(function, TorchTape, **options)

    def forbid_loops(self) -> Context:
        """Return a context in which it is an error to take the elements of a tensor one by one."""
        tensor, counts = self.library.Tensor, Counter[Any]()

        class Watch(self.library.overrides.TorchFunctionMode):  # type: ignore[misc, name-defined]
            def __torch_function__(self, function: Any, _: object, args: Any = (), kwargs: Any = None) -> Any:
                key = args[1] if function is tensor.__getitem__ else ()
                if any(type(part) is int for part in (key if isinstance(key, tuple) else (key,))):
                    counts[args[0]] += 1
                    if counts[args[0]] == SUBSCRIPTS:
                        raise RuntimeError(f"{SUBSCRIPTS} subscripts of an array by integers, {EACH}")
                elif function is tensor.unbind:
                    raise RuntimeError(f"iteration over the elements of an array, {EACH}")
                return function(*args, **(kwargs or {}))

        return Watch()

    def from_host(self, array: HostArray) -> Array:
        """Put a NumPy array on the device, keeping its dtype.

        PyTorch shares the memory of a host array. It supports neither read-only memory nor negative
        strides: such arrays are copied.
        """
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            array = np.array(array, order="C")
        with self._current():
            return self.library.asarray(array, device=self.device)

    def to_host(self, array: Any) -> HostArray:
        """Return `array` as a NumPy array, waiting for the device."""
        with self._current():
            return cast("HostArray", array.numpy(force=True))

    @classmethod
    def host_devices(cls, library: ModuleType) -> Names:
        """Return the CPU, and an Apple GPU if PyTorch can use it, which has no float64."""
        return ("cpu", "mps:0") if library.backends.mps.is_available() else ("cpu",)

    @classmethod
    def count_gpus(cls, library: ModuleType) -> GpuCount:
        """Return the number of GPUs that PyTorch sees, or 0 and the problem."""
        if not library.backends.cuda.is_built():
            problem = Problem(f"torch {library.__version__} was built without CUDA", cls.install_gpu)
            return 0, missing_driver_or(problem)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if library.cuda.is_available():
                return library.cuda.device_count(), None
        complaint = f": {one_line(str(caught[0].message))}" if caught else ""
        reason = f"torch {library.__version__} sees no usable GPU{complaint}"
        return 0, missing_driver_or(Problem(reason, NO_GPU_FIX))


def _prepare_thread(torch: Any) -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(mode=False)


_PRECISIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
_RESTORES: list[Callable[[], object]] = []
"""Of the scopes that are open in this process, in which all threads share these settings."""
_LOCK = Lock()
_FIRST = iter([warnings.catch_warnings(action="ignore")])  # some versions warn once of the older settings


@contextmanager
def _full_precision(torch: Any) -> Iterator[None]:
    """Compute float32 products in full: a GPU may be allowed TF32, of 10 bits, and a processor bfloat16."""
    with _LOCK, next(_FIRST, nullcontext()):
        _RESTORES.append(_set_full_precision(torch))
    try:
        yield
    finally:
        with _LOCK:
            restore = _RESTORES.pop()
            if not _RESTORES:  # it is that of the first scope, which has read the user's settings
                restore()


def _set_full_precision(torch: Any) -> Callable[[], object]:
    """Set the highest precision of float32 products. Return the function that restores the settings.

    PyTorch has two interfaces to them, and reading the older one is an error while they disagree.
    """
    backends = torch.backends
    newer = attrgetter(*_PRECISIONS)(backends) if hasattr(backends.cuda.matmul, "fp32_precision") else ()
    before = [setting.fp32_precision for setting in newer]
    full = ["ieee" for _ in newer]

    def set_newer(precisions: Sequence[str]) -> None:
        for setting, precision in zip(newer, precisions, strict=True):
            setting.fp32_precision = precision

    def set_all(products: str, precisions: Sequence[str], *, tf32: bool) -> None:
        torch.set_float32_matmul_precision(products)
        backends.cudnn.allow_tf32 = tf32
        set_newer(precisions)

    set_newer(full)  # so that the older settings can be read
    tf32 = True
    with suppress(RuntimeError):  # it is True, and disagrees with the newer settings
        tf32 = backends.cudnn.allow_tf32
    restore = partial(set_all, torch.get_float32_matmul_precision(), before, tf32=tf32)
    set_all("highest", full, tf32=False)
    return restore


def _make_namespace(torch: ModuleType) -> ModuleType:
    """Return array-api-compat's namespace, with a ``take`` that spends nothing on negative indices."""
    compat = importlib.import_module("array_api_compat.torch")

    def take(x: Array, /, indices: Array, *, axis: int | None = None) -> Array:
        return torch.index_select(x, axis or 0, indices)

    return replace_functions(compat, take=take)
