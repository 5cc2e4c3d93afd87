"""The training loop: epochs, batches, steps and callbacks; independent of array libraries and files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from xpnet.errors import DivergedError
from xpnet.nn.schedules import Schedule
from xpnet.training.batches import BatchLoader
from xpnet.training.callbacks import INTERRUPTED, Callback, EpochLog
from xpnet.training.evaluation import to_float
from xpnet.training.state import TrainState
from xpnet.training.step import Step

if TYPE_CHECKING:
    from xpnet.nn.layers import Linear


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


def fit(
    step: Step,
    loader: BatchLoader,
    learning_rate: Schedule,
    state: TrainState,
    *,
    epochs: int,
    first_epoch: int = 0,
    callbacks: Sequence[Callback] = (),
) -> FitResult:
    """Train until a number of epochs is complete, or a callback stops training.

    Parameters
    ----------
    step, loader
        The training step, and the source of its batches.
    learning_rate
        The rate of each step, counted from 0 over all epochs.
    state
        The state to start from.
    epochs
        The last epoch.
    first_epoch
        The number of epochs of the state before the first step, with which the callbacks are called once.
    callbacks
        Called in their order; see ``Callback``.

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
    try:
        for callback in callbacks:
            callback.on_train_begin(state)
        state, stopped = _train(step, loader, learning_rate, state, (first_epoch, epochs), callbacks)
        result = FitResult(state, state, stopped)
        for callback in callbacks:
            callback.on_train_end(result)
    finally:
        for callback in callbacks:
            callback.close()
    return result


def _train(
    step: Step,
    loader: BatchLoader,
    learning_rate: Schedule,
    state: TrainState,
    epochs: tuple[int, int],
    callbacks: Sequence[Callback],
) -> tuple[TrainState, str | None]:
    """Return the last state, and the reason for stopping early or None."""
    steps, (first, last) = len(loader.bounds), epochs
    in_step, one_by_one = False, any(callback.needs_every_step for callback in callbacks)
    at_once = 1 if one_by_one else step.context.steps_at_once(loader.samples_per_step)
    try:
        if (state.epoch, state.batch) == (first, 0):
            _end_epoch(step, state, callbacks)
        while state.epoch < last:
            for batch in loader.batches(state.epoch + 1, state.batch, at_once):
                for callback in callbacks:
                    if callback.stop:
                        return state, callback.stop
                first_step = state.epoch * steps + state.batch
                rates = [learning_rate(first_step + index) for index in range(batch.steps)]
                in_step = True
                variables = step(state.variables, batch, *rates)
                in_step = False
                state = TrainState(variables, state.epoch, state.batch + batch.steps)
                for callback in callbacks:
                    callback.on_step_end(state)
            state = TrainState(state.variables, state.epoch + 1)
            _end_epoch(step, state, callbacks)
    except KeyboardInterrupt:
        if in_step:
            raise
        return state, INTERRUPTED
    return state, None


def _end_epoch(step: Step, state: TrainState, callbacks: Sequence[Callback]) -> None:
    """Call the callbacks, unless a bias of the output layer is not finite: that is a DivergedError.

    These biases are few, and NaN and infinities reach them in the same step.
    """
    ops, output = step.context.ops, cast("Linear", state.variables.parameters[-1])
    if not math.isfinite(to_float(ops, ops.xp.sum(output.bias))):
        raise DivergedError.in_epoch(state.epoch)
    log = EpochLog(state)
    for callback in callbacks:
        callback.on_epoch_end(log)
