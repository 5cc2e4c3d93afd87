"""Random numbers follow their written definition, not whatever NumPy does."""

from itertools import islice

import numpy as np
import pytest
import reference

from xpnet.arithmetic import random

MASK = (1 << 64) - 1


def first_words(seed, purpose, epoch, index, count):
    """The first words of a stream, from the pure Python implementation."""
    return list(islice(reference.words(purpose, index=index, epoch=epoch, seed=seed), count))


@pytest.mark.parametrize("stream", [(0, 1, 0, 0), (0, 1, 0, 3), (7, 2, 5, 0), (MASK, 2, 1, 1)])
def test_words_are_philox_with_the_documented_key_and_counter(stream):
    seed, purpose, epoch, index = stream
    words = random.words(seed, random.Purpose(purpose), 11, epoch=epoch, index=index)
    assert words.tolist() == first_words(*stream, 11)
    several = random.words_per_index(
        seed, random.Purpose.AUGMENT, 6, epoch=epoch, indices=np.array([5, index, 9])
    )
    assert several.tolist() == [first_words(seed, 3, epoch, each, 6) for each in (5, index, 9)]


def test_uniform_maps_the_upper_24_bits_into_the_half_open_unit_interval():
    words = np.array([0, (1 << 40) - 1, 1 << 40, 1 << 63, MASK], dtype=np.uint64)
    assert random.uniform(words).tolist() == [0.0, 0.0, 2.0**-24, 0.5, 1.0 - 2.0**-24]


def test_permutations_and_splits_are_the_sorted_words():
    for seed, epoch in ((0, 1), (0, 2), (1, 1)):
        keys = first_words(seed, 2, epoch, 0, 100)
        assert random.permutation(seed, 100, epoch=epoch).tolist() == sorted(range(100), key=keys.__getitem__)
    keys = first_words(3, 5, 0, 0, 50)
    order = sorted(range(50), key=keys.__getitem__)
    training, held_out = random.split(3, 50, 20)
    assert (training.tolist(), held_out.tolist()) == (sorted(order[20:]), sorted(order[:20]))


@pytest.mark.parametrize("count", [0, 1, 2, 50, 64])
def test_words_that_are_nearly_equal_or_equal_are_ordered_as_by_a_stable_sort(count, monkeypatch):
    keys = np.random.default_rng(0).integers(0, 8, count, np.uint64) | np.uint64(1 << 63)
    keys[::3] += np.uint64(1 << 40)
    monkeypatch.setattr(random, "words", lambda *_, **__: keys)
    assert random.permutation(0, count, epoch=1).tolist() == sorted(range(count), key=keys.__getitem__)
    assert random.split(0, count, 0)[0].tolist() == list(range(count))
