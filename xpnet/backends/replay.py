"""Replays a function of NumPy arrays in memory that is allocated once.

The mathematics is written for any array library, so on NumPy each of its operations allocates its result. For
the small matrices of a block, dispatching and allocating cost more than computing, and threads wait for each
other in the meantime. `compile_replay` runs a function for the second time with arguments that record every
NumPy call made on them (`xpnet.backends.tape`), and prepares a *plan*: the same calls, each with its
arguments and an output array out of a few that are reused. Views of these arrays are created beforehand.
Calls on large arrays are made in chunks (`xpnet.backends.chunks`).

The results are unchanged, except those of large products of matrices, which are computed in pieces that add
up in another order.
"""

import math
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count, groupby
from operator import itemgetter
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np

from xpnet._lib.tree import Tree, tree_map
from xpnet._typing import AnyFunction, Function, HostArray
from xpnet.backends import tape
from xpnet.backends.chunks import ChunkedRun, add_products, aligned_memory, divisions, find_runs, is_chunkable
from xpnet.backends.tape import Call, TracedArray, is_traced, traced_leaves, untrace
from xpnet.backends.workers import Workers

SMALL_PRODUCT = 100**3
"""Multiplications below which OpenBLAS uses kernels that do not copy the factors first."""
SHORTEST_PIECE = 32
"""Columns or terms below which dividing a product into pieces costs more than it saves."""
LONG = 1 << 19
"""Multiplications of a product, or bytes of float64 of another result, that take about ten microseconds."""
LARGE = 1 << 15
"""Bytes from which the cache gains more from writing into an operand's memory than NumPy's check costs."""


def compile_replay(
    function: AnyFunction,
    builder: "type[PlanBuilder] | None" = None,
    *,
    exact: bool = True,
    donated: bool = False,
    transient: bool = False,
    workers: Workers | None = None,
) -> AnyFunction:
    """Return a function equivalent to `function` that is faster from its third call on.

    Arguments and results are arrays, numbers, None, and lists, tuples and named tuples of them. The shapes
    and dtypes of arguments that are arrays, and of the items of tuples, may change from call to call, those
    deeper inside may not. Each thread has its own memory; `transient` results are in it, and valid until the
    next call. If the first argument is `donated`, results may be written into its arrays; if not, what
    depends on it alone is computed anew only if it is another object than in the last call. `builder` is that
    of the arrays' library, by default NumPy. With `workers`, calls on large arrays are divided among them;
    see `xpnet.backends.chunks`. Unless `exact`, a recorded call is replayed at once: it may give other last
    bits, and the number of recorded calls depends on the threads.
    """
    # None after the first call with such arguments, which may remain the only one
    plans, builder = _PerThread(dict), builder or PlanBuilder

    def run(*args: object) -> object:
        parts = [part for arg in args for part in (arg if isinstance(arg, tuple) else (arg,))]
        key = tuple([(getattr(part, "shape", None), getattr(part, "dtype", None)) for part in parts])
        if _RECORDING.active:  # the caller is being recorded itself
            return function(*args)
        plan = plans.value.get(key)
        if plan is not None:
            return plan.replay(args)
        if exact and key not in plans.value:
            plans.value[key] = None
            return function(*args)
        _RECORDING.active = True
        try:
            recording, inputs, outputs = builder.record(function, args)
        finally:
            _RECORDING.active = False
        build = partial(builder, donated=donated, transient=transient, workers=workers)
        plan = plans.value[key] = build(recording.calls, inputs, outputs).build()
        recording.calls.clear()  # or a cycle of references would keep them
        return untrace(outputs) if exact else plan.replay(args)

    return cast("AnyFunction", run)


class _Recording(threading.local):
    """Whether a thread is recording a run."""

    active = False


class _ThreadNumber(threading.local):
    """The number of a thread among those that are alive; one that ends leaves its number to the next."""

    def __init__(self) -> None:
        self.number = _FREE_NUMBERS.pop() if _FREE_NUMBERS else next(_NUMBERS)
        self._release = _Release(self.number)


class _Release:
    """Frees a number when the thread that holds it ends."""

    def __init__(self, number: int) -> None:
        self._number, self._free = number, _FREE_NUMBERS  # a module's names may be gone before its objects

    def __del__(self) -> None:
        self._free.append(self._number)


_NUMBERS, _FREE_NUMBERS = count(), list[int]()
_THREAD = _ThreadNumber()


class _PerThread:
    """A value for each thread, which the next thread takes over: pools of workers come and go."""

    def __init__(self, make: Function) -> None:
        self._make, self._values = make, dict[int, Any]()

    @property
    def value(self) -> Any:
        """The value of the calling thread."""
        number = _THREAD.number
        if number not in self._values:
            self._values[number] = self._make()
        return self._values[number]


_FREE_MEMORY = _PerThread(list)  # blocks, shared by a thread's plans, of which one runs at a time
_RECORDING = _Recording()
_SHORT_CALLS = threading.Lock()  # held by the thread that makes short calls

PreparedCall: TypeAlias = "tuple[Function, tuple[object, ...], Function | None, int]"
"""Function, fixed arguments; or else a function that fetches them from the values, and the result's index."""


@dataclass
class _Plan:
    """Prepared calls, in groups.

    The values of a run are a list: the arguments, the items of those that are sequences, then constants and
    results. A group that depends on the first argument alone is cached: skipped if that is the same object as
    in the last run. Short calls hold a lock, so that one thread at a time makes them: threads need the
    interpreter for every call, and would mostly wait to be woken up. During long calls the others can run.
    """

    sequences: list[int]  # the indices of arguments that are sequences
    rest: list[object]  # the values after the arguments
    groups: list[tuple[tuple[bool, bool], list[PreparedCall]]]  # by whether they are long, and cached
    output: int  # the index of the outputs
    last: object = None  # the first argument of the last run

    def replay(self, args: tuple[Any, ...]) -> object:
        """Make the calls and return the outputs."""
        values = [*args]
        for index in self.sequences:
            values += values[index]
        values += self.rest
        is_new, self.last = args[0] is not self.last, None  # None: until all cached calls are made
        for (long, cached), calls in self.groups:
            if cached and not is_new:
                continue
            with nullcontext() if long else _SHORT_CALLS:
                for function, fixed_args, fetch_args, result in calls:
                    if fetch_args is None:
                        function(*fixed_args)
                    else:
                        values[result] = function(*fetch_args(values))
        self.last = args[0]
        return values[self.output]


class PlanBuilder:
    """Records a run of a function and prepares its calls; subclasses do so for other libraries than NumPy.

    A recorded result becomes a *buffer*: the same array in every run, in the plan's own memory; or else, as
    arguments and outputs do, one of the values of a run.
    """

    def __init__(
        self,
        calls: list[Call],
        inputs: tuple[Any, ...],
        outputs: object,
        *,
        donated: bool,
        transient: bool,
        workers: Workers | None,
    ) -> None:
        self.outputs = outputs
        self.workers = None if workers is None or workers.includes_caller else workers
        owners = {leaf.owner for leaf in traced_leaves(outputs)}
        self.output_owners = set[int]() if transient else owners  # whose memory is new in each run
        first = {leaf.slot: leaf for leaf in traced_leaves(inputs[0])}
        self.donated = [x for x in first.values() if x.slot not in owners] if donated else []
        self.cached = set[int]() if donated else {*first}
        self.kept: set[int] = owners & {call.result.slot for call in calls}  # whose memory is not reused
        for call in calls:
            in_memory = call.result.slot not in self.output_owners and self.accepts_out(call)
            is_kept = in_memory or call.result.owner != call.result.slot
            if is_kept and all(operand.slot in self.cached for operand in call.operands):
                self.cached.add(call.result.slot)
            for operand in call.operands:
                if operand.owner in self.cached and call.result.slot not in self.cached:
                    self.kept.add(operand.owner)
        self.runs = [[call] for call in calls]
        if self.workers is not None:  # several threads would wait for the interpreter between short calls
            self.runs = find_runs(calls, self.cached, products=self.workers.sharers > 1)
        last_uses = ((x.owner, call) for run in self.runs for call in run for x in call.operands)
        self.last_use = dict(last_uses)  # by the owner of the memory
        self.buffers: dict[int, HostArray] = {}  # by slot
        self.memory: dict[int, HostArray] = {}  # by owner
        self.free: dict[bool, list[HostArray]] = {True: [], False: _FREE_MEMORY.value}  # True: if cached
        values = [*inputs]
        for value in values:  # and the items added meanwhile
            values += value if isinstance(value, list | tuple) else ()
        self.arguments = len(values)
        self.sequences = [index for index, value in enumerate(values) if isinstance(value, list | tuple)]
        leaves = [(index, leaf) for index, leaf in enumerate(values) if isinstance(leaf, TracedArray)]
        self.indices = {leaf.slot: index for index, leaf in leaves}  # among the values of a run
        self.rest: list[object] = []
        self.calls: list[tuple[tuple[bool, bool], PreparedCall]] = []

    matmul: ClassVar[Function] = np.matmul

    @classmethod
    def record(cls, function: Function, args: tuple[Any, ...]) -> tuple[tape.Tape, tuple[Any, ...], object]:
        """Run a function; return the calls made, and the arguments and results as traced arrays."""
        recording = tape.Tape()
        inputs = tree_map(lambda leaf: TracedArray(recording, leaf), args)
        return recording, inputs, function(*inputs)

    def build(self) -> _Plan:
        """Return the plan."""
        for run in self.runs:
            self._prepare(run[0]) if len(run) == 1 else self._prepare_run(run)
        output = self._index(self.outputs)
        groups = [(kind, [call for _, call in calls]) for kind, calls in groupby(self.calls, itemgetter(0))]
        return _Plan(self.sequences, self.rest, groups, output)

    def _prepare(self, call: Call) -> None:
        result, long, cached = call.result, self._is_long(call), call.result.slot in self.cached
        is_view = result.owner != result.slot
        if is_view and result.owner in self.buffers:
            self.buffers[result.slot] = call.function(*self._with_buffers(call.args), **call.kwargs)
        elif is_view or result.slot in self.output_owners or not self.accepts_out(call):
            bound = partial(call.function, **call.kwargs) if call.kwargs else call.function
            self.indices[result.slot] = self._add_call(bound, call.args, long=long)
        else:
            if result.value.nbytes >= LARGE and self.may_overwrite(call):
                self._release_operands(call)
            out = self.buffers[result.slot] = (
                self.buffers[call.args[2].slot] if self._takes_over(call) else self._allocate(result)
            )
            for function, args in self.calls_into(call, out):
                if all(leaf.slot in self.buffers for leaf in traced_leaves(args)):
                    self.calls.append(((long, cached), (function, self._with_buffers(args), None, -1)))
                else:
                    self._add_call(function, args, long=long, cached=cached)
        self._release_operands(call)

    def _prepare_run(self, calls: list[Call]) -> None:
        """Prepare calls that are made in chunks, whose results are kept if other calls use them."""
        others = (x for run in self.runs if run is not calls for call in run for x in call.operands)
        outside = {leaf.slot for leaf in (*others, *traced_leaves(self.outputs))}
        owners = {call.result.owner for call in calls if call.result.slot in outside}
        results = [call.result for call in calls if call.result.slot in owners]
        for result in results:
            if result.slot not in self.output_owners:
                self.buffers[result.slot] = self._allocate(result)
            elif (donor := self._find_donor(result, calls)) is not None:
                self.donated = [x for x in self.donated if x is not donor]
                self.indices[result.slot] = self.indices[donor.slot]
            else:
                self.indices[result.slot] = self._add_call(np.empty, (result.shape, result.dtype), long=True)
        run = ChunkedRun(calls, results, cast("Workers", self.workers))
        self._add_call(run, (*results, *run.operands), long=True)
        for call in calls:
            if call.result.slot in outside and call.result.owner != call.result.slot:
                self._prepare(call)  # a view, which the run made of its chunks
        for call in calls:
            self._release_operands(call)

    def _find_donor(self, result: TracedArray, calls: list[Call]) -> TracedArray | None:
        """Return a donated array whose rows a run can replace by a result's, since it is done with them."""
        number = next(number for number, call in enumerate(calls) if call.result is result)
        is_elementwise = isinstance(calls[number].function, np.ufunc)
        done = {id(call) for call in calls[: number + is_elementwise]}
        pairs = [pair for call in calls for pair in divisions(call) if isinstance(pair[0], TracedArray)]
        others = {x.owner for x, is_divided in pairs if not is_divided or x.slot != x.owner}  # read otherwise
        for x in self.donated:
            is_alike = (x.shape, x.dtype) == (result.shape, result.dtype)
            if is_alike and id(self.last_use.get(x.slot)) in done and x.slot not in others:
                return x
        return None

    def _release_operands(self, call: Call) -> None:
        """Free the memory of the operands that are used for the last time."""
        for owner in {operand.owner for operand in call.operands} & self.memory.keys():
            if self.last_use[owner] is call and owner not in self.kept:
                self.free[owner in self.cached].append(self.memory.pop(owner))

    def _takes_over(self, call: Call) -> bool:
        """Take over the memory of the last operand of a `where` that needs it no more: one call suffices."""
        last, result = call.args[-1], call.result
        if call.function is not np.where or getattr(last, "slot", None) not in self.memory:
            return False
        is_free = self.last_use[last.slot] is call and last.slot not in self.kept
        if not is_free or (last.shape, last.dtype) != (result.shape, result.dtype):
            return False
        self.memory[result.slot] = self.memory.pop(last.slot)
        return True

    def _allocate(self, result: TracedArray) -> Any:
        """Return an array like a recorded result in a free block of at most twice its size, or a new one."""
        like, free = result.value, self.free[result.slot in self.cached]
        if result.slot in self.kept - self.cached:  # a transient result: not in memory that others use
            free = []
        latest, sizes = reversed(range(len(free))), range(like.nbytes, 2 * like.nbytes + 1)
        index = next((index for index in latest if free[index].nbytes in sizes), len(free))
        if index == len(free):
            free.append(aligned_memory(like.nbytes))
        memory = self.memory[result.slot] = free.pop(index)
        return self.make_buffer(like, memory)

    def _add_call(
        self, function: Function, args: tuple[Any, ...], *, long: bool, cached: bool = False
    ) -> int:
        """Add a call whose arguments are not all fixed; return the index of its result."""
        indices: list[Any] = [self._index(arg) for arg in args]
        if len(indices) == 1:  # of which itemgetter would make no sequence
            indices = [slice(indices[0], indices[0] + 1)]
        result = self._add_value(None)
        self.calls.append(((long, cached), (function, (), itemgetter(*indices), result)))
        return result

    def _add_value(self, value: object) -> int:
        self.rest.append(value)
        return self.arguments + len(self.rest) - 1

    def _index(self, tree: object) -> int:
        """Return the index of an argument of a call among the values; lists are built by calls."""
        if isinstance(tree, TracedArray):
            index = self.indices.get(tree.slot)
            return self._add_value(self.buffers[tree.slot]) if index is None else index
        if isinstance(tree, list | tuple) and is_traced(tree):
            kind = type(tree)
            make = kind if hasattr(kind, "_fields") else lambda *parts: kind(parts)
            return self._add_call(make, (*tree,), long=False)
        return self._add_value(tree)

    def _with_buffers(self, tree: Tree) -> Tree:
        """Replace traced values in arguments by their buffers."""
        return tree_map(lambda leaf: self.buffers[leaf.slot] if isinstance(leaf, TracedArray) else leaf, tree)

    def _is_long(self, call: Call) -> bool:
        """Tell whether a call takes much longer than waking up a thread."""
        terms: int = call.args[1].shape[-2] if call.function is self.matmul else 8
        return math.prod(call.result.shape) * terms >= LONG

    def accepts_out(self, call: Call) -> bool:
        """Tell whether the result of a call can be written into an output array."""
        return isinstance(call.function, np.ufunc) or call.function in tape.ACCEPTS_OUT

    def may_overwrite(self, call: Call) -> bool:
        """Tell whether the result may share memory with operands; NumPy checks that for ufuncs."""
        return isinstance(call.function, np.ufunc) and call.function is not np.matmul

    def make_buffer(self, like: Any, memory: HostArray) -> Any:
        """Return an array like another one in a block of memory."""
        return np.ndarray(like.shape, like.dtype, memory, strides=like.strides)

    def calls_into(self, call: Call, out: Any) -> list[tuple[Function, tuple[object, ...]]]:
        """Return the calls that write the result of `call` into `out`."""
        function, args = call.function, call.args
        if function is np.where:
            mask, x, y = args
            is_buffer = getattr(x, "slot", None) in self.buffers
            alike = is_buffer and (x.shape, x.dtype) == (out.shape, out.dtype)
            if alike and out.dtype.kind == "f" and str(y) == "0.0":  # a masked copy would have branches
                bits = f"i{out.itemsize}"
                return [(np.multiply, (self.buffers[x.slot].view(bits), mask, out.view(bits)))]
            fill = [] if out is self.buffers.get(getattr(y, "slot", -1)) else [(np.copyto, (out, y))]
            return [*fill, (np.copyto, (out, x, "same_kind", mask))]
        if function is tape.convert:
            return [(np.copyto, (out, args[0], "unsafe"))]
        if function is np.matmul:
            return [self._product_into(call, out)]
        if isinstance(function, np.ufunc) and function not in (np.maximum, np.minimum):
            return [(function, (*args, out))]
        return [(partial(function, **call.kwargs, out=out), args)]

    def _product_into(self, product: Call, out: Any) -> tuple[Function, tuple[object, ...]]:
        """Return the call that writes a product into `out`, in small pieces or by several threads."""
        args = product.args
        left, right = (self.buffers.get(getattr(arg, "slot", -1)) for arg in args)
        if right is not None and out.ndim == right.ndim == 2:
            (units, columns), terms = out.shape, len(right)
            size = _find_piece(terms, units * columns) if right.flags.c_contiguous else 0
            if size and left is not None and left.flags.c_contiguous:
                factors = left.reshape(units, -1, size).swapaxes(0, 1), right.reshape(-1, size, columns)
                return add_products, (*factors, np.empty((terms // size, *out.shape), out.dtype), out)
            if size := _find_piece(columns, units * terms):
                blocks = [matrix.reshape(len(matrix), -1, size).swapaxes(0, 1) for matrix in (right, out)]
                return np.matmul, (args[0], *blocks)
        if self.workers is not None and self.workers.sharers > 1 and is_chunkable(product):
            run = ChunkedRun([product], [product.result], self.workers)
            return run, (out, *run.operands)
        return np.matmul, (*args, out)


def _find_piece(length: int, others: int) -> int:
    """Return the part of an axis that makes a large product of axes a small one; 0 if there is none."""
    most = min((SMALL_PRODUCT - 1) // others, length - 1) if length * others >= SMALL_PRODUCT else 0
    return next((size for size in range(most, SHORTEST_PIECE - 1, -1) if length % size == 0), 0)
