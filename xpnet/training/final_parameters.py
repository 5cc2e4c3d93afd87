"""The parameters of the trained network: of the last epoch, of the best one, or the mean of the last ones."""

from collections.abc import Iterable
from typing import TypeAlias

from xpnet._lib.tree import leaves, tree_map
from xpnet.config import TrainConfig
from xpnet.nn import functional as F
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.training.loop import Callback, EpochLog, FitResult
from xpnet.training.step import TrainState
from xpnet.training.trainer import Trainer

ParametersAndStatistics: TypeAlias = tuple[Parameters, list[RunningStatistics]]


class FinalParameters(Callback):
    """Determines the parameters of the trained network: those of the last epoch, or what a subclass keeps.

    Attributes
    ----------
    kept
        What is kept of parameters and running statistics, in arrays of its own; None before there is any.
    kept_name
        The name of `kept` in a checkpoint.
    best_epoch, best_accuracy, best_loss
        The best epoch so far, which only early stopping looks for.
    """

    kept: ParametersAndStatistics | None = None
    kept_name = "best"
    best_epoch, best_accuracy, best_loss = 0, -1.0, 0.0

    @property
    def progress(self) -> list[int | float]:
        """The best epoch, its accuracy and its loss, as a checkpoint holds them."""
        return [self.best_epoch, self.best_accuracy, self.best_loss]

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

    def on_train_end(self, trainer: Trainer, result: FitResult) -> None:  # noqa: ARG002
        """Make the parameters those of ``result.best``."""
        result.best_epoch = self.metrics.get("best_epoch")
        if self.kept is not None:
            parameters, statistics = self._finish(self.kept, result.state)
            best = result.state.variables._replace(parameters=parameters, statistics=statistics)
            result.best = result.state._replace(variables=best)

    def _finish(self, kept: ParametersAndStatistics, state: TrainState) -> ParametersAndStatistics:  # noqa: ARG002
        """Return the parameters and statistics of the network from what is kept, after the last state."""
        return kept


class EarlyStopping(FinalParameters):
    """Keeps the epoch with the highest validation accuracy; of equal ones that of the lowest loss, the first.

    Prechelt 1998, "Early stopping - but when?": training ends after ``patience`` epochs without a better
    one, counted from ``first``, the epoch that training begins with.
    """

    def __init__(self, patience: int, first: int = 0) -> None:
        self._patience, self._first = patience, first

    @property
    def metrics(self) -> dict[str, int]:
        """The best epoch, once there is one."""
        return {} if self.kept is None else {"best_epoch": self.best_epoch}

    def is_kept(self, epoch: int, names: Iterable[str]) -> bool:  # noqa: ARG002
        """Return True if the checkpoint has the best epoch, as that of a run with early stopping."""
        return any(name.startswith(self.kept_name) for name in names)

    def on_train_begin(self, trainer: Trainer, state: TrainState) -> None:  # noqa: ARG002
        """Stop a resumed run whose patience is exhausted."""
        self._update_stop(state.epoch)

    def is_decisive(self, log: EpochLog) -> bool:
        """Return True if an epoch is the best so far, or exhausts the patience."""
        return self._is_best(log) or self._is_exhausted(log.epoch)

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:  # noqa: ARG002
        """Copy the parameters if they are the best so far."""
        if log.validation is not None and self._is_best(log):
            validation, variables = log.validation, log.state.variables
            self.best_epoch, self.best_accuracy = log.epoch, validation.accuracy
            self.best_loss = validation.loss
            self.kept = tree_map(lambda array: array * 1.0, (variables.parameters, variables.statistics))
        self._update_stop(log.epoch)

    def _is_best(self, log: EpochLog) -> bool:
        best, validation = (self.best_accuracy, -self.best_loss), log.validation
        return validation is not None and (validation.accuracy, -validation.loss) > best

    def _is_exhausted(self, epoch: int) -> bool:
        return epoch - max(self.best_epoch, self._first) >= self._patience

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

    def on_train_begin(self, trainer: Trainer, state: TrainState) -> None:  # noqa: ARG002
        """Take the sum of a checkpoint as that of all epochs up to its own."""
        if self.kept is not None:
            self._added = state.epoch

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:  # noqa: ARG002
        """Add the parameters to the sum."""
        self._add(log.state)

    def on_train_end(self, trainer: Trainer, result: FitResult) -> None:
        """Make the mean the parameters of ``result.best``."""
        self._add(result.state)  # of an epoch whose evaluation was interrupted
        super().on_train_end(trainer, result)

    def _add(self, state: TrainState) -> None:
        """Add the parameters of a state to the sum, if they are those after an epoch that is not in it."""
        if state.batch or state.epoch <= self._added:
            return
        epoch = state.variables.parameters, state.variables.statistics
        if self.kept is None:
            self.kept = tree_map(lambda array: array * 1.0, epoch)
        else:
            arrays = leaves(epoch)
            self.kept = tree_map(lambda total: F.flush_tiny(total + next(arrays)), self.kept)
        self._added = state.epoch

    def _finish(self, kept: ParametersAndStatistics, state: TrainState) -> ParametersAndStatistics:
        share = 1.0 / (state.epoch - self._after)
        return tree_map(lambda total: F.flush_tiny(total * share), kept)


def build(config: TrainConfig, first: int = 0, last: int | None = None) -> FinalParameters:
    """Return the callback that the settings ask for.

    `first` is the epoch that training begins with, `last` the one that it ends with, by default that of the
    settings.
    """
    if config.patience is not None:
        return EarlyStopping(config.patience, first)
    last = config.epochs if last is None else last
    averaged = min(config.average_epochs, last - first)
    return WeightAveraging(last - averaged) if averaged > 1 else FinalParameters()
