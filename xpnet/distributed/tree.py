"""The tree of blocks over ranks: each rank adds up whole nodes of it, so that no bit depends on their number.

The tree is that of `xpnet.arithmetic.blocks.tree_sum`. A *node* ``(first, level)`` is the sum of the blocks
from ``first`` on, ``2**level`` of them, or as many as there are up to the last.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

Node: TypeAlias = "tuple[int, int]"

SLACK = 0.1
"""The part of its share by which a rank may have more or fewer blocks, so that it has few nodes."""


def share_blocks(blocks: int, ranks: int) -> list[tuple[int, int]]:
    """Return the first block of each rank, and the one after its last.

    The bounds are moved, by up to ``SLACK`` of a share, to multiples of a power of two as large as possible.
    """
    cuts = [0]
    for rank in range(1, ranks):
        exact, slack = rank * blocks / ranks, max(SLACK * blocks / ranks, 0.5)
        low = max(cuts[-1], math.ceil(exact - slack))
        high = max(low, math.floor(exact + slack))
        cuts.append(max(range(low, high + 1), key=lambda cut: (cut & -cut or blocks, -abs(cut - exact))))
    return list(pairwise([*cuts, blocks]))


def list_nodes(first: int, stop: int, blocks: int) -> list[Node]:
    """Return the largest nodes of the tree over ``blocks`` blocks that lie in the range of a rank."""
    nodes = []
    while first < stop:
        level = 0
        while first % (2 << level) == 0 and (first + (2 << level) <= stop or stop == blocks):
            if first + (1 << level) >= blocks:  # no block would be added
                break
            level += 1
        nodes.append((first, level))
        first = min(first + (1 << level), blocks)
    return nodes


def node_size(node: Node, blocks: int) -> int:
    """Return the number of blocks of a node."""
    first, level = node
    return min(1 << level, blocks - first)


def finish_tree(terms: Mapping[Node, Any], blocks: int, add: Callable[..., Any], out: Any) -> None:
    """Add up the sums of all ranks' nodes, elementwise, to that of all blocks, which ``out`` receives."""

    def total(first: int, level: int, **options: Any) -> Any:
        if (first, level) in terms:
            return terms[first, level]
        half = 1 << (level - 1)
        if first + half >= blocks:
            return total(first, level - 1, **options)
        return add(total(first, level - 1), total(first + half, level - 1), **options)

    result = total(0, max(blocks - 1, 0).bit_length(), out=out)
    if result is not out:  # a single node
        out[...] = result


def list_all_nodes(shares: Sequence[tuple[int, int]], blocks: int) -> list[list[Node]]:
    """Return the nodes of each rank."""
    return [list_nodes(first, stop, blocks) for first, stop in shares]
