"""The training loop: batches, steps, epochs. It knows no array library, no files and no command line."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from xpnet.arithmetic.blocks import (
    block_bounds,
)
from xpnet.errors import DivergedError
from xpnet.inference.context import Engine
from xpnet.nn.layers import Parameters
from xpnet.nn.optim import Optimizer
from xpnet.nn.schedules import Schedule
from xpnet.training.batches import Feed
from xpnet.training.evaluation import Evaluation, _number
from xpnet.training.state import TrainingState
from xpnet.training.step import _Step


@dataclass(frozen=True)
class Fitted:
    """What training gave."""

    state: TrainingState
    interrupted: bool

    @property
    def parameters(self) -> Parameters:
        """The trained parameters."""
        return self.state.parameters

    @property
    def epochs(self) -> int:
        """How many were completed."""
        return self.state.epoch


def fit(
    engine: Engine,
    state: TrainingState,
    feed: Feed,
    optimizer: Optimizer,
    learning_rate: Schedule,
    *,
    epochs: int,
    batch_size: int | None,
    evaluation: Callable[[TrainingState], Evaluation],
    log_every: int = 10,
    on_epoch: Callable[[int, Evaluation | None, TrainingState], None] = lambda *_: None,
    on_step: Callable[[TrainingState], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train until a number of epochs is complete and return the last state.

    Parameters
    ----------
    state : where to begin: ``start(...)``, or what ``on_step`` or ``on_epoch`` were given
    learning_rate : the learning rate of each step, counted from 0
    batch_size : samples a step (the last batch of an epoch may be short); None for all of them
    evaluation : evaluates a state on the training samples, for ``on_epoch``
    on_epoch : called as ``on_epoch(epoch, evaluation, state)`` after each epoch, and with 0 before the
        first; the evaluation is that of the state after so many epochs, and is made at epoch 0, every
        ``log_every`` epochs and the last (else None). A state's arrays are valid during the call: copy
        them to keep them
    on_step : called after each step
    stop : asked before each step whether to end training there

    KeyboardInterrupt ends training with the state of the last complete step, too.

    Raises
    ------
    DivergedError
        If the loss of an epoch, or of an evaluation, is not finite.
    """
    size = batch_size or feed.number
    bounds = block_bounds(feed.number, size)
    step = _Step(engine, feed, optimizer, size)

    def report() -> None:
        epoch = state.epoch
        logged = epoch % log_every == 0 or epoch == epochs
        found = evaluation(state) if logged else None
        if found is not None:
            _check_finite(found.loss, epoch)
        on_epoch(epoch, found, state)

    try:
        if state.epoch == state.batch == 0:
            report()
        while state.epoch < epochs:
            # Batches of all samples keep the order of epoch 0, so that it is made once.
            order = feed.order(state.epoch + 1 if batch_size else 0)
            for advance in step.in_turn(order, state.epoch + 1, bounds[state.batch :]):
                if stop():
                    return Fitted(state, interrupted=True)
                rate = learning_rate(state.epoch * len(bounds) + state.batch)
                state = advance(state, rate)._replace(batch=state.batch + 1)
                on_step(state)
            state = state._replace(epoch=state.epoch + 1, batch=0)
            # NaN and infinities reach the last biases, which are few, with the step that makes them.
            last = engine.ops.xp.sum(state.parameters[-1].bias)
            _check_finite(_number(engine.ops, last), state.epoch)
            report()
    except KeyboardInterrupt:
        return Fitted(state, interrupted=True)
    return Fitted(state, interrupted=False)


def _check_finite(number: float, epoch: int) -> None:
    if not math.isfinite(number):
        msg = (
            f"training diverged: the loss is not finite in epoch {epoch}: "
            "try a smaller --learning-rate, or --normalize scale"
        )
        raise DivergedError(msg)
