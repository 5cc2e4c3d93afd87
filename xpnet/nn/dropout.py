"""Dropout masks, drawn on the host."""

from typing import NamedTuple

from xpnet._typing import Array, as_array
from xpnet.arithmetic import random
from xpnet.nn.architecture import Network

DROPOUT_STEPS = 2**16
"""Probabilities of dropout are multiples of 1/65,536: a unit takes 16 random bits."""


class Masks(NamedTuple):
    """Dropout masks, (samples, units) booleans: true for what is kept. None: all of it."""

    inputs: Array | None
    hidden: list[Array]  # of each hidden layer, or empty


def dropout_masks(network: Network, seed: int, epoch: int, start: int, stop: int) -> Masks:
    """Return the masks of the samples that ``epoch`` visits as number ``start`` to ``stop``.

    Whether a unit is dropped depends only on the seed, the epoch, the sample's place in the order of that
    epoch, the layer and the unit.
    """
    hidden = list(enumerate(network.sizes[1:-1], 1)) if network.hidden_dropout else []
    place = seed, epoch, start, stop
    return Masks(
        _mask(network.input_dropout, network.sizes[0], 0, *place) if network.input_dropout else None,
        [_mask(network.hidden_dropout, units, layer, *place) for layer, units in hidden],
    )


def _mask(probability: float, units: int, layer: int, seed: int, epoch: int, start: int, stop: int) -> Array:
    """Return whether 16 bits of each unit are at or above the probability; (samples, units).

    Each sample has as many fours of words as its units need, one after the other in the layer's stream.
    """
    fours = -(-units // 16)
    words = random.words(
        seed,
        random.Purpose.DROPOUT,
        4 * fours * (stop - start),
        epoch=epoch,
        index=layer,
        skip=start * fours,
    )
    bits = words.astype("<u8", copy=False).view("<u2").reshape(stop - start, 16 * fours)
    return as_array(bits[:, :units] >= _dropped_steps(probability))


def dropout_scale(probability: float) -> float:
    """Return the factor for the units that dropout keeps: 1 / (1 - p), with the p of the masks.

    p is the probability rounded to a multiple of 1/65,536, ties to even, at most 65,535 of them.
    """
    return DROPOUT_STEPS / (DROPOUT_STEPS - _dropped_steps(probability))


def _dropped_steps(probability: float) -> int:
    return min(round(probability * DROPOUT_STEPS), DROPOUT_STEPS - 1)
