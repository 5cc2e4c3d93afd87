"""Recording of the operations of an arithmetic: operands and results, in order."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from xpnet._lib.tree import leaves
from xpnet._typing import Array, HostArray
from xpnet.arithmetic.base import Arithmetic, Operand

OPERATIONS = ("matmul", "weight_and_bias_gradients", "sum", "exp", "log", "sqrt")
"""The methods of an arithmetic that are recorded."""


class Value(NamedTuple):
    """An operand or a result of an operation."""

    operation: str  # such as "matmul in linear"
    array: HostArray  # a copy on the host
    call: int | None = None  # among the calls of that operation, from 0
    step: int | None = None  # in the epoch
    block: int | None = None  # in the step or the evaluation


def record_operations(
    ops: Arithmetic, to_host: Callable[[Array], HostArray], record: list[Value]
) -> Arithmetic:
    """Return an equivalent arithmetic that appends the operands and results of each operation to a record.

    Elementwise functions of the namespace are not recorded: their results are operands of the next
    operation. Operations within operations are not recorded either.
    """
    calls: Counter[str] = Counter()
    is_nested = False

    def copy_arrays(tree: object) -> Iterator[HostArray]:
        for leaf in leaves(tree):
            array = leaf.values if isinstance(leaf, Operand) else leaf
            if hasattr(array, "shape"):
                yield np.array(to_host(array))

    def record_method(name: str) -> Callable[..., object]:
        method = getattr(type(ops), name)

        def call(self: Arithmetic, *args: object, **kwargs: object) -> object:
            nonlocal is_nested
            if is_nested:
                return method(self, *args, **kwargs)
            label = f"{name} in {sys._getframe(1).f_code.co_name}"
            record.extend(Value(f"operand of {label}", array, calls[label]) for array in copy_arrays(args))
            is_nested = True
            try:
                result = method(self, *args, **kwargs)
            finally:
                is_nested = False
            record.extend(Value(label, array, calls[label]) for array in copy_arrays(result))
            calls[label] += 1
            return result

        return call

    # A subclass, because the mathematics may depend on the type of the arithmetic.
    methods = {name: record_method(name) for name in OPERATIONS}
    subclass: type[Arithmetic] = type("Recording", (type(ops),), methods)
    return subclass(**{field.name: getattr(ops, field.name) for field in dataclasses.fields(ops)})
