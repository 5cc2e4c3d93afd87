"""All that there is to know of one run or of trainings that belong together, and how runs differ."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from xpnet._lib.text import plain
from xpnet.cli import tables
from xpnet.cli.runs import listing
from xpnet.cli.tables import Cell, Column, format_metric, format_value, print_pairs, styled
from xpnet.config import TrainConfig, resolved
from xpnet.errors import ConfigError
from xpnet.report.charts import evenly_spaced
from xpnet.report.settings import BOOKKEEPING, command_line
from xpnet.storage.find import FoundRun
from xpnet.storage.record import SUMMARY_FILE, is_number, read_json

LINES = 40
"""Lines of the history that a table shows; --json and --csv give all of them."""

Rows = Sequence[Mapping[str, Any]]
Values = dict[str, list[Any]]
"""What the runs have under each name, in their order."""


def print_details(console: Console, run: FoundRun, history: Rows) -> None:
    """Print what the record says, then the metrics, the history, and what can be done with the run."""
    console.print(styled(run.id, "bold"))
    print_pairs(console, _facts(run))
    console.print("\nsettings (* not the default)", style="bold")
    print_pairs(console, dict(_settings(run.record["config"])), indent="", width=26)
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
        _print_numbers(console, by_name(evenly_spaced(history, LINES)))
    if commands := listing.commands(run):
        console.print()
        print_pairs(console, commands, indent="")


def by_name(objects: Rows) -> Values:
    """Return what objects have under each name that one of them has; None for the others."""
    names = dict.fromkeys(name for item in objects for name in item)
    return {name: [item.get(name) for item in objects] for name in names}


def print_trials(console: Console, folder: Path, runs: Sequence[FoundRun]) -> None:
    """Print the summary in a folder of several trainings, if it has one, and the list of its runs.

    Raises
    ------
    DataError
        The summary is damaged.
    """
    path, summary = folder / SUMMARY_FILE, {}
    if path.exists():
        summary = read_json(path, "damaged", "expected the summary of several trainings")
    best, figures = _object_of(summary, "best"), _object_of(summary, "figures")
    over = format_value(summary.get("over"))
    console.print(styled(folder, "bold"))
    if best:
        console.print(f"best of all {over}: {format_value(best.get('run'))}")
    if figures:
        console.print(plain(f"all {over}, mean ± standard deviation"))
    for name in figures:
        figure = _object_of(figures, name)
        numbers = [_format_number(name, figure.get(key)) for key in ("mean", "standard_deviation")]
        print_pairs(console, {name: " ± ".join(numbers)}, width=22)
    console.print()
    listing.print_list(console, runs, "started")


def compare(runs: Sequence[FoundRun], *, everything: bool) -> dict[str, Any]:
    """Return the differences between the runs, or with `everything` also what they have in common.

    Returns
    -------
    A JSON object: settings, surroundings (data, device, backend, versions) and metrics as `Values`, and
    fingerprints_agree: whether all parameters are the same in every bit, None if a fingerprint is missing.

    Raises
    ------
    ConfigError
        There are fewer than two runs.
    """
    if len(runs) < 2:
        msg = f"expected two runs or more to compare, got {len(runs)}"
        raise ConfigError(msg)
    settings = by_name([run.record["config"] for run in runs])
    surroundings = by_name([_surroundings(run) for run in runs])
    if not everything:
        settings = {name: line for name, line in _differing(settings).items() if name not in BOOKKEEPING}
        surroundings = _differing(surroundings)
    fingerprints = [run.fingerprint for run in runs]
    return {
        "runs": [run.id for run in runs],
        "settings": settings,
        "surroundings": surroundings,
        "metrics": by_name([run.metrics for run in runs]),
        "fingerprints": fingerprints,
        "fingerprints_agree": None if None in fingerprints else len(set(fingerprints)) == 1,
    }


def comparison_rows(comparison: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rows of a CSV file, the heading first: kind, name, and a value for each run."""
    kinds = ("setting", "surrounding", "metric")
    rows = ([kind, name, *values] for kind in kinds for name, values in comparison[f"{kind}s"].items())
    last = ["fingerprint", "fingerprint", *comparison["fingerprints"]]
    return [["kind", "name", *comparison["runs"]], *rows, last]


def print_comparison(console: Console, comparison: Mapping[str, Any], *, everything: bool) -> None:
    """Print tables, what differs marked where there is something else, and the verdict."""
    runs = list(map(format_value, comparison["runs"]))
    for title in ("settings", "surroundings"):
        if values := comparison[title]:
            rows = [_setting_row(name, line, marked=everything) for name, line in values.items()]
            heading = [title + " (* differs)" * everything, *runs]
            tables.print_table(console, tables.columns_of(heading, rows, left=len(heading)))
        else:
            console.print(f"{title}: no difference")
        console.print()
    if metrics := comparison["metrics"]:
        rows = [_metric_row(name, line) for name, line in metrics.items()]
        tables.print_table(console, tables.columns_of(["metrics", *runs], rows, left=1))
        console.print()
    console.print(_verdict(comparison, runs))


def _object_of(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at `key` of a summary, or an empty one if something else is there."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _facts(run: FoundRun) -> dict[str, Cell]:
    """Return what the record says of the run besides settings and metrics, as far as it does."""
    record = run.record
    data, git, reason = record["data"], record["git"] or {}, record["device_reason"]
    commit, why = git.get("commit"), "" if reason is None else f": {reason}"
    counts = [f"{value} {name.replace('_', ' ')}" for name, value in data.items() if isinstance(value, int)]
    facts: dict[str, object] = {
        "status": styled(run.status, listing.STYLES.get(run.status, "")),
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
        "device": f"{record['device_used']} (asked for {record['device_requested']}{why})",
        "data": ", ".join([data["name"], *counts]),
        "data SHA-256": data["sha256"],
        "python": record["python"],
        "platform": record["platform"],
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "git": f"{commit}, changed" if commit and git.get("dirty") else commit,
        "fingerprint": run.fingerprint,
    }
    return {name: styled(value) for name, value in facts.items() if value not in (None, "")}


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Yield the settings, with a star if they are not the default."""
    defaults = resolved(TrainConfig())
    for name, value in config.items():
        changed = name not in defaults or defaults[name] != value
        yield ("* " if changed else "  ") + name, styled(format_value(value), "bold" if changed else "")


def _print_numbers(console: Console, columns: Values) -> None:
    """Print a table of numbers; a dash stands for anything else."""
    cells = {name: [_format_number(name, value) for value in values] for name, values in columns.items()}
    tables.print_table(console, [Column(format_value(name), cells[name]) for name in cells], indent="  ")


def _format_number(name: str, value: Any) -> str:
    return format_metric(name, value if is_number(value) else None)


def _differs(values: list[Any]) -> bool:
    return any((type(value), value) != (type(values[0]), values[0]) for value in values)


def _differing(lines: Values) -> Values:
    return {name: values for name, values in lines.items() if _differs(values)}


def _surroundings(run: FoundRun) -> dict[str, Any]:
    record, git = run.record, run.record["git"] or {}
    return {
        "status": run.status,
        "backend": record["backend"],
        "device": record["device_used"],
        **{f"data {name}": value for name, value in record["data"].items()},
        "python": record["python"],
        "platform": record["platform"],
        **{f"version {name}": version for name, version in record["versions"].items()},
        **{f"git {name}": git.get(name) for name in ("commit", "dirty")},
    }


def _setting_row(name: str, values: list[Any], *, marked: bool) -> list[Cell]:
    """Return the cells of a setting, yellow if it differs, and with a star if equal ones are shown too."""
    differs = _differs(values)
    label = ("* " if differs else "  ") * marked + format_value(name)
    return [styled(cell, "yellow" if differs else "") for cell in (label, *map(format_value, values))]


def _metric_row(name: str, values: list[Any]) -> list[Cell]:
    """Return the cells of a metric, the best value in green; epochs are neither good nor bad."""
    known = [value for value in values if value is not None]
    best = max(known) if listing.higher_is_better(name) else min(known)
    marked = _differs(values) and "epoch" not in name
    styles = ["green" if marked and value == best else "" for value in values]
    return [format_value(name), *map(styled, [format_metric(name, value) for value in values], styles)]


def _verdict(comparison: Mapping[str, Any], names: Sequence[str]) -> str:
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
