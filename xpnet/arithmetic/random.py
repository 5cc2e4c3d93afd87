"""Random numbers that are the same on every backend: counter-based, and drawn on the host.

Array libraries draw different streams from one seed, and NumPy does not promise its own ``Generator``
streams from one version to the next. It does promise the raw output of its bit generators, so the
numbers here are the raw 64-bit words of Philox-4x64-10 (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3") with

* key ``(seed, 0)``,
* counter ``(0, index, epoch, purpose)``, lowest word first,

and the maps from words to numbers are written out below. No number depends on numbers drawn before.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import HostArray

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]

NOISE_STEP = 2.0**-15
"""Factor from signed 16-bit integers to noise in [-1, 1)."""


class Purpose(IntEnum):
    """The purpose of a stream: streams of different purposes never overlap."""

    INITIALIZE = 1
    SHUFFLE = 2
    AUGMENT = 3
    DROPOUT = 4
    SPLIT = 5
    TEST_SPLIT = 6
    PUBLIC_UNIFORM = 7
    PUBLIC_PERMUTATION = 8
    INPUT_NOISE = 9
    PUBLIC_NORMAL = 10
    PUBLIC_EXPONENTIAL = 11
    PUBLIC_INTEGERS = 12
    PUBLIC_CHOICE = 13
    PUBLIC_SHUFFLE = 14


def words(seed: int, purpose: Purpose, count: int, *, epoch: int = 0, index: int = 0, skip: int = 0) -> Words:
    """Return ``count`` 64-bit words of one stream, shape (count,): the first after 4 · ``skip`` words.

    ``seed``, ``epoch``, ``index`` and ``skip`` are integers from 0 to 2^64 - 1.
    """
    counter = _first_counter(purpose, epoch, index) + skip
    return np.random.Philox(key=seed, counter=counter).random_raw(count)


def words_per_index(seed: int, purpose: Purpose, count: int, *, epoch: int, indices: HostArray) -> Words:
    """Return ``words`` for each index of (m,) indices, shape (m, count).

    One generator jumps from stream to stream: making a new one takes longer than drawing 1,000 words.
    """
    generator = np.random.Philox(key=seed, counter=0)
    result = np.empty((len(indices), count), dtype=np.uint64)
    position = 0
    for row, index in enumerate(indices.tolist()):
        first = _first_counter(purpose, epoch, index)
        generator.advance((first - position) % 2**256)
        result[row] = generator.random_raw(count)
        position = first + -(-count // 4)
    return result


def _first_counter(purpose: Purpose, epoch: int, index: int) -> int:
    return (index << 64) | (epoch << 128) | (int(purpose) << 192)


def uniform(random_words: Words, bits: int = 24) -> HostArray:
    """Map random words to float64 numbers in [0, 1): the upper ``bits``, times 2^-bits.

    Twenty-four bits fit the significand of float32, so that every dtype starts from the same numbers.
    """
    return (random_words >> np.uint64(64 - bits)).astype(np.float64) * 2.0**-bits


def integers(random_words: Words, low: int, high: int) -> Indices:
    """Map pairs of random words to whole numbers from ``low`` to ``high`` - 1.

    Two words are a 128-bit number w, the higher one first: the result is low + floor((high - low) w / 2^128).
    """
    pairs = zip(random_words[::2].tolist(), random_words[1::2].tolist(), strict=True)
    return np.array([low + ((high - low) * ((w << 64) + v) >> 128) for w, v in pairs], np.int64)


def permutation(seed: int, count: int, *, epoch: int, purpose: Purpose = Purpose.SHUFFLE) -> Indices:
    """Return the order of ``count`` samples in an epoch, (count,): the stable argsort of its words."""
    return _argsort(words(seed, purpose, count, epoch=epoch))


def _argsort(keys: Words) -> Indices:
    """Return the stable argsort of (count,) words that are mostly distinct."""
    # Sorting numbers takes a fraction of the time of sorting indices: these replace the lowest bits.
    low = np.uint64((1 << max(len(keys) - 1, 0).bit_length()) - 1)
    tagged = np.sort(keys & ~low | np.arange(len(keys), dtype=np.uint64))
    order = (tagged & low).astype(np.int64)
    is_tied = tagged[1:] ^ tagged[:-1] <= low  # in the bits above
    tied = np.flatnonzero(np.append(is_tied, False) | np.append(False, is_tied))
    order[tied] = order[tied][np.argsort(keys[order[tied]], kind="stable")]
    return order


def split(seed: int, count: int, held_out: int, purpose: Purpose = Purpose.SPLIT) -> tuple[Indices, Indices]:
    """Return the indices of the samples to train on, and of ``held_out`` other samples, both ascending.

    The first ``held_out`` of the stable argsort of the words are held out.
    """
    order = _argsort(words(seed, purpose, count))
    return np.sort(order[held_out:]), np.sort(order[:held_out])
