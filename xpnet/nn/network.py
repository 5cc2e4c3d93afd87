"""The network: any number of linear layers with an activation between them and softmax at the end.

Samples are columns, as in the notebook: Z = W A + b with A (inputs, samples). In data sets and files they
are rows.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic, Matrix
from xpnet.nn import functional as F, layers as L
from xpnet.nn.architecture import NOTEBOOK, Network
from xpnet.nn.dropout import dropout_scale

Cache: TypeAlias = list[tuple[Any, Matrix | None, Array]]
"""For the backward pass, from each layer: its input A before and after dropout, and its output Z; from a
batch normalisation, the cache that ``batch_norm`` returns, None, and Y."""


def forward(
    ops: Arithmetic,
    layers: L.Parameters,
    x: Matrix,
    network: Network = NOTEBOOK,
    *,
    running: Sequence[L.RunningStatistics] = (),
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
    activate, scale = F.ACTIVATIONS[network.activation].forward, dropout_scale(network.hidden_dropout)
    running_statistics, hidden_masks = iter(running), iter(masks)
    cache: Cache = []
    for layer in layers:
        if isinstance(layer, L.BatchNorm):
            z, statistics = cache[-1][-1], next(running_statistics, None)
            if statistics is None:
                y, normalized = L.batch_norm(ops, layer, z)
                cache.append((normalized, None, y))
            else:
                cache.append((None, None, L.batch_norm_inference(ops, layer, statistics, z)))
        else:
            a = activate(ops, cache[-1][-1]) if cache else x
            dropped = L.dropout(ops, a, next(hidden_masks, None), scale) if cache else x
            cache.append((a, dropped, L.linear(ops, layer, dropped)))
    return cache[-1][-1], cache


def backward(
    ops: Arithmetic,
    layers: L.Parameters,
    cache: Cache,
    dz: Array,
    network: Network = NOTEBOOK,
    *,
    masks: Sequence[Array] = (),
) -> list[Any]:
    """Return the gradients with respect to all parameters, summed over the samples.

    ``dz`` (classes, samples) is the gradient of the summed loss with respect to the logits; ``cache`` and
    ``masks`` are those of ``forward``, without running statistics.
    """
    activation_backward = F.ACTIVATIONS[network.activation].backward
    hidden_masks, scale = iter(masks[::-1]), dropout_scale(network.hidden_dropout)
    gradients = []
    gradient: L.Linear | L.BatchNorm
    for index in reversed(range(len(layers))):
        layer, (cached, dropped, _) = layers[index], cache[index]
        if isinstance(layer, L.BatchNorm):
            gradient, dz = L.batch_norm_backward(ops, layer, cached, dz)
        else:
            factor = ops.operand(dz) if index > 0 else dz
            gradient = L.linear_backward(ops, dropped, factor)
            if index > 0:
                da = L.linear_backward_input(ops, layer, factor)
                da = L.dropout(ops, da, next(hidden_masks, None), scale)
                dz = activation_backward(ops, da, cache[index - 1][-1], cached)
        gradients.append(gradient)
    return gradients[::-1]


def sample_losses(ops: Arithmetic, logits: Array, labels: Array, network: Network) -> Array:
    """Return the loss of each sample, (..., 1, samples), label smoothing included."""
    y = F.targets(ops, labels, logits.shape[-2], network.label_smoothing)
    return F.LOSSES[network.loss].per_sample(ops, logits, y)


BlockResults = tuple[Array, Array, Array]
"""The summed loss (..., 1, 1), the number of correct predictions (..., 1), and the predictions (samples,)."""


def evaluate_logits(ops: Arithmetic, logits: Array, labels: Array, network: Network) -> BlockResults:
    """Return the results of a block or of a stack of blocks, (..., classes, m), with labels (..., m).

    Samples of the label -1 only make a block longer: they add 0 to both sums.
    """
    is_sample = ops.xp.expand_dims(labels >= 0, axis=-2)
    losses = ops.xp.where(is_sample, sample_losses(ops, logits, labels, network), 0.0)
    loss = ops.sum(losses, axis=-1)
    predicted = F.predictions(ops, logits)
    return loss, F.count_correct(ops, predicted, labels), ops.xp.reshape(predicted, (-1,))


def gradients_and_moments(
    ops: Arithmetic,
    layers: L.Parameters,
    x: Matrix,
    labels: Array,
    network: Network = NOTEBOOK,
    *,
    masks: Sequence[Array] = (),
    weights: Array | None = None,
) -> tuple[list[Any], list[L.BatchMoments]]:
    """Return the gradients of the summed loss, and the moments of each batch normalisation over the samples.

    ``x`` are the inputs (..., features, samples), ``labels`` are (..., samples) integers, and ``weights``
    (..., samples) the factors of the losses in the sum, None for all 1. Added up over the blocks of a batch,
    the moments, which have no weights, go to ``layers.update_running_statistics``.
    """
    layers = [  # weights for the products of both passes; the first one is in one product alone
        layer._replace(weight=ops.operand(layer.weight)) if index and isinstance(layer, L.Linear) else layer
        for index, layer in enumerate(layers)
    ]
    logits, cache = forward(ops, layers, x, network, masks=masks)
    y = F.targets(ops, labels, logits.shape[-2], network.label_smoothing)
    dz = F.LOSSES[network.loss].backward(ops, F.softmax(ops, logits), y)
    if weights is not None:
        dz = dz * ops.xp.expand_dims(weights, axis=-2)
    moments = [cached.sums for cached, *_ in cache if isinstance(cached, L.Normalized)]
    return backward(ops, layers, cache, dz, network, masks=masks), moments
