"""Several trainings that differ in one setting: the seed, or the learning rate."""

import json
import statistics
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpnet._lib.files import save, unwritable
from xpnet.cli.tables import new_console
from xpnet.cli.train import train
from xpnet.config import TrainConfig
from xpnet.errors import ConfigError
from xpnet.storage.record import SUMMARY_FILE, Record, is_number
from xpnet.storage.run import Run, new_id

Trial = dict[str, Any]
"""What the summary has of a run: its name, fingerprint and metrics."""


def run_trials(config: TrainConfig, command: list[str]) -> list[Run]:
    """Train once for each seed, or for each learning rate, print a summary, and return the runs.

    Each run is inside the folder ``out/name``, which receives a summary.json too. An interrupted run is the
    last.

    Raises
    ------
    ConfigError
        The folder is there already, or cannot be written.
    """
    console = new_console(quiet=config.quiet)
    folder = _own_folder(config)
    common = replace(config, out=folder, repeats=1, name="trial")
    rates = config.learning_rates
    if len(rates) > 1:
        settings = [replace(common, learning_rate=rate, name=f"lr-{rate!r}") for rate in rates]
    else:
        settings = [replace(common, seed=seed, name=f"seed-{seed}") for seed in config.seeds]
    runs: list[Run] = []
    try:
        for trial in settings:
            console.print(f"== {str(trial.name).replace('-', ' ', 1)}")
            runs.append(train(trial, command))
            if runs[-1].record["status"] == "interrupted":
                return runs
    finally:
        if not runs:
            with suppress(OSError):  # it stays if there is anything in it
                folder.rmdir()
    trials = [_trial(run.record) for run in runs]
    summary, lines = _best(trials) if len(rates) > 1 else _spread(trials)
    text = json.dumps({**summary, "trials": trials}, indent=1)
    save(folder / SUMMARY_FILE, f"{text}\n".encode())
    for line in (*lines, f"summary       {folder / SUMMARY_FILE}"):
        console.print(line)
    return runs


def _trial(record: Record) -> Trial:
    return {"run": record["id"], "fingerprint": record["fingerprint"], "metrics": record["metrics"]}


def _own_folder(config: TrainConfig) -> Path:
    """Make the folder of the trials, which only --overwrite shares with trials before, and return it."""
    folder = config.out / (config.name or new_id())
    try:
        folder.mkdir(parents=True, exist_ok=config.overwrite)
    except FileExistsError as error:
        msg = f"{folder}: exists already: choose another --name, or add --overwrite"
        raise ConfigError(msg) from error
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def _spread(trials: list[Trial]) -> tuple[dict[str, Any], list[str]]:
    """Return mean and standard deviation (of the sample, n - 1) of the metrics over the seeds, and lines."""
    figures, lines = {}, ["== all seeds, mean ± standard deviation"]
    for name in trials[0]["metrics"]:
        values = [trial["metrics"][name] for trial in trials]
        if all(map(is_number, values)):
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            figures[name] = {"mean": mean, "standard_deviation": deviation}
            if name.endswith("accuracy"):
                lines.append(f"{name.replace('_', ' '):<20}{mean:.4f} ± {deviation:.4f}")
    return {"over": "seeds", "figures": figures}, lines


def _best(trials: list[Trial]) -> tuple[dict[str, Any], list[str]]:
    """Return the trial that does best on the validation samples, and a line about it."""

    def quality(trial: Trial) -> tuple[float, float]:
        return trial["metrics"]["validation_accuracy"], -trial["metrics"]["validation_loss"]

    best = max(trials, key=quality)
    accuracy, test = (best["metrics"][f"{part}_accuracy"] for part in ("validation", "test"))
    line = f"best          {best['run']}: validation accuracy {accuracy:.4f}, test {test:.4f}"
    return {"over": "learning rates", "best": best}, [line]
