"""Many runs: in a table, in the order of a metric, and the best of them."""

import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from xpnet._lib.text import did_you_mean, plain
from xpnet.cli.tables import Cell, Column, fits, format_metric, format_value, print_pairs, print_table, styled
from xpnet.errors import ConfigError
from xpnet.storage.find import FoundRun
from xpnet.storage.record import MODEL_FILE

FACTS = ("id", "status", "started", "network", "arithmetic", "backend")
"""What runs can be sorted by besides metrics."""

HEADINGS = {"train_accuracy": "train acc", "validation_accuracy": "valid acc", "test_accuracy": "test acc"}
"""Those of columns that are not headed by the name of what is in them."""

COLUMNS = (*(name for name in FACTS if name != "started"), "epochs", "seconds", *HEADINGS, "fingerprint")
"""The columns of the table, as far as a run has anything in them."""

DISPENSABLE = ("fingerprint", "seconds", "train_accuracy", "backend", "arithmetic", "network")
"""The columns that a narrow terminal does without, the first one first."""

STYLES = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "killed": "yellow",
}

FINGERPRINT_DIGITS = 12


def print_list(console: Console, runs: Sequence[FoundRun], sort: str) -> None:
    """Print a table of the runs; `sort` is what they are sorted by, and has a column in any case."""
    names = dict.fromkeys(COLUMNS if sort == "started" else (*COLUMNS, sort))
    columns = {
        name: Column(HEADINGS.get(name, name), [_cell(run, name) for run in runs], right=name not in FACTS)
        for name in names
        if name in (*FACTS, "test_accuracy", sort) or any(_value(run, name) is not None for run in runs)
    }
    for name in DISPENSABLE:
        if name != sort and not fits(console, [*columns.values()]):
            columns.pop(name, None)
    print_table(console, [*columns.values()])


def as_object(run: FoundRun) -> dict[str, Any]:
    """Return what a list says of a run, as a JSON object."""
    facts = {name: getattr(run, name) for name in FACTS}
    return {**facts, "folder": str(run.folder), "fingerprint": run.fingerprint, "metrics": dict(run.metrics)}


def as_rows(runs: Sequence[FoundRun]) -> list[list[Any]]:
    """Return the rows of a CSV file, the heading first: the facts, every metric, the fingerprint."""
    names = [*FACTS, *metric_names(runs), "fingerprint"]
    return [names, *([_value(run, name) for name in names] for run in runs)]


def metric_names(runs: Sequence[FoundRun]) -> list[str]:
    """Return the metrics that at least one of the runs has, in the order in which they appear."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics if name not in FACTS))


def ordered(runs: Sequence[FoundRun], sort: str, *, reverse: bool) -> list[FoundRun]:
    """Return the runs, those without a value last: accuracies from the best on, all else ascending.

    Raises
    ------
    ConfigError
        No run has such a metric.
    """
    if runs:
        _check_name("--sort", sort, [*metric_names(runs), *FACTS])
    known = [run for run in runs if _value(run, sort) is not None]
    known.sort(key=lambda run: _value(run, sort), reverse=reverse != higher_is_better(sort))
    return known + [run for run in runs if _value(run, sort) is None]


def best(runs: Sequence[FoundRun], metric: str | None) -> tuple[FoundRun, str, int]:
    """Return the best run that has ended, by which metric, and of how many.

    Of runs that are equally accurate the one with the lower loss is best, then the first.

    Raises
    ------
    ConfigError
        No run has ended, or none of those that have has the metric.
    """
    ended = [run for run in runs if run.ended]
    if not ended:
        msg = "no run here has ended with results: train one first (xpnet train)"
        raise ConfigError(msg)
    names = metric_names(ended)
    if metric is None:
        metric = "validation_accuracy" if "validation_accuracy" in names else "test_accuracy"
    _check_name("--metric", metric, names)
    candidates = [run for run in ended if metric in run.metrics]
    sign = -1 if higher_is_better(metric) else 1
    loss = metric.replace("accuracy", "loss")
    winner = min(candidates, key=lambda run: (sign * run.metrics[metric], run.metrics.get(loss, 0.0)))
    return winner, metric, len(candidates)


def print_best(console: Console, run: FoundRun, metric: str, count: int) -> None:
    """Print which run is the best, its figures, and what can be done with it."""
    console.print(styled(run.id, "bold"))
    among = "the only run" if count == 1 else f"the best of {count} runs"
    console.print(f"{among} with {plain(metric)}\n")
    figures: dict[str, Cell] = {name: format_metric(name, value) for name, value in run.metrics.items()}
    figures |= {metric: styled(figures[metric], "bold green"), "fingerprint": str(run.fingerprint)}
    print_pairs(console, figures, width=22)
    console.print()
    print_pairs(console, commands(run), indent="", width=12)


def commands(run: FoundRun) -> dict[str, str]:
    """Return what can be done with the run: a word for each, and the command line."""
    folder, model = (plain(shlex.quote(str(path))) for path in (run.folder, run.folder / MODEL_FILE))
    resumable = run.status in ("killed", "interrupted", "failed")
    possible = {"resume": f"xpnet train --resume {folder}"} if resumable else {}
    if run.ended:
        possible["evaluate"] = f"xpnet evaluate {folder}"
        possible["predict"] = f"xpnet predict {folder} IMAGE"
        possible["start from"] = f"xpnet train --init-from {model}"
    return possible


def higher_is_better(name: str) -> bool:
    """Return whether more of a metric is better: accuracies and the like, not losses or seconds."""
    return name.endswith(("accuracy", "precision", "recall", "f1", "score"))


def _check_name(flag: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        known = list(map(format_value, names))
        expected = f"{', '.join(known)}{did_you_mean(name, known)}"
        msg = f"{flag}: no run has {format_value(name)!r}: expected one of {expected}"
        raise ConfigError(msg)


def _value(run: FoundRun, name: str) -> Any:
    """Return a fact or a metric of a run; None if the run does not have it."""
    return getattr(run, name) if name in (*FACTS, "fingerprint") else run.metrics.get(name)


def _cell(run: FoundRun, name: str) -> Cell:
    value = _value(run, name)
    if name == "id":
        return run.id
    text = format_metric(name, value)
    return styled(text[:FINGERPRINT_DIGITS] if name == "fingerprint" else text, STYLES.get(value, ""))
