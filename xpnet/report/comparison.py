"""The page that compares runs: their metrics, what differs, and their learning curves in common charts."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xpnet._lib.files import save
from xpnet.report import REPORT_FILE
from xpnet.report.charts import build_overlays
from xpnet.report.page import make_environment, read_source
from xpnet.storage.find import FoundRun
from xpnet.storage.folder import RunFolder
from xpnet.storage.record import Summary

MOST_RUNS = 40
"""The largest number of runs that a page shows."""
COLOURS = 12
"""The number of colours; of more runs, the lines are dashed differently in each round of colours."""


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
    histories = {key: RunFolder(run.folder).history for key, run in zip(keys, shown, strict=True)}
    text = make_environment().get_template("comparison.html").render(
        name=name,
        style=read_source("style.css"),
        script=None,
        summary=summary,
        comparison=comparison,
        count=len(runs),
        runs=[(run, key, _link_report(run.folder, out)) for run, key in zip(shown, keys, strict=True)],
        names={key: run.id for run, key in zip(shown, keys, strict=True)},
        charts=build_overlays(histories),
    )  # fmt: skip
    save(out, text.encode("utf-8", "replace"))
    return out


def _link_report(folder: Path, out: Path) -> str | None:
    """Return the relative address of the report of a run; None if there is none."""
    report = folder.resolve() / REPORT_FILE
    try:
        path = os.path.relpath(report, out.resolve().parent)
    except ValueError:  # on another drive
        return None
    return quote(os.fsencode(Path(path).as_posix())) if report.is_file() else None
