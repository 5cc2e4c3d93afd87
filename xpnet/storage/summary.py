"""The summary of several trainings, computed from the records of their runs."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from xpnet.config.settings import ComputationSettings, RunSettings
from xpnet.errors import DataError
from xpnet.storage import record as records
from xpnet.storage.record import SUMMARY_FILE, Record, is_number

EXPECTED = "expected the summary of several trainings"
_OF_FILES_AND_PLACE = {field.name for kind in (ComputationSettings, RunSettings) for field in fields(kind)}
_OF_FILES_AND_PLACE -= {"arithmetic", "dtype"}


def make_entry(record: Record) -> dict[str, Any]:
    """Return the entry of a run in a summary."""
    return {"run": record["id"], "fingerprint": record["fingerprint"], "metrics": record["metrics"]}


def get_score_name(trial: Mapping[str, Any]) -> str:
    """Return the name of the metric by which a trial of several learning rates is judged."""
    return "validation_score" if "validation_score" in trial["metrics"] else "validation_accuracy"


def make_summary(over: str, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of the entries of trainings.

    Over seeds, its figures are mean and sample standard deviation (n - 1) of the metrics; over learning rates
    it has the best trial, that with the highest validation score or accuracy, then the lowest loss.
    """
    if over == "learning rates":
        ranked = sorted(trials, key=lambda trial: trial["metrics"]["validation_loss"])
        best = max(ranked, key=lambda trial: trial["metrics"][get_score_name(trial)])
        return {"over": over, "best": best, "trials": trials}
    if over != "seeds":
        raise ValueError(over)
    figures = {}
    for name in trials[0]["metrics"]:
        values = [trial["metrics"].get(name) for trial in trials]
        if all(is_number(value) and math.isfinite(value) for value in values):
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            figures[name] = {"mean": mean, "standard_deviation": deviation}
    return {"over": over, "figures": figures, "trials": trials}


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of the trainings that the one in a folder names, computed from their records.

    Raises
    ------
    DataError
        It is missing or damaged, or a run is.
    """
    return _compute_summary(folder)[1]


def _compute_summary(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the summary in a folder as it is, with its figures, and as the records of its runs give it."""
    path = folder / SUMMARY_FILE
    content: dict[str, Any] = records.read_json(path, "damaged", EXPECTED)
    try:
        names = [Path(trial["run"]).name for trial in content["trials"]]
        trials = [make_entry(records.read_run(folder / name)) | {"run": name} for name in names]
        return {**content, **content.get("figures", {})}, make_summary(str(content["over"]), trials)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError.at(path, f"damaged: {EXPECTED}") from error


def find_summary_difference(folder: Path) -> str | None:
    """Compare the summary in a folder with the records of its runs; return the first difference in words.

    They are all runs in the folder, and differ in the seed or the learning rate alone.

    Raises
    ------
    DataError
        It is missing or damaged, or a run is.
    """
    recorded, computed = _compute_summary(folder)
    names = [trial["run"] for trial in computed["trials"]]
    own = "learning_rate" if "best" in computed else "seed"
    runs = sorted(path.parent.name for path in folder.glob(f"*/{records.RECORD_FILE}"))
    if sorted(names) != runs:
        return f"{SUMMARY_FILE}: trials: recorded {names}, found {runs}"
    configs = [records.read_run(folder / name)["config"] for name in names]
    for key in sorted(configs[0].keys() - {own, *_OF_FILES_AND_PLACE}):
        if any(config.get(key) != configs[0][key] for config in configs):
            return f"{SUMMARY_FILE}: over: recorded {computed['over']!r}, but {key} differs"
    expected = {**computed, **computed.get("figures", {})}
    for name in reversed(dict.fromkeys((*expected, *recorded))):  # the figures first
        left, right = (json.dumps(values.get(name, "nothing")) for values in (recorded, expected))
        if left != right:
            return f"{SUMMARY_FILE}: {name}: recorded {left[:80]}, computed {right[:80]}"
    return None
