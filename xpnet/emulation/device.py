"""The emulated device as the GPU of CuPy: whether it can be, and its installation."""

import ctypes
import glob
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from xpnet._lib.switches import read_switch
from xpnet.emulation import libraries, raw, wheels
from xpnet.emulation.build import SANITIZE, build_driver, check_compiler
from xpnet.emulation.kernels import compile_module
from xpnet.errors import BackendError

VARIABLE = "XPNET_EMULATED_CUDA"
CARDS = ("/dev/nvidia[0-9]*", "/dev/dxg")
"""Devices of NVIDIA's driver, on Linux and on Linux within Windows."""
KINDS = ("kernels", "products", "uploads", "downloads", "copies", "synchronizations")
_drivers: list[ctypes.CDLL] = []
"""The driver, once the device is installed."""


def install() -> None:
    """Make the emulated device the GPU of CuPy, not yet imported; BackendError if that is not possible.

    It holds for the process, in which a second call does nothing.
    """
    if is_installed():
        return
    check()
    if "cupy" in sys.modules:
        raise BackendError("cupy is imported already: install the emulated device before")
    if os.environ.get(SANITIZE):
        raw.preload_sanitizer()
    driver = ctypes.CDLL(str(build_driver()), ctypes.RTLD_GLOBAL)
    libraries.redirect_all(driver)
    os.environ["CUPY_ACCELERATORS"] = ""  # else reductions are CUB's, in machine code of a GPU
    cupy: Any = importlib.import_module("cupy")
    libraries.load_libraries(driver)
    libraries.redirect_rest(driver)
    compiler: Any = importlib.import_module("cupy.cuda.compiler")
    compiler._compile_module_with_cache = compile_module
    for name in ("set_routine_accelerators", "set_reduction_accelerators"):
        setattr(cupy._core, name, _refuse_accelerators)
    cupy.RawKernel, cupy.RawModule = raw.make_checked(cupy)
    if os.environ.get(SANITIZE):
        cupy.cuda.set_allocator(None)  # each array has memory of its own
    else:
        _fill_memory(cupy)
    _drivers.append(driver)


def is_installed() -> bool:
    """Return whether CuPy's GPU is the emulated device in this process."""
    return bool(_drivers)


def is_requested() -> bool:
    """Return whether the environment asks for the emulated device; ConfigError for an unknown word."""
    return _is_forced() or read_switch(VARIABLE)


def _is_forced() -> bool:
    return os.environ.get(VARIABLE, "").lower() == "force"


def describe() -> str:
    """Return a line that says what CuPy computes on."""
    return f"CuPy {wheels.find()[1]} on an emulated device"


def read_counts() -> dict[str, int]:
    """Return how many of each of ``KINDS`` the host has asked of the device, copies being those within it."""
    numbers = (ctypes.c_uint64 * len(KINDS))()
    for driver in _drivers:
        driver.emulated_counts(numbers)
    return dict(zip(KINDS, numbers, strict=True))


def check() -> None:
    """Raise BackendError where the emulated device cannot be installed."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        msg = f"the emulated device needs Linux on x86-64, not {sys.platform} on {platform.machine()}"
        raise BackendError(msg)
    cards = [card for pattern in CARDS for card in sorted(glob.glob(pattern))]  # noqa: PTH207
    if cards and not _is_forced():
        msg = f"{cards[0]} is a CUDA device: use it, or set {VARIABLE}=force to emulate one nevertheless"
        raise BackendError(msg)
    wheels.find()
    check_compiler()


def _refuse_accelerators(accelerators: Sequence[str]) -> None:
    """Take the place of CuPy's functions that switch CUB and cuTENSOR on."""
    if names := [*map(str, accelerators)]:
        raise BackendError(f"{' and '.join(names)}, an accelerator of CuPy, is not emulated")


def _fill_memory(cupy: Any) -> None:
    """Fill whatever the memory pool gives out with the bits of NaN, in the order of the stream.

    CuPy asks for it thread by thread: in other threads than this one, only memory new to the pool is filled.
    """

    class Fill(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "fill"

        def malloc_postprocess(self, *, mem_ptr: int, mem_size: int, **_: object) -> None:
            stream = cupy.cuda.get_current_stream()
            cupy.cuda.runtime.memsetAsync(mem_ptr, 0xFF, mem_size, stream.ptr)

    Fill().__enter__()  # for as long as the process lasts
