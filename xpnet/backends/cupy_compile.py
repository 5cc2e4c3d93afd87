"""Functions of CuPy's arrays as a few generated kernels between their products of matrices.

A step of a small network is hundreds of short operations, and starting a kernel for each takes longer than
computing it. `compile_kernels` records a function once for each tuple of shapes, without numbers. Products
of matrices divide the recorded calls into levels; those of a level are one kernel
(`xpnet.backends.cuda_source`), whose threads wait for each other between its phases.
"""

import math
import threading
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from types import ModuleType
from typing import Any

import cupy
import numpy as np

from xpnet._lib.switches import read_switch
from xpnet._lib.text import complain
from xpnet._lib.tree import leaves, tree_map
from xpnet._typing import Args, Array, DType, Function, HostArray, Shape
from xpnet.backends.base import WHOLE_BATCHES, replace_functions
from xpnet.backends.cuda_source import BARRIER, REDUCTIONS, VIEWS, Calls, KernelSource, Operation
from xpnet.backends.probing import is_out_of_memory, one_line
from xpnet.backends.tape import Tape, TracedArray, convert, traced_leaves, untrace, xp as host_xp

CHEAP, MOST = 8, 96
"""Operations that are repeated rather than stored, and the most for an element of a stored array."""
BLOCK = 4096
"""Elements of a phase up to which one block computes a kernel: its threads wait for each other fastest."""
ALIGNMENT = 256
"""Bytes to which arrays in a plan's memory are aligned; the first ones have the counter of the barrier."""
MOST_PLANS = 16
"""Of a function; each has kernels and memory of its own, and the one that is unused the longest gives way."""
PATIENCE = 100
"""Calls without a plan after one that the GPU had no memory for."""
MOST_ELEMENTS = 2**31 - 2**20
"""Of an array: kernels number elements and threads by 32 bits."""
FLOATS = {"float32": (0, 68, np.array([1, 0], "f4")), "float64": (1, 70, np.array([1, 0], "f8"))}
"""``cudaDataType_t`` and ``cublasComputeType_t`` of products of a dtype, and the numbers 1 and 0."""
_RECORDED = """abs argmax astype concat exp expand_dims full_like log matmul matrix_transpose max maximum
    minimum ones_like reshape sqrt sum take where zeros_like""".split()  # noqa: SIM905
"""Functions of the namespace that accept traced arrays."""


class ShapeTape(Tape):
    """The calls made on arrays of which shape and dtype alone are known: one element stands for all."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Calls = {}
        self.constants = dict[int, tuple[TracedArray, Array]]()  # by identity, what a function brings along

    def run(self, function: Function, args: Args) -> tuple[Any, Any]:
        """Run a function; return the arguments and the results as traced arrays."""
        inputs = tree_map(self._trace, args)
        with np.errstate(all="ignore"):
            return inputs, function(*inputs)

    def _trace(self, leaf: Any) -> TracedArray:
        if not isinstance(leaf, float) and leaf.flags.fnc:
            return self.record(np.transpose, (self._trace(leaf.T),), {})
        value: Any = leaf if isinstance(leaf, float) else _stand_in(leaf.shape, leaf.dtype)
        return TracedArray(self, value)

    def lift(self, leaf: Any) -> Any:
        """Return the traced array of an array of CuPy; of other leaves, itself."""
        is_own = isinstance(leaf, cupy.ndarray)
        return self.constants.setdefault(id(leaf), (self._trace(leaf), leaf))[0] if is_own else leaf

    def record(self, function: Function, args: Args, kwargs: dict[str, Any]) -> TracedArray:
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

    Calls in several streams, which share this memory, the counter in it and the constants, follow each other.
    A step of a run reads and writes a list of values: arguments, constants and results, by ``indices``.
    If a plan ``repeats``, its outputs are its results, and can be the first argument of another run.
    """

    def __init__(self, tape: ShapeTape, inputs: Any, outputs: Any) -> None:
        self._calls = tape.operations
        self._outputs = outputs
        constants = tape.constants.values()
        self._constants = [_in_order(array) for _, array in constants]
        results = {x.slot: x for x in traced_leaves(outputs) if x.slot in self._calls}
        slots = [_find_base(self._calls, x) for x in (*traced_leaves(inputs), *(y for y, _ in constants))]
        self._indices = {slot: index for index, slot in enumerate([*slots, *results])}
        first = [(x.slot in self._calls, type(x.value), x.layout) for x in traced_leaves(inputs[:1])]
        self.repeats = first == [(False, np.ndarray, x.layout) for x in results.values()]
        self.results = [(x.shape, x.dtype) for x in results.values()]
        stored = choose_stored(self._calls, set(results))
        self._offsets = dict[int, int]()
        size = ALIGNMENT
        for slot in sorted(stored - results.keys()):
            self._offsets[slot] = size
            size += -(-self._calls[slot].result.value.nbytes // ALIGNMENT) * ALIGNMENT
        self.memory = cupy.zeros(size, np.uint8)
        self.steps: list[Function] = []
        for level in find_levels(self._calls, stored):
            for call in level.pop(0) if level[0][0].name == "matmul" else ():
                self._add_product(call)
            if level:
                self._add_kernel(level)
        self.end = cupy.cuda.Event(disable_timing=True)  # of the last call, or of this preparation
        self.end.record()

    def __call__(self, runs: Sequence[Sequence[Any]]) -> Any:
        """Return the outputs of the last of several runs, given arrays of these shapes, and numbers.

        Results are the first argument of the next run, whose others are given. They are in two places in
        turn, to which nothing outside of this call refers until it ends.
        """
        stream = cupy.cuda.get_current_stream()
        stream.wait_event(self.end)
        places = [[cupy.empty(*each) for each in self.results] for _ in runs[:2]]
        indices, results = self._indices, list[Array]()
        for number, arguments in enumerate(runs):
            first, results = results, places[number % 2]
            values = [*first, *arguments, *self._constants, *results]
            for step in self.steps:
                step(values)
        self.end.record(stream)
        return tree_map(lambda x: values[indices[x.slot]] if isinstance(x, TracedArray) else x, self._outputs)

    def _find_array(self, x: TracedArray) -> Any:
        """Return an array in the plan's memory, or a view of one; of other arrays, the index."""
        if x.slot in self._indices:
            return self._indices[x.slot]
        if x.slot not in self._offsets:
            call = self._calls[x.slot]
            return call.apply(self._find_array(call.args[0]))
        return cupy.ndarray(x.shape, x.dtype, self.memory.data + self._offsets[x.slot])

    def _add_product(self, call: Operation) -> None:
        """Add a product, of matrices by cuBLAS: what CuPy does first takes longer than starting a kernel.

        To cuBLAS, a matrix by rows is a transposed one, and so it computes the transposed product.
        """
        arrays = [*map(self._find_array, (*call.args, call.result))]
        matrices = [x if isinstance(x, int) or x.ndim < 3 else x[0] for x in arrays]
        by_rows = [isinstance(x, int) or x.flags.c_contiguous for x in matrices[:2]]
        most = 3 if read_switch(WHOLE_BATCHES) else 2
        are_matrices = call.result.ndim <= most and all(isinstance(x, int) or x.flags.forc for x in matrices)
        left, right = (x.shape[-1 if is_so else -2] for x, is_so in zip(call.args, by_rows, strict=True))
        (rows, columns), terms = call.result.shape[-2:], call.args[0].shape[-1]
        kind, precision, numbers = FLOATS["".join({x.dtype.name for x in call.args})]  # KeyError if mixed
        one = numbers.ctypes.data
        cublas = cupy.cuda.cublas
        find_handle = cupy.cuda.get_cublas_handle
        settings = not by_rows[1], not by_rows[0], columns, rows, terms, one
        stack, *_ = call.result.shape
        steps = [_find_step(x, y) for x, y in zip((*call.args, call.result), arrays, strict=True)]

        def step(values: list[Any]) -> None:
            a, b, out = [values[x] if isinstance(x, int) else x for x in arrays]
            if not are_matrices:
                cupy.matmul(a, b, out=out)
                return
            places = (b.data.ptr, kind, right), (a.data.ptr, kind, left), (out.data.ptr, kind, columns)
            zero = one + numbers.itemsize
            if call.result.ndim == 2:
                factors = *places[0], *places[1], zero, *places[2]
                cublas.gemmEx(find_handle(), *settings, *factors, precision, -1)
                return
            stacks = *places[0], steps[1], *places[1], steps[0], zero, *places[2], steps[2], stack
            cublas.gemmStridedBatchedEx(find_handle(), *settings, *stacks, precision, -1)

        self.steps.append(step)

    def _add_kernel(self, phases: Sequence[Sequence[Operation]]) -> None:
        """Add a kernel with a barrier between its phases.

        One of several blocks that wait for each other is launched cooperatively: they are all on the GPU at
        the same time, or the driver refuses.
        """
        source, widest = KernelSource(self._calls, self._offsets, self._indices), 0
        for number, phase in enumerate(phases):
            if number > 0:
                source.lines.append(BARRIER)
            width = 0
            for call in phase:
                width += source.add_array(call, width)
            widest = max(widest, width)
        threads, name = min(widest, 1024) if widest <= BLOCK else 256, f"level_{len(self.steps)}"
        kernel = cupy.RawKernel(source.text(name, threads), name, options=("--fmad=false",)).kernel
        resident = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.ptr, threads, 0)
        resident *= cupy.cuda.Device().attributes["MultiProcessorCount"]
        blocks = 1 if widest <= BLOCK else min(-(-widest // threads), resident)
        memory = self.memory
        indices = [*source.parameters]
        waits = len(phases) > 1 and blocks > 1

        def step(values: list[Any]) -> None:
            parameters = memory, *[values[index] for index in indices]
            kernel.linear_launch(blocks * threads, parameters, 0, threads, None, waits)

        self.steps.append(step)


def _find_step(x: TracedArray, array: Any) -> int:
    """Return how many elements the matrices of a stack are apart, 0 if there is one for all."""
    if x.ndim < 3 or x.shape[0] == 1:
        return 0
    return math.prod(x.shape[1:]) if isinstance(array, int) else int(array.strides[0]) // x.dtype.itemsize


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


def compile_kernels(function: Function) -> Function:
    """Return a function equivalent to `function` that runs in a few kernels, unless something is unknown.

    Arguments and results are arrays, floats, None, and lists, tuples and named tuples of them. The results
    are the first argument of another call for each tuple of others, of the same shapes, in ``more``.
    """
    return partial(_run, function, {}, threading.Lock())


def _run(function: Function, plans: dict[Any, Any], lock: Any, *args: Any, more: Any = ()) -> Any:
    if traced_leaves(args):  # the caller is being recorded itself
        return function(*args)
    runs = [[*map(_in_order, leaves(each))] for each in (args, *more)]
    parts = [(x.shape, x.dtype, x.strides) if hasattr(x, "shape") else type(x) for x in runs[0]]
    layout = (*parts, *(part is None for arg in args if isinstance(arg, tuple) for part in arg))
    at_once = 0
    with lock:  # a plan's memory is in use until its last kernel is started
        plan: Any = plans.pop(layout, 0)  # or how many calls go without one
        if isinstance(plan, Plan) or plan == 0:
            try:
                if plan == 0:
                    tape = ShapeTape()
                    plan = Plan(tape, *tape.run(function, args))
                at_once = len(runs) if plan.repeats else 1
                results = plan(runs[:at_once])
            except Exception as error:  # noqa: BLE001  what is unknown, or the GPU refuses, raises its own
                complain(f"warning: not compiling a function for cupy, which is slower: {one_line(error)}")
                at_once, plan = 0, PATIENCE if is_out_of_memory(error) else math.inf
        else:
            plan -= 1
        plans[layout] = plan
        if len(plans) > MOST_PLANS and isinstance(oldest := plans.pop(next(iter(plans))), Plan):
            oldest.end.synchronize()  # other streams may get its memory
    if at_once == 0:
        results, at_once = function(*args), 1
    for others in more[at_once - 1 :]:
        results = _run(function, plans, lock, results, *others)
    return results


def _in_order(x: Any) -> Any:
    """Return an array by rows, unless it is by columns; numbers as they are."""
    return cupy.ascontiguousarray(x) if hasattr(x, "flags") and not x.flags.forc else x


def _record_or_call(of_cupy: Function, of_host: Function, *args: Any, **kwargs: Any) -> Any:
    """Call NumPy's function if an argument is traced, or else CuPy's."""
    return (of_host if traced_leaves(args) else of_cupy)(*args, **kwargs)


def make_namespace(own: ModuleType) -> ModuleType:
    """Return a namespace of CuPy whose functions also accept traced arrays, while a function is recorded.

    Its ``asarray`` waits for the GPU: other streams may use what it makes of numbers of the host, such as
    the table of the exponential function, from then on.
    """

    def asarray(values: object, /, **keywords: object) -> Array:
        array = own.asarray(values, **keywords)
        cupy.cuda.get_current_stream().synchronize()
        return array

    recorded = {x: partial(_record_or_call, getattr(own, x), getattr(host_xp, x)) for x in _RECORDED}
    return replace_functions(own, asarray=asarray, **recorded)


def _stand_in(shape: Shape, dtype: DType) -> HostArray:
    """Return an array of zeros that has memory for one."""
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"an array has more than {MOST_ELEMENTS:,} elements")
    return np.broadcast_to(np.zeros((), dtype), shape)
