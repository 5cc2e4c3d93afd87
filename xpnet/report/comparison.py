"""The page that compares runs: their metrics, what differs, and their learning curves in common charts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xpnet._lib.files import save
from xpnet.errors import DataError
from xpnet.report import REPORT_FILE
from xpnet.report.charts import build_overlays
from xpnet.report.page import format_duration, format_percent, make_environment, read_source
from xpnet.storage.find import FoundRun, read_found_run
from xpnet.storage.record import METRICS_FILE, SUMMARY_FILE, is_number, read_json, read_metrics

MOST_RUNS = 40
"""The largest number of runs that a page shows."""
COLOURS = 12
"""The number of colours; of more runs, the lines are dashed differently in each round of colours."""
FINGERPRINT_DIGITS = 12
VERDICTS = {
    True: "The fingerprints are equal: the parameters are the same, bit for bit.",
    False: "The fingerprints differ.",
    None: "Not every run has a fingerprint.",
}


@dataclass(frozen=True)
class Summary:
    """The summary of several trainings.

    Attributes
    ----------
    over
        The difference of the trainings: seeds or learning rates.
    best
        The name of the best run; None of seeds.
    figures
        Label, value and standard deviation of each metric: the means, or those of the best run without a
        deviation.
    """

    over: str
    best: str | None
    figures: Sequence[tuple[str, str, str | None]]


def read_trials(folder: Path, root: Path) -> tuple[Summary, list[FoundRun]]:
    """Return the summary in a folder of several trainings, and their runs, with ids relative to `root`.

    Raises
    ------
    DataError
        The summary or one of the runs is missing or damaged.
    """
    path, expected = folder / SUMMARY_FILE, "expected the summary of several trainings"
    content: Mapping[str, Any] = read_json(path, "damaged", expected)
    try:
        summary = _make_summary(content)
        folders = [folder / trial["run"] for trial in content["trials"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError.at(path, f"damaged: {expected}") from error
    return summary, [read_found_run(each, root) for each in folders]


def write_comparison(
    runs: Sequence[FoundRun],
    comparison: Mapping[str, Any],
    out: Path,
    *,
    name: str,
    summary: Summary | None = None,
) -> Path:
    """Write the page that compares runs, with links to their reports, and return its path.

    Parameters
    ----------
    runs
        The runs; they need no model, and need not have ended.
    comparison
        settings, surroundings and metrics as objects of lists, with a value for each run (None for a missing
        one); fingerprints_agree (None if one is missing); and best, the best values of metrics.
    out
        The page to write. It appears complete or not at all.
    name
        The heading.
    summary
        The summary of the runs, if they were trained together.

    Raises
    ------
    DataError
        The history of a run is damaged.
    ConfigError
        The page cannot be written.
    """
    shown = runs[:MOST_RUNS]
    keys = [f"run c{index % COLOURS} round{index // COLOURS}" for index in range(len(shown))]
    histories = {key: read_metrics(run.folder / METRICS_FILE) for key, run in zip(keys, shown, strict=True)}
    differences = comparison["settings"] | comparison["surroundings"]
    rows = [
        {
            "name": run.id,
            "key": key,
            "link": _link_report(run.folder, out),
            "status": run.status,
            "metrics": _format_metrics(run, comparison),
            "fingerprint": (run.record["fingerprint"] or "\u2013")[:FINGERPRINT_DIGITS],
        }
        for key, run in zip(keys, shown, strict=True)
    ]
    text = make_environment().get_template("comparison.html").render(
        name=name,
        style=read_source("style.css"),
        script=None,
        summary=summary,
        count=len(runs),
        verdict=VERDICTS[comparison["fingerprints_agree"]],
        best=any(value is not None for value in comparison["best"].values()),
        labels=list(map(_format_label, comparison["metrics"])),
        runs=rows,
        names={row["key"]: row["name"] for row in rows},
        differences={name: values[:MOST_RUNS] for name, values in differences.items() if name != "status"},
        charts=build_overlays(histories),
    )  # fmt: skip
    save(out, text.encode("utf-8", "replace"))
    return out


def format_metric(name: str, value: float | None) -> str:
    """Format a metric: accuracies in percent, seconds as a duration, None as a dash."""
    if value is None or name.endswith("accuracy"):
        return format_percent(value)
    if name == "seconds":
        return format_duration(value)
    if "epoch" in name:
        return f"{round(value, 1):,.10g}"
    return f"{value:.4f}" if value >= 0.001 else f"{value:.2g}"


def _make_summary(content: Mapping[str, Any]) -> Summary:
    best = content.get("best")
    if best is None:
        triples = (
            (name, each["mean"], each["standard_deviation"]) for name, each in content["figures"].items()
        )
    else:
        triples = ((name, value, None) for name, value in best["metrics"].items() if is_number(value))
    figures = [
        (_format_label(name), format_metric(name, value), deviation and format_metric(name, deviation))
        for name, value, deviation in triples
    ]
    return Summary(content["over"], best and best["run"], figures)


def _format_label(name: str) -> str:
    return "training time" if name == "seconds" else name.replace("train_", "training_").replace("_", " ")


def _format_metrics(run: FoundRun, comparison: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return each metric as text, and True if it is the best value."""
    values = {name: run.metrics.get(name) for name in comparison["metrics"]}
    best = comparison["best"]
    return [(format_metric(name, v), v is not None and v == best[name]) for name, v in values.items()]


def _link_report(folder: Path, out: Path) -> str | None:
    """Return the relative address of the report of a run; None if there is none."""
    report = folder.resolve() / REPORT_FILE
    try:
        path = os.path.relpath(report, out.resolve().parent)
    except ValueError:  # on another drive
        return None
    return quote(os.fsencode(Path(path).as_posix())) if report.is_file() else None
