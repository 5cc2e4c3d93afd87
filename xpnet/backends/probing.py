"""Probing of libraries and devices: whether a library can run on a device, and if not, why."""

import ctypes
import importlib
import re
import sys
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from xpnet.errors import BackendError

DRIVER_FIX: Final = "install or update the NVIDIA driver: https://www.nvidia.com/drivers"
NO_GPU_FIX: Final = "run nvidia-smi; it must list a GPU, and CUDA_VISIBLE_DEVICES must not hide it"


class Problem(NamedTuple):
    """The reason why a library cannot run on a device, and the command or setting that fixes it."""

    reason: str
    fix: str


@dataclass(frozen=True)
class Probe:
    """The result of probing a library on a device.

    Attributes
    ----------
    usable
        True if the library can run on the device.
    version
        The library's version, None when it cannot be imported.
    devices
        The devices that the library offers here.
    reason, fix
        Why it cannot, and what to do about it; None when it can.
    """

    usable: bool
    version: str | None
    devices: tuple[str, ...]
    reason: str | None = None
    fix: str | None = None

    @classmethod
    def of(cls, problem: Problem | None, version: str | None, devices: tuple[str, ...] = ()) -> Self:
        """Return the probe of a library that `problem` keeps from running, or nothing does."""
        return cls(problem is None, version, devices, *(problem or ()))


def one_line(error: BaseException | str) -> str:
    """Return an error's text on one line, without a final full stop."""
    text = " ".join(str(error).split()).removesuffix(".")
    return text or type(error).__name__


def import_library(name: str, install: str) -> tuple[Any, Problem | None]:
    """Import a library; return it, or None and the reason why it cannot be imported."""
    try:
        return importlib.import_module(name), None
    except Exception as error:  # noqa: BLE001  a damaged binary raises anything, OSError included
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            return None, Problem(f"{name} is not installed", install)
        return None, Problem(f"{name} is installed but does not import: {one_line(error)}", install)


def cuda_index(device: str) -> int | None:
    """Return N for ``cuda:N``, 0 for ``cuda`` and None for every other device."""
    match = re.fullmatch(r"cuda(?::([0-9]+))?", device)
    return int(match[1] or 0) if match else None


def full_name(device: str) -> str:
    """Return ``cuda:0`` for ``cuda``, and every other device as it is."""
    index = cuda_index(device)
    return device if index is None else f"cuda:{index}"


def cuda_driver_version() -> int | None:
    """Return the CUDA version that the NVIDIA driver supports (12040 is 12.4), None without one.

    Loading the driver's library takes milliseconds, where importing an array library to find out
    takes seconds.
    """
    version = ctypes.c_int(0)
    try:
        status = _driver_library().cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value if status == 0 else None


def float64_ratio(index: int) -> int | None:
    """Return how many times as fast as float64 a CUDA device computes float32; None if unknown.

    The driver's attribute SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO: 2 in data centres, 32 or 64 elsewhere.
    """
    device, ratio, attribute = ctypes.c_int(0), ctypes.c_int(0), 87
    try:
        library = _driver_library()
        failed = (
            library.cuInit(0)
            or library.cuDeviceGet(ctypes.byref(device), index)
            or library.cuDeviceGetAttribute(ctypes.byref(ratio), attribute, device)
        )
    except (OSError, AttributeError):
        return None
    return None if failed else ratio.value


def _driver_library() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def cuda_major() -> int:
    """Return the CUDA major version, 12 or 13, whose wheels suit this machine's driver."""
    return 13 if (cuda_driver_version() or 0) >= 13000 else 12


def driver_first(problem: Problem) -> Problem:
    """Return `problem`, or the missing driver when there is none: no wheel helps without it."""
    if cuda_driver_version() is not None:
        return problem
    return Problem(f"there is no NVIDIA driver, and {problem.reason}", DRIVER_FIX)


def device_problem(library: str, device: str, devices: tuple[str, ...]) -> Problem | None:
    """Return the problem that `device` is none of `devices`, or None when it is."""
    if device in devices:
        return None
    if not devices:
        return Problem(f"{library} runs on CUDA GPUs only", "--device cuda")
    gpus = [name for name in devices if cuda_index(name) is not None]
    if cuda_index(device) is None or not gpus:
        reason = f"{library} has no device {device!r} here, only {', '.join(devices)}"
        return Problem(reason, f"--device {devices[0]}")
    noun = "GPU" if len(gpus) == 1 else "GPUs"
    reason = f"{library} has no {device} here: it sees {len(gpus)} {noun} ({', '.join(gpus)})"
    return Problem(reason, f"--device {gpus[0]}")


def require(name: str, device: str, probe: Probe) -> str:
    """Return the library's version, or raise BackendError with the probe's reason and fix."""
    if not probe.usable or probe.version is None:
        msg = f"the {name} backend cannot run on {device}: {probe.reason}; to mend it: {probe.fix}"
        raise BackendError(msg)
    return probe.version
