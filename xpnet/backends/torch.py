"""PyTorch: the CPU, CUDA GPUs, and the ``meta`` device, which computes shapes without numbers."""

from __future__ import annotations

import importlib
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backends.base import GPU_STACK, Backend
from xpnet.backends.probing import (
    NO_GPU_FIX,
    Probe,
    Problem,
    cuda_index,
    cuda_names,
    device_problem,
    driver_first,
    import_library,
    one_line,
    require,
    smoke_problem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from xpnet._typing import Array

NAME = "torch"
INSTALL = "pip install torch"
INSTALL_CUDA = (
    "pip install --force-reinstall torch, the build for your CUDA version: "
    "https://pytorch.org/get-started/locally"
)


class TorchBackend(Backend):
    """PyTorch tensors on one device."""

    name = NAME

    def __init__(self, device: str, version: str) -> None:
        self._torch = importlib.import_module("torch")
        self.xp = importlib.import_module("array_api_compat.torch")
        self.device_name = device
        self.device = self._torch.device(device)
        self.version = version
        if self.device.type == "cuda":
            self.stack = self.compiled_stack = GPU_STACK

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Keep no record of operations for automatic differentiation; make this GPU the current one."""
        with self._torch.no_grad(), self._current():
            yield

    def _current(self) -> AbstractContextManager[Any]:
        """Return the context in which this GPU is the current one."""
        if self.device.type != "cuda":
            return nullcontext()
        current: AbstractContextManager[Any] = self._torch.cuda.device(self.device)
        return current

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Put a NumPy array on the device, keeping its dtype.

        PyTorch shares the memory of a host array and cannot mark it read-only, nor can it read
        backwards: such arrays are copied.
        """
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            array = np.array(array, order="C")
        with self._current():
            return self._torch.asarray(array, device=self.device)

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Return `array` as a NumPy array, waiting for the device."""
        with self._current():
            host: npt.NDArray[np.generic] = array.numpy(force=True)
        return host

    def synchronize(self) -> None:
        """Wait for the GPU; on the CPU PyTorch has finished when it returns."""
        if self.device.type == "cuda":
            self._torch.cuda.synchronize(self.device)


def _cuda_problem(torch: Any) -> Problem | None:
    """Return why PyTorch sees no GPU, or None when it sees one."""
    if not torch.backends.cuda.is_built():
        return driver_first(Problem(f"torch {torch.__version__} was built without CUDA", INSTALL_CUDA))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if available:
        return None
    complaint = f": {one_line(str(caught[0].message))}" if caught else ""
    return driver_first(Problem(f"torch {torch.__version__} sees no usable GPU{complaint}", NO_GPU_FIX))


def probe(device: str) -> Probe:
    """Say whether PyTorch can run on `device`."""
    torch, problem = import_library("torch", INSTALL)
    if problem:
        return Probe.of(problem, None)
    version = str(torch.__version__)
    index = cuda_index(device)
    if index is None:
        return Probe.of(device_problem(NAME, device, ("cpu", "meta")), version, "cpu")
    problem = _cuda_problem(torch)
    if problem:
        return Probe.of(problem, version, "cpu")
    devices = cuda_names(torch.cuda.device_count())
    problem = device_problem(NAME, f"cuda:{index}", devices) or smoke_problem(
        importlib.import_module("array_api_compat.torch"),
        torch.device(f"cuda:{index}"),
        INSTALL_CUDA,
    )
    return Probe.of(problem, version, "cpu", *devices)


def make(device: str) -> Backend:
    """Return PyTorch on `device`; raise BackendError when it cannot run there."""
    version = require(NAME, device, probe(device))
    index = cuda_index(device)
    return TorchBackend(device if index is None else f"cuda:{index}", version)
