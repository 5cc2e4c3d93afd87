"""The initial parameters and running statistics, drawn on the host."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from xpnet.arithmetic import random
from xpnet.config.settings import Initialization
from xpnet.nn.architecture import Network
from xpnet.nn.layers import BatchNorm, Linear, Parameters, RunningStatistics


def initialize(
    sizes: Sequence[int], seed: int, kind: Initialization = "uniform", *, batch_norm: bool = False
) -> Parameters:
    """Return the initial parameters, as host float64 arrays.

    ``sizes`` are those of ``Network``. Each layer has its own stream of random words: first the weights row
    by row, then the biases.

    * ``uniform``: weights and biases uniform in [-0.5, 0.5), the notebook's.
    * ``he``: weights uniform in [-a, a), a = √(6 / inputs), biases 0 (He et al. 2015).
    * ``glorot``: weights uniform in [-a, a), a = √(6 / (inputs + units)), biases 0 (Glorot & Bengio 2010).

    With ``batch_norm``, each hidden layer is followed by a BatchNorm with gamma 1 and beta 0.
    """
    layers: Parameters = []
    for index, (inputs, units) in enumerate(pairwise(sizes)):
        count = units * inputs
        words = random.words(seed, random.Purpose.INITIALIZE, count + units, index=index)
        values = random.uniform(words) - 0.5
        weights, biases = values[:count].reshape(units, inputs), values[count:].reshape(units, 1)
        if kind != "uniform":
            fan = inputs if kind == "he" else inputs + units
            weights, biases = weights * (2.0 * math.sqrt(6.0 / fan)), np.zeros((units, 1))
        layers.append(Linear(weights, biases))
        if batch_norm and index < len(sizes) - 2:
            layers.append(BatchNorm(np.ones((units, 1)), np.zeros((units, 1))))
    return layers


def initial_running_statistics(network: Network) -> list[RunningStatistics]:
    """Return the running statistics before training, mean 0 and variance 1, as host float64 arrays.

    One for each batch normalisation; none if the network has none.
    """
    hidden = network.sizes[1:-1] if network.batch_norm else ()
    return [RunningStatistics(np.zeros((units, 1)), np.ones((units, 1))) for units in hidden]
