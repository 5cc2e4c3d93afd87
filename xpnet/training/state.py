"""The state of a training run: parameters, running statistics, optimiser state, epoch and step."""

from typing import NamedTuple

from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.nn.optim import OptimizerState


class Variables(NamedTuple):
    """The variables that a step changes, a pytree."""

    parameters: Parameters
    statistics: list[RunningStatistics]  # of each batch normalisation
    optimizer: OptimizerState


class TrainState(NamedTuple):
    """The state of a training run."""

    variables: Variables
    epoch: int = 0  # epochs completed
    batch: int = 0  # steps taken in the next epoch
