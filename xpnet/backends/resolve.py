"""From ``--device`` (where) and ``--backend`` (who) to a Backend, or to the reason why not."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from xpnet.backends.probing import DRIVER_FIX, Problem, cuda_driver_version, cuda_index
from xpnet.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from xpnet.backends.base import Backend
    from xpnet.backends.probing import Probe

BACKENDS: Final = {
    "numpy": "xpnet.backends.numpy",
    "cupy": "xpnet.backends.cupy",
    "torch": "xpnet.backends.torch",
    "jax": "xpnet.backends.jax",
    "array-api-strict": "xpnet.backends.strict",
}
CUDA_BACKENDS: Final = ("cupy", "torch", "jax")
"""Those that can use a GPU, the preferred one first."""

CPU_BACKENDS: Final = ("numpy", "torch", "jax", "array-api-strict")
"""Those that can use the CPU, the preferred one first."""

STRICT_DEVICES: Final = ("device1", "device2", "no_float64", "no_x64")

NO_DRIVER: Final = Problem(
    "there is no NVIDIA driver",
    f"{DRIVER_FIX}; or pass --device cpu",
)


@dataclass(frozen=True)
class Selection:
    """The backend that will compute, and what was asked for.

    Attributes
    ----------
    backend
        The backend.
    device_requested
        The device as it was asked for: auto, cpu, cuda, cuda:N.
    device_used
        The device that will compute: cpu, cuda:N.
    reason
        Why the device used is not the one wanted; for ``auto``, why it is not a GPU. None
        when there is nothing to explain.
    warning
        The line to show the user when a GPU was asked for and the CPU takes its place, else None.

    """

    backend: Backend
    device_requested: str
    device_used: str
    reason: str | None = None
    warning: str | None = None


def resolve(device: str = "auto", backend: str = "auto", *, require_device: bool = False) -> Selection:
    """Choose the backend for a device.

    Parameters
    ----------
    device
        ``auto`` (a GPU when one is usable, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``; for
        the backend array-api-strict also one of its pretended devices, such as ``device1``.
    backend
        ``auto`` (CPU: numpy; GPU: cupy, else torch or jax), or a name, which is never replaced.
    require_device
        Whether a GPU that was asked for and is not usable is an error; if not, the CPU takes
        its place and `Selection.warning` says so. ``auto`` accepts the CPU either way.

    Raises
    ------
    ConfigError
        `device` or `backend` is not a name that exists.
    BackendError
        The named backend cannot run on the device, or `require_device` and there is no such GPU.

    """
    _check_names(device, backend)
    if device == "auto":
        return _resolve_auto(backend)
    if cuda_index(device) is not None:
        return _resolve_cuda(device, backend, require_device=require_device)
    return _resolve_cpu(device, backend)


def probe(backend: str, device: str) -> Probe:
    """Ask the backend's file whether it can run on `device`."""
    found: Probe = _library(backend).probe(device)
    return found


def make(backend: str, device: str) -> Backend:
    """Return the named backend on `device`; raise BackendError when it cannot run there."""
    made: Backend = _library(backend).make(device)
    return made


def _library(backend: str) -> Any:
    return importlib.import_module(BACKENDS[backend])


def _check_names(device: str, backend: str) -> None:
    if backend not in BACKENDS and backend != "auto":
        msg = f"unknown backend {backend!r}: expected auto, {', '.join(BACKENDS)}"
        raise ConfigError(msg)
    known = device in ("auto", "cpu") or cuda_index(device) is not None
    pretended = backend == "array-api-strict" and device in STRICT_DEVICES
    if not known and not pretended:
        msg = f"unknown device {device!r}: expected auto, cpu, cuda or cuda:N (N = 0, 1, ...)"
        raise ConfigError(msg)


def _resolve_auto(backend: str) -> Selection:
    if backend == "cupy":
        return _select("auto", "cuda:0", "cupy")
    if backend not in ("auto", *CUDA_BACKENDS):
        return _select("auto", "cpu", backend)
    found, problem = _find_cuda("cuda:0", backend)
    if problem is None:
        return _select("auto", "cuda:0", found)
    return _select("auto", "cpu", found, reason=problem.reason)


def _resolve_cuda(device: str, backend: str, *, require_device: bool) -> Selection:
    if backend not in ("auto", *CUDA_BACKENDS):
        msg = (
            f"the {backend} backend cannot run on {device}, only on the CPU: "
            f"use --backend {_either(CUDA_BACKENDS)}, or --device cpu"
        )
        raise BackendError(msg)
    wanted = f"cuda:{cuda_index(device)}"
    found, problem = _find_cuda(wanted, backend)
    if problem is None or backend == "cupy":  # which has no CPU: make() says why it cannot run
        return _select(device, wanted, found)
    if require_device:
        who = "no backend" if backend == "auto" else f"the {backend} backend"
        can = "can" if backend == "auto" else "cannot"
        msg = f"{who} {can} run on {wanted}: {problem.reason}; to mend it: {problem.fix}"
        raise BackendError(msg)
    warning = (
        f"--device {device} is not usable: {problem.reason}; "
        f"running on the CPU with {found}; to mend it: {problem.fix}"
    )
    return _select(device, "cpu", found, reason=problem.reason, warning=warning)


def _resolve_cpu(device: str, backend: str) -> Selection:
    if backend == "cupy":
        msg = (
            f"the cupy backend cannot run on {device}, only on a GPU: "
            f"use --backend {_either(CPU_BACKENDS)}, or --device cuda"
        )
        raise BackendError(msg)
    return _select(device, device, "numpy" if backend == "auto" else backend)


def _find_cuda(device: str, backend: str) -> tuple[str, Problem | None]:
    """Return the backend to use for a GPU, or the one for the CPU and why it is not a GPU."""
    if backend != "auto":
        return backend, _cuda_problem(backend, device)
    if cuda_driver_version() is None:
        return "numpy", NO_DRIVER
    problems = []
    for name in CUDA_BACKENDS:
        problem = _cuda_problem(name, device)
        if problem is None:
            return name, None
        problems.append(problem)
    reasons = "; ".join(problem.reason for problem in problems)
    return "numpy", Problem(reasons, problems[0].fix)


def _cuda_problem(backend: str, device: str) -> Problem | None:
    found = probe(backend, device)
    return None if found.usable else Problem(found.reason or "unknown reason", found.fix or "")


def _select(
    requested: str,
    used: str,
    backend: str,
    *,
    reason: str | None = None,
    warning: str | None = None,
) -> Selection:
    return Selection(make(backend, used), requested, used, reason, warning)


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
