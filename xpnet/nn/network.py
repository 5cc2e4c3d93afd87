"""The network: any number of linear layers with an activation between them and softmax at the end.

Inside, samples are columns, as in the notebook: Z = W A + b with A (inputs, samples). Data sets and
files keep them as rows.
"""

from collections.abc import Sequence
from typing import Any

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic
from xpnet.nn import functional as F
from xpnet.nn.architecture import NOTEBOOK, Network
from xpnet.nn.dropout import dropout_scale
from xpnet.nn.layers import (
    BatchNorm,
    Layer,
    Linear,
    Parameters,
    Statistics,
    Sums,
    batch_norm,
    batch_norm_backward,
    batch_norm_evaluation,
    dropout,
    linear,
    linear_backward,
    linear_backward_input,
)

# Before training, on the host


# On the device


def prepare(ops: Arithmetic, parameters: Parameters) -> Parameters:
    """Make the weights operands, once for all the blocks that use them."""
    return [
        layer._replace(weight=ops.operand(layer.weight)) if isinstance(layer, Linear) else layer
        for layer in parameters
    ]


def forward(
    ops: Arithmetic,
    layers: Parameters,
    x: Any,
    network: Network = NOTEBOOK,
    *,
    running: Sequence[Statistics] = (),
    masks: Sequence[Array] = (),
) -> tuple[Array, list[tuple[Any, Array]]]:
    """Return the logits of the last layer and what the backward pass needs.

    Parameters
    ----------
    x : an operand (features, samples), after dropout of the inputs if there is any
    running : of each batch normalisation, to evaluate with; without them each normalises by the
        statistics of the samples at hand
    masks : of each hidden layer (samples, units), as in ``Masks.hidden``; without them nothing is dropped

    The logits are (classes, samples). The cache holds two things for each layer: its input A, before
    dropout, and its output Z; for batch normalisation what ``batch_norm`` keeps, and Y.
    """
    activate = F.ACTIVATIONS[network.activation].forward
    running_of_next, mask_of_next = iter(running), iter(masks)
    cache: list[tuple[Any, Array]] = []
    z = x
    for layer in layers:
        if isinstance(layer, BatchNorm):
            given, z = _normalized(ops, layer, z, next(running_of_next, None))
        else:
            given = activate(ops, z) if cache else x
            mask = next(mask_of_next, None) if cache else None
            z = linear(ops, layer, _dropped(ops, network, given, mask))
        cache.append((given, z))
    return z, cache


def backward(
    ops: Arithmetic,
    layers: Parameters,
    cache: list[tuple[Any, Array]],
    dz: Array,
    network: Network = NOTEBOOK,
    *,
    masks: Sequence[Array] = (),
) -> Parameters:
    """Return the gradients by all parameters, summed over the samples.

    ``dz`` (classes, samples) is the gradient of the summed loss by the logits; ``cache`` and ``masks`` are
    those of ``forward``, without running statistics.
    """
    activation_backward = F.ACTIVATIONS[network.activation].backward
    mask_of_next = iter(masks[::-1])
    gradients: Parameters = []
    for index in reversed(range(len(layers))):
        layer, (given, _) = layers[index], cache[index]
        gradient: Layer
        if isinstance(layer, BatchNorm):
            gradient, dz = batch_norm_backward(ops, layer, given, dz)
        elif index == 0:
            gradient = linear_backward(ops, given, dz)
        else:
            mask = next(mask_of_next, None)
            gradient = linear_backward(ops, _dropped(ops, network, given, mask), dz)
            da = _dropped(ops, network, linear_backward_input(ops, layer, dz), mask)
            dz = activation_backward(ops, da, cache[index - 1][1], given)
        gradients.append(gradient)
    return gradients[::-1]


def sample_losses(ops: Arithmetic, logits: Array, labels: Array, network: Network = NOTEBOOK) -> Array:
    """Return the loss of each sample, (..., 1, samples): what training minimises, smoothing included."""
    y = F.targets(ops, labels, logits.shape[-2], network.label_smoothing)
    return F.LOSSES[network.loss].of_samples(ops, logits, y)


def loss(
    ops: Arithmetic,
    layers: Parameters,
    x: Any,
    labels: Array,
    network: Network = NOTEBOOK,
    *,
    running: Sequence[Statistics] = (),
    masks: Sequence[Array] = (),
) -> Array:
    """Return the loss summed over the samples, (..., 1, 1).

    ``x`` is an operand (..., features, samples), ``labels`` are (..., samples) integers; the rest is as in
    ``forward``.
    """
    logits, _ = forward(ops, layers, x, network, running=running, masks=masks)
    return ops.sum(sample_losses(ops, logits, labels, network), axis=-1)


def gradients(
    ops: Arithmetic,
    layers: Parameters,
    x: Any,
    labels: Array,
    network: Network = NOTEBOOK,
    *,
    masks: Sequence[Array] = (),
) -> Parameters:
    """Return the gradients of ``loss`` by all parameters."""
    return gradients_and_sums(ops, layers, x, labels, network, masks=masks)[0]


def gradients_and_sums(
    ops: Arithmetic,
    layers: Parameters,
    x: Any,
    labels: Array,
    network: Network = NOTEBOOK,
    *,
    masks: Sequence[Array] = (),
) -> tuple[Parameters, list[Sums]]:
    """Return the gradients of ``loss``, and the sums of each batch normalisation over the samples.

    Added up over the blocks of a batch, the sums go to ``layers.updated_statistics``.
    """
    logits, cache = forward(ops, layers, x, network, masks=masks)
    y = F.targets(ops, labels, logits.shape[-2], network.label_smoothing)
    dz = F.LOSSES[network.loss].backward(ops, F.softmax(ops, logits), y)
    found = backward(ops, layers, cache, dz, network, masks=masks)
    normalized = zip(layers, cache, strict=True)
    return found, [saved.sums for layer, (saved, _) in normalized if isinstance(layer, BatchNorm)]


def _normalized(ops: Arithmetic, layer: BatchNorm, z: Array, running: Statistics | None) -> tuple[Any, Array]:
    if running is not None:
        return None, batch_norm_evaluation(ops, layer, running, z)
    y, normalized = batch_norm(ops, layer, z)
    return normalized, y


def _dropped(ops: Arithmetic, network: Network, a: Array, mask: Array | None) -> Array:
    if mask is None:
        return a
    columns = ops.xp.matrix_transpose(mask)
    return dropout(ops, a, columns, dropout_scale(network.hidden_dropout))
