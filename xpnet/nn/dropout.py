"""Dropout masks, drawn on the host."""

from typing import NamedTuple

from xpnet._typing import Array, as_array
from xpnet.arithmetic import random
from xpnet.nn.architecture import Network

PROBABILITY_STEPS = 2**16
"""The number of steps of a dropout probability, a multiple of 1/65,536: a unit takes 16 random bits."""


class Masks(NamedTuple):
    """Dropout masks, (samples, units) booleans: true for what is kept. None: everything is kept."""

    inputs: Array | None
    hidden: list[Array]  # of each hidden layer, or empty


def dropout_masks(network: Network, seed: int, epoch: int, start: int, stop: int) -> Masks:
    """Return the masks of the samples at the positions ``start`` to ``stop`` in the order of an epoch.

    A unit's mask depends only on the seed, the epoch, the sample's position in that order, the layer and the
    unit.
    """

    def draw(probability: float, layer: int) -> Array:
        """Return a mask, (samples, units): true if the 16 bits of a unit are at or above the probability.

        In memory, the samples of a hidden unit lie side by side, as its activations do.

        Each sample takes as many groups of four words as its units need, in the order of the layer's stream.
        """
        units, samples = network.sizes[layer], stop - start
        fours = -(-units // 16)
        count, skip = 4 * fours * samples, start * fours
        words = random.words(seed, random.Purpose.DROPOUT, count, epoch=epoch, index=layer, skip=skip)
        bits = words.astype("<u8", copy=False).view("<u2").reshape(samples, 16 * fours)
        mask = bits[:, :units] >= _round_probability(probability)
        return as_array(mask.T.copy().T if layer > 0 else mask)

    hidden = range(1, len(network.sizes) - 1) if network.hidden_dropout else ()
    return Masks(
        draw(network.input_dropout, 0) if network.input_dropout else None,
        [draw(network.hidden_dropout, layer) for layer in hidden],
    )


def dropout_scale(probability: float) -> float:
    """Return the factor for the units that dropout keeps: 1 / (1 - p), with the p of the masks.

    p is the probability rounded to a multiple of 1/65,536, ties to even, at most 65,535 of them.
    """
    return PROBABILITY_STEPS / (PROBABILITY_STEPS - _round_probability(probability))


def _round_probability(probability: float) -> int:
    """Return the probability in steps of 1/65,536."""
    return min(round(probability * PROBABILITY_STEPS), PROBABILITY_STEPS - 1)
