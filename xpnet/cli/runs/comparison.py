"""Runs side by side: which settings differ, what came of it, and whether the parameters agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from xpnet._lib.text import plain
from xpnet.cli.runs.formatting import (
    Column,
    format_metric,
    format_value,
    print_line,
    print_tables,
)
from xpnet.cli.runs.listing import FINGERPRINT_DIGITS, higher_is_better, metric_names
from xpnet.errors import ConfigError
from xpnet.report.origin import BOOKKEEPING
from xpnet.storage.find import object_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from xpnet.storage.find import FoundRun


class Line(NamedTuple):
    """What the runs have under one name."""

    name: str
    values: list[Any]

    @property
    def differs(self) -> bool:
        """Whether not all runs have the same."""
        return any((type(value), value) != (type(self.values[0]), self.values[0]) for value in self.values)


class Comparison(NamedTuple):
    """What runs have in common and what not, with a value for each run in every line."""

    runs: Sequence[FoundRun]
    settings: list[Line]
    surroundings: list[Line]
    """Data, device, backend, versions."""
    metrics: list[Line]

    @property
    def fingerprints_agree(self) -> bool | None:
        """Whether all parameters are the same in every bit; None if not every run has a fingerprint."""
        fingerprints = {run.fingerprint for run in self.runs}
        return None if None in fingerprints else len(fingerprints) == 1


def compare(runs: Sequence[FoundRun], *, everything: bool) -> Comparison:
    """Return the differences between the runs, or with `everything` also what they have in common.

    Raises
    ------
    ConfigError
        There are fewer than two runs.

    """
    if len(runs) < 2:
        msg = f"expected two runs or more to compare, got {len(runs)}"
        raise ConfigError(msg)
    settings = _lines([object_of(run.record, "config") for run in runs])
    surroundings = _lines([_surroundings(run) for run in runs])
    if not everything:
        settings = [line for line in settings if line.differs and line.name not in BOOKKEEPING]
        surroundings = [line for line in surroundings if line.differs]
    metrics = [Line(name, [run.metrics.get(name) for run in runs]) for name in metric_names(runs)]
    return Comparison(runs, settings, surroundings, metrics)


def print_comparison(console: Console, comparison: Comparison, *, everything: bool) -> None:
    """Print the lines in tables, those that differ marked where there are others, and the verdict."""
    names = [format_value(run.id) for run in comparison.runs]
    for title, lines in (
        ("settings", comparison.settings),
        ("surroundings", comparison.surroundings),
    ):
        if lines:
            _print_settings(console, title, names, lines, marked=everything)
        else:
            print_line(console, f"{title}: no difference")
        print_line(console)
    if comparison.metrics:
        _print_metrics(console, names, comparison.metrics)
        print_line(console)
    print_line(console, _verdict(comparison, names))


def as_object(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as a JSON object: a list with a value for each run under every name."""
    return {
        "runs": [run.id for run in comparison.runs],
        "settings": dict(comparison.settings),
        "surroundings": dict(comparison.surroundings),
        "metrics": dict(comparison.metrics),
        "fingerprints": [run.fingerprint for run in comparison.runs],
        "fingerprints_agree": comparison.fingerprints_agree,
    }


def as_rows(comparison: Comparison) -> tuple[list[str], list[list[object]]]:
    """Return the heading and the rows of a CSV file: kind, name, and a value for each run."""
    kinds = {
        "setting": comparison.settings,
        "surrounding": comparison.surroundings,
        "metric": comparison.metrics,
        "fingerprint": [Line("fingerprint", [run.fingerprint for run in comparison.runs])],
    }
    rows = [[kind, line.name, *line.values] for kind, lines in kinds.items() for line in lines]
    return ["kind", "name", *(run.id for run in comparison.runs)], rows


def _lines(objects: Sequence[dict[str, Any]]) -> list[Line]:
    names = dict.fromkeys(name for each in objects for name in each)
    return [Line(name, [each.get(name) for each in objects]) for name in names]


def _surroundings(run: FoundRun) -> dict[str, Any]:
    record = run.record
    git = object_of(record, "git")
    return {
        "status": run.status,
        "backend": record.get("backend"),
        "device": record.get("device_used"),
        **{f"data {name}": value for name, value in object_of(record, "data").items()},
        "python": record.get("python"),
        "platform": record.get("platform"),
        **{f"version {name}": version for name, version in object_of(record, "versions").items()},
        "git commit": git.get("commit"),
        "git dirty": git.get("dirty"),
    }


def _print_settings(
    console: Console, title: str, names: list[str], lines: list[Line], *, marked: bool
) -> None:
    """Print what differs in yellow, and with a star where `marked` says that equal lines are there."""

    def column(heading: str, texts: Iterable[str]) -> Column:
        styles = ("yellow" if line.differs else "" for line in lines)
        return Column(heading, list(map(Text, texts, styles)))

    stars = (("* " if line.differs else "  ") * marked for line in lines)
    labels = (star + format_value(line.name) for star, line in zip(stars, lines, strict=True))
    first = column(title + " (* differs)" * marked, labels)
    others = [
        column(name, (format_value(line.values[run]) for line in lines)) for run, name in enumerate(names)
    ]
    print_tables(console, first, others)


def _print_metrics(console: Console, names: list[str], lines: list[Line]) -> None:
    """Print the metrics, the best of each in green; epochs are neither good nor bad."""

    def cell(line: Line, run: int) -> Text:
        value = line.values[run]
        known = [value for value in line.values if value is not None]
        best = max(known) if higher_is_better(line.name) else min(known)
        leads = value == best and line.differs and "epoch" not in line.name
        return Text(format_metric(line.name, value), "green" if leads else "")

    first = Column("metrics", [Text(format_value(line.name)) for line in lines])
    others = [Column(name, [cell(line, run) for line in lines], right=True) for run, name in enumerate(names)]
    print_tables(console, first, others)


def _verdict(comparison: Comparison, names: Sequence[str]) -> str:
    agree = comparison.fingerprints_agree
    if agree:
        return "fingerprints agree: the parameters are the same, bit for bit"
    groups: dict[str, list[str]] = {}
    for run, name in zip(comparison.runs, names, strict=True):
        groups.setdefault(run.fingerprint or "none", []).append(name)
    parts = [f"{plain(digest)[:FINGERPRINT_DIGITS]} {', '.join(group)}" for digest, group in groups.items()]
    start = "fingerprints differ" if agree is False else "not every run has a fingerprint"
    return f"{start}: {'; '.join(parts)}"
