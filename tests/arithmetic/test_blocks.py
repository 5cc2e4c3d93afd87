"""Chunks of blocks, whose sums are subtrees of the tree over all blocks; docs/vectors has the tree itself."""

import pytest

from xpnet.arithmetic.blocks import BLOCK_SIZE, block_chunks, tree_sum


def add(left, right):
    """A sum written out, with its parentheses."""
    return [f"({left[0]}+{right[0]})"]


@pytest.mark.parametrize("stack", [1, 2, 3, 4, 6, 16, 1000])
def test_sums_of_chunks_make_the_tree_of_all_blocks(stack):
    for blocks in (*range(1, 18), 31, 32, 33, 59, 64, 100):
        terms = [[str(block)] for block in range(blocks)]
        remaining = iter(terms)
        sums = [
            tree_sum([next(remaining) for group in chunk for _ in range(group.blocks)], add)
            for chunk in block_chunks(blocks * BLOCK_SIZE - 7, stack)
        ]
        assert tree_sum(sums, add) == tree_sum(terms, add)
