"""Probing of libraries and devices: the reason why a library cannot run on a device, and how to fix it."""

import ctypes
import re
import sys
from typing import NamedTuple, TypeAlias

from xpnet._lib.text import join_lines

DRIVER_FIX = "install or update the NVIDIA driver: https://www.nvidia.com/drivers"
NO_GPU_FIX = "run nvidia-smi; it must list a GPU, and CUDA_VISIBLE_DEVICES must not hide it"
OUT_OF_MEMORY = "out.?of.?memory|RESOURCE_EXHAUSTED|MemoryAllocation|ALLOC_FAILED|can't allocate memory"
"""A regular expression, of the errors of all libraries."""
_FIXES = {
    OUT_OF_MEMORY: "run nvidia-smi: end what fills the GPU, or choose another with CUDA_VISIBLE_DEVICES",
    "busy or unavailable|devices?.?unavailable": "run nvidia-smi: wait until the process that has the GPU to "
    "itself ends, or let others in: sudo nvidia-smi -c 0",
    "permission denied|read-only file system": "set CUPY_CACHE_DIR to a folder that you may write to",
    "driver.*(is too old|insufficient)|unsupported toolchain|unsupported.?ptx": DRIVER_FIX,
    "CUBLAS_WORKSPACE_CONFIG": "set CUBLAS_WORKSPACE_CONFIG=:4096:8 before the start",
}
"""How to fix errors of GPUs, by regular expressions of their texts, whatever the library."""


class Problem(NamedTuple):
    """The reason why a library cannot run on a device, and the command or setting that fixes it."""

    reason: str
    fix: str


GpuCount: TypeAlias = tuple[int, Problem | None]
"""The number of GPUs that a library sees, or 0 and the problem."""


class Probe(NamedTuple):
    """The result of probing a library on a device.

    Attributes
    ----------
    usable
        True if the library can run on the device.
    version
        The library's version; None if it cannot be imported.
    devices
        The devices that the library offers here.
    reason, fix
        The reason why it cannot, and how to fix it; None if it can.
    """

    usable: bool
    version: str | None
    devices: tuple[str, ...]
    reason: str | None = None
    fix: str | None = None


def one_line(error: BaseException | str) -> str:
    """Return an error's text on one line, without a final full stop."""
    return join_lines(error).removesuffix(".") or type(error).__name__


def find_fix(reason: str, otherwise: str) -> str:
    """Return how to fix an error of a GPU with this text, if that is known."""
    fixes = (fix for pattern, fix in _FIXES.items() if re.search(pattern, reason, re.IGNORECASE))
    return next(fixes, otherwise)


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if memory did not suffice, on the host or a device, whatever the library."""
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or re.search(OUT_OF_MEMORY, text, re.IGNORECASE) is not None


def cuda_index(device: str) -> int | None:
    """Return N for ``cuda:N``, 0 for ``cuda`` and None for every other device."""
    match = re.fullmatch(r"cuda(?::([0-9]+))?", device)
    return int(match[1] or 0) if match else None


def is_gpu(device: str) -> bool:
    """Return True for ``cuda``, ``gpu`` and ``mps``, and for ``cuda:N``, ``gpu:N`` and ``mps:N``."""
    return re.fullmatch(r"(cuda|gpu|mps)(:[0-9]+)?", device) is not None


def expand_device(device: str) -> str:
    """Return ``cuda:0`` for ``cuda``, likewise for ``gpu`` and ``mps``, and any other name unchanged."""
    if not is_gpu(device):
        return device
    kind, _, index = device.partition(":")
    return f"{kind}:{int(index or 0)}"


def call_driver(function: str, *arguments: object) -> bool:
    """Call a function of the NVIDIA driver's library. Return False if it fails, or there is no driver.

    Loading the library takes milliseconds, importing an array library seconds.
    """
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return bool(getattr(library, function)(*arguments) == 0)
    except (OSError, AttributeError):
        return False


def _query_driver(function: str, *arguments: int) -> int | None:
    """Return the number that a function of the NVIDIA driver writes to its first argument, else None."""
    number = ctypes.c_int(0)
    return number.value if call_driver(function, ctypes.byref(number), *arguments) else None


def cuda_driver_version() -> int | None:
    """Return the CUDA version that the NVIDIA driver supports (12040 is 12.4), None without a driver."""
    return _query_driver("cuDriverGetVersion")


def count_cuda_devices() -> int:
    """Return the number of CUDA devices that the NVIDIA driver offers to this process, 0 without a driver."""
    return _query_driver("cuDeviceGetCount") or 0 if call_driver("cuInit", 0) else 0


def identify_gpu(device: str) -> str | None:
    """Return what tells a GPU from the others of this machine; None for the CPU."""
    uuid, index = (ctypes.c_ubyte * 16)(), cuda_index(device)
    if index is not None and call_driver("cuInit", 0):
        number = _query_driver("cuDeviceGet", index)
        if number is not None and call_driver("cuDeviceGetUuid", uuid, number):
            return bytes(uuid).hex()
    return device if is_gpu(device) else None


def float64_ratio(index: int) -> int | None:
    """Return the throughput of float32 relative to float64 on a CUDA device, None if unknown.

    It is the driver's attribute SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO: 2 in data centres, 32 or 64 elsewhere.
    """
    attribute, device = 87, _query_driver("cuDeviceGet", index) if call_driver("cuInit", 0) else None
    return None if device is None else _query_driver("cuDeviceGetAttribute", attribute, device)


def cuda_major() -> int:
    """Return the CUDA major version, 12 or 13, of the wheels for this machine's driver."""
    return 13 if (cuda_driver_version() or 0) >= 13000 else 12


def missing_driver_or(problem: Problem) -> Problem:
    """Return `problem`, or the missing driver if there is none, without which no wheel helps."""
    if cuda_driver_version() is not None:
        return problem
    return Problem(f"there is no NVIDIA driver, and {problem.reason}", DRIVER_FIX)
