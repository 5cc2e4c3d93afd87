"""The blocks of a batch, and the tree that adds them."""

import pytest

from xpnet.arithmetic.blocks import BLOCK_SIZE, block_chunks, block_groups, tree_sum


class Sum(str):
    """A sum written out, with all its parentheses."""

    __slots__ = ()

    def __add__(self, other):
        return Sum(f"({self}+{other})")


def test_groups_are_of_full_blocks_and_a_short_one_stands_alone():
    assert block_groups(3, 2, size=4) == [(0, 3, 1)]
    assert block_groups(8, 1, size=4) == [(0, 4, 1), (4, 8, 1)]
    assert block_groups(22, 3, size=4) == [(0, 12, 3), (12, 20, 2), (20, 22, 1)]


@pytest.mark.parametrize(
    "tree", ["a", "(a+b)", "((a+b)+c)", "(((a+b)+(c+d))+((e+f)+g))", "(((a+b)+(c+d))+((e+f)+(g+h)))"]
)
def test_the_tree_is_fixed_by_the_number_of_terms(tree):
    letters = filter(str.isalpha, tree)
    assert tree_sum([Sum(letter), Sum(letter.upper())] for letter in letters) == [tree, tree.upper()]


@pytest.mark.parametrize("stack", [1, 2, 3, 4, 6, 16, 1000])
def test_sums_of_chunks_make_the_same_tree(stack):
    for blocks in (*range(1, 18), 31, 32, 33, 59, 64, 100):
        chunks = block_chunks(blocks * BLOCK_SIZE - 7, stack)
        groups = [group for chunk in chunks for group in chunk]
        assert groups == block_groups(blocks * BLOCK_SIZE - 7, stack)
        terms = [[Sum(block)] for block in range(blocks)]
        parts = iter(terms)
        sums = [tree_sum([next(parts) for group in chunk for _ in range(group.blocks)]) for chunk in chunks]
        assert tree_sum(sums) == tree_sum(terms)
