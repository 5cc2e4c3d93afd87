"""Several trainings that differ in one setting: the seed, or the learning rate."""

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpnet._lib.files import unwritable, write_atomic
from xpnet.cli.parser import INTERRUPTED
from xpnet.cli.train import Result, run
from xpnet.config import TrainConfig
from xpnet.errors import ConfigError
from xpnet.storage.run import new_id

SUMMARY_FILE = "summary.json"


def run_trials(config: TrainConfig, command: list[str]) -> int:
    """Train once for each seed, or for each learning rate; report, and return the exit code.

    Each has a run of its own inside the folder ``out/name``, which receives a summary.json too.

    Raises
    ------
    ConfigError
        Seeds and rates are both several, or the folder is there already.
    """
    rates = len(config.learning_rates) > 1
    if rates and config.repeats > 1:
        msg = (
            "--repeats: expected 1 with several learning rates: choose one rate first, then repeat"
        )
        raise ConfigError(msg)
    folder = _own_folder(config)
    results: list[tuple[str, Result]] = []
    try:
        for label, trial in _trials(config, folder):
            if not config.quiet:
                sys.stdout.write(f"== {label.replace('-', ' ', 1)}\n")
                sys.stdout.flush()
            results.append((label, run(trial, command)))
            if results[-1][1].interrupted:
                return INTERRUPTED
    finally:
        if not results:
            with suppress(OSError):  # it stays if there is anything in it
                folder.rmdir()
    summary = _best(results) if rates else _spread(results)
    _write(folder / SUMMARY_FILE, {**summary, "trials": [_trial(*each) for each in results]})
    if not config.quiet:
        sys.stdout.write(_line(summary) + f"summary       {folder / SUMMARY_FILE}\n")
    return 0


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


def _trials(config: TrainConfig, folder: Path) -> Iterator[tuple[str, TrainConfig]]:
    common = replace(config, out=folder, repeats=1, name="trial", overwrite=config.overwrite)
    if len(config.learning_rates) > 1:
        for rate in config.learning_rates:
            label = f"lr-{rate!r}"
            yield label, replace(common, learning_rate=rate, name=label)
    else:
        for seed in config.seeds:
            yield f"seed-{seed}", replace(common, seed=seed, name=f"seed-{seed}")


def _trial(label: str, result: Result) -> dict[str, Any]:
    return {"run": label, "fingerprint": result.fingerprint, "metrics": result.metrics}


def _spread(results: list[tuple[str, Result]]) -> dict[str, Any]:
    """Return mean and standard deviation (of the sample, n - 1) of the figures over the seeds."""
    found: dict[str, Any] = {}
    for name in results[0][1].metrics:
        values = [result.metrics[name] for _, result in results]
        if all(isinstance(value, int | float) for value in values):
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            found[name] = {"mean": statistics.fmean(values), "standard_deviation": deviation}
    return {"over": "seeds", "figures": found}


def _best(results: list[tuple[str, Result]]) -> dict[str, Any]:
    """Return the run that does best on the validation samples."""
    label, result = max(
        results,
        key=lambda each: (
            each[1].metrics["validation_accuracy"],
            -each[1].metrics["validation_loss"],
        ),
    )
    return {"over": "learning rates", "best": _trial(label, result)}


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


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise unwritable(path, error) from error
