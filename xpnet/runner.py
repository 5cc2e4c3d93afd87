"""One training with its record: from settings to a run's folder, from the start or from a checkpoint."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xpnet import __version__, datasets, trackers
from xpnet.backends.base import Backend, cuda_index, float64_ratio
from xpnet.backends.resolve import Selection, resolve
from xpnet.checkpoint import SavedModel, fingerprint, saved_layers
from xpnet.cli import complain
from xpnet.config import TrainConfig, resolved
from xpnet.console import Console
from xpnet.datasets import Dataset
from xpnet.early_stopping import EarlyStopping
from xpnet.errors import ConfigError
from xpnet.experiment import Experiment, assemble, shown
from xpnet.interrupts import deferred
from xpnet.loop import Evaluation, TrainingState
from xpnet.machine import available_cpus
from xpnet.metrics import accuracy_per_class
from xpnet.snapshot import flatten, load_snapshot, unflatten
from xpnet.tracking import Given, Run
from xpnet.tree import mapped

SLOW_FLOAT64 = 4
"""Times that float32 is as fast as float64 on a GPU, above which it is worth a note."""
REQUIRE_DEVICE_VARIABLE = "XPNET_REQUIRE_DEVICE"


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
    require = config.require_device or os.environ.get(REQUIRE_DEVICE_VARIABLE) == "1"
    selection = resolve(config.device, config.backend, require_device=require)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    backend = selection.backend
    data = datasets.load(config.data, config.test_data)
    with backend.scope(), backend.workers(_workers(config, backend)):
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
            training = _Training(experiment, begun, console)
            if resumed is not None:
                training.restore()
            mirror(begun.folder)
            console.introduce(_introduction(selection, data, experiment))
            result = training.run()
            if config.report:
                _report(begun, data, console)
            return result


class _Training:
    """A training on its way: its state, its figures, its checkpoints."""

    def __init__(self, experiment: Experiment, run: Run, console: Console) -> None:
        self.experiment, self.record, self.console = experiment, run, console
        self.state = experiment.start()
        self.stopping = EarlyStopping(experiment.config.patience)
        self.evaluated: tuple[int, Evaluation | None] = (-1, None)  # the last epoch that ended
        self.rows = 0  # of metrics.jsonl
        self.seconds_before = 0.0
        self.begin = self.saved = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The time that training has taken."""
        return round(self.seconds_before + time.perf_counter() - self.begin, 3)

    def run(self) -> Result:
        """Train to the end, save the model, evaluate it on the test data."""
        config, experiment, console = self.experiment.config, self.experiment, self.console
        self.begin = self.saved = time.perf_counter()
        notice = partial(console.line, "stopping after this step; Ctrl-C again stops at once")
        with console.training(config.epochs), deferred(notice) as pressed:
            fitted = experiment.fit(
                self._on_epoch,
                lambda: pressed() or self.stopping.exhausted(self.state.epoch),
                state=self.state,
                on_step=self._on_step,
            )
        self.state = fitted.state
        early = self.stopping.exhausted(self.state.epoch)
        interrupted = fitted.interrupted and not early
        if interrupted:
            self._save_checkpoint()
        chosen = self.stopping.chosen(self.state)
        seconds = self.seconds
        found = self._save_model(chosen)
        metrics = {**self._figures(chosen), "epochs": fitted.epochs, "seconds": seconds}
        if self.stopping.best is not None:
            metrics["best_epoch"] = self.stopping.epoch
        self.record.finish(
            "interrupted" if interrupted else "completed", metrics=metrics, fingerprint=found
        )
        if interrupted:
            console.line(
                f"interrupted after {fitted.epochs} epochs; what was trained is saved, "
                f"and --resume {self.record.folder} goes on"
            )
        elif early and fitted.epochs < config.epochs:
            console.line(
                f"stopped after {fitted.epochs} epochs, the best was {self.stopping.epoch}"
            )
        console.line(f"fingerprint   {found}")
        console.line(f"run           {self.record.folder}")
        return Result(self.record.folder, found, metrics, interrupted)

    def _on_epoch(self, epoch: int, evaluation: Evaluation | None, state: TrainingState) -> None:
        validation = self.experiment.validate(state)
        if validation is not None:
            self.stopping.update(validation, state, _copied)
        if evaluation is not None or validation is not None:
            row = {"epoch": epoch, **_figures("train", evaluation)}
            self.record.log({**row, **_figures("validation", validation), "seconds": self.seconds})
            self.rows += 1
        self.console.epoch(epoch, evaluation, validation)
        self.state, self.evaluated = state, (epoch, evaluation)
        if 0 < epoch < self.experiment.config.epochs:
            self._save_checkpoint()

    def _on_step(self, state: TrainingState) -> None:
        self.state = state
        wait = self.experiment.config.checkpoint_seconds
        if wait is not None and time.perf_counter() - self.saved >= wait:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        state, stopping = self.state, self.stopping
        host = partial(mapped, self.experiment.backend.to_host)
        arrays = flatten("state", host(tuple(state[:3])))
        if stopping.best is not None:
            arrays |= flatten("best", host(stopping.best))
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
        backend = self.experiment.backend
        like = mapped(backend.to_host, tuple(self.state[:3]))
        device = partial(mapped, backend.from_host)
        state = device(unflatten("state", like, arrays))
        self.state = self.state._replace(
            **dict(zip(TrainingState._fields, state, strict=False)),
            epoch=int(facts["epoch"]),
            batch=int(facts["batch"]),
        )
        self.rows, self.seconds_before = int(facts["rows"]), float(facts["seconds"])
        stopping = self.stopping
        stopping.epoch, stopping.accuracy, stopping.loss = facts["best"]
        if any(name.startswith("best") for name in arrays):
            stopping.best = device(unflatten("best", like[:2], arrays))
        self.record.resume(self.rows)

    def _save_model(self, state: TrainingState) -> str:
        """Write the model file and return the fingerprint of the parameters."""
        experiment = self.experiment
        host = partial(mapped, experiment.backend.to_host)
        layers, norms = saved_layers(host(state.parameters), host(state.statistics))
        normalization = experiment.normalization
        statistics = {"shift": normalization.shift, "scale": normalization.scale}
        self.record.save_model(
            SavedModel(
                layers,
                experiment.sizes,
                normalization.kind,
                statistics,
                norms=norms,
                activation=experiment.network.activation,
            )
        )
        return fingerprint(layers, norms)

    def _figures(self, state: TrainingState) -> dict[str, Any]:
        """Evaluate the trained parameters, print the test figures and return all of them."""
        experiment, to_host = self.experiment, self.experiment.backend.to_host
        epoch, trained = self.evaluated
        if epoch != state.epoch or state is not self.state or state.batch or trained is None:
            trained = experiment.evaluate(state)
        validated = experiment.validate(state)
        tested = experiment.evaluate_test(state)
        predicted, labels = to_host(tested.predictions), to_host(experiment.test.labels)
        per_class = accuracy_per_class(predicted, labels, experiment.sizes[-1])
        if validated is not None:
            self.console.figures("validation", validated)
        self.console.test(tested, per_class)
        return {
            **_figures("train", trained),
            **_figures("validation", validated),
            **_figures("test", tested),
            "test_accuracy_per_class": per_class,
        }


def _figures(prefix: str, evaluation: Evaluation | None) -> dict[str, float]:
    if evaluation is None:
        return {}
    return {f"{prefix}_loss": evaluation.loss, f"{prefix}_accuracy": evaluation.accuracy}


def _copied(layers: Any) -> Any:
    return mapped(lambda array: array * 1.0, layers)


def _workers(config: TrainConfig, backend: Backend) -> int:
    if config.workers == "auto":
        return available_cpus()
    if not backend.parallel_blocks:
        msg = f"--workers: the {backend.name} backend has threads of its own: leave --workers out"
        raise ConfigError(msg)
    return config.workers


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
