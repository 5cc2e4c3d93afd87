"""What differs between runs, and which of their values is the best: as values and as tables."""

from collections.abc import Sequence

from rich.console import Console

from xpnet._typing import Json, Values
from xpnet.cli.tables import Cell, format_cell, format_metric, make_columns, print_table
from xpnet.config.settings import BOOKKEEPING
from xpnet.errors import ConfigError
from xpnet.storage.find import FoundRun
from xpnet.storage.record import format_commits
from xpnet.training.terminal import style_text


def compare_runs(runs: Sequence[FoundRun], *, everything: bool) -> Json:
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
        raise ConfigError(f"expected two runs or more to compare, got {len(runs)}")

    def select(objects: Sequence[Values]) -> Json:
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


def to_columns(objects: Sequence[Values]) -> Json:
    """Return the values of objects by name, one for each object; None for a missing one."""
    names = dict.fromkeys(name for item in objects for name in item)
    return {name: [item.get(name) for item in objects] for name in names}


def higher_is_better(name: str) -> bool:
    """Return whether a higher value of a metric is better, as for accuracies, unlike losses and seconds."""
    return name.endswith(("accuracy", "precision", "recall", "f1", "score"))


def get_best_value(name: str, values: Sequence[float | None]) -> float | None:
    """Return the best value of a metric; None if all are equal, and for epochs."""
    if "epoch" in name or not _differs(values):
        return None
    return (max if higher_is_better(name) else min)(value for value in values if value is not None)


def print_comparison(console: Console, comparison: Values, *, everything: bool) -> None:
    """Print tables of the values and the verdict; with `everything`, differing values are marked."""
    runs = list(map(format_cell, comparison["runs"]))
    for title in "settings", "surroundings":
        if values := comparison[title]:
            rows: list[list[Cell]] = []
            for name, line in values.items():
                style = "yellow" if _differs(line) else ""
                mark = ("* " if style else "  ") if everything else ""
                cells = f"{mark}{format_cell(name)}", *map(format_cell, line)
                rows.append([style_text(cell, style) for cell in cells])
            heading = [f"{title} (* differs)" if everything else title, *runs]
            print_table(console, make_columns(heading, rows, left=len(heading)))
        else:
            console.print(f"{title}: no difference")
        console.print()
    if metrics := comparison["metrics"]:
        rows = []
        for name, line in metrics.items():
            best = get_best_value(name, line)
            styles = ["green" if value is not None and value == best else "" for value in line]
            texts = [format_metric(name, value) for value in line]
            rows.append([format_cell(name), *map(style_text, texts, styles)])
        print_table(console, make_columns(["metrics", *runs], rows, left=1))
        console.print()
    if comparison["fingerprints_agree"]:
        console.print("fingerprints agree: the parameters are the same, bit for bit")
        return
    groups: dict[str, list[str]] = {}
    for fingerprint, name in zip(comparison["fingerprints"], runs, strict=True):
        groups.setdefault(format_metric("fingerprint", fingerprint or "none"), []).append(name)
    parts = "; ".join(f"{digits} {', '.join(group)}" for digits, group in groups.items())
    start = "not every run has a fingerprint" if "none" in groups else "fingerprints differ"
    console.print(f"{start}: {parts}")


def _differs(values: Sequence[object]) -> bool:
    return any((type(value), value) != (type(values[0]), values[0]) for value in values)


def _get_surroundings(run: FoundRun) -> Json:
    record: Values = run.record
    values = {"status": run.status, "device": record["device_used"]}
    values |= {name: record[name] for name in ("backend", "python", "platform")}
    for group, items in ("data", record["data"]), ("version", record["versions"]):
        values |= {f"{group} {name}": value for name, value in items.items()}
    return values | format_commits(run.record)
