"""The training loop: epochs, batches, steps and callbacks; independent of array libraries and files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from xpnet.compute.evaluation import SampleEvaluation, to_float
from xpnet.errors import DivergedError
from xpnet.training.step import Variables

Sums = list[tuple[int, Any]]
"""Of the biases of the output layer, after epochs."""
INTERRUPTED = "interrupted"
"""The reason to end training after Ctrl-C."""
MOST_UNREAD = 1000
"""Epochs after which a GPU is asked whether the parameters are finite, even if none of them is logged."""


class TrainState(NamedTuple):
    """The state of a training run."""

    variables: Variables
    epoch: int = 0  # epochs completed
    batch: int = 0  # steps taken in the next epoch


@dataclass
class EpochLog:
    """The results of an epoch, for callbacks.

    A state's arrays are valid until the next step: copy them to keep them.
    """

    state: TrainState
    training: SampleEvaluation | None = None  # on the training samples, in logged epochs
    validation: SampleEvaluation | None = None  # on the validation samples, if there are any

    @property
    def epoch(self) -> int:
        """The number of completed epochs; 0 before the first step."""
        return self.state.epoch

    @property
    def metrics(self) -> dict[str, float]:
        """The losses and accuracies by their names in a record."""
        training = self.training.metrics("train") if self.training else {}
        return training | (self.validation.metrics("validation") if self.validation else {})


@dataclass
class FitResult:
    """The result of training.

    Attributes
    ----------
    state
        The last state.
    best
        The state of the trained network: the last one, where no callback chose another.
    stopped
        The reason for ending before the last epoch, or None.
    best_epoch
        The epoch whose parameters early stopping chose; None without it.
    """

    state: TrainState
    best: TrainState
    stopped: str | None = None
    best_epoch: int | None = None

    @property
    def interrupted(self) -> bool:
        """True if Ctrl-C ended training."""
        return self.stopped == INTERRUPTED


class LoopCallback:
    """The hooks of the training loop; a subclass overrides those it needs.

    Training ends before the next step once the attribute ``stop`` is the reason, a text.
    """

    stop: str | None = None
    """The reason to end training before the next step, or None."""
    needs_every_step = False
    """True if `on_step_end` must be called after each step, not only after some that are computed at once."""

    needs_every_epoch = False
    """True if `on_epoch_end` must not be called with parameters that are not finite.

    Else a GPU, which computes while the host goes on, may pass epochs that are not logged without a wait for
    it, and training ends at the next that is."""

    _now: tuple[Any, TrainState] | None = None
    """The trainer and the state for which a hook is called."""

    def on_train_begin(self, state: TrainState) -> None:
        """Prepare; called before the first step."""

    def on_step_end(self, state: TrainState) -> None:
        """Act after a step, or after some that are computed at once."""

    def on_epoch_end(self, log: EpochLog) -> None:
        """Act after an epoch; called with epoch 0 before the first step."""

    def on_train_end(self, result: FitResult) -> None:
        """Act on the result; not called after an error."""

    def close(self) -> None:
        """Release resources; also called after an error."""

    @property
    def _trainer(self) -> Any:
        """The ``Trainer``, in a hook."""
        return None if self._now is None else self._now[0]

    def _at(self, trainer: Any, state: TrainState) -> Self:
        """Return itself, before a hook is called."""
        self._now = trainer, state
        return self


def fit(  # noqa: C901 - one function, so that a debugger shows one frame
    trainer: Any, state: TrainState, *, epochs: int, first_epoch: int, callbacks: Sequence[LoopCallback]
) -> FitResult:
    """Train until a number of epochs is complete, or a callback stops training.

    Parameters
    ----------
    trainer
        Its ``step``, its ``ranks``, its ``loader`` of batches, and its ``learning_rate`` of each step,
        counted from 0 over all epochs.
    state
        The state to start from.
    epochs
        The last epoch.
    first_epoch
        The number of epochs of the state before the first step, with which the callbacks are called once.
    callbacks
        Called in their order; see ``LoopCallback``.

    Returns
    -------
    FitResult
        The last state; after KeyboardInterrupt between two steps that of the last one.

    Raises
    ------
    KeyboardInterrupt
        A step was interrupted, which may have overwritten the arrays of the state before it.
    DivergedError
        The parameters are no longer finite, or a callback raised it.
    """
    step = trainer.step
    loader = trainer.loader
    in_step = False
    stopped = None
    steps, one_by_one = len(loader.bounds), any(callback.needs_every_step for callback in callbacks)
    at_once = 1 if one_by_one else step.context.steps_at_once(loader.samples_per_step)
    sums: Sums = []  # to be checked by _check_finite
    try:
        for callback in callbacks:
            callback._at(trainer, state).on_train_begin(state)
        try:
            if (state.epoch, state.batch) == (first_epoch, 0):
                _end_epoch(trainer, state, callbacks, sums, epochs)
            while state.epoch < epochs and stopped is None:
                for batch in loader.batches(state.epoch + 1, state.batch, at_once):
                    stopped = next(filter(None, (callback.stop for callback in callbacks)), None)
                    if stopped is not None:
                        break
                    first_step = state.epoch * steps + state.batch
                    rates = [trainer.learning_rate(first_step + index) for index in range(batch.steps)]
                    in_step = True
                    with trainer.ranks.in_step(first_step + 1, batch.size):
                        variables = step(state.variables, batch, *rates)
                    in_step = False
                    state = TrainState(variables, state.epoch, state.batch + batch.steps)
                    for callback in callbacks:
                        callback._at(trainer, state).on_step_end(state)
                else:
                    state = TrainState(state.variables, state.epoch + 1)
                    _end_epoch(trainer, state, callbacks, sums, epochs)
        except KeyboardInterrupt:
            if in_step or trainer.ranks.size > 1:  # of which each would end after another step
                raise
            stopped = INTERRUPTED
        _check_finite(trainer, sums)
        result = FitResult(state, state, stopped)
        for callback in callbacks:
            callback._at(trainer, result.best).on_train_end(result)
    finally:
        for callback in callbacks:
            callback._now = None  # the trainer holds a library's arrays
            callback.close()
    return result


def _end_epoch(trainer: Any, state: Any, callbacks: Sequence[LoopCallback], sums: Sums, last: int) -> None:
    """Call the callbacks, unless a bias of the output layer is not finite: that is a DivergedError.

    These biases are few, and NaN and infinities reach them in the same step. Reading their sum waits for the
    device: on a GPU, ``sums`` of several epochs are read at once where that is possible.
    """
    context, output = trainer.step.context, state.variables.parameters[-1]
    sums.append((state.epoch, context.ops.xp.sum(output.bias)))
    must_wait = any(callback.needs_every_epoch for callback in callbacks) or len(sums) == MOST_UNREAD
    must_wait = must_wait or not context.backend.on_gpu or state.epoch == last
    if must_wait or state.epoch % trainer.config.log_interval == 0:
        _check_finite(trainer, sums)
    log = EpochLog(state)
    for callback in callbacks:
        callback._at(trainer, state).on_epoch_end(log)


def _check_finite(trainer: Any, sums: Sums) -> None:
    """Raise DivergedError for the first epoch whose sum is not finite; the list is empty afterwards."""
    for epoch, total in sums:
        if not math.isfinite(to_float(trainer.step.context.ops, total)):
            raise DivergedError.in_epoch(epoch)
    sums.clear()
