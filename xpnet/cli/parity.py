"""``python -m xpnet parity``: train everywhere, compare, and say whether the promises hold."""

from __future__ import annotations

import json
import platform
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet import __version__
from xpnet._lib.files import save
from xpnet.backends.base import check_environment
from xpnet.cli.parser import Parser, guarded
from xpnet.config import TrainConfig, resolved
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import places

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from xpnet.backends.probing import Probe
    from xpnet.data.datasets import Dataset
    from xpnet.parity.places import Place
    from xpnet.parity.runs import Kind, Row

DESCRIPTION = """\
Train the same network with every array library and on every device that works here, and compare the
parameters after each epoch with NumPy's: in reproducible arithmetic bit for bit, in native arithmetic
within a tolerance."""
EPILOG = """\
Exit codes: 0 parity holds, 1 it does not, 2 bad input or a required backend is missing, 3 NumPy's own
training diverged, 130 interrupted."""

SETTINGS = ("data", "test_data", "epochs", "hidden", "batch_size", "seed")
"""The flags that are settings of the training runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _run(_parser().parse_args(words)), debug="--debug" in words)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="xpnet parity", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("--data", type=Path, help="training data, as in xpnet train (default: the bundled MNIST)")
    add("--test-data", type=Path, help="the test data, where --data is a CSV file")
    add("--epochs", type=int, default=10, help="passes over the training data (default: 10)")
    units = "units in each hidden layer (default: 10)"
    add("--hidden", type=int, nargs="*", default=(10,), metavar="UNITS", help=units)
    add("--batch-size", type=_batch_size, default="full", help="full (the default) or a number")
    add("--seed", type=int, default=0, help="of weights and sample order (default: 0)")
    add("--json", type=Path, metavar="FILE", help="write the results to FILE too")
    required = "backends that must not be missing: numpy,torch,torch:cuda,cupy,jax,array-api-strict"
    add("--require", default="", metavar="NAMES", help=required)
    add("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def _batch_size(text: str) -> Any:
    return text if text == "full" else int(text)


_batch_size.__name__ = "batch size"  # argparse: invalid batch size value: 'x'


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from xpnet.cli.parity_table import print_table
    from xpnet.data import datasets
    from xpnet.parity import runs

    check_environment()
    arguments.hidden = tuple(arguments.hidden)
    config = TrainConfig(**{name: getattr(arguments, name) for name in SETTINGS})
    required = places.parse_list(arguments.require)
    file: Path | None = arguments.json
    if file is not None and not file.resolve().parent.is_dir():
        msg = f"--json: the folder of {file} does not exist: make it first"
        raise ConfigError(msg)
    data = datasets.load(config.data, config.test_data)
    surveyed = _survey(required)
    usable = [place for place, probe in surveyed if probe.usable]
    absent = [(place, probe) for place, probe in surveyed if not probe.usable]
    with _progress(config.epochs, len(usable) * len(runs.KINDS)) as on_epoch:
        rows = list(runs.rows(config, data, usable, on_epoch))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{_title(config, data)}\n")
    print_table(console, rows)
    if absent:
        console.print("\nabsent (xpnet doctor says how to mend it):")
    for place, probe in absent:
        console.print(f"  {place.where}: {probe.reason}")
    failed = [row for row in rows if row.verdict == "FAIL"]
    for row in failed:
        console.print(f"\n{row.backend} on {row.device}, {row.kind}: {_explanation(row, config, data)}")
    console.print(f"\n{_summary(rows, failed)}")
    if file is not None:
        text = json.dumps(_record(config, data, rows, absent), indent=2, allow_nan=False)
        save(file, f"{text}\n".encode())
    return 1 if failed else 0


def _survey(required: list[Place]) -> list[tuple[Place, Probe]]:
    """Return where to train and where not, and why not; BackendError if that is required."""
    surveyed = dict(places.survey())
    surveyed |= {place: place.probe() for place in required if place not in surveyed}
    for place in required:
        probe = surveyed[place]
        if not probe.usable:
            msg = f"--require: {place.where}: {probe.reason}; to mend it: {probe.fix}"
            raise BackendError(msg)
    return list(surveyed.items())


@contextmanager
def _progress(epochs: int, count: int) -> Iterator[Callable[[Place, Kind, int], None]]:
    """Show on standard error which training runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("{task.description}: epoch", MofNCompleteColumn(), TimeElapsedColumn())
    seen: list[tuple[Place, Kind]] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=epochs)

        def show(place: Place, kind: Kind, epoch: int) -> None:
            if seen[-1:] != [(place, kind)]:
                seen.append((place, kind))
                text = f"run {len(seen)} of {count}, {place.where}, {kind}"
                progress.reset(task, total=epochs, description=text)
            progress.update(task, completed=epoch)

        yield show


def _title(config: TrainConfig, data: Dataset) -> str:
    from xpnet.nn.architecture import shown

    sizes = (data.features, *config.hidden, data.classes)
    return (
        f"{data.name}, {len(data.y_train)} samples, network {shown(sizes)}, epochs {config.epochs}, "
        f"batch size {config.batch_size}, seed {config.seed}"
    )


def _explanation(row: Row, config: TrainConfig, data: Dataset) -> str:
    from xpnet.parity.runs import first_operation

    if row.fingerprint is None or row.tolerance is not None:
        return row.problem or "failed"
    return first_operation(config, data, places.Place(row.backend, row.device))


def _summary(rows: list[Row], failed: list[Row]) -> str:
    if failed:
        return f"parity does not hold: {len(failed)} of {len(rows)} runs fail"
    exact = sum(row.tolerance is None for row in rows)
    return (
        f"parity holds: {exact} reproducible runs with one fingerprint and history, "
        f"{len(rows) - exact} native runs within tolerance"
    )


def _record(
    config: TrainConfig, data: Dataset, rows: list[Row], absent: list[tuple[Place, Probe]]
) -> dict[str, Any]:
    from xpnet.data import datasets

    settings = resolved(config)
    return {
        "xpnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "data": {"name": data.name, "sha256": datasets.digest(data)},
        **{name: settings[name] for name in ("epochs", "hidden", "batch_size", "learning_rate", "seed")},
        "passed": all(row.verdict != "FAIL" for row in rows),
        "rows": [_finite(asdict(row)) for row in rows],
        "absent": [
            asdict(place) | {"version": probe.version, "reason": probe.reason, "fix": probe.fix}
            for place, probe in absent
        ],
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with infinities, which JSON does not have, as text."""
    return {key: "infinite" if value == float("inf") else value for key, value in row.items()}


if __name__ == "__main__":
    sys.exit(main())
