"""Optimisers: pairs of pure functions ``init`` and ``update``, with their state in between."""

from collections.abc import Callable
from typing import Any, NamedTuple

from xpnet.model import Parameters


class Optimizer(NamedTuple):
    """How gradients change parameters."""

    init: Callable[[Parameters], Any]  # parameters -> state
    update: Callable[[Parameters, Any, Parameters], tuple[Parameters, Any]]
    # (gradients, state, parameters) -> (new parameters, new state)


def sgd(learning_rate: float) -> Optimizer:
    """Gradient descent: W := W - α dW, b := b - α db, with α the learning rate."""

    def init(parameters: Parameters) -> None:  # noqa: ARG001
        return None

    def update(
        gradients: Parameters, state: None, parameters: Parameters
    ) -> tuple[Parameters, None]:
        stepped = [
            type(layer)(*(p - learning_rate * g for p, g in zip(layer, gradient, strict=True)))
            for layer, gradient in zip(parameters, gradients, strict=True)
        ]
        return stepped, state

    return Optimizer(init, update)
