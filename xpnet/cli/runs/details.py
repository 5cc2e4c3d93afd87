"""Details of one run, the summary of several trained together, and comparisons of runs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from rich.console import Console

from xpnet._lib.text import plain
from xpnet.cli import tables
from xpnet.cli.runs import listing
from xpnet.cli.tables import Cell, Column, format_metric, format_value, print_pairs, style_text
from xpnet.config import TrainConfig, to_json
from xpnet.errors import ConfigError
from xpnet.report.charts import select_evenly
from xpnet.report.settings import BOOKKEEPING, format_command_line
from xpnet.storage.find import FoundRun
from xpnet.storage.record import SUMMARY_FILE, is_number, read_json

LINES = 40
"""The largest number of lines of the history in a table; --json and --csv give all of them."""


class Comparison(TypedDict):
    """Values of runs by name, one for each run, in the order of the runs; None for a missing one."""

    runs: list[str]
    settings: dict[str, list[object]]
    surroundings: dict[str, list[object]]
    metrics: dict[str, list[float | None]]
    fingerprints: list[str | None]
    fingerprints_agree: bool | None


def print_details(console: Console, run: FoundRun, history: Sequence[Mapping[str, object]]) -> None:
    """Print the record, the settings, the metrics and the history of a run, and commands that use it."""
    console.print(style_text(run.id, "bold"))
    print_pairs(console, _format_record(run))
    console.print("\nsettings (* not the default)", style="bold")
    print_pairs(console, dict(_format_settings(run.record["config"])), indent="", width=26)
    if run.metrics:
        console.print(f"\nmetrics{'' if run.ended else ' so far'}", style="bold")
    print_pairs(console, {name: format_metric(name, value) for name, value in run.metrics.items()})
    lists = {name: value for name, value in (run.record["metrics"] or {}).items() if isinstance(value, list)}
    if any(lists.values()):
        console.print()
        _print_numbers(console, {"class": list(range(max(map(len, lists.values())))), **lists})
    if history:
        cut = f" ({LINES} of {len(history)} lines; --csv gives all)" if len(history) > LINES else ""
        console.print(f"\nhistory{cut}", style="bold")
        _print_numbers(console, to_columns(select_evenly(history, LINES)))
    if commands := listing.suggest_commands(run):
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
    path, summary = folder / SUMMARY_FILE, {}
    if path.exists():
        summary = read_json(path, "damaged", "expected the summary of several trainings")
    best, metrics = _get_object(summary, "best"), _get_object(summary, "figures")
    over = format_value(summary.get("over"))
    console.print(style_text(folder, "bold"))
    if best:
        console.print(f"best of all {over}: {format_value(best.get('run'))}")
    if metrics:
        console.print(plain(f"all {over}, mean ± standard deviation"))
    for name in metrics:
        metric = _get_object(metrics, name)
        numbers = [_format_number(name, metric.get(key)) for key in ("mean", "standard_deviation")]
        print_pairs(console, {name: " ± ".join(numbers)}, width=22)
    console.print()
    listing.print_list(console, runs, "started")


def compare_runs(runs: Sequence[FoundRun], *, everything: bool) -> Comparison:
    """Return the values in which the runs differ, or with `everything` all of them.

    Returns
    -------
    Settings, surroundings (data, device, backend, versions) and metrics; fingerprints_agree is True if all
    parameters are bitwise equal, None if a fingerprint is missing.

    Raises
    ------
    ConfigError
        There are fewer than two runs.
    """
    if len(runs) < 2:
        msg = f"expected two runs or more to compare, got {len(runs)}"
        raise ConfigError(msg)
    settings = to_columns([run.record["config"] for run in runs])
    surroundings = to_columns([_get_surroundings(run) for run in runs])
    if not everything:
        settings = {
            name: line for name, line in settings.items() if _differs(line) and name not in BOOKKEEPING
        }
        surroundings = {name: line for name, line in surroundings.items() if _differs(line)}
    fingerprints = [run.fingerprint for run in runs]
    return {
        "runs": [run.id for run in runs],
        "settings": settings,
        "surroundings": surroundings,
        "metrics": to_columns([run.metrics for run in runs]),
        "fingerprints": fingerprints,
        "fingerprints_agree": None if None in fingerprints else len(set(fingerprints)) == 1,
    }


def comparison_to_csv_rows(comparison: Comparison) -> list[list[object]]:
    """Return the rows of a CSV file, the heading first: kind, name, and a value for each run."""
    rows: list[list[object]] = [["kind", "name", *comparison["runs"]]]
    rows += (["setting", name, *values] for name, values in comparison["settings"].items())
    rows += (["surrounding", name, *values] for name, values in comparison["surroundings"].items())
    rows += (["metric", name, *values] for name, values in comparison["metrics"].items())
    return [*rows, ["fingerprint", "fingerprint", *comparison["fingerprints"]]]


def print_comparison(console: Console, comparison: Comparison, *, everything: bool) -> None:
    """Print tables of the values and the verdict; with `everything`, differing values are marked."""
    runs = list(map(format_value, comparison["runs"]))
    for title, values in (("settings", comparison["settings"]), ("surroundings", comparison["surroundings"])):
        if values:
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


def _get_object(content: Mapping[str, object], key: str) -> dict[str, object]:
    """Return the object at `key` of a summary; an empty one if the value is no object."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _format_record(run: FoundRun) -> dict[str, Cell]:
    """Return the values of the record besides settings and metrics, without empty ones."""
    values: dict[str, object] = {
        "status": style_text(run.status, listing.STYLES.get(run.status, "")),
        "folder": run.folder,
        "network": run.network,
        "arithmetic": run.arithmetic,
        **{name: value for name, value in run.record.items() if name not in ("status", "config", "metrics")},
        "command": format_command_line(run.record["command"]),
    }
    return {name: style_text(_join_items(value)) for name, value in values.items() if value or value == 0}


def _join_items(value: object) -> object:
    """Return the items of a list or an object as one text; other values as they are."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _format_settings(config: Mapping[str, object]) -> Iterator[tuple[str, Cell]]:
    """Yield name and value of the settings; a star marks those that differ from the default."""
    defaults = to_json(TrainConfig())
    for name, value in config.items():
        changed = name not in defaults or defaults[name] != value
        yield ("* " if changed else "  ") + name, style_text(format_value(value), "bold" if changed else "")


def _print_numbers(console: Console, columns: Mapping[str, Sequence[object]]) -> None:
    """Print a table of numbers, with a dash for other values."""
    cells = {name: [_format_number(name, value) for value in values] for name, values in columns.items()}
    tables.print_table(console, [Column(format_value(name), cells[name]) for name in cells], indent="  ")


def _format_number(name: str, value: object) -> str:
    return format_metric(name, value if is_number(value) else None)


def _differs(values: Sequence[object]) -> bool:
    return any((type(value), value) != (type(values[0]), values[0]) for value in values)


def _get_surroundings(run: FoundRun) -> dict[str, object]:
    record, git = run.record, run.record["git"] or {}
    return {
        "status": run.status,
        "backend": record["backend"],
        "device": record["device_used"],
        **{f"data {name}": value for name, value in record["data"].items()},
        "python": record["python"],
        "platform": record["platform"],
        **{f"version {name}": version for name, version in record["versions"].items()},
        **{f"git {name}": value for name, value in git.items()},
    }


def _format_setting_row(name: str, values: Sequence[object], *, marked: bool) -> list[Cell]:
    """Return the cells of a setting, yellow if it differs, and then also with a star if `marked`."""
    differs = _differs(values)
    label = ("* " if differs else "  ") * marked + format_value(name)
    return [style_text(cell, "yellow" if differs else "") for cell in (label, *map(format_value, values))]


def _format_metric_row(name: str, values: Sequence[float | None]) -> list[Cell]:
    """Return the cells of a metric, with the best value in green except for epochs."""
    known = [value for value in values if value is not None]
    best = max(known) if listing.higher_is_better(name) else min(known)
    marked = _differs(values) and "epoch" not in name
    styles = ["green" if marked and value == best else "" for value in values]
    return [format_value(name), *map(style_text, [format_metric(name, value) for value in values], styles)]


def _format_verdict(comparison: Comparison, names: Sequence[str]) -> str:
    agree = comparison["fingerprints_agree"]
    if agree:
        return "fingerprints agree: the parameters are the same, bit for bit"
    groups: dict[str, list[str]] = {}
    for fingerprint, name in zip(comparison["fingerprints"], names, strict=True):
        groups.setdefault(fingerprint or "none", []).append(name)
    digits = listing.FINGERPRINT_DIGITS
    parts = [f"{plain(digest)[:digits]} {', '.join(group)}" for digest, group in groups.items()]
    start = "fingerprints differ" if agree is False else "not every run has a fingerprint"
    return f"{start}: {'; '.join(parts)}"
