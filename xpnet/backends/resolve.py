"""Selection of the backend for ``--device`` and ``--backend``, with the reason if one cannot be used."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Final, cast

import array_api_compat

from xpnet.backends.base import Backend
from xpnet.backends.probing import (
    DRIVER_FIX,
    Probe,
    Problem,
    count_cuda_devices,
    cuda_driver_version,
    cuda_index,
    expand_device,
)
from xpnet.errors import BackendError, ConfigError

BACKENDS: Final = {
    "numpy": "xpnet.backends.numpy",
    "cupy": "xpnet.backends.cupy",
    "torch": "xpnet.backends.torch",
    "jax": "xpnet.backends.jax",
    "array-api-strict": "xpnet.backends.strict",
}
CUDA_BACKENDS: Final = ("cupy", "torch", "jax")
"""The backends that can use a GPU, in order of preference."""

CPU_BACKENDS: Final = ("numpy", "torch", "jax", "array-api-strict")
"""The backends that can use the CPU, in order of preference."""

NAMESPACES: Final = {
    "array_api_compat.cupy": "cupy",
    "array_api_compat.torch": "torch",
    "jax.numpy": "jax",
    "array_api_strict": "array-api-strict",
}
"""The backends of arrays other than NumPy's, by the name of the arrays' namespace."""

STRICT_DEVICES: Final = ("device1", "device2", "no_float64", "no_x64")


@dataclass(frozen=True)
class Selection:
    """The selected backend, and the requested device.

    Attributes
    ----------
    backend
        The backend.
    device_requested
        The device as requested: auto, cpu, cuda, cuda:N.
    device_used
        The device of the backend: cpu, cuda:N.
    reason
        Why the device used is not the requested one; for ``auto``, why it is not a GPU. Else None.
    warning
        The warning to print if a GPU was requested and the CPU is used instead, else None.
    """

    backend: Backend
    device_requested: str
    device_used: str
    reason: str | None = None
    warning: str | None = None


def resolve(
    device: str = "auto",
    backend: str = "auto",
    *,
    require_device: bool = False,
    like: Backend | None = None,
    local_rank: int = 0,
) -> Selection:
    """Select the backend for a device.

    Parameters
    ----------
    device
        ``auto`` (a GPU if one is usable, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``; for
        the backend array-api-strict also one of its simulated devices, such as ``device1``.
    backend
        ``auto`` (CPU: numpy; GPU: cupy, else torch or jax), or a name, which is never replaced.
    require_device
        Raise an error if the requested GPU is not usable. By default the CPU is used instead, with
        a `Selection.warning`. ``auto`` accepts the CPU in either case.
    like
        The library and device of the user's arrays, which compute if `device` and `backend` are both
        ``auto`` and if they are usable.
    local_rank
        The number of this process among those of an MPI job on this machine, which take its GPUs in turn
        if `device` is ``auto`` or ``cuda``.

    Raises
    ------
    ConfigError
        There is no device or backend of that name.
    BackendError
        The named backend cannot run on the device; or `require_device` and the GPU is not usable.
    """
    check_request(device, backend)
    if like is not None and device == backend == "auto" and probe(like.name, like.device_name).usable:
        return Selection(make(like.name, like.device_name), device, like.device_name)
    cuda_device = expand_device("cuda" if device == "auto" else device)
    if local_rank and device in ("auto", "cuda"):
        cuda_device = f"cuda:{local_rank % max(count_cuda_devices(), 1)}"
    if cuda_index(cuda_device) is None:
        return Selection(make("numpy" if backend == "auto" else backend, device), device, device)
    if backend not in ("auto", *CUDA_BACKENDS):
        return Selection(make(backend, "cpu"), device, "cpu")
    name, problem = _find_cuda_backend(cuda_device, backend)
    if problem is None or backend == "cupy":  # CuPy cannot use the CPU: make() raises with the reason
        return Selection(make(name, cuda_device), device, cuda_device)
    if require_device and device != "auto":
        subject = "no backend can" if backend == "auto" else f"the {backend} backend cannot"
        msg = f"{subject} run on {cuda_device}: {problem.reason}; to fix it: {problem.fix}"
        raise BackendError(msg)
    remedy = f"running on the CPU with {name}; to fix it: {problem.fix}"
    warning = None if device == "auto" else f"--device {device} is not usable: {problem.reason}; {remedy}"
    return Selection(make(name, "cpu"), device, "cpu", problem.reason, warning)


def probe(backend: str, device: str) -> Probe:
    """Report whether the named backend can run on `device`, and if not, the reason and how to fix it."""
    return cast("Probe", _import_backend(backend).probe(device))


def make(backend: str, device: str) -> Backend:
    """Return the named backend on `device`.

    Raises
    ------
    BackendError
        It cannot run there.
    """
    return cast("Backend", _import_backend(backend).make(device))


def backend_of(value: object) -> Backend | None:
    """Return the backend of an array's library on its device; None for NumPy arrays and other values.

    It holds and converts arrays; whether it can compute there is not known.
    """
    try:
        namespace = array_api_compat.array_namespace(value)
        name = NAMESPACES.get(namespace.__name__)
        return None if name is None else cast("Backend", _import_backend(name).of(value))
    except TypeError:  # no array, or one without values, as in a function that JAX compiles
        return None


def _import_backend(backend: str) -> ModuleType:
    return importlib.import_module(BACKENDS[backend])


def check_request(device: str, backend: str) -> None:
    """Check that there are a device and a backend of these names, and that the one may run on the other.

    Raises
    ------
    ConfigError
        There is no device or backend of that name.
    BackendError
        The backend never runs on such a device.
    """
    if backend not in BACKENDS and backend != "auto":
        msg = f"unknown backend {backend!r}: expected auto, {', '.join(BACKENDS)}"
        raise ConfigError(msg)
    on_gpu = cuda_index(device) is not None
    others = STRICT_DEVICES if backend == "array-api-strict" else ()
    if not on_gpu and device not in ("auto", "cpu", *others):
        msg = f"unknown device {device!r}: expected auto, cpu, cuda or cuda:N (N = 0, 1, ...)"
        raise ConfigError(msg)
    names = CUDA_BACKENDS if on_gpu else CPU_BACKENDS
    if backend not in names and "auto" not in (device, backend):
        need, instead = ("the CPU", "cpu") if on_gpu else ("a GPU", "cuda")
        msg = (
            f"the {backend} backend cannot run on {device}, only on {need}: "
            f"use --backend {', '.join(names[:-1])} or {names[-1]}, or --device {instead}"
        )
        raise BackendError(msg)


def _find_cuda_backend(device: str, backend: str) -> tuple[str, Problem | None]:
    """Return the backend to use on a GPU; or the backend for the CPU, and the problem with the GPU."""
    if backend == "auto" and cuda_driver_version() is None:
        return "numpy", Problem("there is no NVIDIA driver", f"{DRIVER_FIX}; or pass --device cpu")
    problems: list[Probe] = []
    for name in CUDA_BACKENDS if backend == "auto" else [backend]:
        outcome = probe(name, device)
        if outcome.usable:
            return name, None
        problems.append(outcome)
    reasons = "; ".join(str(problem.reason) for problem in problems)
    return "numpy" if backend == "auto" else backend, Problem(reasons, str(problems[0].fix))
