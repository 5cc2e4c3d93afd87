"""Selection of the backend for ``--device`` and ``--backend``, with the reason if one cannot be used."""

from collections.abc import Iterable
from pkgutil import resolve_name
from typing import NamedTuple, cast

import array_api_compat

from xpnet._lib.kinds import check_arguments
from xpnet._lib.switches import read_switch
from xpnet.backends import probing
from xpnet.backends.base import Backend
from xpnet.backends.probing import Probe, Problem, expand_device, is_gpu
from xpnet.errors import BackendError, ConfigError, setting

BACKENDS = {
    "numpy": "xpnet.backends.numpy:NumPyBackend",
    "cupy": "xpnet.backends.cupy:CuPyBackend",
    "torch": "xpnet.backends.torch:TorchBackend",
    "jax": "xpnet.backends.jax:JaxBackend",
    "dpnp": "xpnet.backends.dpnp:DpnpBackend",
    "array-api-strict": "xpnet.backends.strict:StrictBackend",
}
"""The class of each backend, whose module imports the library's own."""

CPU_BACKENDS = ("numpy", "torch", "jax", "dpnp", "array-api-strict")
"""The backends that can use the CPU, in order of preference."""

DEVICE_KINDS = {"cpu": CPU_BACKENDS, "cuda": ("cupy", "torch", "jax"), "gpu": ("dpnp",), "mps": ("torch",)}
"""The backends that can use each kind of device, in order of preference."""

KIND_NAMES = {"cpu": "the CPU", "cuda": "an NVIDIA GPU", "gpu": "an Intel GPU", "mps": "an Apple GPU"}

STRICT_DEVICES = ("device1", "device2", "no_float64", "no_x64")

REQUIRE_DEVICE = "XPNET_REQUIRE_DEVICE"
"""The environment variable, a switch, that requires a GPU unless the device is the CPU."""


class Selection(NamedTuple):
    """The selected backend, and the requested device.

    Attributes
    ----------
    backend
        The backend.
    device_requested
        The device as requested: auto, cpu, cuda, cuda:N, gpu, gpu:N, mps.
    device_used
        The device of the backend: cpu, cuda:N, gpu:N, mps:0.
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


@check_arguments
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
        ``auto`` (a GPU if one is usable, else the CPU), ``cpu``, ``cuda`` or ``cuda:N`` (NVIDIA's), ``gpu``
        or ``gpu:N`` (Intel's), ``mps`` (Apple's); for the backend array-api-strict also one of its simulated
        devices, such as ``device1``.
    backend
        ``auto`` (CPU: numpy; cuda: cupy, else torch or jax; gpu: dpnp; mps: torch), or a name, which is never
        replaced.
    require_device
        Raise an error if no GPU is usable for ``auto`` or the requested one is not; so does the environment
        variable XPNET_REQUIRE_DEVICE=1. By default the CPU is used instead, with a `Selection.warning` unless
        `device` is ``auto``.
    like
        The library and device of the user's arrays, which compute if `device` and `backend` are both
        ``auto`` and if they are usable.
    local_rank
        The number of this process among those of an MPI job on this machine, which take its GPUs in turn
        if `device` is ``auto`` or ``cuda``.

    Raises
    ------
    ConfigError
        There is no device or backend of that name; or XPNET_REQUIRE_DEVICE is neither on nor off.
    BackendError
        The named backend cannot run on the device; or a GPU is required and not usable.
    """
    check_request(device, backend)
    require_device = read_switch(REQUIRE_DEVICE) or require_device
    if require_device and like is not None and not is_gpu(like.device_name):
        like = None
    if like is not None and device == backend == "auto" and probe(like.name, like.device_name).usable:
        return Selection(make(like.name, like.device_name), device, like.device_name)
    if device != "auto" and not is_gpu(device):
        return Selection(make("numpy" if backend == "auto" else backend, device), device, device)
    kind = device.partition(":")[0] if device != "auto" else "gpu" if backend == "dpnp" else "cuda"
    if require_device:
        check_request(kind, backend)
    elif backend not in ("auto", *DEVICE_KINDS[kind]):
        return Selection(make(backend, "cpu"), device, "cpu")
    gpu = expand_device(kind if device == "auto" else device)
    if local_rank and kind == "cuda" and device in ("auto", "cuda"):
        gpu = f"cuda:{local_rank % max(probing.count_cuda_devices(), 1)}"
    name, problem = _find_gpu_backend(gpu, backend)
    if problem is None or backend == "cupy":  # CuPy cannot use the CPU: make() raises with the reason
        return Selection(make(name, gpu), device, gpu)
    if require_device:
        required = "a GPU is required: " if device == "auto" else ""
        subject = "no backend can" if backend == "auto" else f"the {backend} backend cannot"
        raise BackendError(f"{required}{subject} run on {gpu}: {problem.reason}; to fix it: {problem.fix}")
    remedy = f"running on the CPU with {name}; to fix it: {problem.fix}"
    warning = f"{setting('device', device)} is not usable: {problem.reason}; {remedy}"
    return Selection(make(name, "cpu"), device, "cpu", problem.reason, None if device == "auto" else warning)


def probe(backend: str, device: str) -> Probe:
    """Report whether the named backend can run on `device`, and if not, the reason and how to fix it."""
    return import_backend(backend).probe(device)


def make(backend: str, device: str) -> Backend:
    """Return the named backend on `device`.

    Raises
    ------
    BackendError
        It cannot run there.
    """
    return import_backend(backend).make(device)


def backend_of(value: object) -> Backend | None:
    """Return the backend of an array's library on its device, None for NumPy arrays and other values.

    It holds and converts arrays; whether it can compute there is not known.
    """
    try:
        namespace = array_api_compat.array_namespace(value).__name__
        name = namespace.removeprefix("array_api_compat.").removesuffix(".numpy").replace("_", "-")
        return import_backend(name).of(value) if name in BACKENDS and name != "numpy" else None
    except TypeError:  # no array, or one without values, as in a function that JAX compiles
        return None


def import_backend(backend: str) -> type[Backend]:
    """Return the class of a backend, whether the library is installed or not."""
    return cast("type[Backend]", resolve_name(BACKENDS[backend]))


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
        raise ConfigError(f"unknown backend {backend!r}: expected auto, {', '.join(BACKENDS)}")
    others = STRICT_DEVICES if backend == "array-api-strict" else ()
    if not is_gpu(device) and device not in ("auto", "cpu", *others):
        known = "auto, cpu, cuda, cuda:N, gpu, gpu:N or mps (N = 0, 1, ...)"
        raise ConfigError(f"unknown device {device!r}: expected {known}")
    names = DEVICE_KINDS.get(device.partition(":")[0], CPU_BACKENDS)
    if backend not in names and "auto" not in (device, backend):
        kinds = [kind for kind, can_use in DEVICE_KINDS.items() if backend in can_use]
        need = _any_of(KIND_NAMES[kind] for kind in kinds)
        remedy = f"use {_any_of(names, 'backend')}, or {_any_of(kinds, 'device')}"
        raise BackendError(f"the {backend} backend cannot run on {device}, only on {need}: {remedy}")


def _any_of(names: Iterable[str], name: str = "") -> str:
    """Return names as a choice: ``a, b or c``, as values of a setting: ``--backend a, b or c``."""
    first, *others = names
    *middle, last = [setting(name, first) if name else first, *others]
    return f"{', '.join(middle)} or {last}" if middle else last


def _find_gpu_backend(device: str, backend: str) -> tuple[str, Problem | None]:
    """Return the backend to use on a GPU, or the backend for the CPU, and the problem with the GPU."""
    kind = device.partition(":")[0]
    if backend == "auto" and kind == "cuda" and probing.cuda_driver_version() is None:
        fix = f"{probing.DRIVER_FIX}; or pass {setting('device', 'cpu')}"
        return "numpy", Problem("there is no NVIDIA driver", fix)
    problems = []
    for name in DEVICE_KINDS[kind] if backend == "auto" else [backend]:
        outcome = probe(name, device)
        if outcome.usable:
            return name, None
        problems.append(outcome)
    reasons = "; ".join(str(problem.reason) for problem in problems)
    return "numpy" if backend == "auto" else backend, Problem(reasons, str(problems[0].fix))
