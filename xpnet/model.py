"""The network: any number of linear layers with an activation between them and softmax at the end.

Inside, samples are columns, as in the notebook: Z = W A + b with A (inputs, samples). Data sets and
files keep them as rows.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet import functional as F
from xpnet import rng
from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array
from xpnet.errors import ConfigError
from xpnet.layers import (
    BatchNorm,
    Layer,
    Linear,
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

Parameters = list[Any]
"""Of ``Layer``: Linear, and BatchNorm behind each Linear but the last if the network has it."""

Initialization = Literal["uniform", "he", "glorot"]

DROPOUT_STEPS = 2**16
"""Probabilities of dropout are multiples of 1/65,536: a unit's fate takes 16 random bits."""


@dataclass(frozen=True)
class Network:
    """What a network computes, without its parameters.

    Attributes
    ----------
    sizes
        The features, the units of each hidden layer, and the classes.
    activation
        Of the hidden layers: a name in ``functional.ACTIVATIONS``.
    batch_norm
        Whether hidden layers normalise before they activate.
    input_dropout, hidden_dropout
        The probability that an input, or a hidden unit, is dropped for a sample of an epoch.
    loss
        What is minimised: a name in ``functional.LOSSES``.
    label_smoothing
        The share of a target that is spread over all classes.

    Raises
    ------
    ConfigError
        A name is unknown, or a number out of its range.
    """

    sizes: tuple[int, ...]
    activation: str = "relu"
    batch_norm: bool = False
    input_dropout: float = 0.0
    hidden_dropout: float = 0.0
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name, table in (("activation", F.ACTIVATIONS), ("loss", F.LOSSES)):
            found = getattr(self, name)
            if found not in table:
                msg = f"{name}: expected one of {', '.join(table)}, got {found!r}"
                raise ConfigError(msg)
        for name in ("input_dropout", "hidden_dropout", "label_smoothing"):
            found = getattr(self, name)
            if not 0.0 <= found < 1.0:
                msg = f"{name}: expected a number from 0 to below 1, got {found!r}"
                raise ConfigError(msg)
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            msg = (
                f"sizes: expected at least features and classes, each positive, got {self.sizes!r}"
            )
            raise ConfigError(msg)


NOTEBOOK = Network((784, 10, 10))
"""The notebook's network. Where a function needs no sizes, it stands for any network of its kind."""


# Before training, on the host


def initialize(
    sizes: Sequence[int], seed: int, kind: Initialization = "uniform", *, batch_norm: bool = False
) -> Parameters:
    """Return the initial parameters, as host float64 arrays.

    ``sizes`` are the features, the units of each hidden layer, and the classes. Each layer has a stream
    of random words of its own: first the weights row by row, then the biases.

    * ``uniform``: weights and biases uniform in [-0.5, 0.5), the notebook's.
    * ``he``: weights uniform in [-a, a), a = √(6 / inputs), biases 0 (He et al. 2015).
    * ``glorot``: weights uniform in [-a, a), a = √(6 / (inputs + units)), biases 0 (Glorot & Bengio 2010).

    With ``batch_norm``, each hidden layer is followed by a BatchNorm with gamma 1 and beta 0.
    """
    layers: Parameters = []
    for index, (inputs, units) in enumerate(itertools.pairwise(sizes)):
        count = units * inputs
        words = rng.words(seed, rng.Purpose.INITIALIZE, count + units, index=index)
        values = rng.uniform(words) - 0.5
        weights, biases = values[:count].reshape(units, inputs), values[count:].reshape(units, 1)
        if kind != "uniform":
            fan = inputs if kind == "he" else inputs + units
            weights, biases = weights * (2.0 * math.sqrt(6.0 / fan)), np.zeros((units, 1))
        layers.append(Linear(weights, biases))
        if batch_norm and index < len(sizes) - 2:
            layers.append(BatchNorm(np.ones((units, 1)), np.zeros((units, 1))))
    return layers


def initial_statistics(network: Network) -> list[Statistics]:
    """Return the running statistics before training, mean 0 and variance 1, as host float64 arrays.

    One for each batch normalisation; none if the network has none.
    """
    hidden = network.sizes[1:-1] if network.batch_norm else ()
    return [Statistics(np.zeros((units, 1)), np.ones((units, 1))) for units in hidden]


class Masks(NamedTuple):
    """What dropout keeps (true), by rows as data are: (samples, units). None: all of it."""

    inputs: NDArray[np.bool_] | None
    hidden: list[NDArray[np.bool_]]  # of each hidden layer, or empty


def dropout_masks(network: Network, seed: int, epoch: int, start: int, stop: int) -> Masks:
    """Return the masks of the samples that ``epoch`` visits as number ``start`` to ``stop``.

    A unit's fate depends on the seed, the epoch, the sample's place in the order of that epoch, the layer
    and the unit alone.
    """
    hidden = list(enumerate(network.sizes[1:-1], 1)) if network.hidden_dropout else []
    place = seed, epoch, start, stop
    return Masks(
        _mask(network.input_dropout, network.sizes[0], 0, *place)
        if network.input_dropout
        else None,
        [_mask(network.hidden_dropout, units, layer, *place) for layer, units in hidden],
    )


def _mask(
    probability: float, units: int, layer: int, seed: int, epoch: int, start: int, stop: int
) -> NDArray[np.bool_]:
    """Return whether 16 bits of each unit are at or above the probability; (samples, units).

    Each sample has as many fours of words as its units need, one after the other in the layer's stream.
    """
    fours = -(-units // 16)
    words = rng.words(
        seed,
        rng.Purpose.DROPOUT,
        4 * fours * (stop - start),
        epoch=epoch,
        index=layer,
        skip=start * fours,
    )
    bits = words.astype("<u8", copy=False).view("<u2").reshape(stop - start, 16 * fours)
    return bits[:, :units] >= _dropped_steps(probability)


def dropout_scale(probability: float) -> float:
    """Return what the units that dropout keeps are multiplied by: 1 / (1 - p), with the p of the masks.

    p is the probability rounded to a multiple of 1/65,536, ties to even, at most 65,535 of them.
    """
    return DROPOUT_STEPS / (DROPOUT_STEPS - _dropped_steps(probability))


def _dropped_steps(probability: float) -> int:
    return min(round(probability * DROPOUT_STEPS), DROPOUT_STEPS - 1)


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


def sample_losses(
    ops: Arithmetic, logits: Array, labels: Array, network: Network = NOTEBOOK
) -> Array:
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


def _normalized(
    ops: Arithmetic, layer: BatchNorm, z: Array, running: Statistics | None
) -> tuple[Any, Array]:
    if running is not None:
        return None, batch_norm_evaluation(ops, layer, running, z)
    y, normalized = batch_norm(ops, layer, z)
    return normalized, y


def _dropped(ops: Arithmetic, network: Network, a: Array, mask: Array | None) -> Array:
    if mask is None:
        return a
    columns = ops.xp.matrix_transpose(mask)
    return dropout(ops, a, columns, dropout_scale(network.hidden_dropout))
