"""NumPy calls on large arrays, made in chunks of rows that stay in a processor's cache.

Each NumPy call passes through its arrays once, in one thread, and large arrays come from memory every time.
`find_groups` brings together the recorded calls on the same rows, of which each row of a result depends on
that row of the operands alone. `Chunks` makes all calls of a group on some rows before it goes on to others,
in several threads. The bits are those of the calls one by one, except of products that are rounded: the BLAS
may add up in another order for fewer rows.
"""

import math
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from xpnet._typing import Args, HostArray
from xpnet.backends.tape import RecordedCall, TracedArray
from xpnet.backends.workers import Workers

LARGE_ELEMENTS = 1 << 17
"""Elements of an array of a call that is worth dividing."""
WORTHWHILE = 1 << 19
"""Elements of all calls of a group that outweigh waking up a thread."""
FEWEST_ROWS = 64
"""Rows of a product that is worth dividing."""
ROW = 16
"""Multiplications of a product that take about as long as another call on an element."""
CHUNK, SHARED_CHUNK = 1 << 15, 1 << 19
"""Elements of an array in a chunk, at most: eight such arrays fit a second-level cache. Several threads would
wait for the interpreter between calls so short."""
ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector register."""


Local: TypeAlias = dict[int, tuple[TracedArray, HostArray]]
"""Results that last for a chunk, each with its memory, by slot."""


class Member:
    """A call in a group, or of one: its arguments, and the elements that it divides.

    None of them is divided unless each row of the result, a matrix, depends on that row of them alone.
    Products of large matrices are divided with ``products``.
    """

    def __init__(self, call: RecordedCall, *, products: bool) -> None:
        result, rows = call.result, call.writing.rows
        self.call = call
        self.slot = result.slot
        self.needs = {x.slot for x in call.operands}
        self.args = list[tuple[Any, bool]]()  # those of the writing, with True if divided as the result is
        if rows and result.ndim == 2 and (call.is_view or result.value.flags.c_contiguous):
            for number, x in enumerate(call.writing.args):
                is_array = isinstance(x, TracedArray | np.ndarray)
                has_rows = is_array and x.shape[:-1] == result.shape[:1] != (1,)
                self.args.append((x, has_rows and (x is result or number in rows)))
        traced = [(x, is_divided) for x, is_divided in self.args if isinstance(x, TracedArray)]
        self.divided = {x.slot: math.prod(x.shape) for x, is_divided in traced if is_divided}
        self.whole = {x.slot for x, is_divided in traced if not is_divided}
        self.size = max(self.divided.values(), default=0)
        if call.function is np.matmul:
            size = math.prod(result.shape) * call.args[0].shape[-1] // ROW
            is_divided = products and result.shape[0] >= FEWEST_ROWS and size >= WORTHWHILE
            self.size = size if is_divided else 0
        self.is_large = self.size >= LARGE_ELEMENTS


def find_groups(
    calls: Sequence[RecordedCall], workers: Workers | None
) -> Iterator[tuple[list[Member], bool]]:
    """Divide calls into groups, in an order in which results come before their uses; True: made in chunks."""
    if workers is None or workers.includes_caller:
        yield from (([Member(call, products=False)], False) for call in calls)
        return
    for group in _divide([Member(call, products=workers.sharers > 1) for call in calls]):
        in_chunks = sum(member.size for member in group if not member.call.is_view) >= WORTHWHILE
        yield from [(group, True)] if in_chunks else [([member], False) for member in group]


def _divide(pending: list[Member]) -> Iterator[list[Member]]:
    while pending:
        group, before = _collect(pending)
        yield from _divide(before)
        yield group
        done = {member.slot for member in (*before, *group)}
        pending = [member for member in pending if member.slot not in done]


def _collect(pending: list[Member]) -> tuple[list[Member], list[Member]]:
    """Return the group of the first call, and the calls to make before it.

    Of the calls that the joining ones need, those of as many rows are made in the group, unless a result is
    needed as a whole; the others come before it. They are found backwards, from results to their operands.
    """
    first = pending[0]
    joining = _find_joining(pending)
    group = list[Member]()
    before = list[Member]()
    needed = {first.slot}  # results that calls of the two lists take
    whole = set[int]()  # those of them that must be complete before the group begins
    for member in reversed(pending):
        joins = member.slot in joining
        if member.slot not in needed and not (joins and member.is_large):
            continue
        is_alike = member.is_large and member.call.result.shape[0] == first.call.result.shape[0]
        if joins or (is_alike and member.slot not in whole):
            group.insert(0, member)
            whole |= member.whole
        else:
            before.insert(0, member)
            whole |= member.needs
        needed |= member.needs
    return group, before


def _find_joining(pending: list[Member]) -> set[int]:
    """Return the first call and later ones that read rows which calls of the group have just used.

    A call does not join if it needs a result of the group as a whole, or one that does not join.
    """
    first = pending[0]
    joining = {first.slot}
    used = set(first.divided)  # arrays whose rows are in the cache
    later = set[int]()  # results of calls that must come after the group
    for member in pending[1:] if first.is_large else ():
        reads_used = member.size > 0 and not used.isdisjoint(member.divided)
        if reads_used and joining.isdisjoint(member.whole) and later.isdisjoint(member.needs):
            joining.add(member.slot)
            used.add(member.slot)
            used.update(slot for slot, size in member.divided.items() if size >= LARGE_ELEMENTS)
        elif member.needs & (joining | later):
            later.add(member.slot)
    return joining


def aligned_memory(size: int) -> HostArray:
    """Return so many bytes of memory that begin with a cache line."""
    padded = np.empty(size + ALIGNMENT, np.uint8)
    start = -padded.ctypes.data % ALIGNMENT
    return padded[start : start + size]


class Chunks:
    """The calls of a group, as one function of arrays: some are divided, others whole."""

    def __init__(self, group: Sequence[Member], workers: Workers) -> None:
        self._workers, self._rows = workers, group[0].call.result.shape[0]
        self._threads = threads = workers.sharers
        largest = max(max(member.divided.values()) for member in group)
        rounds = -(-largest // (threads * SHARED_CHUNK if threads > 1 else CHUNK))
        self._chunk = -(-self._rows // (rounds * threads))

    def memory_size(self, result: TracedArray) -> int:
        """Return the bytes of a result in a chunk of each thread, in cache lines of its own."""
        lines: int = -(-self._chunk * result.shape[1] * result.dtype.itemsize // ALIGNMENT)
        return self._threads * lines * ALIGNMENT

    def finish(self, group: Sequence[Member], local: Local) -> Args:
        """Return the arguments of the calls to come, given the memory of results."""
        keys = {(_key(x), is_divided): x for member in group for x, is_divided in member.args}
        inner = [*local, *(member.slot for member in group if member.call.is_view)]
        outer = sorted((key for key in keys if key[0] not in inner), key=itemgetter(1), reverse=True)
        self._divided = sum(is_divided for _, is_divided in outer)  # which come first
        self._views: list[Any] = [None] * (len(inner) - len(local) + 1)
        index = {key: n for n, key in enumerate([*outer, *((slot, True) for slot in inner)])}
        self._steps = []  # functions, what fetches their arguments, and the indices of results
        for member in group:
            fetch = itemgetter(*(index[_key(x), is_divided] for x, is_divided in member.args))
            target = index[member.slot, True] if member.call.is_view else -1
            self._steps.append((member.call.writing.function, fetch, target))
        self._lanes = [[self._array(*pair, n) for pair in local.values()] for n in range(self._threads)]
        return tuple(keys[key] for key in outer)

    def _array(self, like: TracedArray, memory: HostArray, thread: int) -> HostArray:
        """Return the array of a thread, in its part of a block that other results are in before or after."""
        part = memory.nbytes // self._threads // ALIGNMENT * ALIGNMENT
        return np.ndarray((self._chunk, like.shape[1]), like.dtype, memory, thread * part)

    def __call__(self, *arrays: Any) -> None:
        """Make all calls, in chunks."""
        starts = iter(range(0, self._rows, self._chunk))  # which the threads take in turn

        def work(lane: list[HostArray]) -> None:
            for start in starts:
                stop = min(start + self._chunk, self._rows)
                local = lane if stop - start == self._chunk else [x[: stop - start] for x in lane]
                divided = [x[start:stop] for x in arrays[: self._divided]]
                values = [*divided, *arrays[self._divided :], *local, *self._views]
                for function, fetch, target in self._steps:
                    values[target] = function(*fetch(values))

        self._workers.share(work, self._lanes)


def _key(x: object) -> object:
    """Return what tells the arguments of calls apart."""
    return x.slot if isinstance(x, TracedArray) else ("constant", id(x))
