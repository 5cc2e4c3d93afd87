"""The backends and devices on which parity can be tested."""

import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import starmap
from typing import NamedTuple

from xpnet._lib.switches import parse_switch
from xpnet.backends.probing import Probe, cuda_driver_version, expand_device
from xpnet.backends.resolve import BACKENDS, DEVICE_KINDS, check_request, probe
from xpnet.errors import ConfigError, XPNetError

STRICT = "array-api-strict"
REQUIRE = "XPNET_REQUIRE_BACKENDS"
"""The environment variable that names the backends that must work; on, as 1 is, stands for all."""
DEFAULT_DEVICES = dict.fromkeys(BACKENDS, "cpu") | {"cupy": "cuda:0", STRICT: "device1"}
"""The default device of each backend."""
FIRST_GPUS = {name: f"{kind}:0" for kind in ("cuda", "gpu") for name in DEVICE_KINDS[kind]}
"""The first GPU of each backend that can use any."""


class BackendDevice(NamedTuple):
    """A library on a device; as text it is ``torch``, ``torch:cuda:1``, ``array-api-strict:cpu``."""

    backend: str
    device: str

    def __str__(self) -> str:
        return (
            self.backend
            if self in DEFAULT_DEVICES.items()
            else f"{self.backend}:{self.device.removesuffix(':0')}"
        )

    @property
    def where(self) -> str:
        """A description for messages: torch on cuda:0."""
        return f"{self.backend} on {self.device}"


NUMPY = BackendDevice("numpy", "cpu")
"""The reference that all others are compared with."""
USUAL = tuple(dict.fromkeys(starmap(BackendDevice, (*DEFAULT_DEVICES.items(), *FIRST_GPUS.items()))))
"""Each library on its default device, and those that can use one on the first GPU."""


def parse(name: str) -> BackendDevice:
    """Parse a name: a library, or ``library:device``.

    The default device is the CPU; for cupy the first GPU, for array-api-strict ``device1``, which it
    simulates, and on which it rejects arrays of the host.

    Raises
    ------
    ConfigError
        There is no such library or device.
    BackendError
        The library never runs on such a device.
    """
    backend, _, device = name.strip().partition(":")
    if backend not in BACKENDS:
        known = f"{', '.join(BACKENDS)}, or one with :cuda, :cuda:N, :gpu or :mps"
        raise ConfigError(f"unknown backend {backend!r}: expected {known}")
    target = BackendDevice(backend, expand_device(device) or DEFAULT_DEVICES[backend])
    check_request(target.device, backend)
    return target


def parse_list(names: str) -> list[BackendDevice]:
    """Parse names separated by commas, without duplicates. Errors as in `parse`."""
    return list(dict.fromkeys(parse(name) for name in names.split(",") if name.strip()))


def probe_all(backends: Iterable[str] = tuple(BACKENDS)) -> list[tuple[BackendDevice, Probe]]:
    """Probe each library on all of its devices here, and on a GPU if it supports any.

    This imports the installed libraries. Of the devices that array-api-strict simulates, only ``device1``
    is probed; and Apple GPUs, which have no float64, are not.
    """
    return [
        (BackendDevice(backend, device), outcome)
        for backend in backends
        for device, outcome in probe_devices(backend, DEFAULT_DEVICES[backend]).items()
        if device != "mps:0" and (backend != STRICT or device == DEFAULT_DEVICES[STRICT])
    ]


def find_required() -> Sequence[BackendDevice]:
    """Return the backends that XPNET_REQUIRE_BACKENDS names.

    Raises
    ------
    ConfigError
        It names an unknown one.
    """
    names = os.environ.get(REQUIRE, "")
    if (all_or_none := parse_switch(names)) is not None:
        return USUAL if all_or_none else []
    try:
        return parse_list(names)
    except XPNetError as error:
        raise ConfigError(f"{REQUIRE}: {error}") from error


def find_installed() -> list[BackendDevice]:
    """Return the default device of each installed library, and NVIDIA's GPUs if there is their driver.

    Nothing is imported, so some may be unusable.
    """
    found = {*DEFAULT_DEVICES.items()}
    if cuda_driver_version() is not None:
        found |= {each for each in USUAL if each.device == "cuda:0"}
    return [each for each in USUAL if each in found and _is_installed(each.backend)]


def describe_absence(target: BackendDevice) -> str | None:
    """Return what is missing for a backend, if that is known without importing the library."""
    if not _is_installed(target.backend):
        return "not installed"
    if target.device.startswith("cuda") and cuda_driver_version() is None:
        return "there is no NVIDIA driver"
    return None


def _is_installed(backend: str) -> bool:
    return find_spec(backend.replace("-", "_")) is not None


def probe_devices(backend: str, first: str) -> dict[str, Probe]:
    """Probe a library on its device ``first``, on a GPU if it supports any, and on its other devices.

    If the library is not installed, only ``first`` is probed.
    """
    probes = {}
    devices = [first]
    for device in devices:
        if device not in probes:
            outcome = probes[device] = probe(backend, device)
            if outcome.version:
                devices += [FIRST_GPUS.get(backend, first), *outcome.devices]
    return probes
