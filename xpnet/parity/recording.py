"""Records what an arithmetic is asked for, and what it answers, in order."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnet._lib.tree import leaves
from xpnet.arithmetic.native import Integers
from xpnet.arithmetic.reproducible import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from xpnet._typing import Array
    from xpnet.arithmetic.base import Arithmetic

OPERATIONS = ("matmul", "over_samples", "sum", "exp", "log", "sqrt")
"""The methods of an arithmetic that are recorded."""


class Value(NamedTuple):
    """An array that went into an operation or came out of it."""

    operation: str  # such as "matmul in linear"
    array: NDArray[Any]  # a copy on the host


def recording(ops: Arithmetic, to_host: Callable[[Array], NDArray[Any]], record: list[Value]) -> Arithmetic:
    """Return an arithmetic that does the same and appends each operation's operands and results.

    Elementwise functions of the namespace are not recorded; what they give is an operand of the next
    operation. Operations within operations are not recorded either.
    """
    depth = 0

    def recorded(name: str) -> Callable[..., Any]:
        method = getattr(type(ops), name)

        def call(self: Arithmetic, *args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            label = f"{name} in {_caller()}"
            if depth == 0:
                record.extend(Value(f"operand of {label}", array) for array in _arrays(args, to_host))
            depth += 1
            try:
                result = method(self, *args, **kwargs)
            finally:
                depth -= 1
            if depth == 0:
                record.extend(Value(label, array) for array in _arrays(result, to_host))
            return result

        return call

    methods = {name: recorded(name) for name in OPERATIONS}
    kind: Any = dataclasses.dataclass(frozen=True)(type("Recording", (type(ops),), methods))
    values = {f.name: getattr(ops, f.name) for f in dataclasses.fields(ops)}
    made: Arithmetic = kind(**values)
    return made


def _arrays(tree: Any, to_host: Callable[[Array], NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for leaf in leaves(tree):
        array = leaf.values if isinstance(leaf, Operand | Integers) else leaf
        if hasattr(array, "shape"):
            yield np.array(to_host(array))


def _caller() -> str:
    """Return the name of the function of the network that asks."""
    frame = sys._getframe(2)
    return frame.f_code.co_name
