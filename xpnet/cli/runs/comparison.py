"""Runs side by side: which settings differ, what came of it, and whether the parameters agree."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from xpnet._lib.text import plain
from xpnet.cli.runs.formatting import Column, format_metric, format_value, print_line, print_tables
from xpnet.cli.runs.listing import FINGERPRINT_DIGITS, higher_is_better, metric_names
from xpnet.errors import ConfigError
from xpnet.report.settings import BOOKKEEPING
from xpnet.storage.find import FoundRun

Values = dict[str, list[Any]]
"""What the runs have under each name, in their order."""


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
    settings = _by_name([run.record["config"] for run in runs])
    surroundings = _by_name([_surroundings(run) for run in runs])
    if not everything:
        settings = {name: values for name, values in _differing(settings).items() if name not in BOOKKEEPING}
        surroundings = _differing(surroundings)
    fingerprints = [run.fingerprint for run in runs]
    return {
        "runs": [run.id for run in runs],
        "settings": settings,
        "surroundings": surroundings,
        "metrics": {name: [run.metrics.get(name) for run in runs] for name in metric_names(runs)},
        "fingerprints": fingerprints,
        "fingerprints_agree": None if None in fingerprints else len(set(fingerprints)) == 1,
    }


def as_rows(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """Return the heading and the rows of a CSV file: kind, name, and a value for each run."""
    kinds = ("setting", "surrounding", "metric")
    rows = [[kind, name, *values] for kind in kinds for name, values in comparison[f"{kind}s"].items()]
    rows.append(["fingerprint", "fingerprint", *comparison["fingerprints"]])
    return ["kind", "name", *comparison["runs"]], rows


def print_comparison(console: Console, comparison: Mapping[str, Any], *, everything: bool) -> None:
    """Print tables, what differs marked where there is something else, and the verdict."""
    names = list(map(format_value, comparison["runs"]))
    for title in ("settings", "surroundings"):
        if comparison[title]:
            _print_settings(console, title, names, comparison[title], marked=everything)
        else:
            print_line(console, f"{title}: no difference")
        print_line(console)
    if comparison["metrics"]:
        _print_metrics(console, names, comparison["metrics"])
        print_line(console)
    print_line(console, _verdict(comparison, names))


def _by_name(objects: Sequence[Mapping[str, Any]]) -> Values:
    names = dict.fromkeys(name for each in objects for name in each)
    return {name: [each.get(name) for each in objects] for name in names}


def _differs(values: list[Any]) -> bool:
    return any((type(value), value) != (type(values[0]), values[0]) for value in values)


def _differing(lines: Values) -> Values:
    return {name: values for name, values in lines.items() if _differs(values)}


def _surroundings(run: FoundRun) -> dict[str, Any]:
    record = run.record
    git = record["git"] or {}
    return {
        "status": run.status,
        "backend": record["backend"],
        "device": record["device_used"],
        **{f"data {name}": value for name, value in record["data"].items()},
        "python": record["python"],
        "platform": record["platform"],
        **{f"version {name}": version for name, version in record["versions"].items()},
        "git commit": git.get("commit"),
        "git dirty": git.get("dirty"),
    }


def _print_settings(console: Console, title: str, names: list[str], lines: Values, *, marked: bool) -> None:
    """Print what differs in yellow, and with a star where `marked` says that equal lines are there."""

    def column(heading: str, texts: Iterable[str]) -> Column:
        styles = ("yellow" if _differs(values) else "" for values in lines.values())
        return Column(heading, list(map(Text, texts, styles)))

    stars = (("* " if _differs(values) else "  ") * marked for values in lines.values())
    labels = (star + format_value(name) for star, name in zip(stars, lines, strict=True))
    first = column(title + " (* differs)" * marked, labels)
    runs = zip(*lines.values(), strict=True)
    others = [column(name, map(format_value, values)) for name, values in zip(names, runs, strict=True)]
    print_tables(console, first, others)


def _print_metrics(console: Console, names: list[str], lines: Values) -> None:
    """Print the metrics, the best of each in green; epochs are neither good nor bad."""

    def cells(name: str, values: list[Any]) -> list[Text]:
        known = [value for value in values if value is not None]
        best = max(known) if higher_is_better(name) else min(known)
        marked = _differs(values) and "epoch" not in name
        return [
            Text(format_metric(name, value), "green" if marked and value == best else "") for value in values
        ]

    first = Column("metrics", [Text(format_value(name)) for name in lines])
    runs = zip(*(cells(name, values) for name, values in lines.items()), strict=True)
    others = [Column(name, column, right=True) for name, column in zip(names, runs, strict=True)]
    print_tables(console, first, others)


def _verdict(comparison: Mapping[str, Any], names: Sequence[str]) -> str:
    agree = comparison["fingerprints_agree"]
    if agree:
        return "fingerprints agree: the parameters are the same, bit for bit"
    groups: dict[str, list[str]] = {}
    for fingerprint, name in zip(comparison["fingerprints"], names, strict=True):
        groups.setdefault(fingerprint or "none", []).append(name)
    parts = [f"{plain(digest)[:FINGERPRINT_DIGITS]} {', '.join(group)}" for digest, group in groups.items()]
    start = "fingerprints differ" if agree is False else "not every run has a fingerprint"
    return f"{start}: {'; '.join(parts)}"
