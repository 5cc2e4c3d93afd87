"""CUDA source of recorded calls: each element of an array as a function of its number.

An element is computed from elements of the operands: elementwise functions are C expressions; views, ``take``
and concatenation change the number. So it goes down to arrays in memory; what lies in between stays in
registers. Sums, differences, products, quotients and roots of floats are intrinsics that no compiler fuses.
"""

import math
from collections import ChainMap
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpnet._typing import Args, DType, Function, Shape
from xpnet.backends.tape import TracedArray

_C_NAMES = {
    "float64": "double",
    "float32": "float",
    "int64": "long long",
    "int32": "int",
    "int16": "short",
    "int8": "signed char",
    "uint8": "unsigned char",
    "bool": "bool",
}
TYPES = {np.dtype(name): c_name for name, c_name in _C_NAMES.items()}
ROUNDED = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "sqrt": "sqrt"}
"""Functions of floats, and the part of their intrinsics' names that is theirs, as in ``__dadd_rn``."""
EXPRESSIONS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "right_shift": "{0} >> {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "equal": "{0} == {1}",
    "absolute": "fabs({0})",
    "convert": "({0})",
    "exp": "exp({0})",
    "log": "log({0})",
    "negative": "-({0})",
    "maximum": "({0} > {1} || {0} != {0}) ? {0} : {1}",  # CUDA's own loses NaN
    "minimum": "({0} < {1} || {0} != {0}) ? {0} : {1}",
    "where": "{0} ? {1} : {2}",
}
"""Other functions of numbers."""
VIEWS = {"expand_dims", "getitem", "reshape", "swapaxes", "transpose"}
REDUCTIONS = {"argmax", "max", "sum"}
INTEGER = np.dtype("int32")
BOOL = np.dtype("bool")
WARP = 32

BARRIER = "wait_for_all((unsigned*)memory);"
"""Has all threads wait for each other: the memory begins with the counter of those that do."""
HEADER = """#define inf __builtin_bit_cast(double, 0x7ff0000000000000LL)
#define nan __builtin_bit_cast(double, 0x7ff8000000000000LL)
__device__ static void wait_for_all(unsigned* arrived) {
  __syncthreads();
  if (gridDim.x > 1 && threadIdx.x == 0) {  // when all blocks are here, the highest bit changes
    __threadfence();
    const unsigned before = atomicAdd(arrived, blockIdx.x ? 1u : 0x80000001u - gridDim.x);
    while (((before ^ *(volatile unsigned*)arrived) & 0x80000000u) == 0) __nanosleep(20);
    __threadfence();
  }
  __syncthreads();
}
"""


class Operation(NamedTuple):
    """A recorded call of a function, whose name is NumPy's."""

    name: str
    function: Function
    args: Args
    kwargs: dict[str, Any]
    operands: list[TracedArray]  # the arguments that are traced
    result: TracedArray

    def apply(self, x: Any) -> Any:
        """Apply the function, a view, to another array."""
        return self.function(x, *self.args[1:], **self.kwargs)


Calls: TypeAlias = dict[int, Operation]
"""Recorded calls, in order, by the slots of their results."""


class KernelSource:
    """The source of a kernel: arrays that are computed element by element, and barriers.

    Parameters
    ----------
    calls : the recorded calls, by the slots of their results
    offsets : of arrays in the memory that all kernels share, in bytes
    indices : of other arrays and numbers, which are parameters of the kernel
    """

    def __init__(self, calls: Calls, offsets: dict[int, int], indices: dict[int, int]) -> None:
        self._calls = calls
        self._offsets = offsets
        self._indices = indices
        self.parameters: dict[int, str] = {}  # by index
        self.lines: list[str] = []
        self._variables = count()
        self._names: ChainMap[object, str] = ChainMap()  # of what is computed, from inner to outer scopes

    def text(self, name: str, threads: int) -> str:
        """Return the source."""
        parameters = ", ".join(["char* memory", *self.parameters.values()])
        head = f'extern "C" __global__ __launch_bounds__({threads}) void {name}({parameters}) {{'
        grid = "const int threads = gridDim.x * blockDim.x, thread = blockIdx.x * blockDim.x + threadIdx.x;"
        return "\n".join([HEADER + head, grid, *self.lines, "}", ""])

    def add_array(self, call: Operation, before: int) -> int:
        """Have the threads compute an array; return how many it could occupy, in whole warps.

        The first of them comes after the ``before`` threads that other arrays of this phase occupy. Sums and
        maxima of many elements have a warp each.
        """
        size = math.prod(call.result.shape)
        is_long = call.name in {"max", "sum"} and math.prod(call.operands[0].shape) > WARP * size
        lanes = WARP if is_long else 1
        first = f"(thread + threads - {before} % threads) % threads / {lanes}"
        self._open(f"for (int i = {first}; i < {size}; i += threads / {lanes})")
        element = self._reduce(call, lanes) if call.name in REDUCTIONS else self._compute(call, "i")
        self._close(f"{self._place(call.result)}[i] = {element};")
        return -(-size * lanes // WARP) * WARP

    def _reduce(self, call: Operation, lanes: int) -> str:
        """Reduce along an axis; each of so many lanes takes some of its elements.

        NaN is the largest number, and of equal ones ``argmax`` takes the first.
        """
        (x,) = call.operands
        is_sum = call.name == "sum"
        axis = call.kwargs["axis"]
        dtype = call.result.dtype if is_sum else x.dtype
        total, index = self._declare(dtype, "0" if is_sum else "-inf"), self._declare(INTEGER, "0")
        k = self._declare(INTEGER, f"threadIdx.x % {lanes}")
        self._open(f"for (; {k} < {x.shape[axis]}; {k} += {lanes})")
        element = self._element(x, self._along_axis("i", x.shape, axis, k, 1), x.shape, dtype)
        if call.name == "argmax":
            is_larger = f"{element} > {total} || ({element} != {element} && {total} == {total})"
            self._close(f"if ({is_larger}) {{ {total} = {element}; {index} = {k}; }}")
            return index
        function = "add" if is_sum else "maximum"
        self._close(f"{total} = {_expression(function, dtype, total, element)};")
        for lane in (16, 8, 4, 2, 1) if lanes > 1 else ():
            other = self._declare(dtype, f"__shfl_xor_sync(0xffffffffu, {total}, {lane})")
            self.lines.append(f"{total} = {_expression(function, dtype, total, other)};")
        return total

    def _element(self, x: Any, number: str, shape: Shape, dtype: DType) -> str:
        """Return the C expression of an element, converted to a dtype, after the statements that it needs.

        The number is that of an element in a shape to which x is broadcast.
        """
        if not isinstance(x, TracedArray):
            (value,) = {*np.ravel(x).tolist()}  # of the host: a number, or an array made by shape alone
            return f"({TYPES[dtype]}){value!r}"
        if x.shape != shape:
            number = self._find_number(number, x.shape, lambda array: np.broadcast_to(array, shape))
        if x.slot in self._offsets or x.slot in self._indices:
            name = self._let(x.dtype, self._place(x) + ("" if isinstance(x.value, float) else f"[{number}]"))
        else:
            if (x.slot, number) not in self._names:
                self._names[x.slot, number] = self._compute(self._calls[x.slot], number)
            name = self._names[x.slot, number]
        return name if x.dtype == dtype else f"({TYPES[dtype]}){name}"

    def _place(self, x: TracedArray) -> str:
        """Return the C expression of an array's pointer, or of a number."""
        kind = TYPES[x.dtype] if isinstance(x.value, float) else f"{TYPES[x.dtype]}*"
        if x.slot in self._offsets:
            return f"(({kind})(memory + {self._offsets[x.slot]}))"
        index = self._indices[x.slot]
        self.parameters[index] = f"{kind} p{index}"
        return f"p{index}"

    def _compute(self, call: Operation, number: str) -> str:
        """Return the C expression of an element of a result that is not in memory."""
        x = call.args[0]
        dtype = call.result.dtype
        name = call.name
        if name in VIEWS:
            return self._element(x, self._find_number(number, x.shape, call.apply), x.shape, dtype)
        if name in {"take", "concatenate"}:
            return (self._take if name == "take" else self._concatenate)(call, number)
        args = call.args[:1] if name in {"convert", "view"} else call.args
        values = [y.value if isinstance(y, TracedArray) else y for y in args]
        common = x.dtype if name == "view" else np.result_type(*values) if dtype.kind == "b" else dtype
        types = [BOOL if name == "where" else common, *(common for _ in args[1:])]
        elements = [self._element(y, number, call.result.shape, z) for y, z in zip(args, types, strict=True)]
        if name == "view":
            return self._let(dtype, f"__builtin_bit_cast({TYPES[dtype]}, {elements[0]})")
        return self._let(dtype, _expression(name, common, *elements))

    def _take(self, call: Operation, number: str) -> str:
        x, indices, axis = call.args
        axis, (length,) = axis or 0, indices.shape
        position = self._find_position(number, call.result.shape, axis)
        index = self._element(indices, position, indices.shape, np.dtype("int64"))
        index = f"min(max({index}, 0LL), {x.shape[axis] - 1}LL)"
        number = self._along_axis(number, x.shape, axis, index, length)
        return self._element(x, number, x.shape, call.result.dtype)

    def _concatenate(self, call: Operation, number: str) -> str:
        shape = call.result.shape
        axis = call.kwargs.get("axis", 0)
        start = 0
        position, name = self._find_position(number, shape, axis), self._declare(call.result.dtype, "0")
        for x in call.args[0]:
            stop = start + x.shape[axis]
            self._open(f"if ({position} >= {start} && {position} < {stop})")
            part = self._along_axis(number, x.shape, axis, f"{position} - {start}", shape[axis])
            self._close(f"{name} = {self._element(x, part, x.shape, call.result.dtype)};")
            start = stop
        return name

    def _find_position(self, number: str, shape: Shape, axis: int) -> str:
        """Return the position along an axis of an element, given its number."""
        if math.prod(shape) == shape[axis]:
            return number
        return self._let(INTEGER, f"{number} / {math.prod(shape[axis:][1:])} % {shape[axis]}")

    def _find_number(self, number: str, shape: Shape, make_view: Function) -> str:
        """Return the number of an element of an array, given its number in a view of the array.

        The strides of the view of an array of bytes, which are not touched, tell how far apart elements are.
        """
        array = np.empty(shape, np.int8)
        view = make_view(array)
        stride, terms = view.size, [str(view.ctypes.data - array.ctypes.data)]
        if view.flags.c_contiguous:
            return number if terms == ["0"] else self._let(INTEGER, f"{number} + {terms[0]}")
        for length, step in zip(view.shape, view.strides, strict=True):
            wraps = f" % {length}" if stride < view.size else ""
            stride //= length
            terms += [f"{number} / {stride}{wraps} * {step}"] if step and length > 1 else []
        return self._let(INTEGER, " + ".join(terms))

    def _along_axis(self, number: str, shape: Shape, axis: int, position: str, length: int) -> str:
        """Return the number of the element of a shape that is at a position along an axis.

        Its other coordinates are those of the numbered element of a shape that has another length there.
        """
        within = math.prod(shape[axis:][1:])
        first = f"({number} / {within * length} * {shape[axis]} + {position}) * {within}"
        return self._let(INTEGER, f"{first} + {number} % {within}")

    # Statements

    def _declare(self, dtype: DType, start: str) -> str:
        name = f"t{next(self._variables)}"
        self.lines.append(f"{TYPES[dtype]} {name} = {start};")
        return name

    def _let(self, dtype: DType, text: str) -> str:
        """Return the name of a constant, the same one for the same text."""
        if (dtype, text) not in self._names:
            self._names[dtype, text] = self._declare(dtype, text)
        return self._names[dtype, text]

    def _open(self, head: str) -> None:
        self.lines.append(f"{head} {{")
        self._names = self._names.new_child()

    def _close(self, last: str) -> None:
        self.lines.append(f"{last} }}")
        self._names = self._names.parents


def _expression(name: str, dtype: DType, *operands: str) -> str:
    """Return the C expression of an elementwise function of numbers of a dtype; KeyError if it is unknown."""
    if name in ROUNDED and dtype.kind == "f":
        return f"__{'d' if dtype.itemsize == 8 else 'f'}{ROUNDED[name]}_rn({', '.join(operands)})"
    return EXPRESSIONS[name].format(*operands)
