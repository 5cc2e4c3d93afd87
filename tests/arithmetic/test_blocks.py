"""The blocks of a batch, and the tree that adds them."""

import pytest

from xpnet.arithmetic.blocks import BLOCK_SIZE, block_chunks, block_groups, tree_sum


class Sum(str):
    """A sum written out, with all its parentheses."""

    __slots__ = ()

    def __add__(self, other):
        return Sum(f"({self}+{other})")


@pytest.mark.parametrize(
    ("count", "stack", "groups"),
    [
        (3, 2, [(0, 3, 1)]),
        (8, 1, [(0, 4, 1), (4, 8, 1)]),
        (8, 2, [(0, 8, 2)]),
        (22, 3, [(0, 12, 3), (12, 20, 2), (20, 22, 1)]),
    ],
)
def test_groups_are_of_full_blocks_and_a_short_one_stands_alone(count, stack, groups):
    assert block_groups(count, stack, size=4) == groups


@pytest.mark.parametrize(
    ("count", "tree"),
    [
        (1, "a"),
        (2, "(a+b)"),
        (3, "((a+b)+c)"),
        (5, "(((a+b)+(c+d))+e)"),
        (7, "(((a+b)+(c+d))+((e+f)+g))"),
        (8, "(((a+b)+(c+d))+((e+f)+(g+h)))"),
    ],
)
def test_the_tree_is_fixed_by_the_number_of_terms(count, tree):
    terms = [[Sum(letter), Sum(letter.upper())] for letter in "abcdefgh"[:count]]
    assert tree_sum(iter(terms)) == [tree, tree.upper()]


@pytest.mark.parametrize("stack", [1, 2, 3, 4, 6, 16, 1000])
@pytest.mark.parametrize("blocks", [*range(1, 18), 31, 32, 33, 59, 64, 100])
def test_sums_of_chunks_make_the_same_tree(blocks, stack):
    terms = [[Sum(block)] for block in range(blocks)]
    chunks = block_chunks(blocks * BLOCK_SIZE - 7, stack)
    assert [group for chunk in chunks for group in chunk] == block_groups(blocks * BLOCK_SIZE - 7, stack)
    sizes = [sum(group.blocks for group in chunk) for chunk in chunks]
    parts = iter(terms)
    sums = [tree_sum([next(parts) for _ in range(size)]) for size in sizes]
    assert tree_sum(sums) == tree_sum(terms)
