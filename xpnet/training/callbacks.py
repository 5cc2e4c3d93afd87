"""Callbacks of the training loop: final parameters, evaluation, Ctrl-C, comparison of ranks."""

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from xpnet._lib.interrupts import defer_interrupts
from xpnet._lib.tree import tree_map
from xpnet._typing import Function, Notify
from xpnet.arithmetic.elementary import flush_tiny
from xpnet.config import TrainConfig
from xpnet.errors import DivergedError
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.training.loop import INTERRUPTED, EpochLog, FitResult, LoopCallback, TrainState

ParametersAndStatistics = tuple[Parameters, list[RunningStatistics]]


class FinalParameters(LoopCallback):
    """Determines the parameters of the trained network: those of the last epoch, or what a subclass keeps.

    Attributes
    ----------
    kept
        What is kept of parameters and running statistics, in arrays of its own; None before there is any.
    kept_name
        The name of `kept` in a checkpoint.
    best
        The best epoch so far, its score and its loss, which only early stopping looks for.
    """

    kept: ParametersAndStatistics | None = None
    kept_name = "best"
    best: tuple[int, float, float] = (0, -1.0, 0.0)

    @property
    def metrics(self) -> dict[str, int]:
        """What the metrics of a run say of the choice."""
        return {}

    def is_kept(self, epoch: int, names: Iterable[str]) -> bool:  # noqa: ARG002
        """Return True if a checkpoint after an epoch, with arrays of these names, must hold `kept`."""
        return False

    def is_decisive(self, log: EpochLog) -> bool:  # noqa: ARG002
        """Return True if an epoch is the best so far, or ends training; asked before ``on_epoch_end``."""
        return False

    def on_train_end(self, result: FitResult) -> None:
        """Make the parameters those of ``result.best``."""
        result.best_epoch = self.metrics.get("best_epoch")
        if self.kept:
            parameters, statistics = self._finish(self.kept, result.state)
            best = result.state.variables._replace(parameters=parameters, statistics=statistics)
            result.best = result.state._replace(variables=best)

    def _finish(self, kept: ParametersAndStatistics, state: TrainState) -> ParametersAndStatistics:  # noqa: ARG002
        """Return the parameters and statistics of the network from what is kept, after the last state."""
        return kept


@dataclass(eq=False)
class EarlyStopping(FinalParameters):
    """Keeps the epoch with the highest score; of equal ones that of the lowest validation loss, the first.

    Prechelt 1998, "Early stopping - but when?": training ends after ``patience`` epochs without a better
    one, counted from ``first``, the epoch that training begins with.
    """

    needs_every_epoch = True
    patience: int
    first: int = 0

    @property
    def metrics(self) -> dict[str, int]:
        """The best epoch, once there is one."""
        return {} if self.kept is None else {"best_epoch": self.best[0]}

    def is_kept(self, epoch: int, names: Iterable[str]) -> bool:  # noqa: ARG002
        """Return True if the checkpoint has the best epoch, as that of a run with early stopping."""
        return any(name.startswith(self.kept_name) for name in names)

    def on_train_begin(self, state: TrainState) -> None:
        """Stop a resumed run whose patience is exhausted."""
        self._update_stop(state.epoch)

    def is_decisive(self, log: EpochLog) -> bool:
        """Return True if an epoch is the best so far, or exhausts the patience."""
        return self._is_best(log) or self._is_exhausted(log.epoch)

    def on_epoch_end(self, log: EpochLog) -> None:
        """Copy the parameters if they are the best so far."""
        if log.validation and self._is_best(log):
            variables, (score, gain) = log.state.variables, log.validation.rank
            self.best = log.epoch, score, -gain
            self.kept = tree_map(lambda array: array * 1.0, (variables.parameters, variables.statistics))
        self._update_stop(log.epoch)

    def _is_best(self, log: EpochLog) -> bool:
        (_, score, loss), validation = self.best, log.validation
        return validation is not None and (self.kept is None or validation.rank > (score, -loss))

    def _is_exhausted(self, epoch: int) -> bool:
        return epoch - max(self.best[0], self.first) >= self.patience

    def _update_stop(self, epoch: int) -> None:
        self.stop = "early" if self._is_exhausted(epoch) else None


class WeightAveraging(FinalParameters):
    """Averages the parameters, and the running statistics, after each epoch above ``after``.

    Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization" (stochastic
    weight averaging). Where the source computes the statistics of batch normalisation anew, with a pass over
    the training samples, theirs are averaged too. `kept` is the sum so far, to which epoch by epoch is added.
    """

    kept_name = "sum"

    def __init__(self, after: int) -> None:
        self._after = self._added = after  # the last epoch that does not count, and the last in the sum

    def is_kept(self, epoch: int, names: Iterable[str]) -> bool:  # noqa: ARG002
        """Return True if an epoch that counts is complete."""
        return epoch > self._after

    def on_train_begin(self, state: TrainState) -> None:
        """Take the sum of a checkpoint as that of all epochs up to its own."""
        if self.kept:
            self._added = state.epoch

    def on_epoch_end(self, log: EpochLog) -> None:
        """Add the parameters to the sum."""
        self._add(log.state)

    def on_train_end(self, result: FitResult) -> None:
        """Make the mean the parameters of ``result.best``."""
        self._add(result.state)  # of an epoch whose evaluation was interrupted
        super().on_train_end(result)

    def _add(self, state: TrainState) -> None:
        """Add the parameters of a state to the sum, if they are those after an epoch that is not in it."""
        if state.batch or state.epoch <= self._added:
            return
        epoch = state.variables.parameters, state.variables.statistics
        if self.kept is None:
            self.kept = tree_map(lambda array: array * 1.0, epoch)
        else:
            self.kept = tree_map(lambda total, array: flush_tiny(total + array), self.kept, epoch)
        self._added = state.epoch

    def _finish(self, kept: ParametersAndStatistics, state: TrainState) -> ParametersAndStatistics:
        share = 1.0 / (state.epoch - self._after)
        return tree_map(lambda total: flush_tiny(total * share), kept)


def build_final(config: TrainConfig, first: int = 0, last: int | None = None) -> FinalParameters:
    """Return the callback that the settings ask for.

    `first` is the epoch that training begins with, `last` the one that it ends with, by default that of the
    settings.
    """
    if config.patience is not None:
        return EarlyStopping(config.patience, first)
    last = config.epochs if last is None else last
    averaged = min(config.average_epochs, last - first)
    return WeightAveraging(last - averaged) if averaged > 1 else FinalParameters()


@dataclass(eq=False)
class Evaluate(LoopCallback):
    """Evaluates the validation samples in every epoch, and the training samples in logged epochs.

    Attributes
    ----------
    first, last
        The first and the last epoch, which are always logged; by default 0 and that of the settings.
    final
        Its best epochs, and the one in which it ends training, are always logged too.
    """

    first: int = 0
    last: int | None = None
    final: FinalParameters = field(default_factory=FinalParameters)

    def on_epoch_end(self, log: EpochLog) -> None:
        """Add the evaluations to the log.

        Raises
        ------
        DivergedError
            The training loss is not finite.
        """
        trainer, config = self._trainer, self._trainer.config
        log.validation = trainer.validate(log.state)
        last = config.epochs if self.last is None else self.last
        is_regular = log.epoch % config.log_interval == 0 or log.epoch in (self.first, last)
        if is_regular or self.final.is_decisive(log):
            log.training = trainer.evaluate(log.state)
            if not math.isfinite(log.training.loss):
                raise DivergedError.in_epoch(log.epoch)


class StopOnInterrupt(LoopCallback):
    """Ends training before the next step after Ctrl-C; a second Ctrl-C interrupts immediately.

    Of the processes that share the training all end if one of them is interrupted. ``notify`` is called with
    a line of text at the first Ctrl-C.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify, self._stack = notify, ExitStack()
        self._is_pressed: Function = lambda: False

    @property
    def stop(self) -> str | None:  # type: ignore[override]
        """The reason to end training, or None."""
        return INTERRUPTED if self._trainer.ranks.max(self._is_pressed()) else None

    def on_train_begin(self, state: TrainState) -> None:  # noqa: ARG002
        """Defer Ctrl-C."""
        notice = "stopping after this step; Ctrl-C again stops at once"
        self._is_pressed = self._stack.enter_context(defer_interrupts(lambda: self._notify(notice)))

    def on_train_end(self, result: FitResult) -> None:  # noqa: ARG002
        """Let Ctrl-C interrupt again."""
        self.close()

    def close(self) -> None:
        """Let Ctrl-C interrupt again."""
        self._stack.close()


class CompareRanks(LoopCallback):
    """Compares the parameters of all ranks after each epoch: only a faulty machine has other ones."""

    needs_every_epoch = True

    def on_epoch_end(self, log: EpochLog) -> None:
        """Compare.

        Raises
        ------
        BackendError
            A rank has other parameters.
        """
        digest = self._trainer.fingerprint(log.state)
        problem = f"has other parameters after epoch {log.epoch}"
        self._trainer.ranks.compare_neighbours(digest, digest, problem)


def order_callbacks(
    evaluate: Evaluate, users: Sequence[LoopCallback], console: Any = None
) -> list[LoopCallback]:
    """Return the callbacks of a training in the order of their calls; those that write files come after them.

    The `users` see an epoch after its evaluation. With a console, Ctrl-C ends training after a step.
    """
    order = [evaluate, evaluate.final, *users]
    return [*order, StopOnInterrupt(console.print_line), console] if console else order
