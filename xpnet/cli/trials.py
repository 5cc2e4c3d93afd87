"""Several trainings that differ in one setting: the seed, or the learning rate."""

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpnet._lib.files import save, unwritable
from xpnet.cli.train import train
from xpnet.config import TrainConfig
from xpnet.errors import ConfigError
from xpnet.storage.record import SUMMARY_FILE
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
        Seeds and rates are both several, or the folder is there already.
    """
    rates = len(config.learning_rates) > 1
    if rates and config.repeats > 1:
        msg = "--repeats: expected 1 with several learning rates: choose one rate first, then repeat"
        raise ConfigError(msg)
    folder = _own_folder(config)
    runs: list[Run] = []
    try:
        for trial in _trials(config, folder):
            if not config.quiet:
                sys.stdout.write(f"== {str(trial.name).replace('-', ' ', 1)}\n")
                sys.stdout.flush()
            runs.append(train(trial, command))
            if runs[-1].record["status"] == "interrupted":
                return runs
    finally:
        if not runs:
            with suppress(OSError):  # it stays if there is anything in it
                folder.rmdir()
    trials = [
        {"run": run.id, "fingerprint": run.record["fingerprint"], "metrics": run.record["metrics"]}
        for run in runs
    ]
    summary = _best(trials) if rates else _spread(trials)
    text = json.dumps({**summary, "trials": trials}, indent=1)
    save(folder / SUMMARY_FILE, f"{text}\n".encode())
    if not config.quiet:
        sys.stdout.write(_line(summary) + f"summary       {folder / SUMMARY_FILE}\n")
    return runs


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


def _trials(config: TrainConfig, folder: Path) -> Iterator[TrainConfig]:
    """Yield the settings of each trial."""
    common = replace(config, out=folder, repeats=1, name="trial", overwrite=config.overwrite)
    if len(config.learning_rates) > 1:
        for rate in config.learning_rates:
            yield replace(common, learning_rate=rate, name=f"lr-{rate!r}")
    else:
        for seed in config.seeds:
            yield replace(common, seed=seed, name=f"seed-{seed}")


def _spread(trials: list[Trial]) -> dict[str, Any]:
    """Return mean and standard deviation (of the sample, n - 1) of the metrics over the seeds."""
    figures: dict[str, Any] = {}
    for name in trials[0]["metrics"]:
        values = [trial["metrics"][name] for trial in trials]
        if all(isinstance(value, int | float) for value in values):
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            figures[name] = {"mean": statistics.fmean(values), "standard_deviation": deviation}
    return {"over": "seeds", "figures": figures}


def _best(trials: list[Trial]) -> dict[str, Any]:
    """Return the trial that does best on the validation samples."""

    def quality(trial: Trial) -> tuple[float, float]:
        metrics = trial["metrics"]
        return metrics["validation_accuracy"], -metrics["validation_loss"]

    return {"over": "learning rates", "best": max(trials, key=quality)}


def _line(summary: dict[str, Any]) -> str:
    if "best" in summary:
        best = summary["best"]
        accuracy = best["metrics"]["validation_accuracy"]
        test = best["metrics"]["test_accuracy"]
        return f"best          {best['run']}: validation accuracy {accuracy:.4f}, test {test:.4f}\n"
    lines = [
        f"{name.replace('_', ' '):<20}{figure['mean']:.4f} ± {figure['standard_deviation']:.4f}\n"
        for name, figure in summary["figures"].items()
        if name.endswith("accuracy")
    ]
    return "== all seeds, mean ± standard deviation\n" + "".join(lines)
