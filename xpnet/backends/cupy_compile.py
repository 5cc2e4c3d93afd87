"""Functions of CuPy's arrays as a few generated kernels between their products of matrices.

A step of a small network is hundreds of short operations, and starting a kernel for each takes longer than
computing it. `compile_kernels` records a function once for each tuple of shapes, without numbers. Products
of matrices divide the recorded calls into levels; those of a level are one kernel
(`xpnet.backends.cuda_source`), whose threads wait for each other between its phases.
"""

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from types import ModuleType
from typing import Any, Final, TypeAlias, cast

import cupy
import numpy as np

from xpnet._lib.text import complain
from xpnet._lib.tree import leaves, tree_map
from xpnet._typing import AnyFunction, Array, DType, Function, HostArray
from xpnet.backends.cuda_source import BARRIER, REDUCTIONS, VIEWS, KernelSource, Operation
from xpnet.backends.probing import one_line
from xpnet.backends.tape import Tape, TracedArray, convert, traced_leaves, untrace, xp as host_xp

CHEAP, MOST = 8, 96
"""Operations that are repeated rather than stored, and the most for an element of a stored array."""
BLOCK: Final = 4096
"""Elements of a phase up to which one block computes a kernel: its threads wait for each other fastest."""
ALIGNMENT: Final = 256
"""Bytes to which arrays in a plan's memory are aligned; the first ones have the counter of the barrier."""
MOST_ELEMENTS: Final = 2**31 - 2**20
"""Of an array: kernels number elements and threads by 32 bits."""
_RECORDED = (
    *("abs", "argmax", "astype", "concat", "exp", "expand_dims", "full_like", "log", "matmul", "max"),
    *("maximum", "matrix_transpose", "minimum", "ones_like", "reshape", "sqrt", "sum", "take", "where"),
    *("zeros_like",),
)
"""Functions of the namespace that accept traced arrays."""

Calls: TypeAlias = dict[int, Operation]
"""Recorded calls, in order, by the slots of their results."""

_RECORDING = threading.local()


class ShapeTape(Tape):
    """The calls made on arrays of which shape and dtype alone are known: one element stands for all."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Calls = {}
        self.constants: dict[int, Array] = {}  # arrays of CuPy that a function brings along, by slot
        self._lifted: dict[int, TracedArray] = {}  # by the identity of these arrays, which are kept

    def run(self, function: Function, args: tuple[Any, ...]) -> tuple[Any, Any]:
        """Run a function; return the arguments and the results as traced arrays."""
        inputs = tree_map(self._trace, args)
        with np.errstate(all="ignore"):
            return inputs, function(*inputs)

    def _trace(self, leaf: Any) -> TracedArray:
        if isinstance(leaf, float):
            return TracedArray(self, cast("Any", leaf))
        traced = TracedArray(self, _stand_in(leaf.shape, leaf.dtype))
        traced.layout = leaf.shape, leaf.strides, leaf.dtype
        return traced

    def lift(self, leaf: Any) -> Any:
        """Return the traced array of an array of CuPy; of other leaves, itself."""
        if isinstance(leaf, cupy.ndarray) and id(leaf) not in self._lifted:
            self._lifted[id(leaf)] = traced = self._trace(leaf)
            self.constants[traced.slot] = leaf
        return self._lifted.get(id(leaf), leaf)

    def record(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TracedArray:
        """Record a call; of a product or an elementwise function, one element is computed at most."""
        args = tree_map(self.lift, args)
        values = untrace(args)
        if function is np.matmul:
            (*left, rows, _), (*right, _, columns) = (x.shape for x in values)
            shape, dtype = (*np.broadcast_shapes(left, right), rows, columns), values[0].dtype
        elif isinstance(function, np.ufunc) or function in {np.where, convert}:
            shape = np.broadcast_shapes(*(x.shape for x in values if isinstance(x, np.ndarray)))
            numbers = [x.dtype.type(0) if isinstance(x, np.ndarray) else x for x in values]
            dtype = function(*numbers, **kwargs).dtype
        else:
            value = function(*values, **kwargs)
            shape, dtype = value.shape, value.dtype
        result = TracedArray(self, _stand_in(shape, dtype))
        operands, name = traced_leaves(args), function.__name__
        self.operations[result.slot] = Operation(name, function, args, kwargs, operands, result)
        return result


class Plan:
    """The kernels and products of a recorded function, and the memory of what lies between them.

    A step of a run reads and writes a list of values: arguments, constants and results, by ``indices``.
    """

    def __init__(self, tape: ShapeTape, inputs: Any, outputs: Any) -> None:
        self._calls, self._outputs, self._constants = tape.operations, outputs, [*tape.constants.values()]
        results = {x.slot: x for x in traced_leaves(outputs) if x.slot in self._calls}
        slots = [*(x.slot for x in traced_leaves(inputs)), *tape.constants, *results]
        self._indices = {slot: index for index, slot in enumerate(slots)}
        self._results = [(x.shape, x.dtype) for x in results.values()]
        stored, self._offsets, size = choose_stored(self._calls, set(results)), dict[int, int](), ALIGNMENT
        for slot, call in self._calls.items():
            if slot in stored and slot not in results:
                self._offsets[slot] = size
                size += -(-call.result.value.nbytes // ALIGNMENT) * ALIGNMENT
        self.memory = cupy.zeros(size, np.uint8)
        self._steps: list[Callable[[list[Any]], object]] = []
        for level in find_levels(self._calls, stored):
            for call in level.pop(0) if level[0][0].name == "matmul" else ():
                self._add_product(call)
            if level:
                self._add_kernel(level)

    def __call__(self, _: object, arguments: Sequence[Any]) -> Any:
        """Return the results for arrays of these shapes, and numbers."""
        results = [cupy.empty(shape, dtype) for shape, dtype in self._results]
        values, indices = [*arguments, *self._constants, *results], self._indices
        for step in self._steps:
            step(values)
        return tree_map(lambda x: values[indices[x.slot]] if isinstance(x, TracedArray) else x, self._outputs)

    def _find_array(self, x: TracedArray) -> Any:
        """Return an array in the plan's memory, or a view of one; of other arrays, the index."""
        if x.slot in self._indices:
            return self._indices[x.slot]
        if x.slot not in self._offsets:
            call = self._calls[x.slot]
            return call.apply(self._find_array(call.args[0]))
        part = self.memory[self._offsets[x.slot] :][: x.value.nbytes]
        return part.view(x.dtype).reshape(x.shape)

    def _add_product(self, call: Operation) -> None:
        matrices = [*map(self._find_array, (*call.args, call.result))]
        multiply = cupy.dot if call.result.ndim == 2 else cupy.matmul

        def step(values: list[Any]) -> None:
            a, b, out = [values[x] if isinstance(x, int) else x for x in matrices]
            multiply(a, b, out=out)

        self._steps.append(step)

    def _add_kernel(self, phases: Sequence[Sequence[Operation]]) -> None:
        """Add a kernel with a barrier between its phases.

        One of several blocks that wait for each other is launched cooperatively: they are all on the GPU at
        the same time, or the driver refuses.
        """
        source, widest = KernelSource(self._calls, self._offsets, self._indices), 0
        for number, phase in enumerate(phases):
            if number:
                source.lines.append(BARRIER)
            width = 0
            for call in phase:
                width += source.add_array(call, width)
            widest = max(widest, width)
        threads, name = min(widest, 1024) if widest <= BLOCK else 256, f"level_{len(self._steps)}"
        kernel = cupy.RawKernel(source.text(name, threads), name, options=("--fmad=false",)).kernel
        resident = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.ptr, threads, 0)
        resident *= cupy.cuda.Device().attributes["MultiProcessorCount"]
        blocks = 1 if widest <= BLOCK else min(-(-widest // threads), resident)
        waits = len(phases) > 1 and blocks > 1
        indices, size, launch = [*source.parameters], blocks * threads, kernel.linear_launch

        def step(values: list[Any]) -> None:
            parameters = self.memory, *[values[index] for index in indices]
            launch(size, parameters, 0, threads, None, waits)

        self._steps.append(step)


def choose_stored(calls: Calls, results: set[int]) -> set[int]:
    """Return the slots of the arrays in memory; others are computed where they are needed.

    They are results, products and their factors, sums and maxima; and what takes many operations, if it is
    read by several arrays in memory, or several times by one.
    """
    factors = [x for call in calls.values() if call.name == "matmul" for x in call.operands]
    stored = results | {slot for slot, call in calls.items() if call.name in REDUCTIONS | {"matmul"}}
    stored |= {base if (base := _find_base(calls, x)) in calls.keys() - results else x.slot for x in factors}
    costs: dict[int, frozenset[object]] = {}  # the operations that compute an element
    for slot, call in calls.items():
        own: frozenset[object] = frozenset()
        for x in call.operands:
            cost = frozenset() if x.slot in stored else costs.get(x.slot, frozenset())
            repeats = call.name in REDUCTIONS | {"concatenate"} or x.shape != call.result.shape
            if repeats and call.name not in VIEWS | {"take"} and len(cost) >= CHEAP:
                stored.add(_find_base(calls, x))
            else:
                own |= cost
        if call.name == "getitem":  # operations on another part of an array are others
            own = frozenset((operation, slot) for operation in own)
        costs[slot] = own if call.name in VIEWS else own | {slot}
        if len(own) >= MOST:
            stored.add(slot)
    readers: dict[int, set[int]] = {}  # in memory
    for slot, call in reversed(calls.items()):
        if len(readers.get(slot, ())) > 1 and len(costs[slot]) >= CHEAP and call.name not in VIEWS:
            stored.add(slot)
        for x in call.operands:
            readers.setdefault(x.slot, set()).update({slot} if slot in stored else readers.get(slot, ()))
    return stored & calls.keys()


def _find_base(calls: Calls, x: TracedArray) -> int:
    """Return the slot of the array that x is, or is a view of."""
    while x.slot in calls and calls[x.slot].name in VIEWS - {"reshape"}:
        x = calls[x.slot].args[0]
    return x.slot


def find_levels(calls: Calls, stored: set[int]) -> list[list[list[Operation]]]:
    """Return the levels: products of matrices, none at first, then the phases of a kernel."""
    groups: dict[tuple[int, int], list[Operation]] = {}
    ready: dict[int, tuple[int, int]] = {}  # the first level and phase in which an array can be read
    for slot, call in calls.items():
        level, phase = max((ready.get(x.slot, (0, 1)) for x in call.operands), default=(0, 1))
        place = (level + 1, 0) if call.name == "matmul" else (level, phase)
        ready[slot] = place[0], place[1] + (slot in stored)
        if slot in stored:
            groups.setdefault(place, []).append(call)
    return [[groups[key] for key in keys] for _, keys in groupby(sorted(groups), itemgetter(0))]


def compile_kernels(function: AnyFunction) -> AnyFunction:
    """Return a function equivalent to `function` that runs in a few kernels, unless something is unknown.

    Arguments and results are arrays, floats, None, and lists, tuples and named tuples of them.
    """
    plans, lock = dict[tuple[object, ...], Function](), threading.Lock()

    def run(*args: Any) -> Any:
        if getattr(_RECORDING, "tape", None) is not None:  # the caller is being recorded itself
            return function(*args)
        parts = [*leaves(args)]
        key: list[Any] = [(x.shape, x.dtype, x.strides) if hasattr(x, "shape") else type(x) for x in parts]
        key += [part is None for arg in args if isinstance(arg, tuple) for part in arg]
        with lock:  # a plan's memory is in use until its last kernel is started
            if (layout := tuple(key)) not in plans:
                plans[layout] = _make_plan(function, args)
            return plans[layout](args, parts)

    return cast("AnyFunction", run)


def _make_plan(function: Function, args: tuple[Any, ...]) -> Function:
    """Return a function of the arguments and their leaves: a plan, or `function` itself after a warning."""
    tape = _RECORDING.tape = ShapeTape()
    try:
        return Plan(tape, *tape.run(function, args))
    except Exception as error:  # noqa: BLE001  what is unknown, or takes too much memory, raises its own
        complain(f"warning: not compiling a function for cupy, which is slower: {one_line(error)}")
        return lambda args, _: function(*args)
    finally:
        _RECORDING.tape = None


def _record_or_call(of_cupy: Function, of_host: Function, *args: Any, **kwargs: Any) -> Any:
    """Call NumPy's function if an argument is traced, or else CuPy's."""
    is_recorded = getattr(_RECORDING, "tape", None) is not None and traced_leaves(args)
    return (of_host if is_recorded else of_cupy)(*args, **kwargs)


def make_namespace(own: ModuleType) -> ModuleType:
    """Return a namespace of CuPy whose functions also accept traced arrays, while a function is recorded."""
    namespace = ModuleType(own.__name__)
    recorded = {x: partial(_record_or_call, getattr(own, x), getattr(host_xp, x)) for x in _RECORDED}
    namespace.__dict__.update(vars(own), **recorded)
    return namespace


def _stand_in(shape: tuple[int, ...], dtype: DType) -> HostArray:
    """Return an array of zeros that has memory for one."""
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"an array has more than {MOST_ELEMENTS:,} elements")
    return np.broadcast_to(np.zeros((), dtype), shape)
