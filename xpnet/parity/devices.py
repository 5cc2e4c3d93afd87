"""Where parity can be tested: a library on a device, and what keeps it from running there."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xpnet.backends.probing import cuda_driver_version, cuda_index, full_name
from xpnet.backends.resolve import BACKENDS, CPU_BACKENDS, CUDA_BACKENDS, STRICT_DEVICES, make, probe
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xpnet.backends.base import Backend
    from xpnet.backends.probing import Probe

STRICT: Final = "array-api-strict"
DEFAULT_DEVICES: Final = {"cupy": "cuda:0", STRICT: "device1"}
"""The device of a name without one, where that is not the CPU."""

_MODULES: Final = {STRICT: "array_api_strict"}


@dataclass(frozen=True)
class BackendDevice:
    """A library on a device; as text it is ``torch``, ``torch:cuda:1``, ``array-api-strict:cpu``."""

    backend: str
    device: str

    def __str__(self) -> str:
        if self.device == _default_device(self.backend):
            return self.backend
        return f"{self.backend}:{'cuda' if self.device == 'cuda:0' else self.device}"

    @property
    def where(self) -> str:
        """The place in words, for messages."""
        return f"{self.backend} on {self.device}"

    @property
    def installed(self) -> bool:
        """Whether the library can be found; it is not imported."""
        module = _MODULES.get(self.backend, self.backend)
        return importlib.util.find_spec(module) is not None

    def probe(self) -> Probe:
        """Say whether the library can run there, which imports it."""
        return probe(self.backend, self.device)

    def make(self) -> Backend:
        """Return the backend; raise BackendError with the reason and what mends it."""
        return make(self.backend, self.device)


NUMPY: Final = BackendDevice("numpy", "cpu")
"""What every other place is compared with."""


def parse(name: str) -> BackendDevice:
    """Return the place of a name: a library, or ``library:device``.

    Without a device it is the CPU; for cupy the first GPU, for array-api-strict ``device1``, which it
    only pretends to have, and where it refuses arrays of the host.

    Raises
    ------
    ConfigError
        There is no such library, or it never has such a device.
    """
    backend, _, device = name.strip().partition(":")
    if backend not in BACKENDS:
        msg = f"unknown backend {backend!r}: expected {', '.join(BACKENDS)}, or one with :cuda or :cuda:N"
        raise ConfigError(msg)
    place = BackendDevice(backend, full_name(device) or _default_device(backend))
    if cuda_index(place.device) is not None:
        exists = backend in CUDA_BACKENDS
    elif place.device == "cpu":
        exists = backend in CPU_BACKENDS
    else:
        exists = backend == STRICT and place.device in STRICT_DEVICES
    if not exists:
        msg = f"unknown place {name.strip()!r}: {backend} never runs on {device}"
        raise ConfigError(msg)
    return place


def parse_list(names: str) -> list[BackendDevice]:
    """Return the places of names separated by commas, each once; ConfigError as in `parse`."""
    return list(dict.fromkeys(parse(name) for name in names.split(",") if name.strip()))


def survey(backends: Iterable[str] = tuple(BACKENDS)) -> list[tuple[BackendDevice, Probe]]:
    """Probe each library on every device it has here, and on a GPU if it could have one.

    This imports the libraries that are installed. Of the devices that array-api-strict pretends to
    have, ``device1`` stands for all.
    """
    return [
        (BackendDevice(backend, device), result)
        for backend in backends
        for device, result in _probes(backend).items()
    ]


def usable(backends: Iterable[str] = tuple(BACKENDS)) -> list[BackendDevice]:
    """Return the places that can compute here."""
    return [place for place, probed in survey(backends) if probed.usable]


def installed() -> list[BackendDevice]:
    """Return the default place of each installed library, and GPUs if there is an NVIDIA driver.

    Nothing is imported, so one of them may turn out to be unusable.
    """
    places = [BackendDevice(backend, _default_device(backend)) for backend in BACKENDS]
    if cuda_driver_version() is not None:
        gpus = [BackendDevice(backend, "cuda:0") for backend in CUDA_BACKENDS]
        places += [place for place in gpus if place not in places]
    return [place for place in places if place.installed]


def _probes(backend: str) -> dict[str, Probe]:
    """Return the probes of a library by its devices."""
    first = _default_device(backend)
    probes = {first: probe(backend, first)}
    if probes[first].version is None or backend == STRICT:
        return probes
    if backend in CUDA_BACKENDS and "cuda:0" not in probes:
        probes["cuda:0"] = probe(backend, "cuda:0")
    devices = [device for result in probes.values() for device in result.devices]
    return probes | {device: probe(backend, device) for device in devices if device not in probes}


def _default_device(backend: str) -> str:
    return DEFAULT_DEVICES.get(backend, "cpu")
