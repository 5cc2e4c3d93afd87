"""A check, in milliseconds, that a device computes float64 as the reproducible arithmetic requires.

Emulated double precision, products in TF32, other rounding modes and rewritten divisions give other bits, and
so do compilers that contract or reorder operations. Each probe computes something on the device whose exact
result is known from integers or, for elementwise operations, from the host.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from xpnet._lib.text import complain
from xpnet._typing import Args, Array, Arrays, Function, Functions
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.elementary import round_to_whole
from xpnet.errors import BackendError, setting

_ROW = 8

# No two have a product in common: a compiler that kept it would have no reason to contract it.
_ELEMENTWISE: Functions = {
    "sums": lambda x, y: x + y,
    "products": lambda x, y: x * y,
    "quotients": lambda x, y: x / y,
    "separate products and sums": lambda x, y: y * y + x,
    "separate products and differences": lambda x, _: 1.0 - x * x,
    "separate products": lambda x, _: (x * 0.1) * 0.3,
    "rounding to even": lambda x, _: round_to_whole(8.0 * x),
    "signs of zeros": lambda x, _: x * 0.0 + 0.0,
}

Shape = tuple[int, int, int, int]
"""Of ``count`` products of matrices (n, k) and (k, m): count, n, k, m."""

_SMALL = (1, 8, 128, 8)

_COMPILED: dict[Args, Function] = {}
"""The compiled probes, by backend, device and shapes: compiling takes much longer than computing."""


def check(
    ops: Arithmetic, where: str, compile_: Function = lambda function: function, shapes: Sequence[Shape] = ()
) -> bool:
    """Check the operations that the reproducible arithmetic builds on, and the compiler.

    Parameters
    ----------
    ops : the arithmetic, whose dtype is float64
    where : backend and device, for messages
    compile_ : compiles functions whose bits must not change, or returns them
    shapes : further products of matrices to compute, where libraries choose a kernel by the shape

    Returns
    -------
    False if the compiler changes bits, after a warning; else True.

    Raises
    ------
    BackendError
        An operation has a wrong result; the message names the first.
    """

    def compute(x: Array, y: Array, *factors: Array) -> Arrays:
        products = [_multiply(ops, shape, *factors[4 * k : 4 * k + 4]) for k, shape in enumerate(shapes)]
        return [*products, *(function(x, y) for function in _ELEMENTWISE.values())]

    def compute_compiled(x: Array, y: Array, *factors: Array) -> Arrays:
        rows, divisors = (ops.xp.reshape(values, (-1, _ROW)) for values in (x, y))
        return [*compute(x, y, *factors), ops.xp.reshape(rows / divisors[:, :1], (-1,))]

    shapes = (_SMALL, *shapes)
    x, y = _operands()
    args, expected = [ops.array(x), ops.array(y)], list[Any]()
    for _, *lengths in shapes:
        u, s, t, v = _factors(*lengths)
        args += map(ops.array, (u, s, t, v))
        total = sum(p * q for p, (q,) in zip(s[0], t, strict=True))
        expected.append(args[-4] * args[-1] * float(total))  # exact
    expected += [list(map(function, x, y)) for function in _ELEMENTWISE.values()]
    expected += [[value / y[k - k % _ROW] for k, value in enumerate(x)]]
    operations = [*["products of matrices"] * len(shapes), *_ELEMENTWISE, "quotients by rows"]
    compiled, compiler_fault = compile_(compute_compiled), None
    if compiled is not compute_compiled:
        compiled = _COMPILED.setdefault((where, *shapes), compiled)
        compiler_fault = _first_difference(ops, operations, compiled(*args), expected)
        if compiler_fault is None:
            return True
    fault = _first_difference(ops, operations, compute(*args), expected)
    if fault is not None:
        causes = "(TF32, emulated float64, another rounding mode)"
        native = setting("arithmetic", "native")
        remedy = f"a setting of the library or the device {causes} must be off, or use {native}"
        raise BackendError(f"{where} does not compute {fault} in IEEE 754 double precision here: {remedy}")
    if compiler_fault is not None:
        problem = f"{where} changes {compiler_fault} when it compiles"
        complain(f"warning: {problem}: not compiling, which is slower")
    return compiler_fault is None


def _operands() -> tuple[list[float], list[float]]:
    """Return the operands of the elementwise operations.

    Eight times some of the first are halves, which show how ties are rounded.
    """
    x = [k / 16.0 for k in range(-7, 9)] + [value / 2.0**53 for value in _pseudorandom_integers(7, 16, 53)]
    y = [1.0 + value / 2.0**40 for value in _pseudorandom_integers(9, 32, 39)]
    for x_, y_ in _hardest_quotients(32):
        x, y = [*x, x_ / 2**53], [*y, y_ / 2**52]
    return x, y


def _factors(n: int, k: int, m: int) -> tuple[list[list[int]], ...]:
    """Return u (n, 1), s (1, k), t (k, 1) and v (1, m): the product of u s and t v is Σ s t times u v.

    All its partial sums are integers below 2^53, whatever their order.
    """
    u, v = ([2 * x + 1 for x in _pseudorandom_integers(*each, 3)] for each in ((1, n), (2, m)))  # 4 bits, odd
    s, t = (list(_pseudorandom_integers(seed, k, (53 - k.bit_length()) // 2 - 4)) for seed in (3, 4))
    return [[x] for x in u], [s], [[x] for x in t], [v]


def _multiply(ops: Arithmetic, shape: Shape, u: Array, s: Array, t: Array, v: Array) -> Array:
    """Return the products of so many copies of u s and t v, (count, n, m)."""
    zeros = ops.xp.zeros((shape[0], 1, 1), dtype=ops.dtype, device=ops.device)
    return ops.xp.matmul(u * s + zeros, t * v + zeros)


def _hardest_quotients(count: int) -> Iterator[tuple[int, int]]:
    """Yield x and y whose quotients x / y lie next to the middle between two float64 numbers.

    For y odd and 2^53 x = (y ± 1)/2 modulo y, 2^53 x / y is a whole number plus ½ ± 1/(2y). Of the two x, the
    larger has a quotient of 53 bits before the point. A division that rounds twice fails at many of them.
    """
    for value in _pseudorandom_integers(9, count, 52):
        y = 2**52 + abs(value) | 1
        yield max((y + sign) // 2 * pow(2, -53, y) % y for sign in (1, -1)), y


def _pseudorandom_integers(seed: int, count: int, bits: int) -> Iterator[int]:
    """Yield signed integers of up to so many bits (a linear congruential generator)."""
    for _ in range(count):
        seed = (6364136223846793005 * seed + 1442695040888963407) % 2**64
        yield (seed >> (64 - bits)) * (1 if seed & 1 else -1)


def _first_difference(
    ops: Arithmetic, operations: Sequence[str], results: Sequence[Array], expected: Sequence[object]
) -> str | None:
    """Return the operation of the first result with other values, or other signs of zeros."""
    signbit = ops.xp.signbit
    for operation, result, values in zip(operations, results, expected, strict=False):
        right = ops.array(values)
        if not bool(ops.xp.all((result == right) & (signbit(result) == signbit(right)))):
            return operation
    return None
