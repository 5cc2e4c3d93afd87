"""Models from tensors with the names and shapes that they have in a file, and the tensors of files."""

from itertools import zip_longest

import numpy as np
from safetensors import safe_open

from xpnet.nn.inputs import Normalization
from xpnet.nn.layers import BatchNorm, Linear, RunningStatistics
from xpnet.storage.model_file import TrainedNetwork


def saved_model(layers, *, norms=(), normalize="scale", normalization=None, activation="relu"):
    """A model of layers (weight, bias) and norms (weight, bias, running_mean, running_var)."""
    parameters, statistics = [], []
    for layer, norm in zip_longest(layers, norms):
        parameters.append(Linear(layer["weight"], layer["bias"].reshape(-1, 1)))
        if norm is not None:
            gamma, beta, mean, variance = (array.reshape(-1, 1) for array in norm.values())
            parameters.append(BatchNorm(gamma, beta))
            statistics.append(RunningStatistics(mean, variance))
    values = {"shift": 0.0, "scale": 1 / 255 if normalize == "scale" else 1.0} | (normalization or {})
    inputs = Normalization(normalize, **{name: np.asarray(value) for name, value in values.items()})
    return TrainedNetwork(parameters, statistics, inputs, activation)


def read_tensors(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping
