"""The network: any number of linear layers with ReLU between them and softmax at the end.

Inside, samples are columns, as in the notebook: Z = W A + b with A (inputs, samples). Data sets and
files keep them as rows.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet import functional as F
from xpnet import rng
from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array
from xpnet.layers import Linear, linear, linear_backward, linear_backward_input

Parameters = list[Linear]


def initialize(sizes: Sequence[int], seed: int) -> Parameters:
    """Return weights and biases uniform in [-0.5, 0.5), as host float64 arrays.

    ``sizes`` are the features, the units of each hidden layer, and the classes. Each layer has a stream
    of random words of its own: first the weights row by row, then the biases.
    """
    layers = []
    for index, (inputs, units) in enumerate(itertools.pairwise(sizes)):
        count = units * inputs
        words = rng.words(seed, rng.Purpose.INITIALIZE, count + units, index=index)
        values = rng.uniform(words) - 0.5
        layers.append(
            Linear(values[:count].reshape(units, inputs), np.reshape(values[count:], (units, 1)))
        )
    return layers


def prepare(ops: Arithmetic, parameters: Parameters) -> Parameters:
    """Make the weights operands, once for all the blocks that use them."""
    return [layer._replace(weight=ops.operand(layer.weight)) for layer in parameters]


def forward(ops: Arithmetic, layers: Parameters, x: Any) -> tuple[Array, list[tuple[Any, Array]]]:
    """Return the logits of the last layer and what the backward pass needs.

    ``x`` is an operand (features, samples). The logits are (classes, samples); the cache holds for each
    layer its input A and its output Z.
    """
    cache = []
    a = x
    for layer in layers[:-1]:
        z = linear(ops, layer, a)
        cache.append((a, z))
        a = F.relu(ops, z)
    logits = linear(ops, layers[-1], a)
    cache.append((a, logits))
    return logits, cache


def backward(
    ops: Arithmetic, layers: Parameters, cache: list[tuple[Any, Array]], dz: Array
) -> Parameters:
    """Return the gradients by all parameters, summed over the samples.

    ``dz`` (classes, samples) is the gradient of the summed loss by the logits.
    """
    gradients = []
    for index in reversed(range(len(layers))):
        a, _ = cache[index]
        gradients.append(linear_backward(ops, a, dz))
        if index > 0:
            _, z = cache[index - 1]
            dz = F.relu_backward(ops, linear_backward_input(ops, layers[index], dz), z)
    return gradients[::-1]


def loss(ops: Arithmetic, layers: Parameters, x: Any, labels: Array) -> Array:
    """Return the cross-entropy summed over the samples, (..., 1, 1).

    ``x`` is an operand (..., features, samples), ``labels`` are (..., samples) integers.
    """
    logits, _ = forward(ops, layers, x)
    y = F.one_hot(ops, labels, logits.shape[-2])
    return ops.sum(F.cross_entropy(ops, logits, y), axis=-1)


def gradients(ops: Arithmetic, layers: Parameters, x: Any, labels: Array) -> Parameters:
    """Return the gradients of ``loss`` by all parameters."""
    logits, cache = forward(ops, layers, x)
    y = F.one_hot(ops, labels, logits.shape[-2])
    dz = F.softmax_cross_entropy_backward(F.softmax(ops, logits), y)
    return backward(ops, layers, cache, dz)
