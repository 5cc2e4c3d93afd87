"""All that training changes."""

from typing import Any, NamedTuple

from xpnet.nn.layers import Parameters, Statistics
from xpnet.nn.optim import Optimizer


class TrainingState(NamedTuple):
    """All that training changes."""

    parameters: Parameters
    statistics: list[Statistics]  # the running ones of each batch normalisation
    optimizer: Any  # the optimiser's state
    epoch: int = 0  # how many are complete
    batch: int = 0  # steps taken in the next one


def start(
    parameters: Parameters, statistics: list[Statistics], optimizer: Optimizer
) -> TrainingState:
    """Return the state before the first step."""
    # A copy, for a step may use the memory of what it is given.
    copies = [type(layer)(*(array * 1.0 for array in layer)) for layer in parameters]
    running = [type(each)(*(array * 1.0 for array in each)) for each in statistics]
    return TrainingState(copies, running, optimizer.init(copies))
