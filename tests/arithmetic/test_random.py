"""Orders of samples where docs/vectors/random.json, which test_vectors.py checks, does not reach."""

import numpy as np

from xpnet.arithmetic import random


def test_words_that_are_nearly_equal_or_equal_are_ordered_as_by_a_stable_sort(monkeypatch):
    for count in (0, 1, 2, 64):
        keys = np.random.default_rng(0).integers(0, 8, count, np.uint64) | np.uint64(1 << 63)
        keys[::3] += np.uint64(1 << 40)
        monkeypatch.setattr(random, "words", lambda *_, keys=keys, **__: keys)
        assert random.permutation(0, count, epoch=1).tolist() == sorted(range(count), key=keys.__getitem__)
