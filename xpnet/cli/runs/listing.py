"""Lists of runs: as a table, sorted by a metric, and the best run."""

import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from xpnet._lib.text import did_you_mean, plain
from xpnet.cli import tables
from xpnet.cli.tables import Cell, Column, format_metric, format_value, print_pairs, style_text
from xpnet.errors import ConfigError
from xpnet.storage.find import FoundRun
from xpnet.storage.record import MODEL_FILE

FIELDS = ("id", "status", "started", "network", "arithmetic", "backend")
"""The fields of a run that runs can be sorted by besides metrics."""

HEADINGS = {"train_accuracy": "train acc", "validation_accuracy": "valid acc", "test_accuracy": "test acc"}
"""Headings of columns that differ from the name of the field or metric."""

COLUMNS = (*(name for name in FIELDS if name != "started"), "epochs", "seconds", *HEADINGS, "fingerprint")
"""The columns of the table; those without a value are left out."""

DISPENSABLE = ("fingerprint", "seconds", "train_accuracy", "backend", "arithmetic", "network")
"""The columns left out on a narrow terminal, in this order."""

STYLES = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "killed": "yellow",
}

FINGERPRINT_DIGITS = 12


def print_list(console: Console, runs: Sequence[FoundRun], sort: str) -> None:
    """Print a table of the runs; the field or metric `sort` always has a column."""
    names = dict.fromkeys(COLUMNS if sort == "started" else (*COLUMNS, sort))
    columns = {
        name: Column(HEADINGS.get(name, name), [_make_cell(run, name) for run in runs], name not in FIELDS)
        for name in names
        if name in (*FIELDS, "test_accuracy", sort) or any(_get_value(run, name) is not None for run in runs)
    }
    for name in DISPENSABLE:
        if name != sort and not tables.fits(console, [*columns.values()]):
            columns.pop(name, None)
    tables.print_table(console, [*columns.values()])


def to_json(run: FoundRun) -> dict[str, object]:
    """Return the fields and metrics of a run as a JSON object."""
    values = {name: getattr(run, name) for name in FIELDS}
    return {**values, "folder": str(run.folder), "fingerprint": run.fingerprint, "metrics": dict(run.metrics)}


def to_csv_rows(runs: Sequence[FoundRun]) -> list[list[object]]:
    """Return the rows of a CSV file, the heading first: fields, metrics and fingerprint."""
    names = [*FIELDS, *list_metrics(runs), "fingerprint"]
    return [[*names], *([_get_value(run, name) for name in names] for run in runs)]


def list_metrics(runs: Sequence[FoundRun]) -> list[str]:
    """Return the names of the metrics that at least one run has, in order of appearance."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics if name not in FIELDS))


def sort_runs(runs: Sequence[FoundRun], sort: str, *, reverse: bool) -> list[FoundRun]:
    """Sort runs by a field or metric: accuracies descending, the rest ascending; runs without a value last.

    Raises
    ------
    ConfigError
        No run has such a metric.
    """
    if runs:
        _check_name("--sort", sort, [*list_metrics(runs), *FIELDS])
    known = [run for run in runs if _get_value(run, sort) is not None]
    known.sort(key=lambda run: _get_value(run, sort), reverse=reverse != higher_is_better(sort))
    return known + [run for run in runs if _get_value(run, sort) is None]


def find_best(runs: Sequence[FoundRun], metric: str | None) -> tuple[FoundRun, str, int]:
    """Return the best finished run, the metric that was compared, and the number of runs compared.

    Ties are broken by the lower loss, then by the order of the runs. The default metric is
    validation_accuracy, or test_accuracy if no run has the former.

    Raises
    ------
    ConfigError
        No run has ended, or no finished run has the metric.
    """
    ended = [run for run in runs if run.ended]
    if not ended:
        msg = "no run here has ended with results: train one first (xpnet train)"
        raise ConfigError(msg)
    names = list_metrics(ended)
    if metric is None:
        metric = "validation_accuracy" if "validation_accuracy" in names else "test_accuracy"
    _check_name("--metric", metric, names)
    candidates = [run for run in ended if metric in run.metrics]
    sign = -1 if higher_is_better(metric) else 1
    loss = metric.replace("accuracy", "loss")
    winner = min(candidates, key=lambda run: (sign * run.metrics[metric], run.metrics.get(loss, 0.0)))
    return winner, metric, len(candidates)


def print_best(console: Console, run: FoundRun, metric: str, count: int) -> None:
    """Print the name of the best run, its metrics, and commands that use it."""
    console.print(style_text(run.id, "bold"))
    among = "the only run" if count == 1 else f"the best of {count} runs"
    console.print(f"{among} with {plain(metric)}\n")
    cells: dict[str, Cell] = {name: format_metric(name, value) for name, value in run.metrics.items()}
    cells |= {metric: style_text(cells[metric], "bold green"), "fingerprint": str(run.fingerprint)}
    print_pairs(console, cells, width=22)
    console.print()
    print_pairs(console, suggest_commands(run), indent="", width=12)


def suggest_commands(run: FoundRun) -> dict[str, str]:
    """Return command lines that use the run, by a word for their purpose."""
    folder, model = (plain(shlex.quote(str(path))) for path in (run.folder, run.folder / MODEL_FILE))
    resumable = run.status in ("killed", "interrupted", "failed")
    commands = {"resume": f"xpnet train --resume {folder}"} if resumable else {}
    if run.ended:
        commands["evaluate"] = f"xpnet evaluate {folder}"
        commands["predict"] = f"xpnet predict {folder} IMAGE"
        commands["start from"] = f"xpnet train --init-from {model}"
    return commands


def higher_is_better(name: str) -> bool:
    """Return whether a higher value of a metric is better, as for accuracies, unlike losses and seconds."""
    return name.endswith(("accuracy", "precision", "recall", "f1", "score"))


def _check_name(flag: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        known = list(map(format_value, names))
        expected = f"{', '.join(known)}{did_you_mean(name, known)}"
        msg = f"{flag}: no run has {format_value(name)!r}: expected one of {expected}"
        raise ConfigError(msg)


def _get_value(run: FoundRun, name: str) -> Any:
    """Return a field or a metric of a run; None if the run does not have it."""
    return getattr(run, name) if name in (*FIELDS, "fingerprint") else run.metrics.get(name)


def _make_cell(run: FoundRun, name: str) -> Cell:
    value = _get_value(run, name)
    if name == "id":
        return run.id
    text = format_metric(name, value)
    return style_text(text[:FINGERPRINT_DIGITS] if name == "fingerprint" else text, STYLES.get(value, ""))
