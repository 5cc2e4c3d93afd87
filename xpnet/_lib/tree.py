"""Trees of arrays: nested lists, tuples and named tuples, such as parameters, gradients and states."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from xpnet._typing import Function, Json, Shape

Tree = TypeVar("Tree")


def tree_map(change: Function, tree: Tree, *others: Any) -> Tree:
    """Return the tree with ``change`` applied to each leaf, and those of others; None is not a leaf."""
    if isinstance(tree, list | tuple):
        parts = [tree_map(change, *each) for each in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return change(tree, *others) if tree is not None else tree


def leaves_by_path(prefix: str, tree: object) -> Json:
    """Return the leaves by their paths: that at ``tree[0].weight`` is named ``<prefix>.0.weight``."""
    if not isinstance(tree, list | tuple):
        return {} if tree is None else {prefix: tree}
    keys = getattr(tree, "_fields", range(len(tree)))
    parts = [leaves_by_path(f"{prefix}.{key}", part) for key, part in zip(keys, tree, strict=True)]
    return {name: leaf for part in parts for name, leaf in part.items()}


def leaves(tree: object) -> Iterator[Any]:
    """Yield the leaves in order, without None."""
    if isinstance(tree, list | tuple):
        for part in tree:
            yield from leaves(part)
    elif tree is not None:
        yield tree


def split(numbers: Any, sizes: Iterable[int]) -> list[Any]:
    """Return the parts of these sizes of an array (numbers,)."""
    return [numbers[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]


def unpack(xp: Any, numbers: Any, shapes: Sequence[Shape]) -> list[Any]:
    """Return arrays of these shapes that lie in an array (numbers,), one after the other."""
    parts = split(numbers, map(math.prod, shapes))
    return [xp.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
