"""Random numbers where docs/vectors/random.json, which test_vectors.py checks, does not reach."""

from itertools import islice

import numpy as np
import pytest
import reference

from xpnet.arithmetic import random

MASK = (1 << 64) - 1


def test_words_of_several_indices_are_those_of_each():
    words = random.words_per_index(7, random.Purpose.AUGMENT, 6, epoch=2, indices=np.array([5, 0, 9]))
    streams = [reference.words(3, index=index, epoch=2, seed=7) for index in (5, 0, 9)]
    assert words.tolist() == [list(islice(stream, 6)) for stream in streams]


def test_uniform_maps_the_upper_24_bits_into_the_half_open_unit_interval():
    words = np.array([0, (1 << 40) - 1, 1 << 40, 1 << 63, MASK], dtype=np.uint64)
    assert random.uniform(words).tolist() == [0.0, 0.0, 2.0**-24, 0.5, 1.0 - 2.0**-24]


def test_permutations_and_splits_are_the_sorted_words():
    keys = list(islice(reference.words(2, index=0, epoch=4, seed=3), 50))
    assert random.permutation(3, 50, epoch=4).tolist() == sorted(range(50), key=keys.__getitem__)
    keys = list(islice(reference.words(5, index=0, epoch=0, seed=3), 50))
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
