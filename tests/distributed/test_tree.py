"""The tree over ranks adds up what the tree over blocks does."""

import numpy as np
import pytest

from xpnet.arithmetic.blocks import tree_sum
from xpnet.distributed.exchange import finish_tree, list_nodes, node_size, share_blocks

RANKS = (1, 2, 3, 4, 5, 7, 8, 13, 64)
BLOCKS = [*range(1, 70), 127, 128, 129, 1000]


@pytest.mark.parametrize("ranks", RANKS)
def test_the_nodes_of_all_ranks_add_up_to_the_bits_of_the_tree(ranks):
    generator = np.random.default_rng(0)
    for blocks in BLOCKS:
        terms = generator.normal(size=(blocks, 3)) * 10.0 ** generator.integers(-8, 8, (blocks, 3))
        expected = tree_sum([[term] for term in terms])[0]
        nodes = [node for each in list_nodes(blocks, ranks) for node in each]
        sums = {
            node: tree_sum([[term] for term in terms[node[0] : node[0] + node_size(node, blocks)]])[0]
            for node in nodes
        }
        assert sum(node_size(node, blocks) for node in nodes) == blocks
        total = np.empty(3)
        finish_tree(sums, blocks, np.add, total)
        np.testing.assert_array_equal(total, expected)


@pytest.mark.parametrize("ranks", RANKS)
def test_shares_are_about_equal_and_few_nodes(ranks):
    for blocks in (59, 1000):
        shares = share_blocks(blocks, ranks)
        assert (shares[0][0], shares[-1][1], len(shares)) == (0, blocks, ranks)
        sizes = [stop - start for start, stop in shares]
        assert max(sizes) <= np.ceil(1.2 * blocks / ranks) + 1
    assert max(map(len, list_nodes(1000, ranks))) <= 4
