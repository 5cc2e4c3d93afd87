"""Blocks of samples, and the fixed order in which their results are added.

A sum over the samples of a batch is *defined* as a sum over blocks of ``BLOCK_SIZE`` consecutive
samples (the last one may be short), added in a fixed binary tree. How the blocks are computed, one after
the other or side by side, cannot then change the result.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from xpnet._typing import Array

BLOCK_SIZE = 1024
CHUNK = 4
"""Blocks, at least, whose sum is handed on as one: workers then wait for each other less often."""


class Group(NamedTuple):
    """Neighbouring blocks that are computed in one call: samples ``start`` to ``stop``."""

    start: int
    stop: int
    blocks: int


def block_bounds(count: int, size: int = BLOCK_SIZE) -> list[tuple[int, int]]:
    """Return the ``(start, stop)`` of each block of ``size`` among ``count`` samples."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def block_groups(count: int, stack: int, size: int = BLOCK_SIZE) -> list[Group]:
    """Return the blocks of ``count`` samples in groups of up to ``stack`` full ones.

    A short last block is a group of its own.
    """
    full = count // size
    groups = [Group(first * size, last * size, last - first) for first, last in block_bounds(full, stack)]
    return groups if full * size == count else [*groups, Group(full * size, count, 1)]


def block_chunks(count: int, stack: int) -> list[list[Group]]:
    """Return the groups in chunks whose sums, added up by ``tree_sum``, are the sum over all blocks.

    Each chunk but the last holds as many blocks, a power of two; a sum over them is a part of the tree.
    """
    unit = max(stack, CHUNK)
    groups = block_groups(count, stack)
    whole = 0 if unit & (unit - 1) or unit % stack else count // (unit * BLOCK_SIZE)
    size = unit // stack
    chunks = [groups[at * size : (at + 1) * size] for at in range(whole)]
    rest = groups[whole * size :]
    return [*chunks, rest] if rest else chunks


def unstack(group: Group, arrays: Sequence[Array]) -> list[list[Array]]:
    """Return the arrays of each block of a group; stacks have the blocks as their first axis."""
    if group.blocks == 1:
        return [list(arrays)]
    return [[array[block, ...] for array in arrays] for block in range(group.blocks)]


def add(left: Sequence[Array], right: Sequence[Array]) -> list[Array]:
    """Return the sums of the arrays in the same places."""
    return [a + b for a, b in zip(left, right, strict=True)]


def tree_sum(
    terms: Iterable[Sequence[Array]],
    add: Callable[[list[Array], list[Array]], list[Array]] = add,
) -> list[Array]:
    """Add up sequences of arrays, elementwise, in a fixed binary tree.

    The terms are numbered as they come. Neighbouring sums over equally many terms (1, 2, 4, …) are
    added as soon as both exist, left + right; what is left at the end is added from the right. At most
    log2(number of terms) + 1 partial sums exist at any time.

    Raises
    ------
    ValueError
        If there are no terms.
    """
    stack: list[tuple[int, list[Array]]] = []
    for term in terms:
        count, total = 1, list(term)
        while stack and stack[-1][0] == count:
            total = add(stack.pop()[1], total)
            count *= 2
        stack.append((count, total))
    if not stack:
        msg = "a sum over blocks needs at least one block"
        raise ValueError(msg)
    total = stack.pop()[1]
    while stack:
        total = add(stack.pop()[1], total)
    return total
