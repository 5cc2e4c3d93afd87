"""Records what an arithmetic is asked for, and what it answers, in order."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnet._lib.tree import leaves
from xpnet.arithmetic.base import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from xpnet._typing import Array
    from xpnet.arithmetic.base import Arithmetic

OPERATIONS = ("matmul", "weight_and_bias_gradients", "sum", "exp", "log", "sqrt")
"""The methods of an arithmetic that are recorded."""


class Value(NamedTuple):
    """An array that went into an operation or came out of it."""

    operation: str  # such as "matmul in linear"
    array: NDArray[Any]  # a copy on the host
    call: int | None = None  # of the calls of that operation, from 0
    step: int | None = None  # of the epoch
    block: int | None = None  # of the step or the evaluation


def recording(ops: Arithmetic, to_host: Callable[[Array], NDArray[Any]], record: list[Value]) -> Arithmetic:
    """Return an arithmetic that does the same and appends each operation's operands and results.

    Elementwise functions of the namespace are not recorded: their results are operands of the next
    operation. Operations within operations are not recorded either.
    """
    calls: Counter[str] = Counter()
    within = False

    def recorded(name: str) -> Callable[..., Any]:
        method = getattr(type(ops), name)

        def call(self: Arithmetic, *args: Any, **kwargs: Any) -> Any:
            nonlocal within
            if within:
                return method(self, *args, **kwargs)
            label = f"{name} in {sys._getframe(1).f_code.co_name}"
            record.extend(
                Value(f"operand of {label}", array, calls[label]) for array in _arrays(args, to_host)
            )
            within = True
            try:
                result = method(self, *args, **kwargs)
            finally:
                within = False
            record.extend(Value(label, array, calls[label]) for array in _arrays(result, to_host))
            calls[label] += 1
            return result

        return call

    # A subclass: the mathematics may ask which arithmetic it is.
    kind: Any = type("Recording", (type(ops),), {name: recorded(name) for name in OPERATIONS})
    made: Arithmetic = kind(**{field.name: getattr(ops, field.name) for field in dataclasses.fields(ops)})
    return made


def _arrays(tree: Any, to_host: Callable[[Array], NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for leaf in leaves(tree):
        array = leaf.values if isinstance(leaf, Operand) else leaf
        if hasattr(array, "shape"):
            yield np.array(to_host(array))
