"""Replays a function of NumPy arrays in memory that is allocated once.

The mathematics is written for any array library, so on NumPy each of its operations allocates its
result. For the small matrices of a block, finding the right function and allocating cost more than
computing, and threads wait for each other meanwhile. `compiled` runs a function once with arguments that
record every NumPy call made on them (`xpnet.backends.tape`), and writes the same calls down, in the same
order, as straight-line Python: each with an array to put its result in, one of a few that are used again and
again. Views of such arrays are made beforehand.

The results are unchanged, but for large products of matrices, which are made in pieces: other kernels of
the BLAS may add up in another order.
"""

import itertools
import math
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xpnet._lib.tree import Tree, tree_map
from xpnet._typing import AnyFunction, Function
from xpnet.backends.tape import WITH_OUT, Call, Tape, Traced, convert, is_traced, traced, values

SMALL_PRODUCT = 100**3
"""Multiplications below which OpenBLAS takes kernels that do not copy the factors first."""
FEWEST_COLUMNS = 32
"""Pieces of a product with fewer columns cost more than they save."""
LONG_PRODUCT, LONG_RESULT = 1 << 19, 1 << 16
"""Multiplications of a product, and numbers in another result, that take a thread some ten microseconds."""
WIDTH = 8
"""Pieces had better have a multiple of so many columns: the width of the kernels."""
ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""
OF_SHAPE = {np.ones_like, np.zeros_like, np.full_like}
"""Functions whose results do not depend on values."""


def compiled(function: AnyFunction) -> AnyFunction:
    """Return a function that does what `function` does, faster from its second call on.

    Arguments and results are arrays, numbers, None, and lists, tuples and named tuples of them. Shapes
    may change from call to call for arguments that are arrays themselves, not for those inside lists and
    tuples. Each thread has memory of its own.
    """
    plans = _Plans()

    def run(*args: object) -> object:
        key = tuple([getattr(arg, "shape", None) for arg in args])
        plan = plans.by_shapes.get(key)
        if plan is not None:
            return plan(*args)
        if is_traced(args):  # the caller is itself being recorded
            return function(*args)
        plans.by_shapes[key], result = _recorded(function, args)
        return result

    return cast("AnyFunction", run)


Prepared: TypeAlias = tuple[Function, tuple[object, ...], dict[str, object]]
"""A call: function, arguments, keyword arguments."""


class _Plans(threading.local):
    """The plans of a thread."""

    def __init__(self) -> None:
        self.by_shapes: dict[tuple[object, ...], Function] = {}


def _recorded(function: Function, args: tuple[object, ...]) -> tuple[Function, object]:
    """Run `function` and return its plan and its result."""
    tape = Tape()
    inputs = tree_map(lambda leaf: Traced(tape, leaf), args)
    outputs = function(*inputs)
    return _Writer(tape.calls, inputs, outputs).plan(), values(outputs)


class _Writer:
    """Writes the plan of one recorded run.

    A value is either a *variable* of the plan's source, as its arguments and results are, or *static*:
    in every run the same array, in the plan's own memory. Static values that depend on the first
    argument alone are *early*: they are computed anew only when that is another object.
    """

    def __init__(self, calls: list[Call], inputs: tuple[object, ...], outputs: object) -> None:
        self.calls, self.inputs, self.outputs = _needed(calls, outputs), inputs, outputs
        self.source = {c.result.slot: c.source.slot for c in self.calls if c.source is not None}
        self.results = {self.root(leaf) for leaf in traced(outputs)}
        self.uses: dict[int, list[Call]] = defaultdict(list)  # of a value's memory
        self.early = {leaf.slot for leaf in traced(inputs[0])}
        for call in self.calls:
            for operand in call.operands():
                self.uses[self.root(operand)].append(call)
            if all(operand.slot in self.early for operand in call.operands()):
                self.early.add(call.result.slot)
        self.variables: dict[int, str] = {}
        self.static: dict[int, npt.NDArray[np.generic]] = {}
        self.memories = {True: _Memory([]), False: _Memory(_SHARED.free)}  # of early values, of others
        self.scope: dict[str, Any] = {"last": [None]}
        self.lines: list[tuple[str, bool]] = []  # of the source, and whether they take long

    def root(self, value: Traced) -> int:
        """Return the slot of the value whose memory `value` lies in."""
        slot = value.slot
        while slot in self.source:
            slot = self.source[slot]
        return slot

    def plan(self) -> Function:
        """Return the function."""
        for leaf in traced(self.inputs):
            self._name(leaf)
        for index, argument in enumerate(self.inputs):
            self._add(f"{self._pattern(argument)} = argument{index}")
        self._add("new = last[0] is not argument0")
        self._add("if new: last[0] = None")  # until all early values are those of argument0
        for call in self.calls:
            self._write(call)
            for operand in call.operands():
                root = self.root(operand)
                if self._ends(root, call):
                    self.memories[root in self.early].give_back(root)
        self._add("last[0] = argument0")
        self._add(f"return {self._expression(self.outputs)}")
        arguments = ", ".join(f"argument{index}" for index in range(len(self.inputs)))
        text = "\n".join([f"def plan({arguments}):", *self._serialize_short_lines()])
        exec(text, self.scope)  # noqa: S102  the text is made here, of names that are made here
        plan: Function = self.scope["plan"]
        return plan

    def _ends(self, root: int, call: Call) -> bool:
        """Return whether a value's memory is free after `call`; late calls need early values in every run."""
        uses = self.uses[root]
        early = [use.result.slot in self.early for use in uses]
        return uses[-1] is call and (root not in self.early or all(early))

    def _write(self, call: Call) -> None:
        slot, value = call.result.slot, call.result.value
        if call.source is not None and call.source.slot in self.static:
            self.static[slot] = call.function(*self._now(call.args), **call.kwargs)
        elif call.function in OF_SHAPE:
            self.static[slot] = value
        elif call.source is not None or slot in self.results or not self._takes_out(call):
            text = self._call(call.function, call.args, call.kwargs)
            self._add(f"{self._name(call.result)} = {text}", long=_takes_long(call))
        else:
            self._write_into_memory(call)

    def _write_into_memory(self, call: Call) -> None:
        slot, value = call.result.slot, call.result.value
        early = slot in self.early
        memory = self.memories[early]
        elementwise = isinstance(call.function, np.ufunc) and call.function is not np.matmul
        for operand in call.operands() if elementwise else ():
            own = operand.slot not in self.source and (operand.slot in self.early) == early
            same = (operand.shape, operand.dtype) == (value.shape, value.dtype)
            if own and same and self._ends(operand.slot, call):
                memory.hand_over(operand.slot, slot)
                break
        out = self.static[slot] = memory.array(slot, value)
        for function, args, kwargs in self._into(call, out):
            line = self._call(function, args, kwargs)
            self._add(f"if new: {line}" if early else line, long=_takes_long(call))

    def _takes_out(self, call: Call) -> bool:
        if call.function is np.where:
            return isinstance(call.args[0], Traced) and call.args[0].dtype == np.bool_
        return isinstance(call.function, np.ufunc) or call.function in WITH_OUT

    def _into(self, call: Call, out: npt.NDArray[np.generic]) -> list[Prepared]:
        """Return the calls that do what `call` does with `out` for the result."""
        if call.function is convert:
            return [(np.copyto, (out, call.args[0], "unsafe"), {})]
        if call.function is np.where:
            mask, x, y = call.args
            if self._is_of_bits(call):
                return self._bits(mask, x, out)
            return [(np.copyto, (out, y), {}), (np.copyto, (out, x), {"where": mask})]
        if call.function is np.matmul and (size := self._piece(call)):
            pieces = _in_pieces(self.static[call.args[1].slot], size)
            return [(np.matmul, (call.args[0], pieces), {"out": _in_pieces(out, size)})]
        return [(call.function, call.args, {**call.kwargs, "out": out})]

    def _is_of_bits(self, call: Call) -> bool:
        """Return whether a choice takes numbers as they are where a mask is true, and +0.0 elsewhere."""
        _, x, y = call.args
        return (
            isinstance(x, Traced)
            and x.slot in self.static
            and (x.shape, x.dtype) == (call.result.shape, call.result.dtype)
            and x.dtype.kind == "f"
            and not isinstance(y, Traced | np.ndarray)
            and np.float64(y).tobytes() == bytes(8)
        )

    def _bits(self, mask: object, x: Traced, out: npt.NDArray[np.generic]) -> list[Prepared]:
        """Return the calls that keep all bits of a number or none.

        They do without the jumps that a copy by a mask makes: those are slow if they are hard to guess.
        """
        bits = out.view(f"i{out.itemsize}")
        numbers = self.static[x.slot].view(bits.dtype)
        return [
            (np.copyto, (bits, mask, "unsafe"), {}),
            (np.negative, (bits,), {"out": bits}),
            (np.bitwise_and, (bits, numbers), {"out": bits}),
        ]

    def _piece(self, product: Call) -> int | None:
        """Return how many columns of a product its fast kernels make at a time; None: no fewer than all."""
        factor = product.args[1]
        known = isinstance(factor, Traced) and factor.slot in self.static
        if not known or product.result.ndim != 2 or product.result.slot in self.early:
            return None
        (units, columns), terms = product.result.shape, factor.shape[0]
        most = min((SMALL_PRODUCT - 1) // (units * terms), columns - 1)
        fitting = (size for size in range(most, FEWEST_COLUMNS - 1, -1) if columns % size == 0)
        return max(fitting, key=lambda size: (size % WIDTH == 0, size), default=None)

    def _add(self, line: str, *, long: bool = False) -> None:
        self.lines.append((line, long))

    def _serialize_short_lines(self) -> Iterator[str]:
        """Yield the lines, indented: the short ones where only one thread at a time executes them.

        Threads need the interpreter before and after every operation. Where several do short ones, they
        mostly wait for it, and to be woken up; beside long ones no thread waits for long.
        """
        self.scope["alone"] = _ALONE
        for long, lines in itertools.groupby(self.lines, key=lambda line: line[1]):
            if not long:
                yield "    with alone:"
            for text, _ in lines:
                yield f"    {text}" if long else f"        {text}"

    def _name(self, value: Traced) -> str:
        return self.variables.setdefault(value.slot, f"value{value.slot}")

    def _call(self, function: Function, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
        words = [self._expression(arg) for arg in args]
        words += [f"{name}={self._expression(arg)}" for name, arg in kwargs.items()]
        return f"{self._constant(function)}({', '.join(words)})"

    def _expression(self, tree: object) -> str:
        if isinstance(tree, Traced):
            known = self.variables.get(tree.slot)
            return known or self._constant(self.static[tree.slot])
        if isinstance(tree, list | tuple) and is_traced(tree):
            parts = "".join(f"{self._expression(part)}, " for part in tree)
            if isinstance(tree, list):
                return f"[{parts}]"
            return f"{self._constant(type(tree)) if hasattr(tree, '_fields') else ''}({parts})"
        return self._constant(tree)

    def _pattern(self, tree: object) -> str:
        """Return the left side of an assignment that names the traced values in `tree`."""
        if isinstance(tree, list | tuple):
            return f"[{', '.join(self._pattern(part) for part in tree)}]"
        return self._name(tree) if isinstance(tree, Traced) else "_"

    def _constant(self, value: object) -> str:
        name = f"constant{id(value)}"
        self.scope[name] = value  # which keeps the value alive, and its id its own
        return name

    def _now(self, tree: Tree) -> Tree:
        """Return arguments with the static values in place of the traced ones."""
        return tree_map(lambda leaf: self.static[leaf.slot] if isinstance(leaf, Traced) else leaf, tree)


_ALONE = threading.Lock()
"""Held by the thread that is doing short operations."""


def _takes_long(call: Call) -> bool:
    """Return whether a call takes much longer than a thread takes to wake up."""
    size = math.prod(call.result.shape)
    if call.function is np.matmul:
        return bool(size * call.args[1].shape[-2] >= LONG_PRODUCT)
    return size >= LONG_RESULT


class _Shared(threading.local):
    """Free memory, shared by the plans of a thread, of which one runs at a time."""

    def __init__(self) -> None:
        self.free: list[npt.NDArray[np.uint8]] = []


_SHARED = _Shared()


class _Memory:
    """The arrays of a plan: as few as the values that are alive at a time."""

    def __init__(self, free: list[npt.NDArray[np.uint8]]) -> None:
        self.used: dict[int, npt.NDArray[np.uint8]] = {}  # by the slot of a value
        self.free = free

    def array(self, slot: int, like: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return an array for the value `slot`, of the same form and order in memory as `like`."""
        if slot not in self.used:
            self.used[slot] = self._memory(like.nbytes)
        order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
        shape = [like.shape[axis] for axis in order]
        array = self.used[slot][: like.nbytes].view(like.dtype).reshape(shape)
        return array.transpose(np.argsort(order))

    def _memory(self, size: int) -> npt.NDArray[np.uint8]:
        """Return the smallest that is free, if it is not much too large, or else a new one."""
        fitting = [memory for memory in self.free if size <= memory.nbytes <= 2 * size]
        if not fitting:
            return _aligned(size)
        smallest = min(fitting, key=lambda memory: memory.nbytes)
        self.free[:] = [memory for memory in self.free if memory is not smallest]
        return smallest

    def hand_over(self, slot: int, new_slot: int) -> None:
        """Give the memory of one value, which is needed no more, to another of the same form."""
        if slot in self.used:
            self.used[new_slot] = self.used.pop(slot)

    def give_back(self, slot: int) -> None:
        """Let the memory of a value be used for others."""
        if slot in self.used:
            self.free.append(self.used.pop(slot))


def _aligned(size: int) -> npt.NDArray[np.uint8]:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def _needed(calls: list[Call], outputs: object) -> list[Call]:
    """Return the calls without those that nothing depends on."""
    slots = {leaf.slot for leaf in traced(outputs)}
    needed = []
    for call in reversed(calls):
        if call.result.slot in slots:
            slots.update(operand.slot for operand in call.operands())
            needed.append(call)
    return needed[::-1]


def _in_pieces(matrix: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.generic]:
    """Return a view of a matrix as a stack of matrices, each ``size`` of its columns."""
    return matrix.reshape(matrix.shape[0], -1, size).swapaxes(0, 1)
