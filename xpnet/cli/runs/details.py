"""Lists, details and comparisons of runs, and the best run: as tables and as values."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from xpnet._lib.terminal import style_text
from xpnet._lib.text import did_you_mean, plain
from xpnet.cli import tables
from xpnet.cli.tables import Cell, Column, format_metric, format_value, print_pairs
from xpnet.config import TrainConfig, to_json
from xpnet.errors import ConfigError
from xpnet.report import BOOKKEEPING, format_command_line
from xpnet.report.charts import select_evenly
from xpnet.storage.find import FoundRun
from xpnet.storage.record import (
    CHECKPOINT_FILE,
    MODEL_FILE,
    SUMMARY_FILE,
    Segment,
    Summary,
    format_commits,
    read_summary,
)

FIELDS: tuple[str, ...] = ("id", "status", "started", "data", "network", "optimizer", "learning_rate")
FIELDS += ("arithmetic", "backend", "tags")
"""The fields of a run that runs can be sorted by besides metrics."""

HEADINGS = {"learning_rate": "lr", "train_accuracy": "train acc", "validation_accuracy": "valid acc"}
HEADINGS |= {"test_accuracy": "test acc"}
"""Headings of columns that differ from the name of the field or metric."""

COLUMNS = (*(name for name in FIELDS if name != "started"), "epochs", "seconds", *HEADINGS, "fingerprint")
"""The columns of the table; those without a value are left out."""

DISPENSABLE: tuple[str, ...] = ("fingerprint", "seconds", "train_accuracy", "backend", "arithmetic")
DISPENSABLE += ("learning_rate", "optimizer", "network", "epochs", "tags", "validation_accuracy")
"""The columns left out on a narrow terminal, in this order."""

STYLES = {"completed": "green", "running": "cyan", "failed": "red"}
STYLES |= dict.fromkeys(("interrupted", "killed"), "yellow")

FINGERPRINT_DIGITS = 12

LINES = 40
"""The largest number of lines of the history in a table; --json and --csv give all of them."""


def print_list(console: Console, runs: Sequence[FoundRun], sort: str) -> None:
    """Print a table of the runs; the field or metric `sort` always has a column."""
    values = to_columns([{**run.values, **_format_progress(run)} for run in runs])
    columns = {
        name: Column(
            HEADINGS.get(name, name), [_format_cell(name, v) for v in values[name]], name not in FIELDS
        )
        for name in dict.fromkeys(COLUMNS if sort == "started" else (*COLUMNS, sort))
        if any(value not in (None, []) for value in values.get(name, ()))
    }
    for name in DISPENSABLE:
        if name != sort and not tables.fits(console, [*columns.values()]):
            columns.pop(name, None)
    tables.print_table(console, [*columns.values()])


def _format_progress(run: FoundRun) -> dict[str, str]:
    """Return the epochs of a run that was killed, those of its checkpoint, as in 12 of 30."""
    epochs, of = run.metrics.get("epochs"), run.record["config"].get("epochs")
    return {"epochs": f"{epochs} of {of}"} if run.status == "killed" and None not in (epochs, of) else {}


def to_object(run: FoundRun) -> dict[str, object]:
    """Return the fields and metrics of a run as a JSON object."""
    fingerprint = run.record["fingerprint"]
    return {**run.fields, "folder": str(run.folder), "fingerprint": fingerprint, "metrics": run.metrics}


def to_csv_rows(runs: Sequence[FoundRun]) -> list[list[object]]:
    """Return the rows of a CSV file, the heading first: fields, metrics and fingerprint."""
    names = [*FIELDS, *list_metrics(runs), "fingerprint"]
    return [[*names], *([run.values.get(name) for name in names] for run in runs)]


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
    known = [run for run in runs if run.values.get(sort) is not None]
    known.sort(key=lambda run: run.values[sort], reverse=reverse != higher_is_better(sort))
    return known + [run for run in runs if run.values.get(sort) is None]


def find_best(runs: Sequence[FoundRun], metric: str | None, place: str) -> tuple[FoundRun, str, int]:
    """Return the best finished run, the metric that was compared, and the number of runs compared.

    Ties are broken by the lower loss, then by the order of the runs. The default metric is
    validation_accuracy, or test_accuracy if no run has the former. The error messages name the `place`.

    Raises
    ------
    ConfigError
        No run has ended, they are runs of several data sets, or none of them has the metric.
    """
    ended = [run for run in runs if run.ended]
    if not ended:
        msg = f"no run {place} has ended with results: train one first (xpnet train)"
        raise ConfigError(msg)
    data = {run.record["data"]["sha256"][:FINGERPRINT_DIGITS]: run.record["data"]["name"] for run in ended}
    if len(data) > 1:
        listed = ", ".join(f"{format_value(name)} ({digest})" for digest, name in data.items())
        choice = "--where data=NAME, or data_sha256=DIGITS if several have that name"
        msg = f"the runs {place} are of several data sets, {listed}: choose one with {choice}"
        raise ConfigError(msg)
    names = list_metrics(ended)
    metric = metric or ("validation_accuracy" if "validation_accuracy" in names else "test_accuracy")
    _check_name("--metric", metric, names)
    candidates = [run for run in ended if metric in run.metrics]
    sign = -1 if higher_is_better(metric) else 1
    loss = metric.replace("accuracy", "loss")
    best = min(candidates, key=lambda run: (sign * run.metrics[metric], run.metrics.get(loss, 0.0)))
    return best, metric, len(candidates)


def print_best(console: Console, run: FoundRun, metric: str, count: int) -> None:
    """Print the name of the best run, its metrics, and commands that use it."""
    console.print(style_text(run.id, "bold"))
    among = "the only run" if count == 1 else f"the best of {count} runs"
    console.print(f"{among} with {plain(metric)}\n")
    cells: dict[str, Cell] = {name: format_metric(name, value) for name, value in run.metrics.items()}
    cells |= {metric: style_text(cells[metric], "bold green"), "fingerprint": str(run.record["fingerprint"])}
    print_pairs(console, cells, width=22)
    console.print()
    print_pairs(console, suggest_commands(run), indent="", width=12)


def suggest_commands(run: FoundRun) -> dict[str, str]:
    """Return command lines that use the run, by a word for their purpose."""
    folder, model = (plain(shlex.quote(str(path))) for path in (run.folder, run.folder / MODEL_FILE))
    commands = (
        {"resume": f"xpnet train --resume {folder}"} if run.status not in ("running", "completed") else {}
    )
    if run.ended:
        commands["evaluate"] = f"xpnet evaluate {folder}"
        commands["predict"] = f"xpnet predict {folder} IMAGE"
        commands["start from"] = f"xpnet train --init-from {model}"
    if run.status == "completed" and (run.folder / CHECKPOINT_FILE).exists():
        commands["extend"] = f"xpnet train --extend {folder} --epochs N"
    if run.ended and run.record["specification_version"] is not None:
        commands["verify"] = f"xpnet verify {folder}"
    return commands


def higher_is_better(name: str) -> bool:
    """Return whether a higher value of a metric is better, as for accuracies, unlike losses and seconds."""
    return name.endswith(("accuracy", "precision", "recall", "f1", "score"))


def get_best_value(name: str, values: Sequence[float | None]) -> float | None:
    """Return the best value of a metric; None if all are equal, and for epochs."""
    known = [value for value in values if value is not None]
    if "epoch" in name or not _differs(values):
        return None
    return max(known) if higher_is_better(name) else min(known)


def _check_name(flag: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        known = list(map(format_value, names))
        expected = f"{', '.join(known)}{did_you_mean(name, known)}"
        raise ConfigError.at(flag, f"no run has {format_value(name)!r}: expected one of {expected}")


def _format_cell(name: str, value: Any) -> Cell:
    if name == "id":
        return str(value)
    text = format_value(_join_items(value)) if name in FIELDS else format_metric(name, value)
    return style_text(text[:FINGERPRINT_DIGITS] if name == "fingerprint" else text, STYLES.get(text, ""))


# Details and comparisons


def print_details(console: Console, run: FoundRun, history: Sequence[Mapping[str, object]]) -> None:
    """Print the record, the settings, the metrics and the history of a run, and commands that use it."""
    console.print(style_text(run.id, "bold"))
    print_pairs(console, _format_record(run))
    console.print("\nsettings (* not the default)", style="bold")
    print_pairs(console, _format_settings(run.record["config"]), indent="", width=26)
    if run.metrics:
        console.print(f"\nmetrics{'' if run.ended else ' so far'}", style="bold")
    print_pairs(console, {name: format_metric(name, value) for name, value in run.metrics.items()})
    lists = {name: value for name, value in (run.record["metrics"] or {}).items() if isinstance(value, list)}
    if any(lists.values()):
        console.print()
        _print_numbers(console, {"class": range(max(map(len, lists.values()))), **lists})
    if history:
        cut = f" ({LINES} of {len(history)} lines; --csv gives all)" if len(history) > LINES else ""
        console.print(f"\nhistory{cut}", style="bold")
        _print_numbers(console, to_columns(select_evenly(history, LINES)))
    if commands := suggest_commands(run):
        console.print()
        print_pairs(console, commands, indent="")


def to_columns(objects: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of objects by name, one for each object; None for a missing one."""
    names = dict.fromkeys(name for item in objects for name in item)
    return {name: [item.get(name) for item in objects] for name in names}


def print_trials(console: Console, folder: Path, runs: Sequence[FoundRun]) -> None:
    """Print the summary in a folder of runs trained together, if it has one, and the list of its runs.

    Raises
    ------
    DataError
        The summary is damaged.
    """
    lines = _format_summary(read_summary(folder)) if (folder / SUMMARY_FILE).exists() else []
    console.print(style_text(folder, "bold"))
    for line in [*lines, ""]:
        console.print(style_text(line))
    print_list(console, runs, "started")


def compare_runs(runs: Sequence[FoundRun], *, everything: bool) -> dict[str, Any]:
    """Return the values in which the runs differ, or with `everything` all of them.

    Returns
    -------
    A JSON object: settings, surroundings (data, device, backend, versions, commits) and metrics are objects
    of lists, and runs and fingerprints lists, each with a value for each run, None for a missing one;
    fingerprints_agree is True if all parameters are bitwise equal, None if a fingerprint is missing.

    Raises
    ------
    ConfigError
        There are fewer than two runs.
    """
    if len(runs) < 2:
        msg = f"expected two runs or more to compare, got {len(runs)}"
        raise ConfigError(msg)

    def select(objects: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
        columns = to_columns(objects).items()
        kept = {name: line for name, line in columns if _differs(line) and name not in BOOKKEEPING}
        return dict(columns) if everything else kept

    fingerprints = [run.record["fingerprint"] for run in runs]
    return {
        "runs": [run.id for run in runs],
        "settings": select([run.record["config"] for run in runs]),
        "surroundings": select([_get_surroundings(run) for run in runs]),
        "metrics": to_columns([run.metrics for run in runs]),
        "fingerprints": fingerprints,
        "fingerprints_agree": None if None in fingerprints else len(set(fingerprints)) == 1,
    }


def comparison_to_csv_rows(comparison: Mapping[str, Any]) -> list[list[object]]:
    """Return the rows of a CSV file, the heading first: kind, name, and a value for each run."""
    rows: list[list[object]] = [["kind", "name", *comparison["runs"]]]
    for kind in "setting", "surrounding", "metric":
        rows += ([kind, name, *values] for name, values in comparison[f"{kind}s"].items())
    return [*rows, ["fingerprint", "fingerprint", *comparison["fingerprints"]]]


def print_comparison(console: Console, comparison: Mapping[str, Any], *, everything: bool) -> None:
    """Print tables of the values and the verdict; with `everything`, differing values are marked."""
    runs = list(map(format_value, comparison["runs"]))
    for title in "settings", "surroundings":
        if values := comparison[title]:
            rows = [_format_setting_row(name, line, marked=everything) for name, line in values.items()]
            heading = [title + " (* differs)" * everything, *runs]
            tables.print_table(console, tables.make_columns(heading, rows, left=len(heading)))
        else:
            console.print(f"{title}: no difference")
        console.print()
    if metrics := comparison["metrics"]:
        rows = [_format_metric_row(name, line) for name, line in metrics.items()]
        tables.print_table(console, tables.make_columns(["metrics", *runs], rows, left=1))
        console.print()
    console.print(_format_verdict(comparison, runs))


def _format_summary(summary: Summary) -> list[str]:
    """Return the lines of a summary: the best run, or mean and standard deviation of each metric."""
    over = format_value(summary.over)
    if summary.best is not None:
        return [f"best of all {over}: {format_value(summary.best)}"]
    lines = [f"all {over}, mean ± standard deviation"]
    for name, values in summary.figures.items():
        mean, deviation = (format_metric(name, value) for value in values)
        lines.append(f"  {format_value(name):<22}{mean} ± {deviation}")
    return lines


def _format_record(run: FoundRun) -> dict[str, Cell]:
    """Return the values of the record besides settings and metrics, without empty ones."""
    values: dict[str, object] = {**run.fields, "folder": run.folder, **run.record}
    values |= {"status": style_text(run.status, STYLES[run.status]), "config": None, "metrics": None}
    values |= {"git": None, **format_commits(run.record)}  # git: xpnet's commit in older records
    values |= {"segments": [*map(_format_segment, run.record["segments"])], "resumed": None, "digests": None}
    values["command"] = format_command_line(run.record["command"])
    return {name: style_text(_join_items(value)) for name, value in values.items() if value or value == 0}


def _format_segment(segment: Segment) -> str:
    """Return a part of a training in words."""
    epoch = "" if segment["epoch"] is None else f" from epoch {segment['epoch']}"
    hosts = f" of {' '.join(segment['hosts'])}" if segment["hosts"] else ""
    ranks = "" if segment["ranks"] == 1 else f", {segment['ranks']} ranks"
    return f"{segment['started']}{epoch}: {segment['backend']} on {segment['device']}{hosts}{ranks}"


def _join_items(value: object) -> object:
    """Return the items of a list or an object as one text, None if a list is empty; else the value."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) or None if isinstance(value, list) else value


def _format_settings(config: Mapping[str, object]) -> dict[str, Cell]:
    """Return the values of the settings by name; a star marks those that differ from the default."""
    cells: dict[str, Cell] = {}
    defaults = to_json(TrainConfig())
    for name, value in config.items():
        changed = name not in defaults or defaults[name] != value
        cells[("* " if changed else "  ") + name] = style_text(format_value(value), "bold" if changed else "")
    return cells


def _print_numbers(console: Console, columns: Mapping[str, Sequence[object]]) -> None:
    """Print columns of numbers, and of shortened fingerprints, as a table."""
    cells = {name: [_format_number(name, value) for value in values] for name, values in columns.items()}
    tables.print_table(console, [Column(format_value(name), cells[name]) for name in cells], indent="  ")


def _format_number(name: str, value: object) -> str:
    if name == "fingerprint" and isinstance(value, str):
        return plain(value[:FINGERPRINT_DIGITS])
    return format_metric(name, value)


def _differs(values: Sequence[object]) -> bool:
    return any((type(value), value) != (type(values[0]), values[0]) for value in values)


def _get_surroundings(run: FoundRun) -> dict[str, object]:
    record: Mapping[str, Any] = run.record
    groups = {"data": record["data"], "version": record["versions"]}
    items = {f"{group} {name}": value for group, values in groups.items() for name, value in values.items()}
    names = ("backend", "python", "platform")
    values = {"status": run.status, "device": record["device_used"]} | {n: record[n] for n in names} | items
    return values | format_commits(run.record)


def _format_setting_row(name: str, values: Sequence[object], *, marked: bool) -> list[Cell]:
    """Return the cells of a setting, yellow if it differs, and then also with a star if `marked`."""
    differs = _differs(values)
    label = ("* " if differs else "  ") * marked + format_value(name)
    return [style_text(cell, "yellow" if differs else "") for cell in (label, *map(format_value, values))]


def _format_metric_row(name: str, values: Sequence[float | None]) -> list[Cell]:
    """Return the cells of a metric, with the best value in green except for epochs."""
    best = get_best_value(name, values)
    styles = ["green" if value is not None and value == best else "" for value in values]
    return [format_value(name), *map(style_text, [format_metric(name, value) for value in values], styles)]


def _format_verdict(comparison: Mapping[str, Any], names: Sequence[str]) -> str:
    if comparison["fingerprints_agree"]:
        return "fingerprints agree: the parameters are the same, bit for bit"
    groups: dict[str, list[str]] = {}
    for fingerprint, name in zip(comparison["fingerprints"], names, strict=True):
        groups.setdefault(fingerprint or "none", []).append(name)
    parts = [f"{plain(digest)[:FINGERPRINT_DIGITS]} {', '.join(group)}" for digest, group in groups.items()]
    start = "not every run has a fingerprint" if "none" in groups else "fingerprints differ"
    return f"{start}: {'; '.join(parts)}"
