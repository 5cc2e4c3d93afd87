"""The network: any number of linear layers with an activation between them and softmax at the end.

Samples are columns, as in the notebook: Z = W A + b with A (inputs, samples). In data sets and files they
are rows.
"""

from collections.abc import Sequence
from typing import TypeAlias, cast

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic, Operand
from xpnet.nn import functional as F
from xpnet.nn.architecture import NOTEBOOK, Network
from xpnet.nn.dropout import dropout_scale
from xpnet.nn.layers import (
    BatchMoments,
    BatchNorm,
    Layer,
    Linear,
    Normalized,
    Parameters,
    PreparedLayer,
    PreparedLinear,
    RunningStatistics,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    dropout,
    linear,
    linear_backward,
    linear_backward_input,
)

Cache: TypeAlias = "list[tuple[Array | Operand | Normalized | None, Array]]"
"""For the backward pass, from each layer: its input A, before dropout, and its output Z; from a batch
normalisation, the cache that ``batch_norm`` returns, and Y."""


def prepare(ops: Arithmetic, parameters: Parameters) -> list[PreparedLayer]:
    """Prepare the weights for products, once for the forward and the backward pass."""
    return [
        PreparedLinear(ops.operand(layer.weight), layer.bias) if isinstance(layer, Linear) else layer
        for layer in parameters
    ]


def forward(
    ops: Arithmetic,
    layers: Sequence[PreparedLayer],
    x: Array | Operand,
    network: Network = NOTEBOOK,
    *,
    running: Sequence[RunningStatistics] = (),
    masks: Sequence[Array] = (),
) -> tuple[Array, Cache]:
    """Return the logits of the last layer, (classes, samples), and the cache of the backward pass.

    Parameters
    ----------
    x : the inputs (features, samples), an array or an ``Operand``, after input dropout
    running : the running statistics of each batch normalisation, for evaluation; without them the
        statistics of these samples are used
    masks : of each hidden layer (samples, units), as in ``Masks.hidden``; without them nothing is dropped
    """
    activate = F.ACTIVATIONS[network.activation].forward
    running_statistics, hidden_masks = iter(running), iter(masks)
    cache: Cache = []
    for layer in layers:
        if isinstance(layer, BatchNorm):
            cache.append(_apply_batch_norm(ops, layer, cache[-1][1], next(running_statistics, None)))
        elif not cache:
            cache.append((x, linear(ops, layer, x)))
        else:
            a = activate(ops, cache[-1][1])
            dropped = _apply_dropout(ops, network, a, next(hidden_masks, None))
            cache.append((a, linear(ops, layer, dropped)))
    return cache[-1][1], cache


def backward(
    ops: Arithmetic,
    layers: Sequence[PreparedLayer],
    cache: Cache,
    dz: Array,
    network: Network = NOTEBOOK,
    *,
    masks: Sequence[Array] = (),
) -> Parameters:
    """Return the gradients with respect to all parameters, summed over the samples.

    ``dz`` (classes, samples) is the gradient of the summed loss with respect to the logits; ``cache`` and
    ``masks`` are those of ``forward``, without running statistics.
    """
    activation_backward = F.ACTIVATIONS[network.activation].backward
    hidden_masks = iter(masks[::-1])
    gradients: Parameters = []
    for index in reversed(range(len(layers))):
        layer, cached = layers[index], cache[index][0]
        gradient: Layer
        if isinstance(layer, BatchNorm):
            gradient, dz = batch_norm_backward(ops, layer, cast("Normalized", cached), dz)
        elif index == 0:
            gradient = linear_backward(ops, cast("Array | Operand", cached), dz)
        else:
            a, z, mask = cast("Array", cached), cache[index - 1][1], next(hidden_masks, None)
            gradient = linear_backward(ops, _apply_dropout(ops, network, a, mask), dz)
            da = _apply_dropout(ops, network, linear_backward_input(ops, layer, dz), mask)
            dz = activation_backward(ops, da, z, a)
        gradients.append(gradient)
    return gradients[::-1]


def sample_losses(ops: Arithmetic, logits: Array, labels: Array, network: Network = NOTEBOOK) -> Array:
    """Return the loss of each sample, (..., 1, samples), label smoothing included."""
    y = F.targets(ops, labels, logits.shape[-2], network.label_smoothing)
    return F.LOSSES[network.loss].per_sample(ops, logits, y)


def gradients_and_moments(
    ops: Arithmetic,
    layers: Sequence[PreparedLayer],
    x: Array | Operand,
    labels: Array,
    network: Network = NOTEBOOK,
    *,
    masks: Sequence[Array] = (),
) -> tuple[Parameters, list[BatchMoments]]:
    """Return the gradients of the summed loss, and the moments of each batch normalisation over the samples.

    ``x`` are the inputs (..., features, samples), ``labels`` are (..., samples) integers. Added up over the
    blocks of a batch, the moments go to ``layers.update_running_statistics``.
    """
    logits, cache = forward(ops, layers, x, network, masks=masks)
    y = F.targets(ops, labels, logits.shape[-2], network.label_smoothing)
    dz = F.LOSSES[network.loss].backward(ops, F.softmax(ops, logits), y)
    moments = [cached.sums for cached, _ in cache if isinstance(cached, Normalized)]
    return backward(ops, layers, cache, dz, network, masks=masks), moments


def _apply_batch_norm(
    ops: Arithmetic, layer: BatchNorm, z: Array, running: RunningStatistics | None
) -> tuple[Normalized | None, Array]:
    if running is not None:
        return None, batch_norm_inference(ops, layer, running, z)
    y, normalized = batch_norm(ops, layer, z)
    return normalized, y


def _apply_dropout(ops: Arithmetic, network: Network, a: Array, mask: Array | None) -> Array:
    if mask is None:
        return a
    columns = ops.xp.matrix_transpose(mask)
    return dropout(ops, a, columns, dropout_scale(network.hidden_dropout))
