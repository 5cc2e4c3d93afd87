"""Names for the types of arrays and of functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


Array: TypeAlias = Any
"""An array of whichever library the backend wraps."""


Function: TypeAlias = "Callable[..., Any]"


Item = TypeVar("Item")


Result = TypeVar("Result")


class Compile(Protocol):
    """`Backend.compile`, with `exact` decided."""

    def __call__(self, function: Function, *, donated: Sequence[int] = ()) -> Function:
        """Return a function that does the same."""


def as_written(function: Function, *, donated: Sequence[int] = ()) -> Function:  # noqa: ARG001
    """Return `function` itself."""
    return function
