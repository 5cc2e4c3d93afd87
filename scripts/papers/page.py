"""The rows of the table of published test errors, and the page of what trainings of them reached."""

import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import render

FOLDER = Path(__file__).parent
MATCHES = ("yes", "to its digits")


@dataclass(frozen=True)
class Row:
    """A network and how it is trained; rows.toml tells what the fields are."""

    key: str
    training: str
    source: str
    flags: str
    theirs: str
    ours: str
    published: str | None = None
    seeds: int = 5
    backend: str = "auto"

    @property
    def command(self) -> str:
        """The command that trains the row."""
        backend = "" if self.backend == "auto" else f" --backend {self.backend}"
        return f"python -m xpnet.train {self.flags} --repeats 5{backend}"


_LIST = tomllib.loads((FOLDER / "rows.toml").read_text(encoding="utf-8"))["row"]
ROWS = {row["key"]: Row(**{"flags": f"--recipe {row['key']}", **row}) for row in _LIST}


def published(row: Row, errors: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation (n - 1) of test errors, and how they match the published one."""
    mean = statistics.fmean(errors) if errors else None
    matched = None
    if mean is not None and row.published is not None:
        decimals, limit = len(row.published.partition(".")[2]), float(row.published)
        rounded = "to its digits" if round(mean, decimals) <= limit else "no"
        matched = "yes" if mean <= limit else rounded
    return {
        "test_error_mean": mean,
        "test_error_standard_deviation": statistics.stdev(errors) if len(errors) > 1 else None,
        "matched": matched,
    }


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of the figures of some rows."""
    rated: dict[tuple[str, ...], list[bool]] = {}  # a figure: what each row that is compared with it reached
    sections = []
    for result in results:
        row, runs = ROWS[result["row"]], result["trained"]
        if result["matched"]:
            figure = result["network"], row.source, str(row.published)
            rated.setdefault(figure, []).append(result["matched"] in MATCHES)
        # The time of a run that waited for its processors is its processor time.
        times = [min(run["wall"], run.get("cpu", run["wall"])) for run in runs]
        places = dict.fromkeys((run["backend"], run["machine"], run["processors"]) for run in runs)
        shown = {
            "command": row.command,
            "error": _error(row, result),
            "time": spoken(statistics.fmean(times)) if times else "",
            "places": " and ".join(
                f"{backend} on {machine}, {processors} processor{'s' if processors > 1 else ''}"
                for backend, machine, processors in places
            ),
        }
        sections.append({**vars(row), **result, **shown})
    reached = sum(map(all, rated.values()))
    return render(FOLDER / "page.md.j2", reached=reached, figures=len(rated), rows=sections)


def _error(row: Row, result: Mapping[str, Any]) -> str:
    """Return mean ± standard deviation of the test error in per cent."""
    mean, deviation = result["test_error_mean"], result["test_error_standard_deviation"]
    if mean is None:
        return "not yet run" if row.seeds else "not yet run: needs a GPU"
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def spoken(seconds: float) -> str:
    """Return a time in seconds below two minutes, in minutes from there on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
