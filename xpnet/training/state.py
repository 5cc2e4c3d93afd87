"""The state of a training run: parameters, running statistics, optimiser state, epoch and step."""

from typing import NamedTuple

from xpnet._lib.tree import tree_map
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.nn.optim import Optimizer, OptimizerState


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


def initial_state(
    parameters: Parameters, statistics: list[RunningStatistics], optimizer: Optimizer[OptimizerState]
) -> TrainState:
    """Return the state before the first step, with copies: a step may reuse the memory of its variables."""
    layers, running = tree_map(lambda array: array * 1.0, (parameters, statistics))
    return TrainState(Variables(layers, running, optimizer.init(layers)))
