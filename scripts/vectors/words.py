"""random.json: random words, and what is made of them."""

from typing import Any

import numpy as np

from vectors.numbers import UNUSED, hexadecimal, hexadecimals, word_text, word_texts
from xpnet.arithmetic import random
from xpnet.arithmetic.random import Purpose
from xpnet.backends.base import Backend
from xpnet.config import TrainConfig
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.init import initialize
from xpnet.nn.layers import Linear

LARGEST = 2**64 - 1
USES = [
    ([0, 0, 0, 0], [0, 0]),
    ([LARGEST] * 4, [LARGEST] * 2),
    ([1, 2, 3, 4], [5, 0]),
    ([0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89], [LARGEST, 0]),
]
STREAMS = [  # (seed, purpose, epoch, index, first c0)
    *((0, purpose, 0, 0, 1) for purpose in range(7)),
    (0, 1, 0, 1, 1),
    (0, 2, 7, 0, 1),
    (1, 3, 1, 59999, 1),
    (LARGEST, 3, 12, 5, 1),
    (LARGEST, 6, 0, 0, 1),
    (2**63 + 11, 2, 3, 0, 1),
    (42, 4, 2, 1, 1),
    (42, 4, 2, 1, 3),
    (42, 4, 2, 1, 5001),
    (7, 0, LARGEST, LARGEST, 1),
]
NUMBERS = [0, 1, 2**40 - 1, 2**40, 2**63, 0x0123456789ABCDEF, 0xFEDCBA9876543210, LARGEST - 2**40, LARGEST]
DROPOUT = [  # (seed, epoch, layer, units, first sample, samples, probability)
    (0, 1, 1, 10, 0, 6, 0.5),
    (0, 1, 1, 16, 0, 3, 0.5),
    (3, 2, 1, 17, 0, 4, 0.25),
    (3, 2, 1, 17, 1022, 4, 0.25),
    (3, 2, 2, 5, 40, 5, 0.25),
    (LARGEST, 9, 0, 64, 0, 3, 0.2),
    (1, 1, 1, 40, 0, 2, 0.9999999),
    (1, 1, 1, 40, 0, 2, 1.5 / 65536),
    (1, 1, 1, 40, 0, 2, 2.5 / 65536),
]


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Return the four words of one use of Philox."""
    before = (sum(word << 64 * place for place, word in enumerate(counter)) - 1) % 2**256
    generator = np.random.Philox(counter=before, key=key[0] | key[1] << 64)
    return [int(word) for word in generator.random_raw(4)]


def content(_: Backend) -> dict[str, Any]:
    """Return the file: everything here is drawn on the host, whatever the backend."""
    return {
        "uses": [
            {
                "counter": word_texts(counter),
                "key": word_texts(key),
                "words": word_texts(philox(counter, key)),
            }
            for counter, key in USES
        ],
        "streams": [stream(*case) for case in STREAMS],
        "numbers": [
            [word_text(word), hexadecimal(random.uniform(np.array([word], dtype=np.uint64))[0])]
            for word in NUMBERS
        ],
        "orders": [
            {
                "seed": word_text(seed),
                "epoch": epoch,
                "samples": samples,
                "order": random.permutation(seed, samples, epoch=epoch).tolist(),
            }
            for seed, epoch, samples in ((0, 0, 10), (0, 1, 10), (LARGEST, 3, 17), (5, 2, 1), (1, 0, 100))
        ],
        "initial parameters": [
            initial(*case)
            for case in (("uniform", 0, [3, 2, 4]), ("he", 1, [5, 3, 2]), ("glorot", LARGEST, [5, 3, 2]))
        ],
        "dropout": [dropout(*case) for case in DROPOUT],
        "validation samples": [
            split(seed, m, share, TrainConfig(validation=share).validation_samples(m), Purpose.SPLIT)
            for seed, m, share in ((0, 10, 3), (9, 25, 0.1), (LARGEST, 25, 0.3), (0, 12, 0.01))
        ],
        "test samples": [
            split(0, m, share, round(m * share), Purpose.TEST_SPLIT)
            for m, share in ((10, 0.2), (25, 0.1), (25, 0.3), (15, 0.5))
        ],
    }


def stream(seed: int, purpose: int, epoch: int, index: int, first: int) -> dict[str, Any]:
    """Return eight words of a stream from the use of c0 = `first` on."""
    kind = Purpose(purpose) if purpose else UNUSED
    words = random.words(seed, kind, 8, epoch=epoch, index=index, skip=first - 1)
    return {
        "seed": word_text(seed),
        "purpose": purpose,
        "epoch": word_text(epoch),
        "index": word_text(index),
        "first c0": first,
        "words": word_texts(words),
    }


def initial(kind: Any, seed: int, sizes: list[int]) -> dict[str, Any]:
    """Return the initial weights and biases of each layer."""
    layers = [layer for layer in initialize(sizes, seed, kind) if isinstance(layer, Linear)]
    return {
        "init": kind,
        "seed": word_text(seed),
        "sizes": sizes,
        "weights": [hexadecimals(np.asarray(layer.weight)) for layer in layers],
        "biases": [hexadecimals(np.asarray(layer.bias)[:, 0] + 0.0) for layer in layers],
    }


def dropout(
    seed: int, epoch: int, layer: int, units: int, first: int, samples: int, probability: float
) -> dict[str, Any]:
    """Return the units that are dropped for each of some consecutive samples."""
    sizes = [1] * layer + [units] + [1] * (3 - layer)
    share: dict[str, Any] = {"input_dropout" if layer == 0 else "hidden_dropout": probability}
    masks = dropout_masks(Network(tuple(sizes), **share), seed, epoch, first, first + samples)
    kept = np.asarray(masks.inputs if layer == 0 else masks.hidden[layer - 1])
    return {
        "seed": word_text(seed),
        "epoch": epoch,
        "index": layer,
        "units": units,
        "first sample": first,
        "probability": hexadecimal(probability),
        "q": min(round(probability * 65536), 65535),
        "s": hexadecimal(dropout_scale(probability)),
        "dropped": [np.flatnonzero(~row).tolist() for row in kept],
    }


def split(seed: int, samples: int, setting: float, held_out: int, purpose: Purpose) -> dict[str, Any]:
    """Return the positions that are held out, and those that remain."""
    remaining, positions = random.split(seed, samples, held_out, purpose)
    return {
        "seed": word_text(seed),
        "samples": samples,
        "setting": setting if isinstance(setting, int) else hexadecimal(setting),
        "held out": positions.tolist(),
        "remaining": remaining.tolist(),
    }
