"""NumPy calls on large arrays, made in chunks of rows that stay in a processor's cache.

Each NumPy call passes through its arrays once, in one thread, and large arrays come from memory every time.
`find_runs` finds the calls of a recorded function that can be made together, a *run*: on the same rows,
each row of a result depending on that row of the operands alone. A `ChunkedRun` makes all calls of a run on
some rows before it goes on to others, in several threads. The bits are those of the calls one by one, except
of products that are rounded: the BLAS may add up in another order for fewer rows.
"""

import math
from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from xpnet._typing import Function, HostArray
from xpnet.backends import tape
from xpnet.backends.tape import Call, TracedArray
from xpnet.backends.workers import Workers

LARGE = 1 << 17
"""Elements of an array of a call that is worth dividing."""
WORTHWHILE = 1 << 19
"""Elements of all calls of a run that outweigh waking up a thread."""
LARGE_PRODUCT, FEWEST_ROWS = 1 << 23, 64
"""Multiplications and rows of a product that is worth dividing."""
ROW = 16
"""Multiplications of a product that take about as long as another call on an element."""
CHUNK, SHARED_CHUNK = 1 << 15, 1 << 19
"""Elements of an array in a chunk, at most: eight such arrays fit a second-level cache. Several threads would
wait for the interpreter between calls so short."""
ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector register."""

_REDUCTIONS: set[Function] = {np.add.reduce, np.maximum.reduce}


def find_runs(calls: Sequence[Call], alone: set[int], *, products: bool) -> list[list[Call]]:
    """Divide calls into runs, in an order in which results come before their uses.

    A call that fits no run, or whose result is one of the slots ``alone``, is a run by itself. Products of
    large matrices are in runs with ``products``.
    """
    numbers = {call.result.slot: number for number, call in enumerate(calls)}
    needs = [{numbers[x.slot] for x in call.operands if x.slot in numbers} for call in calls]
    whole = [{numbers[x.slot] for x in _traced(call, divided=False) if x.slot in numbers} for call in calls]
    runs: dict[int, set[int]] = {}  # by the numbers of their calls
    latest: dict[int, int] = {}  # by slot: the last call of a run with that result or large operand
    for number, call in enumerate(calls):
        run = {number}
        is_alone = call.result.slot in alone or (call.function is np.matmul and not products)
        if not is_alone and is_chunkable(call):
            operands = _traced(call, divided=True)
            joined = [runs[latest[x.slot]] for x in operands if x.slot in latest]
            for other in joined if _size(call) >= LARGE else joined[:1]:
                if not any(whole[member] & (run | other) for member in run | other):
                    run = run if _is_cyclic(run | other, runs, needs) else run | other
            if _size(call) >= LARGE or len(run) > 1:
                latest[call.result.slot] = number
                latest |= {x.slot: number for x in operands if math.prod(x.shape) >= LARGE}
        runs |= dict.fromkeys(run, run)
    for run in [run for number, run in runs.items() if number == max(run)]:
        kept = _without_tails(run, calls, needs)
        if sum(_size(calls[number]) for number in kept) < WORTHWHILE:
            kept = set()
        runs |= {number: {number} for number in run - kept} | dict.fromkeys(kept, kept)
    return [[calls[number] for number in sorted(run)] for run in _sort(runs, needs)]


def _is_cyclic(run: set[int], runs: dict[int, set[int]], needs: list[set[int]]) -> bool:
    """Tell whether any call of a run needs calls outside of it that need calls of the run."""
    pending, seen = {need for number in run for need in needs[number]} - run, set[int]()
    while pending:
        number = pending.pop()
        seen |= runs[number]
        pending |= {need for member in runs[number] for need in needs[member]} - seen
        if pending & run:
            return True
    return False


def _without_tails(run: set[int], calls: Sequence[Call], needs: list[set[int]]) -> set[int]:
    """Return a run without the calls on small arrays whose results no call on large ones needs."""
    kept = set[int]()
    for number in sorted(run, reverse=True):
        if _size(calls[number]) >= LARGE or any(number in needs[member] for member in kept):
            kept.add(number)
    return kept


def _sort(runs: dict[int, set[int]], needs: list[set[int]]) -> list[set[int]]:
    """Return the runs in the order of their last calls, but those that another needs before it."""
    order, done = list[set[int]](), set[int]()

    def add(run: set[int]) -> None:
        if not run <= done:
            done.update(run)
            for need in sorted({need for number in run for need in needs[number]} - done):
                add(runs[need])
            order.append(run)

    for number in sorted(runs):
        if number == max(runs[number]):
            add(runs[number])
    return order


def is_chunkable(call: Call) -> bool:
    """Tell whether rows of the result, a matrix, depend on those rows of the operands alone."""
    function, result = call.function, call.result
    if result.ndim != 2 or result.shape[0] == 1 or result.value.dtype.hasobject:
        return False
    if function is np.ndarray.view:
        return call.operands[0].dtype.itemsize == result.dtype.itemsize
    if not result.value.flags.c_contiguous or result.owner != result.slot:
        return False
    if function in _REDUCTIONS:
        x, options = call.args[0], dict(call.kwargs)
        is_last = options.get("axis") in (1, -1) and options.get("keepdims") is True
        return x.ndim == 2 and is_last and x.value.flags.c_contiguous and len(call.args) == 1
    if function is np.matmul:
        return not call.kwargs and result.shape[0] >= FEWEST_ROWS and _size(call) * ROW >= LARGE_PRODUCT
    is_elementwise = isinstance(function, np.ufunc) and function.signature is None and function.nout == 1
    return not call.kwargs and (is_elementwise or function in (np.where, tape.convert))


def divisions(call: Call) -> list[tuple[Any, bool]]:
    """Return the arguments of a call, each with True if its rows are those of the result."""
    args, rows = _arguments(call), call.result.shape[:1]
    most = 1 if call.function is np.matmul else len(args)
    return [(x, n < most and getattr(x, "ndim", 0) == 2 and x.shape[:1] == rows) for n, x in enumerate(args)]


def _traced(call: Call, *, divided: bool) -> list[TracedArray]:
    """Return the traced arguments of a call that are divided, or those that are not."""
    return [x for x, is_divided in divisions(call) if is_divided is divided and isinstance(x, TracedArray)]


def _size(call: Call) -> int:
    """Return the elements of the largest array that a call divides, or of one that takes as long."""
    sizes = [math.prod(x.shape) for x in (call.result, *_traced(call, divided=True))]
    return sizes[0] * call.args[0].shape[1] // ROW if call.function is np.matmul else max(sizes)


def aligned_memory(size: int) -> HostArray:
    """Return so many bytes of memory that begin with a cache line."""
    padded = np.empty(size + ALIGNMENT, np.uint8)
    start = -padded.ctypes.data % ALIGNMENT
    return padded[start : start + size]


class ChunkedRun:
    """The calls of a run, as one function of arrays for the ``results`` to keep, and of its ``operands``."""

    def __init__(self, calls: Sequence[Call], results: Sequence[TracedArray], workers: Workers) -> None:
        self._workers, self._rows = workers, calls[0].result.shape[0]
        made = {call.result.slot for call in calls}
        args = [pair for call in calls for pair in divisions(call)]
        divided = {_key(x): x for x, is_divided in args if is_divided and _key(x) not in made}
        whole = {_key(x): x for x, is_divided in args if not is_divided}
        self.operands = [*divided.values(), *whole.values()]
        self._divided = len(results) + len(divided)
        sizes = [math.prod(x.shape) for x in (*(call.result for call in calls), *divided.values())]
        threads = workers.sharers
        rounds = -(-max(sizes) // (threads * SHARED_CHUNK if threads > 1 else CHUNK))
        self._chunk = -(-self._rows // (rounds * threads))
        self._row_sizes: list[int] = []  # bytes of a row, of each memory
        self._like: list[tuple[int, TracedArray]] = []  # other results, each with the number of its memory
        self._free: list[list[HostArray]] = []  # arrays for these, of a thread each
        self._assign_memory(calls, {result.slot for result in results})
        keys = [*(x.slot for x in results), *divided, *((key, "whole") for key in whole)]
        keys += [x.slot for _, x in self._like]
        indices = {key: index for index, key in enumerate(keys)}
        self._steps: list[tuple[Function, Function, int]] = []  # function, fetches arguments, index of a view
        for call in calls:
            is_view = call.result.owner != call.result.slot
            index = indices.setdefault(call.result.slot, len(indices))
            chosen = [indices[_key(x) if divided else (_key(x), "whole")] for x, divided in divisions(call)]
            chosen += [] if is_view else [index]
            self._steps.append((_into(call), itemgetter(*chosen), index if is_view else -1))
        self._views = len(indices) - len(keys)

    def __call__(self, *arrays: Any) -> None:
        """Make all calls, in chunks."""
        self._workers.share(partial(self._compute, arrays), range(0, self._rows, self._chunk))

    def _assign_memory(self, calls: Sequence[Call], kept: set[int]) -> None:
        """Choose the memory of the results that are not kept, which is that of earlier ones if possible."""
        last_use = {operand.owner: call for call in calls for operand in call.operands}
        used: dict[int, int] = {}  # numbers of memories, by the owners of the results in them
        free: list[int] = []

        def release(call: Call) -> None:
            done = {x.owner for x in call.operands if last_use[x.owner] is call}
            free[:0] = [used.pop(owner) for owner in done & used.keys()]

        for call in calls:
            result = call.result
            may_overwrite = isinstance(call.function, np.ufunc) and call.function is not np.matmul
            if may_overwrite:  # its operands
                release(call)
            if result.owner == result.slot and result.slot not in kept:
                size = result.shape[1] * result.dtype.itemsize
                number = next((n for n in free if self._row_sizes[n] == size), len(self._row_sizes))
                if number in free:
                    free.remove(number)
                else:
                    self._row_sizes.append(size)
                used[result.slot] = number
                self._like.append((number, result))
            release(call)

    def _compute(self, arrays: tuple[Any, ...], start: int) -> None:
        """Make all calls on the rows of a chunk."""
        stop = min(start + self._chunk, self._rows)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = self._allocate()
        others = memory if stop - start == self._chunk else [x[: stop - start] for x in memory]
        divided = [array[start:stop] for array in arrays[: self._divided]]
        values = [*divided, *arrays[self._divided :], *others, *[None] * self._views]
        for function, fetch, view in self._steps:
            if view < 0:
                function(*fetch(values))
            else:
                values[view] = function(*fetch(values))
        self._free.append(memory)

    def _allocate(self) -> list[HostArray]:
        """Return arrays for the results in a chunk that are not kept."""
        memory = [aligned_memory(size * self._chunk) for size in self._row_sizes]
        return [np.ndarray((self._chunk, x.shape[1]), x.dtype, memory[number]) for number, x in self._like]


def _key(arg: object) -> object:
    """Return what tells the arguments of calls apart."""
    return arg.slot if isinstance(arg, TracedArray) else ("constant", id(arg))


def _arguments(call: Call) -> tuple[Any, ...]:
    """Return the arguments of `_into`."""
    return call.args[:1] if call.function is tape.convert else call.args


def _into(call: Call) -> Function:
    """Return a function that writes the result of a call into its last argument; of a view, the view."""
    function, options = call.function, call.kwargs
    if function is tape.convert:
        return _convert
    if function is np.where:
        _, x, y = call.args
        alike = (getattr(x, "shape", None), getattr(x, "dtype", None)) == (
            call.result.shape,
            call.result.dtype,
        )
        return _mask if alike and call.result.dtype.kind == "f" and str(y) == "0.0" else _choose
    if function in _REDUCTIONS:
        return lambda x, out: function(x, **options, out=out)
    if function in (np.maximum, np.minimum):
        return lambda x, y, out: function(x, y, out=out)
    return function


def _convert(x: HostArray, out: HostArray) -> None:
    np.copyto(out, x, "unsafe")


def _mask(mask: HostArray, x: HostArray, _: float, out: HostArray) -> None:
    """Write x or 0: a masked copy would have branches."""
    bits = f"i{out.itemsize}"
    np.multiply(x.view(bits), mask, out.view(bits))


def _choose(mask: HostArray, x: HostArray, y: HostArray, out: HostArray) -> None:
    np.copyto(out, y)
    np.copyto(out, x, "same_kind", mask)


def add_products(left: HostArray, right: HostArray, products: HostArray, out: HostArray) -> None:
    """Write the sum of products of pieces, (pieces, n, k) times (pieces, k, m) -> (n, m)."""
    np.matmul(left, right, products)
    np.add.reduce(products, axis=0, out=out)
