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
from xpnet._lib.files import unwritable, write_atomic
from xpnet.backends.base import check_environment
from xpnet.cli.parser import Parser, guarded
from xpnet.config import TrainConfig
from xpnet.errors import BackendError, ConfigError
from xpnet.parity import places

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _run(_parser().parse_args(words)), debug="--debug" in words)


def _parser() -> argparse.ArgumentParser:
    default = TrainConfig()
    parser = Parser(prog="xpnet parity", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("--data", type=Path, help="training data, as in xpnet train (default: the bundled MNIST)")
    add("--test-data", type=Path, help="the test data, where --data is a CSV file")
    add("--epochs", type=int, default=10, help="passes over the training data (default: 10)")
    add(
        "--hidden",
        type=int,
        nargs="*",
        default=list(default.hidden),
        metavar="UNITS",
        help="units in each hidden layer (default: 10)",
    )
    add("--batch-size", type=_batch_size, default="full", help="full (the default) or a number")
    add("--seed", type=int, default=default.seed, help="of weights and sample order (default: 0)")
    add("--json", type=Path, metavar="FILE", help="write the results to FILE too")
    add(
        "--require",
        default="",
        metavar="NAMES",
        help="backends that must not be missing: numpy,torch,torch:cuda,cupy,jax,array-api-strict",
    )
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
    config = TrainConfig(
        data=arguments.data,
        test_data=arguments.test_data,
        epochs=arguments.epochs,
        hidden=tuple(arguments.hidden),
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    required = places.parse_list(arguments.require)
    if arguments.json is not None and not arguments.json.resolve().parent.is_dir():
        msg = f"--json: the folder of {arguments.json} does not exist: make it first"
        raise ConfigError(msg)
    data = datasets.load(config.data, config.test_data)
    surveyed = _survey(required)
    usable = [place for place, found in surveyed if found.usable]
    absent = [(place, found) for place, found in surveyed if not found.usable]
    with _progress(config.epochs, len(usable) * len(runs.KINDS)) as on_epoch:
        rows = list(runs.rows(config, data, usable, on_epoch))
    console = Console(highlight=False)
    _line(console, _title(config, data))
    _line(console)
    print_table(console, rows)
    _print_absent(console, absent)
    failed = [row for row in rows if row.verdict == "FAIL"]
    for row in failed:
        _line(console, f"\n{_named(row)}: {_explanation(row, config, data)}")
    _line(console, f"\n{_summary(rows, failed)}")
    if arguments.json is not None:
        _write(arguments.json, _record(config, data, rows, absent))
    return 1 if failed else 0


def _survey(required: list[Place]) -> list[tuple[Place, Probe]]:
    """Return where to train and where not, and why not; BackendError if that is required."""
    surveyed = dict(places.survey())
    surveyed |= {place: place.probe() for place in required if place not in surveyed}
    for place in required:
        found = surveyed[place]
        if not found.usable:
            msg = f"--require: {place.where}: {found.reason}; to mend it: {found.fix}"
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


def _line(console: Console, text: str = "") -> None:
    console.print(text, markup=False, soft_wrap=True)


def _title(config: TrainConfig, data: Dataset) -> str:
    from xpnet.nn.architecture import shown

    sizes = (data.features, *config.hidden, data.classes)
    return (
        f"{data.name}, {len(data.y_train)} samples, network {shown(sizes)}, epochs {config.epochs}, "
        f"batch size {config.batch_size}, seed {config.seed}"
    )


def _print_absent(console: Console, absent: list[tuple[Place, Probe]]) -> None:
    if absent:
        _line(console, "\nabsent (xpnet doctor says how to mend it):")
    for place, found in absent:
        _line(console, f"  {place.where}: {found.reason}")


def _named(row: Row) -> str:
    return f"{row.backend} on {row.device}, {row.arithmetic} {row.dtype}"


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

    return {
        "xpnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "data": {"name": data.name, "sha256": datasets.digest(data)},
        "epochs": config.epochs,
        "hidden": list(config.hidden),
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "passed": all(row.verdict != "FAIL" for row in rows),
        "rows": [_finite(asdict(row)) for row in rows],
        "absent": [
            {
                "backend": place.backend,
                "device": place.device,
                "version": found.version,
                "reason": found.reason,
                "fix": found.fix,
            }
            for place, found in absent
        ],
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with infinities, which JSON does not have, as text."""
    return {key: "infinite" if value == float("inf") else value for key, value in row.items()}


def _write(path: Path, record: dict[str, Any]) -> None:
    try:
        write_atomic(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise unwritable(path, error) from error


if __name__ == "__main__":
    sys.exit(main())
