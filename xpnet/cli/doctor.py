"""``python -m xpnet doctor``: what can run here, and how to mend what cannot."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from xpnet import __version__
from xpnet._lib.parser import Parser
from xpnet._lib.text import format_json
from xpnet.backends.probing import cuda_driver_version
from xpnet.backends.resolve import BACKENDS, CUDA_BACKENDS, probe
from xpnet.cli.tables import columns_of, new_console, print_table, styled


def main(words: Sequence[str]) -> int:
    """Print the report; return 0 when the numpy backend works, else 2."""
    description = "Show which backends and devices can run here, and how to mend the others."
    parser = Parser(prog="xpnet doctor", description=description)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(words)
    report = examine()
    if arguments.json:
        sys.stdout.write(format_json(report))
    else:
        _print(report)
    return 0 if any(each["name"] == "numpy" and each["usable"] for each in report["backends"]) else 2


def examine() -> dict[str, Any]:
    """Probe every backend, which imports every array library that is installed; return a JSON object."""
    driver = cuda_driver_version()
    return {
        "xpnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 1,
        "nvidia_driver": None if driver is None else f"CUDA {driver // 1000}.{driver % 1000 // 10}",
        "backends": [_examine_backend(name) for name in BACKENDS],
    }


def _examine_backend(name: str) -> dict[str, Any]:
    wanted = ["cpu"] * (name != "cupy") + ["cuda:0"] * (name in CUDA_BACKENDS)
    probes = {device: probe(name, device) for device in wanted}
    devices = list(dict.fromkeys(device for answer in probes.values() for device in answer.devices))
    probes |= {device: probe(name, device) for device in devices if device not in probes}
    version = probes[wanted[0]].version
    if version is None:  # one trouble is enough: the library itself
        probes = {wanted[0]: probes[wanted[0]]}
    usable = [device for device, answer in probes.items() if answer.usable]
    troubles = [
        {"device": device, "reason": answer.reason or "", "fix": answer.fix or ""}
        for device, answer in probes.items()
        if not answer.usable
    ]
    known = {"name": name, "installed": version is not None, "version": version, "devices": devices}
    return {**known, "usable": usable, "troubles": troubles}


def _print(report: Mapping[str, Any]) -> None:
    """Print a table, each trouble, and how to fix it on one unbroken line, so that it copies whole."""
    console, driver = new_console(), report["nvidia_driver"] or "none"
    console.print(f"xpnet {report['xpnet']}, Python {report['python']}, CPUs: {report['cpus']}")
    console.print(f"{report['platform']}, NVIDIA driver: {driver}\n")
    rows = []
    for backend in report["backends"]:
        usable = ", ".join(backend["usable"])
        places = styled(usable, "green") if usable else styled("nothing here", "yellow")
        rows.append([backend["name"], backend["version"] or "-", places])
    print_table(console, columns_of(("backend", "version", "usable on"), rows, left=3))
    for backend in report["backends"]:
        for trouble in backend["troubles"]:
            console.print(f"\n{backend['name']} on {trouble['device']}: {trouble['reason']}")
            console.print(f"  to mend it: {trouble['fix']}")
