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
from xpnet.report.settings import command_line
from xpnet.storage.find import FoundRun
from xpnet.storage.record import SUMMARY_FILE, Record, is_number, read_object

LINES = 40
"""Lines of the history that a table shows; --json and --csv give all of them."""


def print_details(console: Console, run: FoundRun, history: Sequence[Mapping[str, Any]]) -> None:
    """Print what the record says, then the metrics, the history, and what can be done with the run."""
    print_line(console, plain(run.id), "bold")
    for name, text in _facts(run).items():
        print_pair(console, name, text, STYLES.get(run.status, "") if name == "status" else "")
    print_line(console, "\nsettings (* not the default)", "bold")
    _print_settings(console, run.record["config"])
    if run.metrics:
        print_line(console, f"\nmetrics{'' if run.ended else ' so far'}", "bold")
    for name, value in run.metrics.items():
        print_pair(console, name, format_metric(name, value))
    _print_classes(console, run.record["metrics"] or {})
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
    path, summary = folder / SUMMARY_FILE, {}
    if path.exists():
        summary = read_object(path, "damaged", "expected the summary of several trainings")
    best, figures = _object_of(summary, "best"), _object_of(summary, "figures")
    over = format_value(summary.get("over"))
    print_line(console, plain(folder), "bold")
    if best:
        print_line(console, f"best of all {over}: {format_value(best.get('run'))}")
    if figures:
        print_line(console, plain(f"all {over}, mean ± standard deviation"))
    for name in figures:
        mean, deviation = (
            _format_number(name, _object_of(figures, name).get(key)) for key in ("mean", "standard_deviation")
        )
        print_pair(console, name, plain(f"{mean} ± {deviation}"), width=22)
    print_line(console)
    print_list(console, runs, "started")


def _object_of(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at `key` of a summary, or an empty one if something else is there."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _format_number(name: str, value: Any) -> str:
    return format_metric(name, value if is_number(value) else None)


def _facts(run: FoundRun) -> dict[str, str]:
    """Return what the record says of the run besides settings and metrics, as far as it does."""
    record = run.record
    data, git = record["data"], record["git"] or {}
    commit = git.get("commit")
    facts: dict[str, object] = {
        "status": run.status,
        "error": record["error"],
        "folder": run.folder,
        "files": ", ".join(sorted(path.name for path in run.folder.glob("[!.]*"))),
        "started": run.started,
        "resumed": ", ".join(record["resumed"]),
        "ended": record["ended"],
        "command": command_line(record["command"]),
        "network": run.network,
        "arithmetic": run.arithmetic,
        "backend": record["backend"],
        "device": _device(record),
        "data": ", ".join(
            str(value) if name == "name" else f"{value} {name.replace('_', ' ')}"
            for name, value in data.items()
            if isinstance(value, int) or name == "name"
        ),
        "data SHA-256": data["sha256"],
        "python": record["python"],
        "platform": record["platform"],
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "git": f"{commit}, changed" if commit and git.get("dirty") else commit,
        "fingerprint": run.fingerprint,
    }
    return {name: plain(value) for name, value in facts.items() if value not in (None, "")}


def _device(record: Record) -> str:
    used, requested, reason = (record["device_used"], record["device_requested"], record["device_reason"])
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
        Column(format_value(name), [Text(_format_number(name, value)) for value in values], right=True)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    ]
    print_table(console, columns, indent="  ")
