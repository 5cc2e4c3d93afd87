"""``xpnet train``: one training run with its record, from the start or from a checkpoint."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xpnet import __version__
from xpnet._lib.text import complain
from xpnet.backends.probing import cuda_index, float64_ratio
from xpnet.backends.resolve import Selection
from xpnet.cli.console import Console
from xpnet.config import Command, TrainConfig, from_resolved, resolved
from xpnet.config.rules import flag
from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.architecture import shown
from xpnet.nn.metrics import accuracy_per_class
from xpnet.storage.model_file import fingerprint
from xpnet.storage.record import Given
from xpnet.storage.run import Ending, Run
from xpnet.trackers import Mirrors, check
from xpnet.training import callbacks
from xpnet.training.loop import FitResult
from xpnet.training.trainer import Trainer, select_backend

SLOW_FLOAT64 = 4
"""Times that float32 is as fast as float64 on a GPU, above which it is worth a note."""


PLACE = {"backend", "device", "require_device", "workers"}
FREE = PLACE | {"checkpoint_seconds", "debug", "quiet", "report", "track"}
"""Settings that may change when a run is resumed: they decide where and how fast training goes on and what is
shown of it, not what comes of it (in native arithmetic, but for the last digits)."""


def resume(command: Command, folder: Path, line: list[str]) -> Run:
    """Go on with the run in a folder, by its own settings, and return it.

    Raises
    ------
    ConfigError
        The folder holds no run that can go on, or the command line asks for other settings than the run's.
    """
    run = Run.reopen(folder)
    try:
        config = from_resolved(run.record["config"], str(run.folder))
        asked, ours = resolved(command.config), resolved(config)
        for name in sorted(command.given - FREE - {"resume"}):
            if asked[name] != ours[name]:
                difference = f"{folder} was started with {ours[name]!r}, got {asked[name]!r}"
                msg = f"{flag(name)}: {difference}: leave it out, or start a new run"
                raise ConfigError(msg)
        changes: dict[str, Any] = {name: getattr(command.config, name) for name in command.given & FREE}
        return train(replace(config, **changes), line, resumed=run)
    finally:
        run.release()


def train(config: TrainConfig, command: list[str], *, resumed: Run | None = None) -> Run:
    """Train, print and record what happens, and return the run; go on with ``resumed``, if that is given."""
    check(config.track)
    selection = select_backend(config)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    data = datasets.load(config.data, config.test_data)
    console = Console(config.epochs, quiet=config.quiet)
    with Trainer.open(config, data, selection.backend) as trainer:
        if resumed is None:
            info = _run_info(config, command, selection, data)
            run = Run.start(config.out, config.name, config.overwrite, info)
        else:
            run = resumed
            _check_data(run, data)
        with run.recorded():
            metrics, early = callbacks.RecordMetrics(run), callbacks.EarlyStopping(config.patience)
            checkpoints = callbacks.SaveCheckpoints(trainer, run, metrics, early)
            state = None if resumed is None else checkpoints.restore()
            for line in _introduction(selection, data, trainer):
                console.line(line)
            hooks = [
                callbacks.Evaluate(trainer),
                early,
                callbacks.StopOnInterrupt(console.line),
                metrics,
                console,
                checkpoints,
                RecordOutcome(trainer, run, data, metrics, early, console),
                Mirrors(config.track, run.folder, console.line, debug=config.debug),
            ]
            trainer.fit(hooks, state)
    return run


@dataclass(eq=False)
class RecordOutcome(callbacks.Callback):
    """Saves the trained model, evaluates it, completes the record, writes the report, and prints it all."""

    trainer: Trainer
    run: Run
    data: Dataset
    metrics: callbacks.RecordMetrics
    early: callbacks.EarlyStopping
    console: Console

    def on_train_end(self, result: FitResult) -> None:
        """Complete the record."""
        trainer, run, line = self.trainer, self.run, self.console.line
        seconds, epochs = self.metrics.seconds, result.state.epoch
        model = trainer.model(result.best)
        run.save_model(model)
        digest = fingerprint(model.layers, model.norms)
        metrics = {**self._evaluated(result), "epochs": epochs, "seconds": seconds}
        if self.early.best is not None:
            metrics["best_epoch"] = self.early.epoch
        status: Ending = "interrupted" if result.interrupted else "completed"
        run.finish(status, metrics=metrics, fingerprint=digest)
        if result.interrupted:
            saved = f"what was trained is saved, and --resume {run.folder} goes on"
            line(f"interrupted after {epochs} epochs; {saved}")
        elif epochs < trainer.config.epochs:
            line(f"stopped after {epochs} epochs, the best was {self.early.epoch}")
        line(f"fingerprint   {digest}")
        line(f"run           {run.folder}")
        if trainer.config.report:
            self._write_report()

    def close(self) -> None:
        """Mark the run failed or interrupted if an error ended training."""
        if (error := sys.exception()) is not None:
            self.run.fail(error)

    def _evaluated(self, result: FitResult) -> dict[str, object]:
        """Return the metrics of the trained parameters, and print those on other than training samples."""
        trainer, to_host = self.trainer, self.trainer.backend.to_host
        metrics = trainer.evaluate(result.best).metrics("train")
        validated, tested = trainer.validate(result.best), trainer.evaluate_test(result.best)
        if validated is not None:
            self.console.figures("validation", validated)
            metrics |= validated.metrics("validation")
        predicted, labels = to_host(tested.predictions), to_host(trainer.test.labels)
        per_class = accuracy_per_class(predicted, labels, trainer.sizes[-1])
        self.console.test(tested, per_class)
        return {**metrics, **tested.metrics("test"), "test_accuracy_per_class": per_class}

    def _write_report(self) -> None:
        """Write the report; an error is a warning, for the network is saved."""
        folder = self.run.folder
        try:
            from xpnet.report import write_report

            path = write_report(folder, self.data, sha256=self.run.record["data"]["sha256"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the network is trained and saved
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            complain(f"warning: no report: {reason}: xpnet report {folder} tries again")
        else:
            self.console.line(f"report        {path}")


def _run_info(config: TrainConfig, command: list[str], selection: Selection, data: Dataset) -> Given:
    return {
        "command": command,
        "config": resolved(config),
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


def _check_data(run: Run, data: Dataset) -> None:
    digest, name, expected = datasets.digest(data), run.record["data"]["name"], run.record["data"]["sha256"]
    if digest != expected:
        difference = f"{name} with SHA-256 {expected[:16]}…, found {data.name} with {digest[:16]}…"
        msg = f"--resume: {run.folder} was trained on other data: {difference}"
        raise ConfigError(msg)


def _introduction(selection: Selection, data: Dataset, trainer: Trainer) -> Iterator[str]:
    """Yield what is about to be trained, where, and on what."""
    backend, config = selection.backend, trainer.config
    reason = f" ({selection.reason})" if selection.reason else ""
    yield f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    ratio = _float64_ratio(backend.device_name) if config.float_type == "float64" else None
    if ratio is not None and ratio > SLOW_FLOAT64:
        slow = f"float64 is 1/{ratio} as fast as float32 on this GPU"
        yield f"{slow}: --arithmetic native computes in float32"
    samples = f"{len(data.y_train)} training and {len(data.y_test)} test samples"
    yield f"{data.name}: {samples}, {data.features} features, {data.classes} classes"
    network = f"{shown(trainer.sizes)}, {config.arithmetic} {config.float_type}"
    rate = f"learning rate {config.learning_rate}"
    yield f"network {network}, batch size {config.batch_size}, {rate}, seed {config.seed}"


def _float64_ratio(device: str) -> int | None:
    index = cuda_index(device)
    return None if index is None else float64_ratio(index)
