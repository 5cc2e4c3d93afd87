"""``python -m xpnet doctor``: usable backends and devices, and how to fix the others.

Show which backends and devices can run here, and how to fix the others.

Options
-------
--json
    print the report as JSON
--require-device
    end with exit code 2 unless --device auto takes a GPU here; so does XPNET_REQUIRE_DEVICE=1
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from xpnet._lib.machine import describe_machine
from xpnet._lib.switches import read_switch
from xpnet._lib.terminal import make_console, style_text
from xpnet._lib.text import format_json
from xpnet.backends.probing import cuda_driver_version
from xpnet.backends.resolve import BACKENDS, REQUIRE_DEVICE, resolve, share_gpu_memory
from xpnet.cli.tables import Cell, make_columns, print_table
from xpnet.config.flags import Parser
from xpnet.parity.devices import probe_devices


def main(words: Sequence[str]) -> int:
    """Print the report. Return 0 when the numpy backend works, and a GPU if it is required, else 2."""
    parser = Parser(prog="xpnet doctor", doc=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require-device", action="store_true")
    share_gpu_memory()
    arguments = parser.parse_args(words)
    number, backends = cuda_driver_version(), [_probe_backend(name) for name in BACKENDS]
    driver = None if number is None else f"CUDA {number // 1000}.{number % 1000 // 10}"
    machine = {**describe_machine(), "cpus": os.cpu_count() or 1, "nvidia_driver": driver}
    report = {**machine, "backends": backends}
    if arguments.json:
        sys.stdout.write(format_json(report))
    else:
        _print_report(report)
    if read_switch(REQUIRE_DEVICE) or arguments.require_device:
        resolve(require_device=True)
    return 0 if any(backend["name"] == "numpy" and backend["usable"] for backend in backends) else 2


def _probe_backend(name: str) -> dict[str, Any]:
    """Return the devices of a backend: those it has, the usable ones, and reason and fix for the others.

    The array library is imported if it is installed.
    """
    probes = probe_devices(name, "cuda:0" if name == "cupy" else "cpu")
    version = next(iter(probes.values())).version
    devices = list(dict.fromkeys(device for result in probes.values() for device in result.devices))
    usable = [device for device, probe in probes.items() if probe.usable]
    unusable = ((device, probe) for device, probe in probes.items() if not probe.usable)
    troubles = [{"device": device, "reason": probe.reason, "fix": probe.fix} for device, probe in unusable]
    library = {"name": name, "installed": version is not None, "version": version}
    return {**library, "devices": devices, "usable": usable, "troubles": troubles}


def _print_report(report: Mapping[str, Any]) -> None:
    """Print a table and the problems. Each fix is one unbroken line, ready to copy."""
    console, driver = make_console(), report["nvidia_driver"] or "none"
    console.print(f"xpnet {report['xpnet']}, Python {report['python']}, CPUs: {report['cpus']}")
    console.print(f"{report['platform']}, NVIDIA driver: {driver}\n")
    rows: list[list[Cell]] = []
    for backend in report["backends"]:
        usable = ", ".join(backend["usable"])
        devices = style_text(usable, "green") if usable else style_text("nothing here", "yellow")
        rows.append([backend["name"], backend["version"] or "-", devices])
    print_table(console, make_columns(("backend", "version", "usable on"), rows, left=3))
    for backend in report["backends"]:
        for trouble in backend["troubles"]:
            console.print(f"\n{backend['name']} on {trouble['device']}: {trouble['reason']}")
            console.print(f"  to fix it: {trouble['fix']}")
