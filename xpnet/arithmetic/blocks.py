"""Blocks of samples, and the fixed order in which their results are added.

A sum over the samples of a batch is *defined* as a sum over blocks of ``BLOCK_SIZE`` consecutive
samples (the last one may be short), added in a fixed binary tree. The result is then the same whether they
are computed one after the other or in parallel.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from xpnet._typing import Array, Arrays, Function

BLOCK_SIZE = 1024
CHUNK_BLOCKS = 4
"""The least number of blocks whose sum a worker returns, so that workers rarely wait for each other."""


class Group(NamedTuple):
    """Consecutive blocks that are computed in one call: samples ``start`` to ``stop``."""

    start: int
    stop: int
    blocks: int


def block_bounds(count: int, size: int = BLOCK_SIZE) -> list[tuple[int, int]]:
    """Return the ``(start, stop)`` of each block of ``size`` among ``count`` samples."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def block_groups(count: int, stack: int, first: int = 0) -> list[Group]:
    """Return the blocks of ``count`` samples, from ``first`` on, in groups of up to ``stack`` full ones.

    A short last block is a group of its own.
    """
    whole = count - count % BLOCK_SIZE
    bounds = block_bounds(whole, stack * BLOCK_SIZE)
    if whole < count:
        bounds.append((whole, count))
    return [Group(first + start, first + stop, -(-(stop - start) // BLOCK_SIZE)) for start, stop in bounds]


def block_chunks(count: int, stack: int, first: int = 0) -> list[list[Group]]:
    """Return the groups in chunks whose sums, added up by ``tree_sum``, are the sum over all blocks.

    Each chunk but the last has the same number of blocks, a power of two; its sum is a subtree of the tree.
    """
    blocks = max(stack, CHUNK_BLOCKS)
    groups = block_groups(count, stack, first)
    full_chunks = 0 if blocks & (blocks - 1) or blocks % stack else count // (blocks * BLOCK_SIZE)
    size = blocks // stack
    chunks = [groups[index * size : (index + 1) * size] for index in range(full_chunks)]
    remaining = groups[full_chunks * size :]
    return [*chunks, remaining] if remaining else chunks


def unstack(group: Group, arrays: Sequence[Array]) -> list[Arrays]:
    """Return the arrays of each block of a group; stacks have the blocks as their first axis."""
    if group.blocks == 1:
        return [list(arrays)]
    return [[array[block, ...] for array in arrays] for block in range(group.blocks)]


def add(left: Sequence[Array], right: Sequence[Array]) -> Arrays:
    """Return the elementwise sums of corresponding arrays."""
    return [a + b for a, b in zip(left, right, strict=True)]


def fold_stack(stack: Sequence[Array], blocks: int) -> Iterator[tuple[int, Arrays]]:
    """Yield the sums of subtrees of a stack of blocks, the largest first, each with its number of blocks."""
    start = 0
    while start < blocks:
        count = 1 << (blocks - start).bit_length() - 1
        terms = [array[start : start + count, ...] for array in stack]
        for _ in range(count.bit_length() - 1):
            terms = add([x[::2, ...] for x in terms], [x[1::2, ...] for x in terms])
        yield count, [array[0, ...] for array in terms]
        start += count


def tree_sum(
    terms: Iterable[Sequence[Array]], add: Function = add, counts: Iterable[int] = repeat(1)
) -> Arrays:
    """Add up sequences of arrays, elementwise, in a fixed binary tree.

    Each may be a sum over so many terms already, a subtree.

    Neighbouring sums over the same number of terms (1, 2, 4, …) are added as soon as both exist, left +
    right; the remaining sums are added from the right. At most log2(number of terms) + 1 partial sums exist
    at any time. There must be at least one term.
    """
    stack: list[tuple[int, Arrays]] = []
    for term, size in zip(terms, counts, strict=False):
        count, total = size, list(term)
        while stack and stack[-1][0] == count:
            total = add(stack.pop()[1], total)
            count *= 2
        stack.append((count, total))
    total = stack.pop()[1]
    while stack:
        total = add(stack.pop()[1], total)
    return total
