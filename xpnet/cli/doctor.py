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
from collections.abc import Sequence

from xpnet._lib.extras import install_command, missing_of_train
from xpnet._lib.machine import describe_machine
from xpnet._lib.switches import read_switch
from xpnet._lib.text import align, format_json, plain
from xpnet._typing import Json, Values
from xpnet.backends.probing import DRIVER_FIX, cuda_driver_version, cuda_index
from xpnet.backends.resolve import BACKENDS, REQUIRE_DEVICE, resolve
from xpnet.config.flags import Parser
from xpnet.parity.devices import probe_devices


def main(words: Sequence[str]) -> int:
    """Print the report. Return 0 when the numpy backend works, and a GPU if it is required, else 2."""
    parser = Parser("xpnet doctor", __doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require-device", action="store_true")
    arguments = parser.parse_args(words)
    number, backends = cuda_driver_version(), [_probe_backend(name) for name in BACKENDS]
    driver = None if number is None else f"CUDA {number // 1000}.{number % 1000 // 10}"
    machine = {**describe_machine(), "cpus": os.cpu_count() or 1, "nvidia_driver": driver}
    train = {"missing": missing_of_train(), "fix": install_command("train")}
    report = {**machine, "train": train, "backends": backends}
    sys.stdout.write(format_json(report) if arguments.json else _format_report(report))
    if read_switch(REQUIRE_DEVICE) or arguments.require_device:
        resolve(require_device=True)
    return 0 if any(backend["name"] == "numpy" and backend["usable"] for backend in backends) else 2


def _probe_backend(name: str) -> Json:
    """Return the devices of a backend: those it has, the usable ones, and reason and fix for the others.

    The array library is imported if it is installed.
    """
    probes = probe_devices(name, "cuda:0" if name == "cupy" else "cpu")
    version = next(iter(probes.values())).version
    devices = list(dict.fromkeys(device for result in probes.values() for device in result.devices))
    usable = [device for device, probe in probes.items() if probe.usable]
    troubles = [
        {"device": device, "reason": probe.reason, "fix": probe.fix}
        for device, probe in probes.items()
        if not probe.usable
    ]
    library = {"name": name, "installed": version is not None, "version": version}
    return {**library, "devices": devices, "usable": usable, "troubles": troubles}


def _format_report(report: Values) -> str:
    """Return a table and the problems as text. Each fix is one unbroken line, ready to copy."""
    driver = report["nvidia_driver"] or "none"
    lines = [f"xpnet {report['xpnet']}, Python {report['python']}, CPUs: {report['cpus']}"]
    lines += [f"{report['platform']}, NVIDIA driver: {driver}", ""]
    rows = [("backend", "version", "usable on")]
    without_driver = report["nvidia_driver"] is None
    for backend in report["backends"]:
        if without_driver and backend["name"] == "cupy" and not backend["installed"]:
            continue  # it is for NVIDIA's GPUs alone
        rows += [(backend["name"], backend["version"] or "-", ", ".join(backend["usable"]) or "nothing here")]
    lines += align(rows, left=3)
    if missing := report["train"]["missing"]:
        problem = f"commands, trainings and reports: not installed: {', '.join(missing)}"
        lines += ["", problem, f"  to fix it: {report['train']['fix']}"]
    if without_driver:
        lines += ["", "NVIDIA GPUs: there is no NVIDIA driver", f"  to fix it: {DRIVER_FIX}"]
    for backend in report["backends"]:
        for trouble in backend["troubles"]:
            if without_driver and cuda_index(trouble["device"]) is not None:
                continue  # said once, above: what else is missing helps with a driver only
            problem = f"{backend['name']} on {trouble['device']}: {trouble['reason']}"
            lines += ["", problem, f"  to fix it: {trouble['fix']}"]
    return "".join(f"{plain(line)}\n" for line in lines)
