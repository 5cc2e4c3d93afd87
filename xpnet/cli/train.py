"""One training with its record: from settings to a run's folder, from the start or from a checkpoint."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xpnet import __version__, trackers
from xpnet._lib.interrupts import deferred
from xpnet._lib.text import complain
from xpnet._lib.tree import mapped
from xpnet.backends.probing import cuda_index, float64_ratio
from xpnet.backends.resolve import Selection
from xpnet.cli.console import Console
from xpnet.config import TrainConfig, resolved
from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.architecture import shown
from xpnet.nn.metrics import accuracy_per_class
from xpnet.storage.checkpoint import flatten, load_snapshot, unflatten
from xpnet.storage.model_file import fingerprint
from xpnet.storage.record import Given
from xpnet.storage.run import Ending, Run
from xpnet.training.evaluation import Evaluation
from xpnet.training.setup import Experiment, assemble
from xpnet.training.state import TrainingState
from xpnet.training.trainer import Training, figures, select, workers

SLOW_FLOAT64 = 4
"""Times that float32 is as fast as float64 on a GPU, above which it is worth a note."""


@dataclass(frozen=True)
class Result:
    """How a training ended."""

    folder: Path
    fingerprint: str
    metrics: dict[str, Any]
    interrupted: bool


def run(config: TrainConfig, command: list[str], *, resumed: Run | None = None) -> Result:
    """Train, print and record what happens; go on with ``resumed``, if that is given."""
    trackers.check(config.track)
    selection = select(config)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    backend = selection.backend
    data = datasets.load(config.data, config.test_data)
    with backend.scope(), backend.workers(workers(config, backend)):
        experiment = assemble(config, data, backend)
        if resumed is None:
            begun = Run.start(
                config.out, config.name, config.overwrite, _record(config, command, selection, data)
            )
        else:
            begun = resumed
            _check_data(begun, data)
        console = Console(quiet=config.quiet)
        mirrored = trackers.mirrored(config.track, console.line, debug=config.debug)
        with mirrored as mirror, _recorded(begun):
            training = _Recorded(Training(experiment, config.patience), begun, console)
            if resumed is not None:
                training.restore()
            mirror(begun.folder)
            console.introduce(_introduction(selection, data, experiment))
            result = training.run()
            if config.report:
                _report(begun, data, console)
            return result


class _Recorded:
    """A training that is printed and recorded, with checkpoints."""

    def __init__(self, training: Training, run: Run, console: Console) -> None:
        self.training, self.record, self.console = training, run, console
        self.experiment = training.experiment
        self.rows = 0  # of metrics.jsonl
        self.seconds_before = 0.0
        self.begin = self.saved = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The time that training has taken."""
        return round(self.seconds_before + time.perf_counter() - self.begin, 3)

    def run(self) -> Result:
        """Train to the end, save the model, evaluate it on the test data."""
        config, console, stopping = self.experiment.config, self.console, self.training.stopping
        self.begin = self.saved = time.perf_counter()
        notice = partial(console.line, "stopping after this step; Ctrl-C again stops at once")
        with console.training(config.epochs), deferred(notice) as pressed:
            ending = self.training.run(self._on_epoch, pressed, self._on_step)
        if ending.interrupted:
            self._save_checkpoint()
        seconds = self.seconds
        model = self.training.model(ending.state)
        self.record.save_model(model)
        found = fingerprint(model.layers, model.norms)
        metrics = {**self._figures(ending.state), "epochs": ending.epochs, "seconds": seconds}
        if stopping.best is not None:
            metrics["best_epoch"] = stopping.epoch
        status: Ending = "interrupted" if ending.interrupted else "completed"
        self.record.finish(status, metrics=metrics, fingerprint=found)
        if ending.interrupted:
            console.line(
                f"interrupted after {ending.epochs} epochs; what was trained is saved, "
                f"and --resume {self.record.folder} goes on"
            )
        elif ending.early and ending.epochs < config.epochs:
            console.line(f"stopped after {ending.epochs} epochs, the best was {stopping.epoch}")
        console.line(f"fingerprint   {found}")
        console.line(f"run           {self.record.folder}")
        return Result(self.record.folder, found, metrics, ending.interrupted)

    def _on_epoch(
        self, epoch: int, evaluation: Evaluation | None, validation: Evaluation | None
    ) -> None:
        if evaluation is not None or validation is not None:
            row = {"epoch": epoch, **figures("train", evaluation)}
            self.record.log({**row, **figures("validation", validation), "seconds": self.seconds})
            self.rows += 1
        self.console.epoch(epoch, evaluation, validation)
        if 0 < epoch < self.experiment.config.epochs:
            self._save_checkpoint()

    def _on_step(self) -> None:
        wait = self.experiment.config.checkpoint_seconds
        if wait is not None and time.perf_counter() - self.saved >= wait:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        state, stopping = self.training.snapshot(), self.training.stopping
        arrays = flatten("state", tuple(state[:3]))
        if stopping.best is not None:
            to_host = self.experiment.backend.to_host
            arrays |= flatten("best", mapped(to_host, stopping.best))
        facts = {
            "epoch": state.epoch,
            "batch": state.batch,
            "rows": self.rows,
            "seconds": self.seconds,
            "best": [stopping.epoch, stopping.accuracy, stopping.loss],
        }
        self.record.save_checkpoint(arrays, facts)
        self.saved = time.perf_counter()

    def restore(self) -> None:
        """Go back to the last checkpoint, or to the start if there is none yet."""
        path = self.record.checkpoint
        if not path.exists():
            self.record.resume(0)
            return
        arrays, facts = load_snapshot(path)
        like, stopping = tuple(self.training.snapshot()[:3]), self.training.stopping
        parameters, statistics, optimizer = unflatten("state", like, arrays)
        epoch, batch = int(facts["epoch"]), int(facts["batch"])
        self.training.restore(TrainingState(parameters, statistics, optimizer, epoch, batch))
        # Before the first step the row of epoch 0 may be there; it is written again.
        self.rows = int(facts["rows"]) if epoch or batch else 0
        self.seconds_before = float(facts["seconds"])
        stopping.epoch, stopping.accuracy, stopping.loss = facts["best"]
        if any(name.startswith("best") for name in arrays):
            best = unflatten("best", like[:2], arrays)
            stopping.best = mapped(self.experiment.backend.from_host, best)
        self.record.resume(self.rows)

    def _figures(self, state: TrainingState) -> dict[str, Any]:
        """Evaluate the trained parameters, print the test figures and return all of them."""
        experiment, to_host = self.experiment, self.experiment.backend.to_host
        trained = self.training.evaluate(state)
        validated = experiment.validate(state)
        tested = experiment.evaluate_test(state)
        predicted, labels = to_host(tested.predictions), to_host(experiment.test.labels)
        per_class = accuracy_per_class(predicted, labels, experiment.sizes[-1])
        if validated is not None:
            self.console.figures("validation", validated)
        self.console.test(tested, per_class)
        return {
            **figures("train", trained),
            **figures("validation", validated),
            **figures("test", tested),
            "test_accuracy_per_class": per_class,
        }


def _report(run: Run, data: Dataset, console: Console) -> None:
    """Write the report of a training that has ended; what fails is a warning, for the training is done."""
    try:
        from xpnet.report import write_report

        path = write_report(run.folder, data, sha256=run.record["data"]["sha256"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the network is trained and saved
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        complain(f"warning: no report: {reason}: xpnet report {run.folder} tries again")
    else:
        console.line(f"report        {path}")


def _record(config: TrainConfig, command: list[str], selection: Selection, data: Dataset) -> Given:
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


def _introduction(selection: Selection, data: Dataset, experiment: Experiment) -> Iterator[str]:
    """Yield what is about to be trained, where, and on what."""
    backend, config = selection.backend, experiment.config
    reason = f" ({selection.reason})" if selection.reason else ""
    yield f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    ratio = _float64_ratio(backend.device_name) if config.float_type == "float64" else None
    if ratio is not None and ratio > SLOW_FLOAT64:
        yield (
            f"float64 is 1/{ratio} as fast as float32 on this GPU: "
            "--arithmetic native computes in float32"
        )
    yield (
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test samples, "
        f"{data.features} features, {data.classes} classes"
    )
    yield (
        f"network {shown(experiment.sizes)}, {config.arithmetic} {config.float_type}, "
        f"batch size {config.batch_size}, learning rate {config.learning_rate}, seed {config.seed}"
    )


def _float64_ratio(device: str) -> int | None:
    index = cuda_index(device)
    return None if index is None else float64_ratio(index)


@contextmanager
def _recorded(run: Run) -> Iterator[None]:
    """See to it that the record of a training that ends early says how it ended."""
    try:
        yield
    except KeyboardInterrupt:
        run.finish("interrupted")
        raise
    except BaseException as error:
        run.finish("failed", error=" ".join(str(error).split()))
        raise
