"""All that there is to know of one run, or of several trainings that belong together."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from xpnet._lib.text import plain
from xpnet.cli.runs.formatting import Column, format_metric, format_value, print_line, print_pair, print_table
from xpnet.cli.runs.listing import STYLES, commands, print_list
from xpnet.config import TrainConfig, resolved
from xpnet.report.charts import evenly_spaced
from xpnet.report.origin import command_line
from xpnet.storage.find import SUMMARY_FILE, FoundRun, number_of, object_of, read_object, text_of

LINES = 40
"""Lines of the history that a table shows; --json and --csv give all of them."""


def print_details(console: Console, run: FoundRun, history: Sequence[Mapping[str, Any]]) -> None:
    """Print what the record says, then the metrics, the history, and what can be done with the run."""
    print_line(console, plain(run.id), "bold")
    for name, text in _facts(run).items():
        print_pair(console, name, text, STYLES.get(run.status, "") if name == "status" else "")
    print_line(console, "\nsettings (* not the default)", "bold")
    _print_settings(console, object_of(run.record, "config"))
    if run.metrics:
        print_line(console, f"\nmetrics{'' if run.ended else ' so far'}", "bold")
    for name, value in run.metrics.items():
        print_pair(console, name, format_metric(name, value))
    _print_classes(console, object_of(run.record, "metrics"))
    if history:
        _print_history(console, history)
    if possible := commands(run):
        print_line(console)
    for name, command in possible.items():
        print_pair(console, name, command, indent="")


def as_object(run: FoundRun, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of run.json, with the status as found, the folder and the history."""
    return {**run.record, "status": run.status, "folder": str(run.folder), "history": list(history)}


def history_rows(history: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[object]]]:
    """Return heading and rows of a CSV file of the history."""
    names = list(dict.fromkeys(name for row in history for name in row))
    return names, [[row.get(name) for name in names] for row in history]


def print_trials(console: Console, folder: Path, runs: Sequence[FoundRun]) -> None:
    """Print the summary in a folder of several trainings, if it has one, and the list of its runs.

    Raises
    ------
    DataError
        The summary is damaged.

    """
    summary = read_object(folder / SUMMARY_FILE) if (folder / SUMMARY_FILE).exists() else {}
    best, figures = object_of(summary, "best"), object_of(summary, "figures")
    over = format_value(text_of(summary, "over"))
    print_line(console, plain(folder), "bold")
    if best:
        print_line(console, f"best of all {over}: {format_value(text_of(best, 'run'))}")
    if figures:
        print_line(console, plain(f"all {over}, mean ± standard deviation"))
    for name in figures:
        mean, deviation = (
            format_metric(name, number_of(object_of(figures, name).get(key)))
            for key in ("mean", "standard_deviation")
        )
        print_pair(console, name, plain(f"{mean} ± {deviation}"), width=22)
    print_line(console)
    print_list(console, runs, "started")


def _facts(run: FoundRun) -> dict[str, str]:
    """Return what the record says of the run besides settings and metrics, as far as it does."""
    record = run.record
    data, git = object_of(record, "data"), object_of(record, "git")
    commit = text_of(git, "commit")
    facts: dict[str, object] = {
        "status": run.status,
        "error": text_of(record, "error"),
        "folder": run.folder,
        "files": ", ".join(sorted(path.name for path in run.folder.glob("[!.]*"))),
        "started": run.started,
        "resumed": ", ".join(_words(record.get("resumed"))),
        "ended": text_of(record, "ended"),
        "command": command_line(_words(record.get("command"))),
        "network": run.network,
        "arithmetic": run.arithmetic,
        "backend": text_of(record, "backend"),
        "device": _device(record),
        "data": ", ".join(
            str(value) if name == "name" else f"{value} {name.replace('_', ' ')}"
            for name, value in data.items()
            if isinstance(value, int) or name == "name"
        ),
        "data SHA-256": text_of(data, "sha256"),
        "python": text_of(record, "python"),
        "platform": text_of(record, "platform"),
        "versions": ", ".join(f"{name} {version}" for name, version in object_of(record, "versions").items()),
        "git": f"{commit}, changed" if commit and git.get("dirty") else commit,
        "fingerprint": run.fingerprint,
    }
    return {name: plain(value) for name, value in facts.items() if value not in (None, "")}


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []


def _device(record: Mapping[str, Any]) -> str | None:
    used, requested = text_of(record, "device_used"), text_of(record, "device_requested")
    if used is None or requested is None:
        return used
    reason = text_of(record, "device_reason")
    return f"{used} (asked for {requested}{'' if reason is None else f': {reason}'})"


def _print_settings(console: Console, config: Mapping[str, Any]) -> None:
    defaults = resolved(TrainConfig())
    for name, value in config.items():
        changed = name not in defaults or defaults[name] != value
        style, indent = ("bold", "* ") if changed else ("", "  ")
        print_pair(console, name, format_value(value), style, indent=indent)


def _print_classes(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the metrics that have a number for each class."""
    lists = {name: value for name, value in metrics.items() if isinstance(value, list) and value}
    if lists:
        print_line(console)
        rows = [[label, *values] for label, values in enumerate(zip_longest(*lists.values()))]
        _print_numbers(console, ["class", *lists], rows)


def _print_history(console: Console, history: Sequence[Mapping[str, Any]]) -> None:
    count = len(history)
    cut = f" ({LINES} of {count} lines; --csv gives all)" if count > LINES else ""
    print_line(console, f"\nhistory{cut}", "bold")
    _print_numbers(console, *history_rows(evenly_spaced(history, LINES)))


def _print_numbers(console: Console, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table of numbers; a dash stands for anything else."""
    columns = [
        Column(
            format_value(name), [Text(format_metric(name, number_of(value))) for value in values], right=True
        )
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    ]
    print_table(console, columns, indent="  ")
