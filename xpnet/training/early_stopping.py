"""Early stopping: the parameters that do best on the validation samples are kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpnet.training.evaluation import Evaluation
from xpnet.training.state import TrainingState


@dataclass
class EarlyStopping:
    """The best epoch so far: the first with the highest accuracy, of equal ones the lowest loss.

    Prechelt 1998, "Early stopping - but when?": training ends after ``patience`` epochs without a better
    one; without a patience it does not end early, and nothing is kept.
    """

    patience: int | None
    epoch: int = 0
    accuracy: float = -1.0
    loss: float = 0.0
    best: tuple[Any, Any] | None = None  # copies of its parameters and running statistics

    def update(self, found: Evaluation, state: TrainingState, copy: Callable[[Any], Any]) -> None:
        """Take note of an epoch; ``copy`` copies lists of named tuples of arrays."""
        if self.patience is None:
            return
        if (found.accuracy, -found.loss) > (self.accuracy, -self.loss):
            self.epoch, self.accuracy, self.loss = state.epoch, found.accuracy, found.loss
            self.best = copy(state.parameters), copy(state.statistics)

    def exhausted(self, epoch: int) -> bool:
        """Whether training should end after this epoch."""
        return self.patience is not None and epoch - self.epoch >= self.patience

    def chosen(self, state: TrainingState) -> TrainingState:
        """Return the state with the best parameters, or as it is if none were kept."""
        if self.best is None:
            return state
        return state._replace(parameters=self.best[0], statistics=self.best[1])
