"""Callbacks of the training loop: evaluation, early stopping, metrics, checkpoints, Ctrl-C."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from xpnet._lib.interrupts import defer_interrupts
from xpnet._lib.tree import tree_map
from xpnet.errors import DivergedError
from xpnet.storage.checkpoint import flatten, load_checkpoint, unflatten
from xpnet.storage.run import Run
from xpnet.training.evaluation import Evaluation
from xpnet.training.state import TrainState, Variables

if TYPE_CHECKING:
    from xpnet.nn.layers import Parameters, RunningStatistics
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
    training: Evaluation | None = None  # on the samples that are trained on, if it is a logged epoch
    validation: Evaluation | None = None  # on those held out, if there are any

    @property
    def epoch(self) -> int:
        """Epochs completed; 0 before the first step."""
        return self.state.epoch

    @property
    def metrics(self) -> dict[str, float]:
        """Loss and accuracy by their names in a record."""
        training = {} if self.training is None else self.training.metrics("train")
        return training | ({} if self.validation is None else self.validation.metrics("validation"))


class Callback:
    """The hooks of the training loop; a subclass overrides those it needs."""

    stop: str | None = None
    """The reason to end training before the next step, or None."""

    def on_train_begin(self, state: TrainState) -> None:
        """Prepare; called before the first step."""

    def on_step_end(self, state: TrainState) -> None:
        """Act on a step that is done."""

    def on_epoch_end(self, log: EpochLog) -> None:
        """Act on an epoch that is done; called with epoch 0 before the first step."""

    def on_train_end(self, result: "FitResult") -> None:
        """Act on the result; not called after an error."""

    def close(self) -> None:
        """Release resources; called however training ended."""


class Evaluate(Callback):
    """Fills the log: the training samples in logged epochs, the validation samples in every epoch.

    Parameters
    ----------
    trainer
        Evaluates.
    validate
        Evaluates a state on other samples than those that the settings hold out.
    last
        The last epoch, which is logged, as epoch 0 is; by default that of the settings.
    every
        Epochs from one that is logged to the next; by default that of the settings.
    """

    def __init__(
        self,
        trainer: "Trainer",
        validate: Callable[[TrainState], Evaluation | None] | None = None,
        last: int | None = None,
        every: int | None = None,
    ) -> None:
        self._trainer, self._validate = trainer, validate or trainer.validate
        self._every = every or trainer.config.log_every
        self._last = trainer.config.epochs if last is None else last

    def on_epoch_end(self, log: EpochLog) -> None:
        """Evaluate.

        Raises
        ------
        DivergedError
            The training loss is not finite.
        """
        if log.epoch % self._every == 0 or log.epoch == self._last:
            log.training = self._trainer.evaluate(log.state)
            if not math.isfinite(log.training.loss):
                raise DivergedError.in_epoch(log.epoch)
        log.validation = self._validate(log.state)


class EarlyStopping(Callback):
    """Keeps the best epoch: the first with the highest validation accuracy, of equal ones the lowest loss.

    Prechelt 1998, "Early stopping - but when?": training ends after ``patience`` epochs without a better
    one. Without a patience it does not end early, and nothing is kept.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.epoch, self.accuracy, self.loss = 0, -1.0, 0.0
        self.best: tuple[Parameters, list[RunningStatistics]] | None = None  # copies

    def on_train_begin(self, state: TrainState) -> None:
        """Stop a resumed run that had no patience left."""
        self._check(state.epoch)

    def on_epoch_end(self, log: EpochLog) -> None:
        """Keep the parameters if they are the best."""
        if self.patience is None or log.validation is None:
            return
        accuracy, loss = log.validation.accuracy, log.validation.loss
        if (accuracy, -loss) > (self.accuracy, -self.loss):
            self.epoch, self.accuracy, self.loss = log.epoch, accuracy, loss
            variables = log.state.variables
            self.best = tree_map(lambda array: array * 1.0, (variables.parameters, variables.statistics))
        self._check(log.epoch)

    def on_train_end(self, result: "FitResult") -> None:
        """Choose the best parameters."""
        if self.best is not None:
            parameters, statistics = self.best
            last = result.state.variables
            best = last._replace(parameters=parameters, statistics=statistics)
            result.best = result.state._replace(variables=best)

    def _check(self, epoch: int) -> None:
        exhausted = self.patience is not None and epoch - self.epoch >= self.patience
        self.stop = "early" if exhausted else None


class StopOnInterrupt(Callback):
    """Ends training before the next step once Ctrl-C was pressed; a second one interrupts at once.

    Parameters
    ----------
    notify
        Called with a line of text at the first Ctrl-C.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notice = partial(notify, "stopping after this step; Ctrl-C again stops at once")
        self._stack = ExitStack()
        self._pressed: Callable[[], bool] = lambda: False

    @property
    def stop(self) -> str | None:  # type: ignore[override]
        """The reason to end training, or None."""
        return INTERRUPTED if self._pressed() else None

    def on_train_begin(self, state: TrainState) -> None:  # noqa: ARG002
        """Take Ctrl-C."""
        self._pressed = self._stack.enter_context(defer_interrupts(self._notice))

    def on_train_end(self, result: "FitResult") -> None:  # noqa: ARG002
        """Let Ctrl-C interrupt again."""
        self.close()

    def close(self) -> None:
        """Let Ctrl-C interrupt again."""
        self._stack.close()


class RecordMetrics(Callback):
    """Appends a row to metrics.jsonl for each epoch with metrics.

    Attributes
    ----------
    rows
        The number of rows written.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.rows = 0
        self._before, self._begin = 0.0, time.perf_counter()

    def continue_from(self, rows: int, seconds: float) -> None:
        """Go on after so many rows, and so many seconds of training."""
        self.rows, self._before = rows, seconds

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return round(self._before + time.perf_counter() - self._begin, 3)

    def on_train_begin(self, state: TrainState) -> None:  # noqa: ARG002
        """Start the clock."""
        self._begin = time.perf_counter()

    def on_epoch_end(self, log: EpochLog) -> None:
        """Write the row."""
        if metrics := log.metrics:
            self._run.log({"epoch": log.epoch, **metrics, "seconds": self.seconds})
            self.rows += 1


class SaveCheckpoints(Callback):
    """Saves a checkpoint after each epoch but the last, every so many seconds, and when interrupted."""

    def __init__(self, trainer: "Trainer", run: Run, metrics: RecordMetrics, early: EarlyStopping) -> None:
        self._trainer, self._run = trainer, run
        self._metrics, self._early = metrics, early
        self._saved = time.perf_counter()

    def on_train_begin(self, state: TrainState) -> None:  # noqa: ARG002
        """Start the clock."""
        self._saved = time.perf_counter()

    def on_step_end(self, state: TrainState) -> None:
        """Save a checkpoint if it is time."""
        wait = self._trainer.config.checkpoint_seconds
        if wait is not None and time.perf_counter() - self._saved >= wait:
            self._save(state)

    def on_epoch_end(self, log: EpochLog) -> None:
        """Save a checkpoint."""
        if 0 < log.epoch < self._trainer.config.epochs:
            self._save(log.state)

    def on_train_end(self, result: "FitResult") -> None:
        """Save a checkpoint to go on from."""
        if result.interrupted:
            self._save(result.state)

    def restore(self) -> TrainState:
        """Return the state of the last checkpoint, or the initial one, and cut the record back to it.

        Raises
        ------
        DataError
            The checkpoint is damaged, or not one of this training.
        """
        path, early, trainer = self._run.checkpoint, self._early, self._trainer
        if not path.exists():
            self._run.resume(0)
            return trainer.initial_state()
        arrays, facts = load_checkpoint(path)
        initial = trainer.to_host(trainer.initial_state().variables)
        variables = Variables(*unflatten(path, "state", tuple(initial), arrays))
        state = TrainState(variables, int(facts["epoch"]), int(facts["batch"]))
        early.epoch, early.accuracy, early.loss = facts["best"]
        if any(name.startswith("best") for name in arrays):
            like = initial.parameters, initial.statistics
            early.best = trainer.to_device(unflatten(path, "best", like, arrays))
        # Before the first step the row of epoch 0 may be there; it is written again.
        rows = int(facts["rows"]) if state.epoch or state.batch else 0
        self._metrics.continue_from(rows, float(facts["seconds"]))
        self._run.resume(rows)
        return trainer.restored(state)

    def _save(self, state: TrainState) -> None:
        early, to_host = self._early, self._trainer.to_host
        arrays = flatten("state", tuple(to_host(state.variables)))
        if early.best is not None:
            arrays |= flatten("best", to_host(early.best))
        facts = {
            "epoch": state.epoch,
            "batch": state.batch,
            "rows": self._metrics.rows,
            "seconds": self._metrics.seconds,
            "best": [early.epoch, early.accuracy, early.loss],
        }
        self._run.save_checkpoint(arrays, facts)
        self._saved = time.perf_counter()
