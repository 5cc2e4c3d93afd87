"""Replays a function of NumPy arrays in memory that is allocated once.

The mathematics is written for any array library, so on NumPy each of its operations allocates its
result. For the small matrices of a block, dispatching and allocating cost more than computing, and threads
wait for each other in the meantime. `compile_replay` runs a function once with arguments that record every
NumPy call made on them (`xpnet.backends.tape`), and generates a *plan*: the same calls, in the same order,
as straight-line Python, each with an output array out of a few that are reused. Views of these arrays are
created beforehand.

The results are unchanged, except those of large products of matrices, which are computed in column blocks:
the BLAS may then use kernels that add up in another order.
"""

import itertools
import math
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xpnet._lib.tree import Tree, tree_map
from xpnet._typing import AnyFunction, Function
from xpnet.backends import tape
from xpnet.backends.tape import Call, TracedArray, is_traced, traced_leaves, untrace

SMALL_PRODUCT = 100**3
"""Multiplications below which OpenBLAS uses kernels that do not copy the factors first."""
FEWEST_COLUMNS = 32
"""Columns below which dividing a product into column blocks costs more than it saves."""
LONG_PRODUCT, LONG_RESULT = 1 << 19, 1 << 16
"""Multiplications of a product, and elements of another result, that take about ten microseconds."""
WIDTH = 8
"""Columns that a kernel computes at a time; a multiple of it is best for a column block."""
ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector register."""
VALUE_INDEPENDENT = {np.ones_like, np.zeros_like, np.full_like}
"""Functions whose results depend only on the shapes of their arguments."""


def compile_replay(function: AnyFunction) -> AnyFunction:
    """Return a function equivalent to `function` that is faster from its second call on.

    Arguments and results are arrays, numbers, None, and lists, tuples and named tuples of them. The shapes
    of arguments that are arrays may change from call to call, those inside lists and tuples may not. Each
    thread has its own memory.
    """
    plans = _ThreadPlans()

    def run(*args: object) -> object:
        key = tuple([getattr(arg, "shape", None) for arg in args])
        plan = plans.by_shapes.get(key)
        if plan is not None:
            return plan(*args)
        if is_traced(args):  # the caller is being recorded itself
            return function(*args)
        plans.by_shapes[key], result = _record_plan(function, args)
        return result

    return cast("AnyFunction", run)


OutCall: TypeAlias = tuple[Function, tuple[object, ...], dict[str, object]]
"""A call that writes into a buffer: function, arguments, keyword arguments."""


class _ThreadPlans(threading.local):
    """The plans of a thread, by the shapes of the arguments."""

    def __init__(self) -> None:
        self.by_shapes: dict[tuple[object, ...], Function] = {}


def _record_plan(function: Function, args: tuple[object, ...]) -> tuple[Function, object]:
    """Run `function` once; return its plan and its result."""
    recording = tape.Tape()
    inputs = tree_map(lambda leaf: TracedArray(recording, leaf), args)
    outputs = function(*inputs)
    return _PlanWriter(recording.calls, inputs, outputs).plan(), untrace(outputs)


class _PlanWriter:
    """Generates the plan of a recorded run.

    A value is either a *variable* of the plan's source, as its arguments and results are, or a *buffer*:
    the same array in every run, in the plan's own memory. Buffers that depend only on the first argument
    are *cached*: they are computed again only if it is another object than in the last run.
    """

    def __init__(self, calls: list[Call], inputs: tuple[object, ...], outputs: object) -> None:
        self.calls, self.inputs, self.outputs = _without_unused(calls, outputs), inputs, outputs
        self.source = {c.result.slot: c.source.slot for c in self.calls if c.source is not None}
        self.results = {self.memory_slot(leaf) for leaf in traced_leaves(outputs)}
        self.uses: dict[int, list[Call]] = defaultdict(list)  # the calls that read the memory of a slot
        self.cached = {leaf.slot for leaf in traced_leaves(inputs[0])}
        for call in self.calls:
            for operand in call.operands():
                self.uses[self.memory_slot(operand)].append(call)
            if all(operand.slot in self.cached for operand in call.operands()):
                self.cached.add(call.result.slot)
        self.variables: dict[int, str] = {}
        self.buffers: dict[int, npt.NDArray[np.generic]] = {}
        self.pools = {True: _MemoryPool([]), False: _MemoryPool(_FREE_MEMORY.free)}  # True: if cached
        self.scope: dict[str, object] = {"last": [None]}
        self.lines: list[tuple[str, bool]] = []  # of the source; True for long calls

    def memory_slot(self, value: TracedArray) -> int:
        """Return the slot that owns the memory of a value, which may be a view."""
        slot = value.slot
        while slot in self.source:
            slot = self.source[slot]
        return slot

    def plan(self) -> Function:
        """Generate the source of the plan and return its function."""
        for leaf in traced_leaves(self.inputs):
            self._variable(leaf)
        for index, argument in enumerate(self.inputs):
            self._add_line(f"{self._unpacking_target(argument)} = argument{index}")
        self._add_line("new = last[0] is not argument0")
        self._add_line("if new: last[0] = None")  # until all cached buffers are computed
        for call in self.calls:
            self._write_call(call)
            for operand in call.operands():
                slot = self.memory_slot(operand)
                if self._is_last_use(slot, call):
                    self.pools[slot in self.cached].release(slot)
        self._add_line("last[0] = argument0")
        self._add_line(f"return {self._expression(self.outputs)}")
        arguments = ", ".join(f"argument{index}" for index in range(len(self.inputs)))
        text = "\n".join([f"def plan({arguments}):", *self._serialize_short_lines()])
        exec(text, self.scope)  # noqa: S102  the text is generated above, from generated names
        return cast("Function", self.scope["plan"])

    def _is_last_use(self, memory_slot: int, call: Call) -> bool:
        """Tell whether a value's memory is free after `call`; cached buffers must keep it for later runs."""
        uses = self.uses[memory_slot]
        cached = [use.result.slot in self.cached for use in uses]
        return uses[-1] is call and (memory_slot not in self.cached or all(cached))

    def _write_call(self, call: Call) -> None:
        slot, value = call.result.slot, call.result.value
        if call.source is not None and call.source.slot in self.buffers:
            self.buffers[slot] = call.function(*self._with_buffers(call.args), **call.kwargs)
        elif call.function in VALUE_INDEPENDENT:
            self.buffers[slot] = value
        elif call.source is not None or slot in self.results or not self._accepts_out(call):
            text = self._call_source(call.function, call.args, call.kwargs)
            self._add_line(f"{self._variable(call.result)} = {text}", long=_is_long(call))
        else:
            self._write_call_into_buffer(call)

    def _write_call_into_buffer(self, call: Call) -> None:
        slot, value = call.result.slot, call.result.value
        cached = slot in self.cached
        pool = self.pools[cached]
        elementwise = isinstance(call.function, np.ufunc) and call.function is not np.matmul
        for operand in call.operands() if elementwise else ():
            owns_memory = operand.slot not in self.source and (operand.slot in self.cached) == cached
            same_layout = (operand.shape, operand.dtype) == (value.shape, value.dtype)
            if owns_memory and same_layout and self._is_last_use(operand.slot, call):
                pool.transfer(operand.slot, slot)
                break
        out = self.buffers[slot] = pool.allocate(slot, value)
        for function, args, kwargs in self._calls_into(call, out):
            line = self._call_source(function, args, kwargs)
            self._add_line(f"if new: {line}" if cached else line, long=_is_long(call))

    def _accepts_out(self, call: Call) -> bool:
        if call.function is np.where:
            return isinstance(call.args[0], TracedArray) and call.args[0].dtype == np.bool_
        return isinstance(call.function, np.ufunc) or call.function in tape.ACCEPTS_OUT

    def _calls_into(self, call: Call, out: npt.NDArray[np.generic]) -> list[OutCall]:
        """Return the calls that write the result of `call` into `out`."""
        if call.function is tape.convert:
            return [(np.copyto, (out, call.args[0], "unsafe"), {})]
        if call.function is np.where:
            mask, x, y = call.args
            if self._selects_bits(call):
                return self._bit_mask_calls(mask, x, out)
            return [(np.copyto, (out, y), {}), (np.copyto, (out, x), {"where": mask})]
        if call.function is np.matmul and (size := self._columns_per_piece(call)):
            pieces = _split_columns(self.buffers[call.args[1].slot], size)
            return [(np.matmul, (call.args[0], pieces), {"out": _split_columns(out, size)})]
        return [(call.function, call.args, {**call.kwargs, "out": out})]

    def _selects_bits(self, call: Call) -> bool:
        """Tell whether a call of ``where`` selects elements of a float buffer, or else +0.0."""
        _, x, y = call.args
        return (
            isinstance(x, TracedArray)
            and x.slot in self.buffers
            and (x.shape, x.dtype) == (call.result.shape, call.result.dtype)
            and x.dtype.kind == "f"
            and not isinstance(y, TracedArray | np.ndarray)
            and np.float64(y).tobytes() == bytes(8)
        )

    def _bit_mask_calls(self, mask: object, x: TracedArray, out: npt.NDArray[np.generic]) -> list[OutCall]:
        """Return calls that select numbers, or else +0.0, by a bit mask.

        They avoid the branches of a masked copy, which are slow when mispredicted.
        """
        bits = out.view(f"i{out.itemsize}")
        numbers = self.buffers[x.slot].view(bits.dtype)
        return [
            (np.copyto, (bits, mask, "unsafe"), {}),
            (np.negative, (bits,), {"out": bits}),
            (np.bitwise_and, (bits, numbers), {"out": bits}),
        ]

    def _columns_per_piece(self, product: Call) -> int | None:
        """Return the columns of a block of a product that is best computed in blocks, else None."""
        factor = product.args[1]
        is_buffer = isinstance(factor, TracedArray) and factor.slot in self.buffers
        if not is_buffer or product.result.ndim != 2 or product.result.slot in self.cached:
            return None
        (units, columns), terms = product.result.shape, factor.shape[0]
        most = min((SMALL_PRODUCT - 1) // (units * terms), columns - 1)
        candidates = (size for size in range(most, FEWEST_COLUMNS - 1, -1) if columns % size == 0)
        return max(candidates, key=lambda size: (size % WIDTH == 0, size), default=None)

    def _add_line(self, line: str, *, long: bool = False) -> None:
        self.lines.append((line, long))

    def _serialize_short_lines(self) -> Iterator[str]:
        """Yield the lines, indented; short calls hold a lock, so that one thread at a time executes them.

        Threads need the interpreter before and after every call. If several execute short calls, they
        mostly wait for it and to be woken up; during a long call the others can run.
        """
        self.scope["lock"] = _SHORT_CALLS
        for long, lines in itertools.groupby(self.lines, key=lambda line: line[1]):
            if not long:
                yield "    with lock:"
            for text, _ in lines:
                yield f"    {text}" if long else f"        {text}"

    def _variable(self, value: TracedArray) -> str:
        return self.variables.setdefault(value.slot, f"value{value.slot}")

    def _call_source(self, function: Function, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
        words = [self._expression(arg) for arg in args]
        words += [f"{name}={self._expression(arg)}" for name, arg in kwargs.items()]
        return f"{self._constant_name(function)}({', '.join(words)})"

    def _expression(self, tree: object) -> str:
        if isinstance(tree, TracedArray):
            variable = self.variables.get(tree.slot)
            return variable or self._constant_name(self.buffers[tree.slot])
        if isinstance(tree, list | tuple) and is_traced(tree):
            parts = "".join(f"{self._expression(part)}, " for part in tree)
            if isinstance(tree, list):
                return f"[{parts}]"
            return f"{self._constant_name(type(tree)) if hasattr(tree, '_fields') else ''}({parts})"
        return self._constant_name(tree)

    def _unpacking_target(self, tree: object) -> str:
        """Return the target of an assignment that unpacks the traced values in `tree`."""
        if isinstance(tree, list | tuple):
            return f"[{', '.join(self._unpacking_target(part) for part in tree)}]"
        return self._variable(tree) if isinstance(tree, TracedArray) else "_"

    def _constant_name(self, value: object) -> str:
        name = f"constant{id(value)}"
        self.scope[name] = value  # which keeps the value alive, and its id its own
        return name

    def _with_buffers(self, tree: Tree) -> Tree:
        """Replace traced values in arguments by their buffers."""
        return tree_map(lambda leaf: self.buffers[leaf.slot] if isinstance(leaf, TracedArray) else leaf, tree)


_SHORT_CALLS = threading.Lock()
"""Held by the thread that executes short calls."""


def _is_long(call: Call) -> bool:
    """Tell whether a call takes much longer than waking up a thread."""
    size = math.prod(call.result.shape)
    if call.function is np.matmul:
        return bool(size * call.args[1].shape[-2] >= LONG_PRODUCT)
    return size >= LONG_RESULT


class _FreeMemory(threading.local):
    """Free memory of a thread, shared by its plans, of which one runs at a time."""

    def __init__(self) -> None:
        self.free: list[npt.NDArray[np.uint8]] = []


_FREE_MEMORY = _FreeMemory()


class _MemoryPool:
    """The memory of a plan: as many blocks as values are alive at a time."""

    def __init__(self, free: list[npt.NDArray[np.uint8]]) -> None:
        self.in_use: dict[int, npt.NDArray[np.uint8]] = {}  # by the slot of a value
        self.free = free

    def allocate(self, slot: int, like: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return an array for a slot, with the shape, dtype and memory layout of `like`."""
        if slot not in self.in_use:
            self.in_use[slot] = self._take_free(like.nbytes)
        order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
        shape = [like.shape[axis] for axis in order]
        array = self.in_use[slot][: like.nbytes].view(like.dtype).reshape(shape)
        return array.transpose(np.argsort(order))

    def _take_free(self, size: int) -> npt.NDArray[np.uint8]:
        """Return the smallest free block of at most twice the size, or else a new one."""
        candidates = [memory for memory in self.free if size <= memory.nbytes <= 2 * size]
        if not candidates:
            return _allocate(size)
        smallest = min(candidates, key=lambda memory: memory.nbytes)
        self.free[:] = [memory for memory in self.free if memory is not smallest]
        return smallest

    def transfer(self, slot: int, new_slot: int) -> None:
        """Pass the memory of one slot, which is no longer needed, to another of the same layout."""
        if slot in self.in_use:
            self.in_use[new_slot] = self.in_use.pop(slot)

    def release(self, slot: int) -> None:
        """Make the memory of a slot available to others."""
        if slot in self.in_use:
            self.free.append(self.in_use.pop(slot))


def _allocate(size: int) -> npt.NDArray[np.uint8]:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def _without_unused(calls: list[Call], outputs: object) -> list[Call]:
    """Return the calls on which the outputs depend."""
    slots = {leaf.slot for leaf in traced_leaves(outputs)}
    needed = []
    for call in reversed(calls):
        if call.result.slot in slots:
            slots.update(operand.slot for operand in call.operands())
            needed.append(call)
    return needed[::-1]


def _split_columns(matrix: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.generic]:
    """Return a view of a matrix as a stack of its blocks of ``size`` columns."""
    return matrix.reshape(matrix.shape[0], -1, size).swapaxes(0, 1)
