"""Dropout masks and noise of the inputs, drawn on the host."""

from typing import NamedTuple

import numpy as np

from xpnet._lib.tree import unpack
from xpnet._typing import Array, Arrays, Function, HostArray
from xpnet.arithmetic import random
from xpnet.arithmetic.base import Arithmetic
from xpnet.nn.architecture import Network

PROBABILITY_STEPS = 2**16
"""The number of steps of a dropout probability, a multiple of 1/65,536: a unit takes 16 random bits."""


class Masks(NamedTuple):
    """Dropout masks, (samples, units) booleans: true for what is kept. None: everything is kept."""

    inputs: Array | None
    hidden: Arrays  # of each hidden layer, or empty
    noise: Array | None = None  # (samples, features) int16, multiples of 2^-15 of ``input_noise``


NO_MASKS = Masks(None, [])
"""No dropout, no noise."""


def dropout_masks(network: Network, seed: int, epoch: int, start: int, stop: int) -> Masks:
    """Return the masks, and the noise, of the samples at the positions ``start`` to ``stop`` of an epoch.

    Those of a unit depend only on the seed, the epoch, the sample's position in the order of the epoch, the
    layer and the unit.
    """

    def draw_bits(purpose: random.Purpose, layer: int) -> HostArray:
        """Return 16 random bits a unit, (samples, units).

        Each sample takes as many groups of four words as its units need, in the order of the layer's stream.
        """
        units, samples = network.sizes[layer], stop - start
        fours = -(-units // 16)
        count, skip = 4 * fours * samples, start * fours
        words = random.words(seed, purpose, count, epoch=epoch, index=layer, skip=skip)
        return words.astype("<u8", copy=False).view("<u2").reshape(samples, 16 * fours)[:, :units]

    def draw_mask(probability: float, layer: int) -> Array:
        """Return a mask, (samples, units): true if the bits of a unit are at or above the probability.

        In memory, the samples of a hidden unit lie side by side, as its activations do.
        """
        mask = draw_bits(random.Purpose.DROPOUT, layer) >= _round_probability(probability)
        return mask.T.copy().T if layer > 0 else mask

    inputs = draw_mask(network.input_dropout, 0) if network.input_dropout else None
    hidden = range(1, len(network.sizes) - 1) if network.hidden_dropout else ()
    noise = draw_bits(random.Purpose.INPUT_NOISE, 0).astype("u2").view("i2") if network.input_noise else None
    return Masks(inputs, [draw_mask(network.hidden_dropout, layer) for layer in hidden], noise)


def put_packed(ops: Arithmetic, masks: Masks, put: Function, steps: int | None) -> Masks:
    """Put masks on the device in one copy, as packed bits, and noise in another.

    ``put`` copies an array to the device. If ``steps`` are given, among which the samples are divided, the
    results have the steps as first axis.
    """
    xp, first = ops.xp, () if steps is None else (steps,)

    def divide(rows: HostArray) -> HostArray:
        return np.reshape(rows, (*first, -1, rows.shape[1]))

    inputs = [] if masks.inputs is None else [divide(masks.inputs)]
    layers = [*inputs, *(np.swapaxes(divide(mask), -1, -2) for mask in masks.hidden)]
    flat = np.concatenate([np.empty(0, bool), *(layer.ravel() for layer in layers)])
    shifts = xp.arange(8, dtype=xp.uint8, device=ops.device)
    packed = xp.expand_dims(put(np.packbits(flat, bitorder="little")), axis=-1)
    bits = xp.reshape(((packed >> shifts) & 1) > 0, (-1,))
    arrays = unpack(xp, bits, [layer.shape for layer in layers])
    hidden = [xp.matrix_transpose(array) for array in arrays[len(inputs) :]]
    noise = None if masks.noise is None else put(divide(masks.noise))
    return Masks(arrays[0] if inputs else None, hidden, noise)


def dropout_scale(probability: float) -> float:
    """Return the factor for the units that dropout keeps: 1 / (1 - p), with the p of the masks.

    p is the probability rounded to a multiple of 1/65,536, ties to even, at most 65,535 of them.
    """
    return PROBABILITY_STEPS / (PROBABILITY_STEPS - _round_probability(probability))


def _round_probability(probability: float) -> int:
    """Return the probability in steps of 1/65,536."""
    return min(round(probability * PROBABILITY_STEPS), PROBABILITY_STEPS - 1)
