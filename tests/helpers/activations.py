"""What each activation of xpnet.nn.functional.ACTIVATIONS is compared with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Oracle(NamedTuple):
    """An activation by other means than xpnet's, elementwise."""

    formula: Callable[[Any], Any]  # of a NumPy array z
    derivative: Callable[[Any], Any]  # the formula's, of a NumPy array z


ORACLES = {
    "relu": Oracle(lambda z: np.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky-relu": Oracle(lambda z: np.maximum(z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "elu": Oracle(
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))),
        lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0.0))),
    ),
    "tanh": Oracle(np.tanh, lambda z: 1.0 / np.cosh(z) ** 2),
    "sigmoid": Oracle(lambda z: 1.0 / (1.0 + np.exp(-z)), lambda z: 0.25 / np.cosh(0.5 * z) ** 2),
}
