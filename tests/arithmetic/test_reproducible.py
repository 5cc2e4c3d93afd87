"""Budgets of bits, signs of zeros and chunks of blocks, beyond docs/vectors."""

import numpy as np
import pytest
from networks import reproducible

from xpnet.arithmetic.blocks import BLOCK_SIZE, block_chunks, tree_sum
from xpnet.arithmetic.reproducible import bit_budget
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError


def test_a_product_that_is_zero_has_no_sign_even_if_a_librarys_sums_begin_with_negative_zero(monkeypatch):
    ops = reproducible(make("numpy", "cpu"))
    monkeypatch.setattr(ops.xp, "matmul", lambda a, b: -np.matmul(a, b))
    assert not np.signbit(ops.matmul(np.zeros((3, 2)), np.zeros((2, 4)))).any()


@pytest.mark.parametrize(("pixels", "longest"), [(False, 2**33), (True, 2**35)])
def test_a_sum_over_so_many_terms_that_few_bits_are_left_is_refused(pixels, longest):
    assert bit_budget(longest, a_integer=False, b_integer=pixels).slices == 2
    refusal = rf"^a sum over {longest + 1} terms leaves 9 of 53 bits for each factor, fewer than 10: use .*$"
    with pytest.raises(ConfigError, match=refusal):
        bit_budget(longest + 1, a_integer=False, b_integer=pixels)


@pytest.mark.parametrize("stack", [1, 2, 3, 4, 6, 16, 1000])
def test_sums_of_chunks_make_the_tree_of_all_blocks(stack):
    def add(left, right):
        return [f"({left[0]}+{right[0]})"]

    for blocks in (*range(1, 18), 31, 32, 33, 59, 64, 100):
        terms = [[str(block)] for block in range(blocks)]
        chunks, remaining = block_chunks(blocks * BLOCK_SIZE - 7, stack), iter(terms)
        lengths = [sum(group.blocks for group in chunk) for chunk in chunks]
        sums = [tree_sum([next(remaining) for _ in range(length)], add) for length in lengths]
        assert tree_sum(sums, add) == tree_sum(terms, add)
