"""Callbacks of the training loop: evaluation, metrics, checkpoints, Ctrl-C."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet._lib.interrupts import defer_interrupts
from xpnet.distributed.ranks import ALONE, Ranks
from xpnet.errors import BackendError, DataError, DivergedError
from xpnet.storage.checkpoint import RESTART, encode_checkpoint, flatten, load_checkpoint, unflatten
from xpnet.storage.record import CHECKPOINT_FILE, KEPT_CHECKPOINT
from xpnet.storage.run import Run
from xpnet.training.evaluation import Evaluation
from xpnet.training.state import TrainState, Variables

if TYPE_CHECKING:
    from xpnet._typing import HostArray
    from xpnet.training.final_parameters import FinalParameters
    from xpnet.training.loop import FitResult
    from xpnet.training.trainer import Trainer

INTERRUPTED = "interrupted"
"""The reason to end training after Ctrl-C."""


@dataclass
class EpochLog:
    """The results of an epoch, for callbacks.

    A state's arrays are valid until the next step: copy them to keep them.
    """

    state: TrainState
    training: Evaluation | None = None  # on the training samples, in logged epochs
    validation: Evaluation | None = None  # on the validation samples, if there are any

    @property
    def epoch(self) -> int:
        """The number of completed epochs; 0 before the first step."""
        return self.state.epoch

    @property
    def metrics(self) -> dict[str, float]:
        """The losses and accuracies by their names in a record."""
        training = {} if self.training is None else self.training.metrics("train")
        return training | ({} if self.validation is None else self.validation.metrics("validation"))


class Callback:
    """The hooks of the training loop; a subclass overrides those it needs."""

    stop: str | None = None
    """The reason to end training before the next step, or None."""
    needs_every_step = False
    """True if `on_step_end` must be called after each step, not only after some that are computed at once."""

    def on_train_begin(self, state: TrainState) -> None:
        """Prepare; called before the first step."""

    def on_step_end(self, state: TrainState) -> None:
        """Act after a step, or after some that are computed at once."""

    def on_epoch_end(self, log: EpochLog) -> None:
        """Act after an epoch; called with epoch 0 before the first step."""

    def on_train_end(self, result: "FitResult") -> None:
        """Act on the result; not called after an error."""

    def close(self) -> None:
        """Release resources; also called after an error."""


class Evaluate(Callback):
    """Evaluates the validation samples in every epoch, and the training samples in logged epochs.

    Parameters
    ----------
    trainer
        Evaluates the samples.
    first, last
        The first and the last epoch, which are always logged; by default 0 and that of the settings.
    final
        Its best epochs, and the one in which it ends training, are always logged too.
    """

    def __init__(
        self,
        trainer: "Trainer",
        first: int = 0,
        last: int | None = None,
        final: "FinalParameters | None" = None,
    ) -> None:
        self._trainer, self._final = trainer, final
        self._always = {first, trainer.config.epochs if last is None else last}

    def on_epoch_end(self, log: EpochLog) -> None:
        """Add the evaluations to the log.

        Raises
        ------
        DivergedError
            The training loss is not finite.
        """
        log.validation = self._trainer.validate(log.state)
        is_regular = log.epoch % self._trainer.config.log_interval == 0 or log.epoch in self._always
        if is_regular or (self._final is not None and self._final.is_decisive(log)):
            log.training = self._trainer.evaluate(log.state)
            if not math.isfinite(log.training.loss):
                raise DivergedError.in_epoch(log.epoch)


class StopOnInterrupt(Callback):
    """Ends training before the next step after Ctrl-C; a second Ctrl-C interrupts immediately.

    Parameters
    ----------
    notify
        Called with a line of text at the first Ctrl-C.
    ranks
        The processes that share the training, of which all end if one of them is interrupted.
    """

    def __init__(self, notify: Callable[[str], None], ranks: Ranks = ALONE) -> None:
        self._ranks = ranks
        self._print_notice = partial(notify, "stopping after this step; Ctrl-C again stops at once")
        self._stack = ExitStack()
        self._is_pressed: Callable[[], bool] = lambda: False

    @property
    def stop(self) -> str | None:  # type: ignore[override]
        """The reason to end training, or None."""
        return INTERRUPTED if self._ranks.max(self._is_pressed()) else None

    def on_train_begin(self, state: TrainState) -> None:  # noqa: ARG002
        """Defer Ctrl-C."""
        self._is_pressed = self._stack.enter_context(defer_interrupts(self._print_notice))

    def on_train_end(self, result: "FitResult") -> None:  # noqa: ARG002
        """Let Ctrl-C interrupt again."""
        self.close()

    def close(self) -> None:
        """Let Ctrl-C interrupt again."""
        self._stack.close()


def make_row(trainer: "Trainer", log: EpochLog) -> dict[str, int | float | str]:
    """Return the row of an epoch in metrics.jsonl but for the seconds; empty without metrics."""
    if not log.metrics:
        return {}
    row: dict[str, int | float | str] = {"epoch": log.epoch, **log.metrics}
    if log.training is not None:
        row["fingerprint"] = trainer.fingerprint(log.state)
    return row


class CompareRanks(Callback):
    """Compares the parameters of all ranks after each epoch: only a faulty machine has other ones."""

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer

    def on_epoch_end(self, log: EpochLog) -> None:
        """Compare.

        Raises
        ------
        BackendError
            A rank has other parameters than most.
        """
        ranks = self._trainer.ranks
        digests = ranks.gather(self._trainer.fingerprint(log.state))
        usual = max(digests, key=digests.count)
        for rank, digest in enumerate(digests):
            if digest != usual:
                problem = f"has other parameters after epoch {log.epoch}: is its memory or processor faulty?"
                error = BackendError.at(ranks.hosts[rank], problem, rank=rank)
                error.shared = True
                raise error


class RecordMetrics(Callback):
    """Appends a row to metrics.jsonl for each epoch with metrics; those of logged epochs have a fingerprint.

    Attributes
    ----------
    rows, earlier_seconds
        The number of rows written, and the seconds of training before a resumed run was started.
    """

    def __init__(self, trainer: "Trainer", run: Run) -> None:
        self._trainer, self._run = trainer, run
        self.rows, self.earlier_seconds, self._start = 0, 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds of training so far."""
        return round(self.earlier_seconds + time.perf_counter() - self._start, 3)

    def on_epoch_end(self, log: EpochLog) -> None:
        """Write the row."""
        if row := make_row(self._trainer, log):
            self._run.log({**row, "seconds": self.seconds})
            self.rows += 1


def state_arrays(trainer: "Trainer", state: TrainState, final: "FinalParameters") -> "dict[str, HostArray]":
    """Return copies of the arrays of a state, and of what is kept besides, by their names in a checkpoint."""
    arrays = flatten("state", tuple(trainer.to_host(state.variables)))
    return arrays if final.kept is None else arrays | flatten(final.kept_name, trainer.to_host(final.kept))


def make_progress(state: TrainState, final: "FinalParameters", rows: int, seconds: Any) -> dict[str, Any]:
    """Return the facts of a checkpoint: counters, rows and seconds so far, and the best epoch."""
    counters = {"epoch": state.epoch, "batch": state.batch, "rows": rows, "seconds": seconds}
    return {**counters, "best": final.progress}


def load_state(
    trainer: "Trainer", final: "FinalParameters", path: Path, remedy: str = RESTART
) -> tuple[TrainState, dict[str, Any]]:
    """Return the state and the progress in a checkpoint, and set what is kept for the network to that in it.

    Raises
    ------
    DataError
        The file is missing or damaged, or belongs to another training run; the message ends with the
        `remedy`.
    """
    arrays, progress = load_checkpoint(path)
    epoch, batch, steps = int(progress["epoch"]), int(progress["batch"]), len(trainer.loader.bounds)
    if batch > steps:
        problem = f"after {batch} steps of an epoch, which has {steps}"
        raise DataError.at(path, f"not a checkpoint of this training: {problem}: {remedy}")
    initial = trainer.to_host(trainer.initial_state().variables)
    variables = Variables(*unflatten(path, "state", tuple(initial), arrays, remedy))
    final.best_epoch, final.best_accuracy, final.best_loss = progress["best"]
    if final.is_kept(epoch, arrays):
        template = initial.parameters, initial.statistics
        final.kept = trainer.to_device(unflatten(path, final.kept_name, template, arrays, remedy))
    return TrainState(trainer.to_device(variables), epoch, batch), progress


class SaveCheckpoints(Callback):
    """Saves a checkpoint after each epoch, every `checkpoint_seconds`, and when training ends.

    Every `keep_checkpoint_every` epochs a copy is kept, in a file that is named by the epoch.
    """

    def __init__(
        self, trainer: "Trainer", run: Run, metrics: RecordMetrics, final: "FinalParameters"
    ) -> None:
        self._trainer, self._run = trainer, run
        self._metrics, self._final = metrics, final
        self._last_save = time.perf_counter()

    def on_step_end(self, state: TrainState) -> None:
        """Save a checkpoint if the last one is `checkpoint_seconds` old."""
        interval = self._trainer.config.checkpoint_seconds
        if interval is not None and time.perf_counter() - self._last_save >= interval:
            self._save(state)

    def on_epoch_end(self, log: EpochLog) -> None:
        """Save a checkpoint."""
        interval = self._trainer.config.keep_checkpoint_every
        if log.epoch == 0:
            return
        if interval is not None and log.epoch % interval == 0:
            # Before the other one, so that a resumed run has kept all up to its epoch.
            self._save(log.state, KEPT_CHECKPOINT.format(log.epoch))
        if log.epoch < self._trainer.config.epochs:
            self._save(log.state)

    def on_train_end(self, result: "FitResult") -> None:
        """Save a checkpoint of the last state, from which the run can be resumed or extended."""
        self._save(result.state)

    def start(self) -> TrainState:
        """Return the state to start from: that of the parent, if the run extends one, or the initial state.

        Raises
        ------
        DataError
            The parent has no checkpoint, or one that is damaged or belongs to another training run.
        """
        parent = self._run.record["parent"]
        if parent is None:
            return self._trainer.initial_state()
        remedy = "--init-from starts from its model"
        path = Path(parent["run"]) / CHECKPOINT_FILE
        return load_state(self._trainer, self._final, path, remedy)[0]

    def restore(self) -> TrainState:
        """Return the state of the last checkpoint, or that to start from, and truncate the record to it.

        Raises
        ------
        DataError
            The checkpoint is damaged, or belongs to another training run.
        """
        path, parent = self._run.checkpoint, self._run.record["parent"]
        if not path.exists():
            state = self.start()
            self._resume(0, state)
            return state
        state, progress = load_state(self._trainer, self._final, path)
        first = 0 if parent is None else parent["epochs"]
        # A checkpoint before the first step: the row of the first epoch is written again.
        rows = int(progress["rows"]) if (state.epoch, state.batch) != (first, 0) else 0
        self._metrics.rows, self._metrics.earlier_seconds = rows, float(progress["seconds"])
        self._resume(rows, state)
        return state

    def _resume(self, rows: int, state: TrainState) -> None:
        """Open the record again, from a state on and with the rows before it."""
        backend = self._trainer.backend
        place = {"backend": backend.name, "device": backend.device_name}
        self._run.resume(rows, epoch=state.epoch, **place, ranks=self._trainer.ranks)

    def _save(self, state: TrainState, name: str = CHECKPOINT_FILE) -> None:
        arrays = state_arrays(self._trainer, state, self._final)
        progress = make_progress(state, self._final, self._metrics.rows, self._metrics.seconds)
        specification = self._run.record["specification_version"]
        self._run.write(name, encode_checkpoint(arrays, progress, specification))
        self._last_save = time.perf_counter()
