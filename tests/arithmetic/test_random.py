"""Random numbers follow their written definition, not whatever NumPy does."""

import itertools

import numpy as np
import pytest
import reference

from xpnet.arithmetic import random

MASK = (1 << 64) - 1


def philox_words(seed, purpose, epoch, index, count):
    """The first words of a stream, from the pure Python implementation."""
    uses = range(1, 2 + count // 4)
    words = (reference.philox((use, index, epoch, purpose), (seed, 0)) for use in uses)
    return list(itertools.chain.from_iterable(words))[:count]


@pytest.mark.parametrize(
    ("seed", "purpose", "epoch", "index"),
    [(0, 1, 0, 0), (0, 1, 0, 3), (7, 2, 5, 0), (MASK, 2, 1, 1)],
)
def test_words_are_philox_with_the_documented_key_and_counter(seed, purpose, epoch, index):
    words = random.words(seed, random.Purpose(purpose), 11, epoch=epoch, index=index)
    assert words.tolist() == philox_words(seed, purpose, epoch, index, 11)


def test_uniform_maps_the_upper_24_bits_into_the_half_open_unit_interval():
    words = np.array([0, (1 << 40) - 1, 1 << 40, 1 << 63, MASK], dtype=np.uint64)
    assert random.uniform(words).tolist() == [0.0, 0.0, 2.0**-24, 0.5, 1.0 - 2.0**-24]


def test_uniform_numbers_are_exact_in_float32():
    values = random.uniform(random.words(0, random.Purpose.INITIALIZE, 10_000))
    assert np.array_equal(values.astype(np.float32).astype(np.float64), values)
    assert abs(values.mean() - 0.5) < 0.01


def test_a_permutation_holds_every_sample_once_and_changes_with_seed_and_epoch():
    first = random.permutation(0, 1000, epoch=1)
    assert sorted(first.tolist()) == list(range(1000))
    assert first.tolist() != list(range(1000))
    assert random.permutation(0, 1000, epoch=1).tolist() == first.tolist()
    assert random.permutation(0, 1000, epoch=2).tolist() != first.tolist()
    assert random.permutation(1, 1000, epoch=1).tolist() != first.tolist()
