"""The recorder of a training: rows, checkpoints and the outcome, in the folder of its run."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xpnet._lib import clock
from xpnet._lib.text import complain, join_lines
from xpnet._lib.tree import leaves_by_path
from xpnet._typing import HostArray, Json, Notify
from xpnet.errors import DataError, setting
from xpnet.storage.checkpoint import RESTART, encode_checkpoint, load_checkpoint, unflatten
from xpnet.storage.folder import RunFolder
from xpnet.storage.model_file import encode_model
from xpnet.storage.record import CHECKPOINT_FILE, KEPT_CHECKPOINT, MODEL_FILE, SCHEMA_VERSION, Metrics
from xpnet.storage.run import WritableRun
from xpnet.trackers import Tracker
from xpnet.training.callbacks import CompareRanks, Evaluate, FinalParameters, build_final, order_callbacks
from xpnet.training.console import TrainingConsole
from xpnet.training.loop import EpochLog, FitResult, LoopCallback, TrainState
from xpnet.training.score import SCORE_NAMES
from xpnet.training.step import Variables
from xpnet.training.trainer import Trainer


def make_row(trainer: Trainer, log: EpochLog) -> Json:
    """Return the row of an epoch in metrics.jsonl but for the seconds; empty without metrics."""
    if not log.metrics:
        return {}
    row: Json = {"epoch": log.epoch, **log.metrics}
    if log.training:
        row["fingerprint"] = trainer.fingerprint(log.state)
    return row


def describe_state(
    trainer: Trainer, state: TrainState, final: FinalParameters, rows: int, seconds: Any
) -> tuple[dict[str, HostArray], Json]:
    """Return the arrays and the facts of a checkpoint; all ranks must call this.

    The arrays are copies of those of a state, and of what is kept besides. The facts are counters, the rows
    and seconds so far, and the best epoch.
    """
    arrays = leaves_by_path("state", tuple(trainer.step.to_host(state.variables)))
    if final.kept:
        arrays |= leaves_by_path(final.kept_name, trainer.to_host(final.kept))
    counters = {"epoch": state.epoch, "batch": state.batch, "rows": rows, "seconds": seconds}
    return arrays, {**counters, "best": final.best}


def load_state(
    trainer: Trainer, final: FinalParameters, path: Path, remedy: str = RESTART
) -> tuple[TrainState, Json]:
    """Return the state and the progress in a checkpoint, and set what is kept for the network to that in it.

    Raises
    ------
    DataError
        The file is missing or damaged, or belongs to another training run; the message ends with the
        `remedy`.
    """
    arrays, progress = load_checkpoint(path)
    epoch = int(progress["epoch"])
    batch = int(progress["batch"])
    steps = len(trainer.loader.bounds)
    if batch > steps:
        problem = f"after {batch} steps of an epoch, which has {steps}"
        raise DataError(f"{path}: not a checkpoint of this training: {problem}: {remedy}")
    initial = trainer.to_host(trainer.initial_state().variables)
    initial = initial._replace(optimizer=trainer.optimizer.init(initial.parameters))
    variables = Variables(*unflatten(path, "state", tuple(initial), arrays, remedy))
    final.best = tuple(progress["best"])
    if final.is_kept(epoch, arrays):
        template = initial.parameters, initial.statistics
        final.kept = trainer.to_device(unflatten(path, final.kept_name, template, arrays, remedy))
    return TrainState(trainer.to_device(trainer.step.own(variables)), epoch, batch), progress


def load_parent(
    trainer: Trainer, final: FinalParameters, parent: RunFolder, remedy: str, notify: Notify = lambda _: None
) -> TrainState:
    """Return the last state of the run that the training extends, else as `load_state`.

    Its best epoch is forgotten if that is by another score; `notify` is called with a note.
    """
    (state, _), best_by = load_state(trainer, final, parent.checkpoint, remedy), parent.config.best_by
    if final.kept and best_by != trainer.best_by:
        final.kept, final.best = None, FinalParameters.best
        notify(f"{setting('best_by')}: the best epoch begins anew: the parent's is by {SCORE_NAMES[best_by]}")
    return state


class Recorder(LoopCallback):
    """Writes the record of a run: a row for each epoch with metrics, checkpoints, and the outcome.

    Rows of logged epochs have a fingerprint. A checkpoint is saved after each epoch, every
    `checkpoint_seconds`, and when training ends; every `keep_checkpoint_every` epochs a copy is kept, in a
    file that is named by the epoch. At the end, the trained model is saved and evaluated, the record
    completed and printed, and the report written. Without a run, on a rank that writes nothing, it takes part
    in saving checkpoints, and in the last evaluation.
    """

    needs_every_epoch = True

    def __init__(
        self,
        run: WritableRun | None,
        final: FinalParameters,
        console: TrainingConsole,
        rows: int,
        seconds: float,
    ) -> None:
        self._run = run
        self._final = final
        self._console = console
        self._rows, self._earlier_seconds = rows, seconds
        self._start = self._last_save = clock.seconds()

    def on_step_end(self, state: TrainState) -> None:
        """Save a checkpoint if the last one is `checkpoint_seconds` old."""
        interval = self._trainer.config.checkpoint_seconds
        if interval and self._trainer.ranks.max(clock.seconds() - self._last_save >= interval):
            self._save(state)

    def on_epoch_end(self, log: EpochLog) -> None:
        """Write the row and the checkpoints of an epoch."""
        if self._run and (row := make_row(self._trainer, log)):
            self._run.log({**row, "seconds": self._seconds})
            self._rows += 1
        interval = self._trainer.config.keep_checkpoint_every
        if log.epoch == 0:
            return
        if interval and log.epoch % interval == 0:
            # Before the other one, so that a resumed run has kept all up to its epoch.
            self._save(log.state, KEPT_CHECKPOINT.format(log.epoch))
        if log.epoch < self._trainer.config.epochs:
            self._save(log.state)

    def on_train_end(self, result: FitResult) -> None:
        """Save the last state, from which the run can be resumed or extended, and complete the record."""
        self._save(result.state)
        run = self._run
        if not run:
            evaluate_result(self._trainer, result)
            return
        print_line = self._console.print_line
        epochs = result.state.epoch
        model = self._trainer.model(result.best)
        run.write(MODEL_FILE, encode_model(model))
        metrics = evaluate_result(self._trainer, result, self._console, run.record["schema_version"])
        metrics |= {"epochs": epochs, "seconds": self._seconds, **self._final.metrics}
        is_complete = not (result.interrupted or result.state.batch)  # a callback may stop within an epoch
        fingerprint = model.fingerprint
        run.finish("completed" if is_complete else "interrupted", metrics=metrics, fingerprint=fingerprint)
        if result.interrupted:
            saved = f"what was trained is saved, and --resume {run.folder} goes on"
            print_line(f"interrupted after {epochs} epochs; {saved}")
        elif epochs < self._trainer.config.epochs:
            print_line(f"stopped after {epochs} epochs")
        if self._final.metrics:
            epoch, score, _ = self._final.best
            print_line(f"best epoch {epoch}, by {SCORE_NAMES[self._trainer.best_by]} {score:.4f}")
        print_line(f"fingerprint   {fingerprint}")
        print_line(f"run           {run.folder}")
        if self._trainer.config.report:
            self._write_report(run)

    def close(self) -> None:
        """Mark the run failed or interrupted if an error ended training."""
        if self._run and (error := sys.exception()):
            self._run.fail(error)

    @property
    def _seconds(self) -> float:
        """The seconds of training so far."""
        return round(self._earlier_seconds + clock.seconds() - self._start, 3)

    def _save(self, state: TrainState, name: str = CHECKPOINT_FILE) -> None:
        """Save a checkpoint."""
        if self._run:
            content = describe_state(self._trainer, state, self._final, self._rows, self._seconds)
            self._run.write(name, encode_checkpoint(*content, self._run.record["specification_version"]))
        else:
            self._trainer.step.to_host(state.variables, keep=False)
        self._last_save = clock.seconds()

    def _write_report(self, run: WritableRun) -> None:
        """Write the report; print a warning if that fails."""
        try:
            from xpnet.report import write_report

            digest = run.record["data"]["sha256"]
            path = run.folder / write_report(run.path, self._trainer.data, sha256=digest).name
        except Exception as error:  # noqa: BLE001 - the network is trained and saved
            reason = join_lines(f"{type(error).__name__}: {error}")
            complain(f"warning: no report: {reason}: xpnet report {run.folder} tries again")
        else:
            self._console.print_line(f"report        {path}")


def evaluate_result(
    trainer: Trainer, result: FitResult, console: TrainingConsole | None = None, version: int = SCHEMA_VERSION
) -> Metrics:
    """Return the metrics of the trained parameters, as records of a schema version have them.

    Those on validation and test samples are printed.
    """
    metrics: Metrics = {**trainer.evaluate(result.best).metrics("train")}
    if version > 3 and (recalls := trainer.training_recalls(result.best)):
        metrics["train_accuracy_per_class"] = recalls
    if validation := trainer.validate(result.best):
        metrics |= validation.metrics("validation")
        if console:
            console.print_evaluation("validation", validation)
    if trainer.data.has_test:
        test = trainer.evaluate_test(result.best)
        per_class = trainer.recalls(test, trainer.data.y_test)
        metrics |= {**test.metrics("test"), "test_accuracy_per_class": per_class}
        if console:
            console.print_test_evaluation(test, per_class, trainer.data.columns.classes)
    return metrics


@contextmanager
def record(
    trainer: Trainer,
    run: WritableRun | None,
    console: TrainingConsole,
    parent: RunFolder | None,
    *,
    resumed: RunFolder | None = None,
    users: Sequence[LoopCallback] = (),
    notify: Notify | None = None,
) -> Iterator[tuple[list[LoopCallback], TrainState, int]]:
    """Yield the callbacks that record a run, with the state and the epoch to start from.

    The run is marked failed if the body raises.

    Parameters
    ----------
    trainer
        The network.
    run
        What receives the record; None on the ranks of an MPI job that write nothing.
    console
        Prints the output.
    parent
        The run that a new one extends, or None.
    resumed
        The run to go on with, from its checkpoint.
    users
        Further callbacks, called after the evaluation of an epoch and before its recording.
    notify
        Called with notes; by default they are printed.

    Raises
    ------
    DataError
        The checkpoint of the run, or of its parent, is damaged or belongs to another training run.
    """
    first = parent.epochs if parent else 0
    if resumed:
        first, parent = resumed.initial_epoch, resumed.parent
    final = build_final(trainer.config, first)
    progress: Json = {"rows": 0, "seconds": 0.0}
    try:
        with trainer.ranks.agreement():
            if resumed and resumed.checkpoint.exists():
                state, progress = load_state(trainer, final, resumed.checkpoint)
            elif parent:
                notify = notify or (lambda note: console.print_line(f"note: {note}"))
                remedy = f"{setting('init_from')} starts from its model"
                state = load_parent(trainer, final, parent, remedy, notify)
            else:
                state = trainer.initial_state()
        others = [*users, CompareRanks()] if trainer.ranks.size > 1 else users
        # A checkpoint before the first step: the row of the first epoch is written again.
        rows = int(progress["rows"]) if (state.epoch, state.batch) != (first, 0) else 0
        if resumed and run:
            backend = trainer.backend
            run.resume(rows, state.epoch, backend.name, backend.device_name, trainer.ranks)
        recorder = Recorder(run, final, console, rows, float(progress["seconds"]))
        order = [*order_callbacks(Evaluate(first, final=final), others, console), recorder]
        if run:
            write, debug = console.print_line, trainer.config.debug
            order += [Tracker(name, run.folder, write, debug=debug) for name in trainer.config.track]
        yield order, state, first
    except BaseException as error:
        if run:
            run.fail(error)
        raise
