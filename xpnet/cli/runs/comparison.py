"""Runs side by side: which settings differ, what came of it, and whether the parameters agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from xpnet._lib.text import figure_shown, plain, shortened, value_shown
from xpnet.cli.runs.listing import FINGERPRINT_DIGITS, higher_is_better, metric_names
from xpnet.cli.runs.table import Cell, Column, print_line, print_table, side_by_side
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from xpnet.storage.find import FoundRun

BOOKKEEPING = {"debug", "name", "out", "overwrite", "quiet", "report", "resume", "track"}
"""Settings that change nothing in the training, so that only all settings include them."""


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
    settings = _lines([run.record["config"] for run in runs])
    if not everything:
        settings = [line for line in settings if line.differs and line.name not in BOOKKEEPING]
    surroundings = _lines([_surroundings(run) for run in runs])
    if not everything:
        surroundings = [line for line in surroundings if line.differs]
    metrics = [Line(name, [run.metrics.get(name) for run in runs]) for name in metric_names(runs)]
    return Comparison(runs, settings, surroundings, metrics)


def fingerprints_agree(runs: Sequence[FoundRun]) -> bool | None:
    """Return whether all parameters are the same in every bit; None if not every run has a fingerprint."""
    prints = {run.fingerprint for run in runs}
    return None if None in prints else len(prints) == 1


def print_comparison(console: Console, comparison: Comparison, *, everything: bool) -> None:
    """Print the lines in tables, those that differ marked where there are others, and the verdict."""
    runs = comparison.runs
    names = [shortened(plain(run.id)) for run in runs]
    for title, lines in (
        ("settings", comparison.settings),
        ("surroundings", comparison.surroundings),
    ):
        if lines:
            _print_lines(console, title, names, lines, marked=everything)
        else:
            print_line(console, f"{title}: no difference")
        print_line(console)
    if comparison.metrics:
        _print_metrics(console, names, comparison.metrics)
        print_line(console)
    print_line(console, _verdict(runs, names))


def as_object(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as a JSON object: a list with a value for each run under every name."""
    runs = comparison.runs
    return {
        "runs": [run.id for run in runs],
        "settings": dict(comparison.settings),
        "surroundings": dict(comparison.surroundings),
        "metrics": dict(comparison.metrics),
        "fingerprints": [run.fingerprint for run in runs],
        "fingerprints_agree": fingerprints_agree(runs),
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
    git = record["git"] or {}
    return {
        "status": run.status,
        "backend": record["backend"],
        "device": record["device_used"],
        **{f"data {name}": value for name, value in record["data"].items()},
        "python": record["python"],
        "platform": record["platform"],
        **{f"version {name}": found for name, found in record["versions"].items()},
        "git commit": git.get("commit"),
        "git dirty": git.get("dirty"),
    }


def _print_lines(console: Console, title: str, names: list[str], lines: list[Line], *, marked: bool) -> None:
    """Print what differs in yellow, and with a star where `marked` says that equal lines are there."""

    def label(line: Line) -> str:
        star = ("* " if line.differs else "  ") * marked
        return star + shortened(plain(line.name))

    def style(line: Line) -> str:
        return "yellow" if line.differs else ""

    first = Column(title + " (* differs)" * marked, [Cell(label(line), style(line)) for line in lines])
    others = [
        Column(name, [Cell(value_shown(line.values[run]), style(line)) for line in lines])
        for run, name in enumerate(names)
    ]
    for table in side_by_side(console, first, others):
        print_table(console, table)


def _print_metrics(console: Console, names: list[str], lines: list[Line]) -> None:
    """Print the metrics, the best of each in green; epochs are neither good nor bad."""

    def cell(line: Line, run: int) -> Cell:
        value = line.values[run]
        known = [value for value in line.values if value is not None]
        best = max(known) if higher_is_better(line.name) else min(known)
        leads = value == best and line.differs and "epoch" not in line.name
        return Cell(figure_shown(line.name, value), "green" if leads else "")

    first = Column("metrics", [Cell(shortened(plain(line.name))) for line in lines])
    others = [Column(name, [cell(line, run) for line in lines], right=True) for run, name in enumerate(names)]
    for table in side_by_side(console, first, others):
        print_table(console, table)


def _verdict(runs: Sequence[FoundRun], names: Sequence[str]) -> str:
    agree = fingerprints_agree(runs)
    if agree:
        return "fingerprints agree: the parameters are the same, bit for bit"
    groups: dict[str | None, list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        groups.setdefault(run.fingerprint, []).append(name)
    parts = [
        f"{'none' if found is None else plain(found)[:FINGERPRINT_DIGITS]} {', '.join(members)}"
        for found, members in groups.items()
    ]
    start = "fingerprints differ" if agree is False else "not every run has a fingerprint"
    return f"{start}: {'; '.join(parts)}"
