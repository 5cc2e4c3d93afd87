"""Models from tensors with the names and shapes that they have in a file, and the tensors of files."""

import numpy as np
from safetensors import safe_open

from xpnet.nn.inputs import Normalization
from xpnet.nn.layers import Linear
from xpnet.storage.model_file import TrainedNetwork


def saved_model(layers, *, normalize="scale", normalization=None):
    parameters = [Linear(layer["weight"], layer["bias"].reshape(-1, 1)) for layer in layers]
    values = normalization or {"shift": 0.0, "scale": 1 / 255 if normalize == "scale" else 1.0}
    inputs = Normalization(normalize, **{name: np.asarray(value) for name, value in values.items()})
    return TrainedNetwork(parameters, [], inputs, "relu")


def read_tensors(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping
