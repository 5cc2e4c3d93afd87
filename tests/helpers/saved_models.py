"""Models from tensors with the names and shapes that they have in a file, and the tensors of files."""

import numpy as np
from safetensors import safe_open

from xpnet.nn.inputs import Normalization
from xpnet.nn.layers import Linear
from xpnet.storage.model_file import TrainedNetwork


def saved_model(layers, *, shift=0.0, scale=1.0):
    parameters = [Linear(layer["weight"], layer["bias"].reshape(-1, 1)) for layer in layers]
    return TrainedNetwork(parameters, [], Normalization("none", np.asarray(shift), np.asarray(scale)), "relu")


def read_tensors(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping
