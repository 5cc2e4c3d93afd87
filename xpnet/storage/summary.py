"""The summary of several trainings, computed from the records of their runs."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from xpnet._typing import Json, Values
from xpnet.config.settings import ComputationSettings, RunSettings, names_of
from xpnet.errors import DataError
from xpnet.storage.record import RECORD_FILE, SUMMARY_FILE, Record, is_number, read_json, read_run

EXPECTED = "expected the summary of several trainings"
_OF_FILES_AND_PLACE = names_of(ComputationSettings, RunSettings) - {"arithmetic", "dtype"}


def make_entry(record: Record) -> Json:
    """Return the entry of a run in a summary."""
    return {"run": record["id"], "fingerprint": record["fingerprint"], "metrics": record["metrics"]}


def get_score_name(trial: Values) -> str:
    """Return the name of the metric by which a trial of several learning rates is judged."""
    return "validation_score" if "validation_score" in trial["metrics"] else "validation_accuracy"


def make_summary(over: str, trials: Sequence[Values]) -> Json:
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


def compare_summary(folder: Path) -> tuple[Json, str | None]:
    """Return the summary, computed from records, of the trainings that the one in a folder names.

    The second value is the first difference of the one in the folder, in words. Its trainings are all runs in
    the folder, and differ in the seed or the learning rate alone.

    Raises
    ------
    DataError
        It is missing or damaged, or a run is.
    """
    path = folder / SUMMARY_FILE
    recorded = read_json(path, "damaged", EXPECTED)
    try:
        names = [Path(trial["run"]).name for trial in recorded["trials"]]
        runs = [read_run(folder / name) for name in names]
        trials = [make_entry(run) | {"run": name} for name, run in zip(names, runs, strict=True)]
        computed = make_summary(str(recorded["over"]), trials)
        recorded = {**recorded, **recorded.get("figures", {})}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged: {EXPECTED}") from error
    found = sorted(file.parent.name for file in folder.glob(f"*/{RECORD_FILE}"))
    if sorted(names) != found:
        return computed, f"{path.name}: trials: recorded {names}, found {found}"
    configs, own = [run["config"] for run in runs], "learning_rate" if "best" in computed else "seed"
    for key in sorted(configs[0].keys() - {own, *_OF_FILES_AND_PLACE}):
        if any(config.get(key) != configs[0][key] for config in configs):
            return computed, f"{path.name}: over: recorded {computed['over']!r}, but {key} differs"
    expected = {**computed, **computed.get("figures", {})}
    for name in reversed(dict.fromkeys((*expected, *recorded))):  # the figures first
        left, right = (json.dumps(values.get(name, "nothing")) for values in (recorded, expected))
        if left != right:
            return computed, f"{path.name}: {name}: recorded {left[:80]}, computed {right[:80]}"
    return computed, None
