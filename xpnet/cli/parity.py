"""``xpnet parity``: train everywhere, compare, and say whether the promises hold."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.text import Text

from xpnet import __version__
from xpnet._lib.files import save
from xpnet._lib.parser import Parser
from xpnet._lib.text import plain
from xpnet.backends.base import check_environment
from xpnet.cli.tables import Cell, Column, fits, format_value, new_console, styled, table_lines
from xpnet.config import TrainConfig
from xpnet.config.flags import DEFAULTS, add_settings, settings_of
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from xpnet.backends.probing import Probe
    from xpnet.data.datasets import Dataset
    from xpnet.parity.devices import BackendDevice
    from xpnet.parity.runs import ArithmeticKind, ParityResult

    Absent = list[tuple[BackendDevice, Probe]]

DESCRIPTION = """\
Train the same network with every array library and on every device that works here, and compare the
parameters after each epoch with NumPy's: in reproducible arithmetic bit for bit, in native arithmetic
within a tolerance."""
EPILOG = """\
Exit codes: 0 parity holds, 1 it does not, 2 bad input or a required backend is missing, 3 NumPy's own
training diverged, 130 interrupted."""

SETTINGS = ("data", "test_data", "epochs", "hidden", "batch_size", "seed")
"""The flags that are settings of the training runs."""
EPOCHS = 10

DISPENSABLE = ("time", "version", "max rel", "layer", "epoch")
"""The columns that a narrow terminal does without, the first one first."""
LEFT = ("backend", "version", "device", "fingerprint", "verdict")
STYLES = {"same": "green", "close": "green", "FAIL": "bold red"}


def main(words: Sequence[str]) -> int:
    """Print the table and the verdict, and return the exit code.

    Raises
    ------
    ConfigError
        A setting is out of range, or the folder of the --json file does not exist.
    BackendError
        A required backend is not usable here.
    """
    from xpnet.data import datasets
    from xpnet.nn.architecture import format_sizes
    from xpnet.parity import runs

    arguments = _parser().parse_args(words)
    check_environment()
    config = TrainConfig(**{"epochs": EPOCHS, **settings_of(arguments)})
    required = devices.parse_list(arguments.require)
    file: Path | None = arguments.json
    if file is not None and not file.resolve().parent.is_dir():
        msg = f"--json: the folder of {file} does not exist: make it first"
        raise ConfigError(msg)
    data = datasets.load(config.data, config.test_data)
    usable, absent = _survey(required)
    with Live(console=new_console(stderr=True), transient=True) as live:

        def on_epoch(place: BackendDevice, kind: ArithmeticKind, epoch: int) -> None:
            run = runs.KINDS.index(kind) * len(usable) + usable.index(place) + 1
            where = f"run {run} of {len(usable) * len(runs.KINDS)}, {place.where}, {kind}"
            live.update(f"{where}: epoch {epoch} of {config.epochs}", refresh=True)

        rows = list(runs.compare_backends(config, data, usable, on_epoch))
    network = format_sizes((data.features, *config.hidden, data.classes))
    settings = f"epochs {config.epochs}, batch size {config.batch_size}, seed {config.seed}"
    console = new_console()
    console.print(f"{plain(data.name)}, {len(data.y_train)} samples, network {network}, {settings}\n")
    print_rows(console, rows)
    if absent:
        console.print("\nabsent (xpnet doctor says how to mend it):")
    for place, probe in absent:
        console.print(f"  {place.where}: {probe.reason}")
    failed = [row for row in rows if row.verdict == "FAIL"]
    for row in failed:
        reason = row.problem or "failed"
        if row.fingerprint is not None and row.tolerance is None:
            reason = runs.first_operation(config, data, devices.BackendDevice(row.backend, row.device))
        console.print(f"\n{row.backend} on {row.device}, {row.kind}: {reason}")
    exact = sum(row.tolerance is None for row in rows)
    verdict = f"parity holds: {exact} reproducible runs with one fingerprint and history"
    verdict += f", {len(rows) - exact} native runs within tolerance"
    if failed:
        verdict = f"parity does not hold: {len(failed)} of {len(rows)} runs fail"
    console.print(f"\n{verdict}")
    if file is not None:
        text = json.dumps(_record(config, data, rows, absent), indent=2, allow_nan=False)
        save(file, f"{text}\n".encode())
    return 1 if failed else 0


def print_rows(console: Console, rows: Sequence[ParityResult]) -> None:
    """Print the rows under a heading for each arithmetic, as wide as they are or the terminal is."""
    cells = [_cells(row) for row in rows]
    headings = {"epoch": Text("differs\nepoch"), "layer": Text("from\nlayer")}
    columns = {
        name: Column(headings.get(name, name), [cell[name] for cell in cells], right=name not in LEFT)
        for name in cells[0]
    }
    for name in DISPENSABLE:
        if not fits(console, [*columns.values()]):
            del columns[name]
    lines = table_lines(console, [*columns.values()])
    for line in lines[: -len(rows)]:
        console.print(line)
    pairs = zip(rows, lines[-len(rows) :], strict=True)
    for position, (kind, group) in enumerate(groupby(pairs, key=lambda pair: pair[0].kind)):
        console.print("\n" * (position > 0) + heading(kind))
        for _, line in group:
            console.print(line)


def heading(kind: ArithmeticKind) -> str:
    """Return what an arithmetic promises."""
    from xpnet.parity.runs import format_tolerance

    if kind.tolerance is None:
        return f"{kind}: bit for bit as NumPy"
    return f"{kind}: within {format_tolerance(kind.tolerance)} of NumPy, relative to each tensor's largest"


def _cells(row: ParityResult) -> dict[str, Cell]:
    from xpnet.parity.distance import format_count

    relative, seconds = row.max_relative, row.seconds
    return {
        "backend": row.backend,
        "version": row.version.partition("+")[0],
        "device": row.device,
        "fingerprint": (row.fingerprint or "-")[:12],
        "epoch": format_value(row.epoch),
        "layer": format_value(row.layer),
        "max ulp": "-" if row.max_ulp is None else format_count(row.max_ulp),
        "max rel": "-" if relative is None else f"{relative:.1e}" if relative else "0",
        "time": "-" if seconds is None else f"{seconds:.1f} s",
        "verdict": styled(row.verdict, STYLES[row.verdict]),
    }


def _parser() -> Parser:
    parser = Parser(prog="xpnet parity", description=DESCRIPTION, epilog=EPILOG)
    add_settings(parser, SETTINGS, {**DEFAULTS, "epochs": EPOCHS})
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="Write the results to FILE too.")
    required = "Backends that must not be missing: numpy,torch,torch:cuda,cupy,jax,array-api-strict."
    add("--require", default="", metavar="NAMES", help=required)
    return parser


def _survey(required: list[BackendDevice]) -> tuple[list[BackendDevice], Absent]:
    """Return where to train, and where not and why; BackendError if that is required."""
    probes = dict(devices.probe_all())
    probes |= {place: place.probe() for place in required if place not in probes}
    absent = [(place, probe) for place, probe in probes.items() if not probe.usable]
    for place, probe in absent:
        if place in required:
            msg = f"--require: {place.where}: {probe.reason}; to mend it: {probe.fix}"
            raise BackendError(msg)
    return [place for place, probe in probes.items() if probe.usable], absent


def _record(config: TrainConfig, data: Dataset, rows: list[ParityResult], absent: Absent) -> dict[str, Any]:
    from xpnet.data import datasets

    settings = ("epochs", "hidden", "batch_size", "learning_rate", "seed")
    reasons = ("version", "reason", "fix")
    return {
        "xpnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "data": {"name": data.name, "sha256": datasets.digest(data)},
        **{name: getattr(config, name) for name in settings},
        "passed": all(row.verdict != "FAIL" for row in rows),
        "rows": [_finite(asdict(row)) for row in rows],
        "absent": [asdict(place) | {key: getattr(probe, key) for key in reasons} for place, probe in absent],
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with infinities, which JSON does not have, as text."""
    return {key: "infinite" if value == float("inf") else value for key, value in row.items()}
