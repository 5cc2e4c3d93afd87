"""From ``--device`` (where) and ``--backend`` (who) to a Backend, or to the reason why not."""

import importlib
from dataclasses import dataclass
from typing import Any, Final

from xpnet.backends.base import Backend
from xpnet.backends.probing import DRIVER_FIX, Probe, Problem, cuda_driver_version, cuda_index, full_name
from xpnet.errors import BackendError, ConfigError

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

NO_DRIVER: Final = Problem("there is no NVIDIA driver", f"{DRIVER_FIX}; or pass --device cpu")


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
    wanted = "cuda:0" if device == "auto" else full_name(device)
    if cuda_index(wanted) is None:
        if backend == "cupy":
            raise BackendError(_never_runs(backend, device, "a GPU", CPU_BACKENDS, "cuda"))
        return Selection(make("numpy" if backend == "auto" else backend, device), device, device)
    if backend not in ("auto", *CUDA_BACKENDS):
        if device != "auto":
            raise BackendError(_never_runs(backend, device, "the CPU", CUDA_BACKENDS, "cpu"))
        return Selection(make(backend, "cpu"), device, "cpu")
    name, problem = _find_cuda(wanted, backend)
    if problem is None or backend == "cupy":  # which has no CPU: make() says why it cannot run
        return Selection(make(name, wanted), device, wanted)
    if device == "auto":
        return Selection(make(name, "cpu"), device, "cpu", problem.reason)
    if require_device:
        who = "no backend can" if backend == "auto" else f"the {backend} backend cannot"
        msg = f"{who} run on {wanted}: {problem.reason}; to mend it: {problem.fix}"
        raise BackendError(msg)
    warning = (
        f"--device {device} is not usable: {problem.reason}; "
        f"running on the CPU with {name}; to mend it: {problem.fix}"
    )
    return Selection(make(name, "cpu"), device, "cpu", problem.reason, warning)


def probe(backend: str, device: str) -> Probe:
    """Say whether the named backend can run on `device`, and if not, why and how to fix it."""
    probe: Probe = _library(backend).probe(device)
    return probe


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


def _never_runs(backend: str, device: str, only: str, instead: tuple[str, ...], place: str) -> str:
    *others, last = instead
    return (
        f"the {backend} backend cannot run on {device}, only on {only}: "
        f"use --backend {', '.join(others)} or {last}, or --device {place}"
    )


def _find_cuda(device: str, backend: str) -> tuple[str, Problem | None]:
    """Return the backend to use for a GPU, or the one for the CPU and why it is not a GPU."""
    if backend == "auto" and cuda_driver_version() is None:
        return "numpy", NO_DRIVER
    problems = []
    for name in CUDA_BACKENDS if backend == "auto" else [backend]:
        outcome = probe(name, device)
        if outcome.usable:
            return name, None
        problems.append(Problem(outcome.reason or "unknown reason", outcome.fix or ""))
    reasons = "; ".join(problem.reason for problem in problems)
    return "numpy" if backend == "auto" else backend, Problem(reasons, problems[0].fix)
