"""``xpnet train``: one training run with its record, from the start or from a checkpoint."""

import sys
from collections.abc import Iterator

from xpnet import __version__
from xpnet._lib.text import complain
from xpnet.backends.probing import cuda_index, float64_ratio
from xpnet.backends.resolve import Selection
from xpnet.cli.console import Console
from xpnet.config import TrainConfig, resolved
from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.architecture import shown
from xpnet.nn.metrics import accuracy_per_class
from xpnet.storage.model_file import fingerprint
from xpnet.storage.record import Given
from xpnet.storage.run import Ending, Run
from xpnet.trackers import Tracker, check
from xpnet.training.callbacks import (
    Callback,
    EarlyStopping,
    Evaluate,
    RecordMetrics,
    SaveCheckpoints,
    StopOnInterrupt,
)
from xpnet.training.loop import FitResult
from xpnet.training.trainer import Trainer, select_backend

SLOW_FLOAT64 = 4
"""Times that float32 is as fast as float64 on a GPU, above which it is worth a note."""


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
            metrics, early = RecordMetrics(run), EarlyStopping(config.patience)
            checkpoints = SaveCheckpoints(trainer, run, metrics, early)
            state = None if resumed is None else checkpoints.restore()
            for line in _introduction(selection, data, trainer):
                console.line(line)
            callbacks = [
                Evaluate(trainer),
                early,
                StopOnInterrupt(console.line),
                metrics,
                console,
                checkpoints,
                RecordOutcome(trainer, run, metrics, early, console),
                *([WriteReport(run, data, console)] if config.report else []),
                *[Tracker(name, run.folder, console.line, debug=config.debug) for name in config.track],
            ]
            trainer.fit(callbacks, state)
    return run


class RecordOutcome(Callback):
    """Saves the trained model, evaluates it, completes the record, and prints all of it."""

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        metrics: RecordMetrics,
        early: EarlyStopping,
        console: Console,
    ) -> None:
        self._trainer, self._run, self._console = trainer, run, console
        self._metrics, self._early = metrics, early

    def on_train_end(self, result: FitResult) -> None:
        """Complete the record."""
        trainer, run, line = self._trainer, self._run, self._console.line
        seconds, epochs = self._metrics.seconds, result.state.epoch
        model = trainer.model(result.best)
        run.save_model(model)
        digest = fingerprint(model.layers, model.norms)
        metrics = {**self._evaluated(result), "epochs": epochs, "seconds": seconds}
        if self._early.best is not None:
            metrics["best_epoch"] = self._early.epoch
        status: Ending = "interrupted" if result.interrupted else "completed"
        run.finish(status, metrics=metrics, fingerprint=digest)
        if result.interrupted:
            line(
                f"interrupted after {epochs} epochs; what was trained is saved, "
                f"and --resume {run.folder} goes on"
            )
        elif epochs < trainer.config.epochs:
            line(f"stopped after {epochs} epochs, the best was {self._early.epoch}")
        line(f"fingerprint   {digest}")
        line(f"run           {run.folder}")

    def close(self) -> None:
        """Mark the run failed or interrupted if an error ended training."""
        if (error := sys.exception()) is not None:
            self._run.fail(error)

    def _evaluated(self, result: FitResult) -> dict[str, object]:
        """Return the metrics of the trained parameters, and print those on other than training samples."""
        trainer, to_host = self._trainer, self._trainer.backend.to_host
        trained, validated = trainer.evaluate(result.best), trainer.validate(result.best)
        tested = trainer.evaluate_test(result.best)
        predicted, labels = to_host(tested.predictions), to_host(trainer.test.labels)
        per_class = accuracy_per_class(predicted, labels, trainer.sizes[-1])
        if validated is not None:
            self._console.figures("validation", validated)
        self._console.test(tested, per_class)
        return {
            **trained.metrics("train"),
            **({} if validated is None else validated.metrics("validation")),
            **tested.metrics("test"),
            "test_accuracy_per_class": per_class,
        }


class WriteReport(Callback):
    """Writes the report of a run that has ended; an error is a warning, for the network is saved."""

    def __init__(self, run: Run, data: Dataset, console: Console) -> None:
        self._run, self._data, self._console = run, data, console

    def on_train_end(self, result: FitResult) -> None:  # noqa: ARG002
        """Write it."""
        folder = self._run.folder
        try:
            from xpnet.report import write_report

            path = write_report(folder, self._data, sha256=self._run.record["data"]["sha256"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the network is trained and saved
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            complain(f"warning: no report: {reason}: xpnet report {folder} tries again")
        else:
            self._console.line(f"report        {path}")


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
    found, expected = datasets.digest(data), run.record["data"]["sha256"]
    if found != expected:
        msg = (
            f"--resume: {run.folder} was trained on other data: {run.record['data']['name']} with "
            f"SHA-256 {expected[:16]}…, found {data.name} with {found[:16]}…"
        )
        raise ConfigError(msg)


def _introduction(selection: Selection, data: Dataset, trainer: Trainer) -> Iterator[str]:
    """Yield what is about to be trained, where, and on what."""
    backend, config = selection.backend, trainer.config
    reason = f" ({selection.reason})" if selection.reason else ""
    yield f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    ratio = _float64_ratio(backend.device_name) if config.float_type == "float64" else None
    if ratio is not None and ratio > SLOW_FLOAT64:
        yield (
            f"float64 is 1/{ratio} as fast as float32 on this GPU: --arithmetic native computes in float32"
        )
    yield (
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test samples, "
        f"{data.features} features, {data.classes} classes"
    )
    yield (
        f"network {shown(trainer.sizes)}, {config.arithmetic} {config.float_type}, "
        f"batch size {config.batch_size}, learning rate {config.learning_rate}, seed {config.seed}"
    )


def _float64_ratio(device: str) -> int | None:
    index = cuda_index(device)
    return None if index is None else float64_ratio(index)
