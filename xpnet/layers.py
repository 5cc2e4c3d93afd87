"""The layers, forward and backward. A layer's parameters and its gradients are the same kind of tuple."""

from typing import NamedTuple

from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array


class Linear(NamedTuple):
    """The parameters of Z = W A + b, or their gradients."""

    weight: Array  # (units, inputs), the notebook's W
    bias: Array  # (units, 1), the notebook's b


def linear(ops: Arithmetic, layer: Linear, a: Array) -> Array:
    """Return Z = W A + b: (inputs, samples) -> (units, samples)."""
    return ops.matmul(layer.weight, a) + layer.bias


def linear_backward(ops: Arithmetic, a: Array, dz: Array) -> Linear:
    """Return the gradients by the parameters, summed over the samples: dW = dZ Aᵀ, db = Σ dZ.

    ``a`` (inputs, samples) is what the layer was given, ``dz`` (units, samples) the loss's gradient by
    what it returned. The notebook's factor 1/m is applied once, when all blocks are added.
    """
    return Linear(*ops.over_samples(dz, a))


def linear_backward_input(ops: Arithmetic, layer: Linear, dz: Array) -> Array:
    """Return the gradient by the layer's input, dA = Wᵀ dZ: (units, samples) -> (inputs, samples)."""
    return ops.matmul(ops.transpose(layer.weight), dz)
