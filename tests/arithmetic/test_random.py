"""Random numbers where docs/vectors/random.json, which test_vectors.py checks, does not reach."""

from itertools import islice

import numpy as np
import pytest
import reference

from xpnet.arithmetic import random


def test_words_of_several_indices_are_those_of_each():
    words = random.words_per_index(7, random.Purpose.AUGMENT, 6, epoch=2, indices=np.array([5, 0, 9]))
    streams = [reference.words(3, index=index, epoch=2, seed=7) for index in (5, 0, 9)]
    assert words.tolist() == [list(islice(stream, 6)) for stream in streams]


@pytest.mark.parametrize("count", [0, 1, 2, 50, 64])
def test_words_that_are_nearly_equal_or_equal_are_ordered_as_by_a_stable_sort(count, monkeypatch):
    keys = np.random.default_rng(0).integers(0, 8, count, np.uint64) | np.uint64(1 << 63)
    keys[::3] += np.uint64(1 << 40)
    monkeypatch.setattr(random, "words", lambda *_, **__: keys)
    order = sorted(range(count), key=keys.__getitem__)
    assert random.permutation(0, count, epoch=1).tolist() == order
    training, held_out = random.split(0, count, count // 3)
    assert held_out.tolist() == sorted(order[: count // 3])
    assert training.tolist() == sorted(order[count // 3 :])
