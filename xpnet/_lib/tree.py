"""Trees of arrays: nested lists, tuples and named tuples, such as parameters, gradients and states."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Tree = TypeVar("Tree")


def tree_map(change: Callable[[Any], Any], tree: Tree) -> Tree:
    """Return the tree with ``change`` applied to each leaf; None is not a leaf."""
    if isinstance(tree, list | tuple):
        parts = [tree_map(change, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    changed: Tree = change(tree) if tree is not None else tree
    return changed


def leaves(tree: object) -> Iterator[Any]:
    """Yield the leaves in order, without None."""
    parts = [tree]
    while parts:
        part = parts.pop()
        if isinstance(part, list | tuple):
            parts += reversed(part)
        elif part is not None:
            yield part
