"""The state of a training run: all that a step changes, and where in the epochs it is."""

from typing import Any, NamedTuple

from xpnet._lib.tree import tree_map
from xpnet.nn.layers import Parameters, Statistics
from xpnet.nn.optim import Optimizer


class Variables(NamedTuple):
    """All that a step changes."""

    parameters: Parameters
    statistics: list[Statistics]  # the running ones of each batch normalisation
    optimizer: Any  # the optimiser's state


class TrainState(NamedTuple):
    """The variables, and how far training is."""

    variables: Variables
    epoch: int = 0  # epochs completed
    batch: int = 0  # steps taken in the next epoch


def initial_state(parameters: Parameters, statistics: list[Statistics], optimizer: Optimizer) -> TrainState:
    """Return the state before the first step, with copies: a step may use the memory of what it is given."""
    layers, running = tree_map(lambda array: array * 1.0, (parameters, statistics))
    return TrainState(Variables(layers, running, optimizer.init(layers)))
