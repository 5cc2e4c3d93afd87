"""``xpnet train``: a recorded training run, from the start or from a checkpoint, or several runs."""

import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xpnet import __version__
from xpnet._lib.files import save
from xpnet._lib.terminal import make_console
from xpnet._lib.text import complain
from xpnet.backends.probing import cuda_index, float64_ratio
from xpnet.backends.resolve import Selection
from xpnet.config import Command, TrainConfig, from_json, to_json
from xpnet.config.rules import flag
from xpnet.data import datasets
from xpnet.errors import ConfigError
from xpnet.nn.architecture import format_sizes
from xpnet.nn.inputs import scale_note
from xpnet.nn.metrics import class_metrics
from xpnet.storage.model_file import encode_model, fingerprint
from xpnet.storage.record import MODEL_FILE, SUMMARY_FILE, RunInfo
from xpnet.storage.run import Run, make_run_id
from xpnet.trackers import Tracker, check_installed
from xpnet.training import callbacks
from xpnet.training.console import TrainingConsole
from xpnet.training.loop import FitResult
from xpnet.training.trainer import Trainer, select_backend

SLOW_FLOAT64 = 4
"""Ratio of float32 to float64 speed on a GPU above which a note is printed."""

DEVICE_SETTINGS = {"backend", "device", "require_device", "workers"}
CHANGEABLE_SETTINGS = DEVICE_SETTINGS | {"checkpoint_seconds", "debug", "quiet", "report", "tags", "track"}
"""Settings that may change when a run is resumed: in reproducible arithmetic they change no result."""


def resume(command: Command, folder: Path, line: list[str]) -> Run:
    """Resume the run in a folder, with its own settings, and return it.

    Raises
    ------
    ConfigError
        The folder holds no run that can be resumed, or the command line changes settings of the run.
    """
    run = Run.reopen(folder)
    try:
        config = from_json(run.record["config"], str(run.folder))
        requested, recorded = to_json(command.config), to_json(config)
        for name in sorted(command.explicit - CHANGEABLE_SETTINGS - {"resume"}):
            if requested[name] != recorded[name]:
                difference = f"{folder} was started with {recorded[name]!r}, got {requested[name]!r}"
                msg = f"{flag(name)}: {difference}: leave it out, or start a new run"
                raise ConfigError(msg)
        changes = {name: getattr(command.config, name) for name in command.explicit & CHANGEABLE_SETTINGS}
        config = replace(config, **changes)
        run.record["config"]["tags"] = list(config.tags)
        return train(config, line, resumed=run)
    finally:
        run.release()


def train(
    config: TrainConfig, command: list[str], *, resumed: Run | None = None, advise: bool = False
) -> Run:
    """Train, print and record a run, or continue ``resumed``; return the run.

    With ``advise``, print a note if the features differ in scale.
    """
    check_installed(config.track)
    selection = select_backend(config)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    data = datasets.load(config.data, config.test_data, **config.table_options)
    if advise and (note := scale_note(data.x_train)) is not None:
        complain(f"note: {note}")
    with Trainer.open(config, data, selection.backend) as trainer:
        if resumed is not None:
            _check_data(resumed, data)
        run = resumed or _start_run(config, command, selection, data)
        try:
            console = TrainingConsole(trainer, config.epochs, quiet=config.quiet)
            metrics, early = callbacks.RecordMetrics(run), callbacks.EarlyStopping(config.patience)
            checkpoints = callbacks.SaveCheckpoints(trainer, run, metrics, early)
            state = None if resumed is None else checkpoints.restore()
            print_line = console.print_line
            for line in _describe_training(selection, data, trainer):
                print_line(line)
            evaluate, stop = callbacks.Evaluate(trainer), callbacks.StopOnInterrupt(print_line)
            outcome = RecordOutcome(trainer, run, data, metrics, early, console)
            trackers = [Tracker(name, run.folder, print_line, debug=config.debug) for name in config.track]
            trainer.fit([evaluate, early, stop, metrics, console, checkpoints, outcome, *trackers], state)
        except BaseException as error:
            run.fail(error)
            raise
    return run


def run_trials(config: TrainConfig, command: list[str], *, advise: bool = False) -> list[Run]:
    """Train once for each seed or learning rate, print a summary, and return the runs.

    The runs are subfolders of ``out/name``, which also receives a summary.json. Training stops after an
    interrupted run.

    Raises
    ------
    ConfigError
        The folder exists already.
    """
    folder = config.out / (config.name or make_run_id())
    if folder.exists() and not config.overwrite:
        msg = f"{folder}: exists already: choose another --name, or add --overwrite"
        raise ConfigError(msg)
    console = make_console(quiet=config.quiet)
    common = replace(config, out=folder, repeats=1, name="trial")
    rates = config.learning_rates
    if len(rates) > 1:
        settings = [replace(common, learning_rate=rate, name=f"lr-{rate!r}") for rate in rates]
    else:
        settings = [replace(common, seed=seed, name=f"seed-{seed}") for seed in config.seeds]
    runs: list[Run] = []
    for trial in settings:
        console.print(f"== {str(trial.name).replace('-', ' ', 1)}")
        runs.append(train(trial, command, advise=advise and not runs))
        if runs[-1].record["status"] == "interrupted":
            return runs
    trials = [
        {"run": run.record["id"], "fingerprint": run.record["fingerprint"], "metrics": run.record["metrics"]}
        for run in runs
    ]
    summary, lines = _select_best(trials) if len(rates) > 1 else _summarize_seeds(trials)
    text = json.dumps({**summary, "trials": trials}, indent=1)
    save(folder / SUMMARY_FILE, f"{text}\n".encode())
    console.print(*lines, f"summary       {folder / SUMMARY_FILE}", sep="\n")
    return runs


@dataclass(eq=False)
class RecordOutcome(callbacks.Callback):
    """Saves and evaluates the trained model, completes and prints the record, and writes the report."""

    trainer: Trainer
    run: Run
    data: datasets.Dataset
    metrics: callbacks.RecordMetrics
    early: callbacks.EarlyStopping
    console: TrainingConsole

    def on_train_end(self, result: FitResult) -> None:
        """Complete the record."""
        trainer, run, print_line = self.trainer, self.run, self.console.print_line
        seconds, epochs = self.metrics.seconds, result.state.epoch
        model = trainer.model(result.best)
        run.write(MODEL_FILE, encode_model(model))
        digest = fingerprint(model.layers, model.norms)
        metrics = {**self._evaluate(result), "epochs": epochs, "seconds": seconds}
        if self.early.best is not None:
            metrics["best_epoch"] = self.early.best_epoch
        run.finish("interrupted" if result.interrupted else "completed", metrics=metrics, fingerprint=digest)
        if result.interrupted:
            saved = f"what was trained is saved, and --resume {run.folder} goes on"
            print_line(f"interrupted after {epochs} epochs; {saved}")
        elif epochs < trainer.config.epochs:
            print_line(f"stopped after {epochs} epochs, the best was {self.early.best_epoch}")
        print_line(f"fingerprint   {digest}")
        print_line(f"run           {run.folder}")
        if trainer.config.report:
            self._write_report()

    def close(self) -> None:
        """Mark the run failed or interrupted if an error ended training."""
        if (error := sys.exception()) is not None:
            self.run.fail(error)

    def _evaluate(self, result: FitResult) -> dict[str, object]:
        """Return the metrics of the trained parameters; print those on validation and test samples."""
        trainer, to_host = self.trainer, self.trainer.backend.to_host
        metrics = trainer.evaluate(result.best).metrics("train")
        validation, test = trainer.validate(result.best), trainer.evaluate_test(result.best)
        if validation is not None:
            self.console.print_evaluation("validation", validation)
            metrics |= validation.metrics("validation")
        predicted, labels = to_host(test.predictions), to_host(trainer.test.labels)
        per_class = [each.recall for each in class_metrics(predicted, labels, trainer.network.sizes[-1])]
        self.console.print_test_evaluation(test, per_class, self.data.columns.classes)
        return {**metrics, **test.metrics("test"), "test_accuracy_per_class": per_class}

    def _write_report(self) -> None:
        """Write the report; print a warning if that fails."""
        folder = self.run.folder
        try:
            from xpnet.report import write_report

            path = write_report(folder, self.data, sha256=self.run.record["data"]["sha256"])
        except Exception as error:  # noqa: BLE001 - the network is trained and saved
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            complain(f"warning: no report: {reason}: xpnet report {folder} tries again")
        else:
            self.console.print_line(f"report        {path}")


def _start_run(config: TrainConfig, command: list[str], selection: Selection, data: datasets.Dataset) -> Run:
    """Create the folder of a run and return the run."""
    info: RunInfo = {
        "command": command,
        "config": to_json(config),
        "seed": config.seed,
        "device_requested": selection.device_requested,
        "device_used": selection.device_used,
        "device_reason": selection.reason,
        "backend": selection.backend.name,
        "data": {
            "name": data.name,
            "sha256": datasets.digest(data),
            "training_samples": len(data.y_train),
            "test_samples": len(data.y_test),
            "features": data.features,
            "classes": data.classes,
        },
    }
    if data.columns.features is not None:
        info["data"]["feature_names"] = list(data.columns.features)
    if data.columns.classes is not None:
        info["data"]["class_names"] = list(data.columns.classes)
    return Run.start(config.out, config.name, config.overwrite, info)


def _check_data(run: Run, data: datasets.Dataset) -> None:
    digest, recorded = datasets.digest(data), run.record["data"]
    if digest != recorded["sha256"]:
        original = f"{recorded['name']} with SHA-256 {recorded['sha256'][:16]}…"
        difference = f"{original}, found {data.name} with {digest[:16]}…"
        msg = f"--resume: {run.folder} was trained on other data: {difference}"
        raise ConfigError(msg)


def _describe_training(selection: Selection, data: datasets.Dataset, trainer: Trainer) -> Iterator[str]:
    """Yield lines about the backend, the data, the network and the settings."""
    backend, config = selection.backend, trainer.config
    reason = f" ({selection.reason})" if selection.reason else ""
    yield f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    index = cuda_index(backend.device_name)
    ratio = None if index is None or config.float_type != "float64" else float64_ratio(index)
    if ratio is not None and ratio > SLOW_FLOAT64:
        yield f"float64 is 1/{ratio} as fast as float32 on this GPU: --arithmetic native computes in float32"
    yield from data.notes
    samples = f"{len(data.y_train)} training and {len(data.y_test)} test samples"
    yield f"{data.name}: {samples}, {data.features} features, {data.classes} classes"
    network = f"{format_sizes(trainer.network.sizes)}, {config.arithmetic} {config.float_type}"
    rate = f"learning rate {config.learning_rate}"
    asked = "" if trainer.batch_size == config.batch_size else f" in place of {config.batch_size}"
    yield f"network {network}, batch size {trainer.batch_size}{asked}, {rate}, seed {config.seed}"


def _summarize_seeds(trials: list[dict[str, Any]]) -> tuple[dict[str, object], list[str]]:
    """Return mean and sample standard deviation (n - 1) of the metrics over the seeds, and lines to print."""
    summary, lines = {}, ["== all seeds, mean ± standard deviation"]
    for name in trials[0]["metrics"]:
        values = [trial["metrics"].get(name) for trial in trials]
        if all(isinstance(value, int | float) for value in values):
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            summary[name] = {"mean": mean, "standard_deviation": deviation}
            if name.endswith("accuracy"):
                lines.append(f"{name.replace('_', ' '):<20}{mean:.4f} ± {deviation:.4f}")
    return {"over": "seeds", "figures": summary}, lines


def _select_best(trials: list[dict[str, Any]]) -> tuple[dict[str, object], list[str]]:
    """Return the trial with the highest validation accuracy, then the lowest loss, and a line to print."""
    ranked = sorted(trials, key=lambda trial: trial["metrics"]["validation_loss"])
    best = max(ranked, key=lambda trial: trial["metrics"]["validation_accuracy"])
    accuracy, test = (best["metrics"][f"{part}_accuracy"] for part in ("validation", "test"))
    line = f"best          {best['run']}: validation accuracy {accuracy:.4f}, test {test:.4f}"
    return {"over": "learning rates", "best": best}, [line]
