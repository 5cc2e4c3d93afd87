"""``xpnet parity``: train with every backend and device, and compare the results with NumPy's.

Train the same network with every array library and on every device that works here, and compare the
parameters after each epoch with NumPy's: in reproducible arithmetic bit for bit, in native arithmetic
within a tolerance.

Exit codes: 0 parity holds, 1 it does not, 2 bad input or a required backend is missing, 3 NumPy's own
training diverged, 130 interrupted.

Options
-------
--json
    Write the results to FILE too.
--require
    Backends that must not be missing: numpy,torch,torch:cuda,cupy,jax,dpnp,array-api-strict.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from xpnet._lib.files import save
from xpnet._lib.machine import describe_machine
from xpnet._lib.text import announce, format_json, plain
from xpnet._typing import Json
from xpnet.backends import resolve
from xpnet.backends.base import check_environment
from xpnet.backends.probing import Probe
from xpnet.cli.tables import Cell, format_cell, format_metric, make_column, render_table, select_fitting
from xpnet.config.flags import Parser, add_settings, get_settings
from xpnet.config.training import DEFAULTS, TABLE_SETTINGS, TrainConfig
from xpnet.data import datasets
from xpnet.errors import BackendError, ConfigError
from xpnet.nn.architecture import format_sizes
from xpnet.parity import devices
from xpnet.parity.distance import format_count
from xpnet.training.terminal import make_console, style_text
from xpnet.training_parity import runs

SETTINGS = ("data", "test_data", *TABLE_SETTINGS, "epochs", "hidden", "batch_size", "seed")
"""The flags that are settings of the training runs."""
EPOCHS = 10

DISPENSABLE = ("time", "version", "max rel", "layer", "epoch")
"""The columns left out on a narrow terminal, in this order."""
LEFT = ("backend", "version", "device", "fingerprint", "verdict")
ABOVE = {"epoch": "differs", "layer": "from"}
"""The first lines of headings of two."""

Probes = dict[devices.BackendDevice, Probe]


def main(words: Sequence[str]) -> int:
    """Print the table and the verdict. Return the exit code.

    Raises
    ------
    ConfigError
        A setting is out of range, or the folder of the --json file does not exist.
    BackendError
        A required backend is not usable here.
    """
    parser = Parser("xpnet parity", __doc__)
    add_settings(parser, SETTINGS, {**DEFAULTS, "epochs": EPOCHS})
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--require", default="", metavar="NAMES")
    arguments = parser.parse_args(words)
    check_environment()
    config = TrainConfig(**{"epochs": EPOCHS, **get_settings(arguments)})
    required = devices.parse_list(arguments.require)
    file = arguments.json
    if file and not file.parent.is_dir():
        raise ConfigError(f"--json: the folder of {file} does not exist: make it first")
    with announce(f"reading {config.data or 'mnist'}"):
        data = datasets.load_shared(config)
    usable, absent = _probe_devices(required)
    with Live(console=make_console(stderr=True), transient=True) as live:
        rows = list(runs.compare_backends(config, data, usable, partial(live.update, refresh=True)))
    network = format_sizes((data.features, *config.hidden, data.classes))
    settings = f"epochs {config.epochs}, batch size {config.batch_size}, seed {config.seed}"
    console = make_console()
    console.print(f"{plain(data.name)}, {len(data.y_train)} samples, network {network}, {settings}\n")
    print_rows(console, rows)
    if absent:
        console.print("\nabsent (xpnet doctor says how to fix it):")
    for device, probe in absent.items():
        console.print(f"  {device.where}: {probe.reason}")
    failed = [row for row in rows if row.verdict == "FAIL"]
    for row in failed:
        is_located = row.fingerprint and row.kind.tolerance is None
        reason = runs.first_operation(config, data, row) if is_located else row.problem
        console.print(f"\n{row}: {reason}")
    if failed:
        console.print(f"\nparity does not hold: {len(failed)} of {len(rows)} runs fail")
    else:
        exact = sum(row.kind.tolerance is None for row in rows)
        verdict = f"parity holds: {exact} reproducible runs with one fingerprint and history"
        console.print(f"\n{verdict}, {len(rows) - exact} native runs within tolerance")
    if file:
        save(file, format_json(_to_json(config, data, rows, absent)).encode())
    return 1 if failed else 0


def print_rows(console: Console, rows: Sequence[runs.ParityResult]) -> None:
    """Print the rows, as wide as they are or the terminal is.

    Each arithmetic has a heading, with the agreement that it guarantees.
    """
    cells, columns = [_format_row(row) for row in rows], {}
    for name in cells[0]:
        heading = Text(f"{ABOVE.get(name, '')}\n{name}", "bold")
        columns[name] = make_column(heading, [cell[name] for cell in cells], right=name not in LEFT)
    lines = render_table(select_fitting(console, columns, DISPENSABLE))
    console.print(*lines[: -len(rows)], sep="\n")
    table = iter(lines[-len(rows) :])
    for kind, group in groupby(rows, key=lambda row: row.kind):
        agreement = "bit for bit as NumPy"
        if kind.tolerance is not None:
            distance = runs.format_tolerance(kind.tolerance)
            agreement = f"within {distance} of NumPy, relative to each tensor's largest"
        console.print(("\n" if kind != rows[0].kind else "") + f"{kind}: {agreement}")
        console.print(*(next(table) for _ in group), sep="\n")


def _format_row(row: runs.ParityResult) -> dict[str, Cell]:
    relative, seconds = row.max_relative, row.seconds
    return {
        "backend": row.target.backend,
        "version": row.version.partition("+")[0],
        "device": row.target.device,
        "fingerprint": format_metric("fingerprint", row.fingerprint),
        "epoch": format_cell(row.epoch),
        "layer": format_cell(row.layer),
        "max ulp": "-" if row.max_ulp is None else format_count(row.max_ulp),
        "max rel": "-" if relative is None else f"{relative:.1e}" if relative else "0",
        "time": "-" if seconds is None else f"{seconds:.1f} s",
        "verdict": style_text(row.verdict, "bold red" if row.verdict == "FAIL" else "green"),
    }


def _probe_devices(required: list[devices.BackendDevice]) -> tuple[list[devices.BackendDevice], Probes]:
    """Return the usable devices, and the others with their probes.

    Raises
    ------
    BackendError
        A required device is not usable.
    """
    probes = dict(devices.probe_all())
    for device in required:
        probe = probes[device] = probes.get(device) or resolve.probe(*device)
        if not probe.usable:
            raise BackendError(f"--require: {device.where}: {probe.reason}; to fix it: {probe.fix}")
    usable = [device for device, probe in probes.items() if probe.usable]
    return usable, {device: probes[device] for device in probes if device not in usable}


def _to_json(
    config: TrainConfig, data: datasets.Dataset, rows: list[runs.ParityResult], absent: Probes
) -> Json:
    settings, results = ("epochs", "hidden", "batch_size", "learning_rate", "seed"), []
    for row in rows:
        values = asdict(row)
        values = {**values.pop("target")._asdict(), **values.pop("kind")._asdict(), **values}
        # JSON cannot represent infinity.
        results.append({key: "infinite" if value == float("inf") else value for key, value in values.items()})
    return {
        **describe_machine(),
        "data": {"name": data.name, "sha256": datasets.digest(data)},
        **{name: getattr(config, name) for name in settings},
        "passed": all(row.verdict != "FAIL" for row in rows),
        "rows": results,
        "absent": [device._asdict() | probe._asdict() for device, probe in absent.items()],
    }
