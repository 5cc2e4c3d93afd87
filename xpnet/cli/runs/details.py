"""All that there is to know of one run, or of several trainings that belong together."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from xpnet._lib.text import figure_shown, plain, shortened, value_shown
from xpnet.cli.runs.listing import STYLES, commands, print_list
from xpnet.cli.runs.table import Cell, Column, print_line, print_table
from xpnet.storage.record import SUMMARY_FILE, is_number, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from xpnet.storage.find import FoundRun
    from xpnet.storage.record import Record

LINES = 40
"""Lines of the history that a table shows; --json and --csv give all of them."""


def print_details(console: Console, run: FoundRun, history: Sequence[Mapping[str, Any]]) -> None:
    """Print what the record says, then the metrics, the history, and what can be done with the run."""
    print_line(console, plain(run.id), "bold")
    _print_pairs(console, _facts(run), {"status": STYLES.get(run.status, "")})
    print_line(console, "\nsettings (* not the default)", "bold")
    _print_settings(console, run.record["config"])
    if run.metrics:
        print_line(console, f"\nmetrics{'' if run.ended else ' so far'}", "bold")
        _print_pairs(console, {name: figure_shown(name, run.metrics[name]) for name in run.metrics})
    _print_classes(console, run.record["metrics"] or {})
    if history:
        _print_history(console, history)
    if possible := commands(run):
        print_line(console)
        _print_pairs(console, possible, indent="")


def details(run: FoundRun, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of run.json, with the status as found, the folder and the history."""
    return {**run.record, "status": run.status, "folder": str(run.folder), "history": list(history)}


def history_rows(
    history: Sequence[Mapping[str, Any]],
) -> tuple[list[str], list[list[object]]]:
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
    summary = _summary(folder)
    print_line(console, plain(folder), "bold")
    for line in summary:
        print_line(console, line)
    print_line(console)
    print_list(console, runs, "started")


def _summary(folder: Path) -> list[str]:
    if not (folder / SUMMARY_FILE).exists():
        return []
    summary = read_object(folder / SUMMARY_FILE, "damaged", "expected the summary of several trainings")
    best, figures = _object_of(summary, "best"), _object_of(summary, "figures")
    over = value_shown(summary.get("over"))
    lines = [f"best of all {over}: {value_shown(best.get('run'))}"] if best else []
    if figures:
        lines.append(plain(f"all {over}, mean ± standard deviation"))
    for name in figures:
        mean, deviation = (
            _figure(name, _object_of(figures, name).get(key)) for key in ("mean", "standard_deviation")
        )
        lines.append(plain(f"  {shortened(name):<22}{mean} ± {deviation}"))
    return lines


def _facts(run: FoundRun) -> dict[str, str]:
    """Return what the record says of the run besides settings and metrics, as far as it does."""
    record = run.record
    data = record["data"]
    facts: dict[str, object] = {
        "status": run.status,
        "error": record["error"],
        "folder": run.folder,
        "files": ", ".join(_files(run.folder)),
        "started": run.started,
        "resumed": ", ".join(record["resumed"]),
        "ended": record["ended"],
        "command": _command(record["command"]),
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
        "git": _commit(record["git"] or {}),
        "fingerprint": run.fingerprint,
    }
    return {name: plain(value) for name, value in facts.items() if value not in (None, "")}


def _object_of(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at `key` of a summary, or an empty one if something else is there."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _figure(name: str, value: Any) -> str:
    return figure_shown(name, value if is_number(value) else None)


def _files(folder: Path) -> list[str]:
    """Return the names of what is in the folder, without what is hidden."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _command(words: list[str]) -> str:
    """Return a line for the shell; the first word may be several, as in python -m xpnet.train."""
    return " ".join([*words[:1], *map(shlex.quote, words[1:])])


def _device(record: Record) -> str:
    reason = "" if record["device_reason"] is None else f": {record['device_reason']}"
    return f"{record['device_used']} (asked for {record['device_requested']}{reason})"


def _commit(git: Mapping[str, Any]) -> str | None:
    commit = git.get("commit")
    return f"{commit}, changed" if commit and git.get("dirty") else commit


def _print_pairs(
    console: Console,
    pairs: Mapping[str, str],
    styles: Mapping[str, str] | None = None,
    indent: str = "  ",
) -> None:
    for name, text in pairs.items():
        line = f"{indent}{shortened(plain(name)):<24}{text}"
        print_line(console, line, (styles or {}).get(name, ""))


def _print_settings(console: Console, config: Mapping[str, Any]) -> None:
    from xpnet.config import TrainConfig, resolved

    defaults = resolved(TrainConfig())
    for name, value in config.items():
        changed = name not in defaults or defaults[name] != value
        line = f"{'*' if changed else ' '} {shortened(plain(name)):<24}{value_shown(value)}"
        print_line(console, line, "bold" if changed else "")


def _print_classes(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the metrics that have a number for each class."""
    lists = {name: value for name, value in metrics.items() if isinstance(value, list) and value}
    if not lists:
        return
    classes = max(map(len, lists.values()))
    columns = [Column("class", [Cell(str(label)) for label in range(classes)], right=True)]
    for name, values in lists.items():
        figures = [_figure(name, value) for value in values]
        figures += ["-"] * (classes - len(figures))
        columns.append(Column(shortened(plain(name)), [Cell(text) for text in figures], right=True))
    print_line(console)
    print_table(console, columns, indent="  ")


def _print_history(console: Console, history: Sequence[Mapping[str, Any]]) -> None:
    count = len(history)
    chosen = list(range(count))
    title = "\nhistory"
    if count > LINES:
        chosen = [round(line * (count - 1) / (LINES - 1)) for line in range(LINES)]
        title += f" ({LINES} of {count} lines; --csv gives all)"
    names, rows = history_rows([history[index] for index in chosen])
    print_line(console, title, "bold")
    columns = [
        Column(
            shortened(plain(name)),
            [Cell(_figure(name, row[position])) for row in rows],
            right=True,
        )
        for position, name in enumerate(names)
    ]
    print_table(console, columns, indent="  ")
