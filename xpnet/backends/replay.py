"""Replays a function of NumPy arrays in memory that is allocated once.

The mathematics is written for any array library, so on NumPy each of its operations allocates its result. For
the small matrices of a block, dispatching and allocating cost more than computing. `compile_replay` runs a
function for the second time with arguments that record every NumPy call made on them (`xpnet.backends.tape`),
and prepares a *plan*: the same calls, each with its arguments and an array to write its result into, in one
of a few blocks of memory that are used again and again. Views of these arrays are created beforehand. Calls
on large arrays are made in chunks (`xpnet.backends.chunks`).

The results are unchanged, except those of large products of matrices, which are computed in pieces that add
up in another order.
"""

import threading
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from xpnet._lib.tree import Tree, tree_map
from xpnet._typing import Args, Function, HostArray
from xpnet.backends.chunks import Chunks, Local, Member, aligned_memory, find_groups
from xpnet.backends.tape import RecordedCall, Tape, TracedArray, traced_leaves, untrace
from xpnet.backends.workers import Workers

Blocks: TypeAlias = list[HostArray]

_ENGINES: list[Blocks] = []
"""Those that no thread uses. An engine is the free memory of plans, of which one runs at a time."""
_RECORDING = threading.local()


class Options(NamedTuple):
    """How a function is compiled.

    If the first argument is donated, results may be written into its large arrays; if not, what depends on
    it alone is computed anew only if it is another object than in the last call.
    """

    donated: bool = False
    transient: bool = False  # whether results are valid until the next call alone, of any thread
    workers: Workers | None = None  # among which calls on large arrays are divided


class PlanBuilder:
    """Prepares recorded calls.

    A result is the same array in every run, in a block of memory; or else, as arguments and outputs are, one
    of the values of a run; or it lasts for a chunk of the rows of a group of calls. In the order of the
    calls, memory that is read for the last time becomes free for the results to come.
    """

    def __init__(self, tape: Tape, inputs: Any, outputs: Any, free: Blocks, options: Options) -> None:
        self.tape = tape
        self.outputs = outputs
        self.free = free
        self.workers = options.workers
        self.kept = {leaf.owner for leaf in traced_leaves(outputs)}  # whose memory is not used again
        self.new = set[int]() if options.transient else {*self.kept}  # whose memory is new in each run
        first = [x for x in traced_leaves(inputs[0]) if isinstance(x.value, np.ndarray) and x.is_large]
        self.donated = {x.slot: x for x in first if options.donated and x.slot not in self.kept}
        self.spare: list[TracedArray] = []  # donated arrays that are read no more
        self.arrays: dict[int, Any] = {}  # by slot: those of every run
        self.blocks: dict[int, HostArray] = {}  # by owner
        # The values of a run: the arguments, the items of those that are sequences, constants and results
        self.values = [*inputs]
        for value in self.values:  # and the items added meanwhile
            self.values += value if isinstance(value, list | tuple) else ()
        self.indices = {x.slot: n for n, x in enumerate(self.values) if isinstance(x, TracedArray)}
        self.arguments = len(self.values)
        # Functions, fixed arguments; or else what fetches them from the values, and the index of the result
        self.calls: list[tuple[Function, Args, Function | None, int]] = []
        early, later = ([], tape.calls) if options.donated else self._split(tape.calls, inputs[0])
        self.stages = [[*find_groups(calls, options.workers)] for calls in (early, later)]
        order = [member.call for stage in self.stages for group, _ in stage for member in group]
        self.last_use = {x.owner: call.result.slot for call in order for x in call.operands}

    def _split(self, calls: list[RecordedCall], first: Any) -> tuple[list[RecordedCall], list[RecordedCall]]:
        """Return the calls whose results last, since they depend on the first argument alone, and others."""
        known = {x.slot for x in traced_leaves(first)}
        early = list[RecordedCall]()
        later = list[RecordedCall]()
        for call in calls:
            lasts = (call.writes or call.is_view) and call.result.owner not in self.new | self.indices.keys()
            is_early = lasts and known.issuperset(x.slot for x in call.operands)
            known |= {call.result.slot} if is_early else set()
            (early if is_early else later).append(call)
        self.kept |= {x.owner for call in later for x in call.operands} & known
        return early, later

    def build(self) -> Function:
        """Return the plan: a function of the tuple of arguments that makes the calls and returns outputs."""
        counts = []
        for stage in self.stages:
            for group, in_chunks in stage:
                self._prepare_chunks(group) if in_chunks else self._prepare(group[0].call)
            counts.append(len(self.calls))
        output, last = self._index(self.outputs), None
        calls, later = self.calls, self.calls[counts[0] :]
        arguments, rest = self.values[: self.arguments], self.values[self.arguments :]
        sequences = [index for index, value in enumerate(arguments) if isinstance(value, list | tuple)]

        def replay(args: Args) -> object:
            nonlocal last
            todo, last = later if args[0] is last else calls, None  # None until all calls are made
            values = [*args]
            for index in sequences:
                values += values[index]
            values += rest
            for function, fixed_args, fetch_args, result in todo:
                if fetch_args is None:
                    function(*fixed_args)
                else:
                    values[result] = function(*fetch_args(values))
            last = args[0]
            return values[output]

        return replay

    def _prepare(self, call: RecordedCall) -> None:
        """Prepare a call on whole arrays."""
        slot, ended = call.result.slot, self._read_last(call)
        if call.is_view and call.result.owner in self.arrays:
            self.arrays[slot] = call.function(*self._with_arrays(call.args))
        else:
            self._release(self._overwritten(call, ended), self.free)
            if call.writes and self._place(call.result):
                for function, args in self.tape.prepare(call, self.arrays):
                    self._add_call(function, args, writes=True)
            else:
                self.indices[slot] = self._add_call(call.function, call.args)
        self._release(ended, self.free)

    def _prepare_chunks(self, group: list[Member]) -> None:
        """Prepare calls that are made in chunks: results that these alone read last for a chunk."""
        chunks, calls = Chunks(group, cast("Workers", self.workers)), [member.call for member in group]
        slots, made = {call.result.slot for call in calls}, {x.result.slot for x in calls if not x.is_view}
        within = {slot for slot in made - self.kept if self.last_use.get(slot, slot) in slots}
        reads = [(x, x.slot in member.whole) for member in group for x in member.call.operands]
        by_rows = self.donated.keys() - {x.owner for x, is_whole in reads if is_whole or x.slot != x.owner}
        local = Local()
        free = Blocks()
        later = set[int]()
        for call in calls:
            result, ended = call.result, self._read_last(call)
            now = ended & (within | by_rows)  # the rows of others are still read in the chunks to come
            later |= ended - now
            self._release(self._overwritten(call, now), free)
            if result.slot in within:
                block = _take(chunks.memory_size(result), free, self.free)
                self.blocks[result.slot], local[result.slot] = block, (result, block)
            elif not call.is_view and not self._place(result):
                self.indices[result.slot] = self._add_call(np.empty, (result.shape, result.dtype))
            self._release(now, free)
        self._add_call(chunks, chunks.finish(group, local), writes=True)
        for call in calls:
            if call.is_view and call.result.owner not in within:
                self._prepare(call)  # the view of all rows
        self._release(later, self.free)
        self.free += free

    def _read_last(self, call: RecordedCall) -> set[int]:
        """Return the owners of memory that no later call reads."""
        return {x.owner for x in call.operands if self.last_use[x.owner] == call.result.slot} - self.kept

    def _overwritten(self, call: RecordedCall, owners: set[int]) -> set[int]:
        """Return those of the owners of memory that the result of a call may be written into."""
        like = call.result.layout[:2]
        unlike = {x.owner for x in call.operands if not x.is_whole or x.layout[:2] != like}
        return owners - unlike if call.writing.may_overwrite and call.result.is_large else set()

    def _release(self, owners: set[int], free: Blocks) -> None:
        """Make memory free for other results."""
        for owner in owners:
            if owner in self.blocks:
                free.append(self.blocks.pop(owner))
            elif owner in self.donated:
                self.spare.append(self.donated.pop(owner))

    def _place(self, result: TracedArray) -> bool:
        """Choose the array for a result; there is none if it is another in each run, and none is donated."""
        slot, like = result.slot, result.value
        if slot not in self.new:  # a transient result is not in memory that others use
            self.blocks[slot] = _take(like.nbytes, [] if slot in self.kept else self.free)
            self.arrays[slot] = self.tape.make_array(like, self.blocks[slot])
            return True
        layouts = [donor.layout for donor in self.spare]
        if result.layout in layouts:
            self.indices[slot] = self.indices[self.spare.pop(layouts.index(result.layout)).slot]
        return slot in self.indices

    def _add_call(self, function: Function, args: Args, *, writes: bool = False) -> int:
        """Add a call; return the index of its result, -1 if it only writes into an argument of every run."""
        if writes and all(leaf.slot in self.arrays for leaf in traced_leaves(args)):
            self.calls.append((function, self._with_arrays(args), None, -1))
            return -1
        indices: list[Any] = [self._index(arg) for arg in args]
        if len(indices) == 1:  # of which itemgetter would make no sequence
            indices = [slice(indices[0], indices[0] + 1)]
        self.calls.append((function, (), itemgetter(*indices), self._add_value(None)))
        return self.calls[-1][-1]

    def _add_value(self, value: object) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _index(self, tree: object) -> int:
        """Return the index of an argument of a call among the values; lists are built by calls."""
        if isinstance(tree, list | tuple) and traced_leaves(tree):
            kind = type(tree)
            return self._add_call(kind if hasattr(kind, "_fields") else lambda *parts: kind(parts), (*tree,))
        index = self.indices.get(tree.slot) if isinstance(tree, TracedArray) else None
        return self._add_value(self._with_arrays(tree)) if index is None else index

    def _with_arrays(self, tree: Tree) -> Tree:
        """Replace traced values in arguments by their arrays."""
        return tree_map(lambda leaf: self.arrays[leaf.slot] if isinstance(leaf, TracedArray) else leaf, tree)


def compile_replay(
    function: Function, tape_type: type[Tape] = Tape, *, exact: bool = True, **options: Any
) -> Function:
    """Return a function equivalent to `function` that is faster from its third call on.

    Arguments and results are arrays, numbers, None, and lists, tuples and named tuples of them. The shapes
    and dtypes of arguments that are arrays, and of the items of tuples, may change from call to call, those
    deeper inside may not. The `options` are `Options`; `tape_type` is that of the arrays' library, by default
    NumPy. Unless `exact`, a recorded call is replayed at once: it may give other last bits, and the number of
    recorded calls depends on the threads.
    """
    seen, plans = set[Args](), dict[Args, Function]()

    def run(*args: object) -> object:
        parts = [part for arg in args for part in (arg if isinstance(arg, tuple) else (arg,))]
        key = tuple([(getattr(part, "shape", None), getattr(part, "dtype", None)) for part in parts])
        is_first = exact and key not in seen  # a call that may remain the only one
        if is_first or getattr(_RECORDING, "active", False):  # or the caller is being recorded itself
            seen.add(key)
            return function(*args)
        try:
            engine = _ENGINES.pop()
        except IndexError:
            engine = []
        try:
            if (plan := plans.get((id(engine), *key))) is not None:
                return plan(args)
            _RECORDING.active, tape = True, tape_type()
            inputs, outputs = tape.run(function, args)
            builder = PlanBuilder(tape, inputs, outputs, engine, Options(**options))
            plan = plans[id(engine), *key] = builder.build()
            tape.calls.clear()  # or a cycle of references would keep them
            return untrace(outputs) if exact else plan(args)
        finally:
            _RECORDING.active = False
            _ENGINES.append(engine)

    return run


def _take(size: int, *pools: Blocks) -> HostArray:
    """Return the latest free block of at least this and at most twice this size, or a new one."""
    for free in pools:
        for index in reversed(range(len(free))):
            if size <= free[index].nbytes <= 2 * size:
                return free.pop(index)
    return aligned_memory(size)
