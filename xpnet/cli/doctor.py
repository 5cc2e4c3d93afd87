"""``python -m xpnet doctor``: what can run here, and how to mend what cannot."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from xpnet import __version__
from xpnet._lib.text import json_text
from xpnet.backends.probing import cuda_driver_version
from xpnet.backends.resolve import BACKENDS, CUDA_BACKENDS, probe
from xpnet.cli.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


@dataclass(frozen=True)
class Trouble:
    """A device that a backend could run on and does not, why, and the command that mends it."""

    device: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """What there is to say of one backend."""

    name: str
    installed: bool
    version: str | None
    devices: tuple[str, ...]
    usable: tuple[str, ...]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True)
class Report:
    """The machine and its backends."""

    xpnet: str
    python: str
    platform: str
    cpus: int
    nvidia_driver: str | None
    backends: tuple[Finding, ...]


def main(words: Sequence[str]) -> int:
    """Print the report; return 0 when the numpy backend works, else 2."""
    parser = Parser(
        prog="xpnet doctor",
        description="Show which backends and devices can run here, and how to mend the others.",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    as_json = parser.parse_args(words).json
    report = examine()
    if as_json:
        sys.stdout.write(json_text(asdict(report)))
    else:
        _print(report)
    works = any(finding.name == "numpy" and finding.usable for finding in report.backends)
    return 0 if works else 2


def examine() -> Report:
    """Probe every backend, which imports every array library that is installed."""
    driver = cuda_driver_version()
    return Report(
        xpnet=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        cpus=os.cpu_count() or 1,
        nvidia_driver=None if driver is None else f"CUDA {driver // 1000}.{driver % 1000 // 10}",
        backends=tuple(_examine_backend(name) for name in BACKENDS),
    )


def _examine_backend(name: str) -> Finding:
    wanted = [] if name == "cupy" else ["cpu"]
    if name in CUDA_BACKENDS:
        wanted.append("cuda:0")
    probes = {device: probe(name, device) for device in wanted}
    devices = tuple(dict.fromkeys(device for found in probes.values() for device in found.devices))
    probes |= {device: probe(name, device) for device in devices if device not in probes}
    version = next(iter(probes.values())).version
    if version is None:  # one trouble is enough: the library itself
        probes = dict(list(probes.items())[:1])
    return Finding(
        name=name,
        installed=version is not None,
        version=version,
        devices=devices,
        usable=tuple(device for device, found in probes.items() if found.usable),
        troubles=tuple(
            Trouble(device, found.reason or "", found.fix or "")
            for device, found in probes.items()
            if not found.usable
        ),
    )


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    driver = report.nvidia_driver or "none"
    console.print(f"xpnet {report.xpnet}, Python {report.python}, CPUs: {report.cpus}")
    console.print(f"{report.platform}, NVIDIA driver: {driver}\n", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for heading in ("backend", "version", "usable on"):
        table.add_column(heading, overflow="fold")
    for finding in report.backends:
        usable = ", ".join(finding.usable) or "nothing here"
        style = "green" if finding.usable else "yellow"
        table.add_row(finding.name, finding.version or "-", f"[{style}]{usable}[/{style}]")
    console.print(table)
    _print_troubles(console, report)


def _print_troubles(console: Console, report: Report) -> None:
    """Print each reason, and its command on one unbroken line, so that it copies whole."""
    for finding in report.backends:
        for trouble in finding.troubles:
            reason = f"\n{finding.name} on {trouble.device}: {trouble.reason}"
            console.print(reason, markup=False, soft_wrap=not console.is_terminal)
            console.print(f"  to mend it: {trouble.fix}", markup=False, soft_wrap=True)
