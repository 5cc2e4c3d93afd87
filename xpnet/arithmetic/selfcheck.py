"""A check, in milliseconds, that a device computes float64 as the reproducible arithmetic requires.

Emulated double precision, products in TF32, other rounding modes and rewritten divisions give other bits.
Each probe computes something on the device whose exact result is known from integers or, for elementwise
operations, from the host.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic
from xpnet.errors import BackendError

Number: TypeAlias = Array | float

_TERMS = 128
_SIZE = 4


def check(ops: Arithmetic, where: str) -> None:
    """Check the operations that the reproducible arithmetic builds on.

    Parameters
    ----------
    ops : the arithmetic, whose dtype is float64
    where : backend and device, for the message

    Raises
    ------
    BackendError
        An operation has a wrong result; the message names the first.
    """
    for operation, is_exact in _PROBES.items():
        if not bool(ops.xp.all(is_exact(ops))):
            msg = (
                f"{where} does not compute {operation} in IEEE 754 double precision here: a setting of "
                "the library or the device (TF32, emulated float64, another rounding mode) must be "
                "off, or use --arithmetic native"
            )
            raise BackendError(msg)


def _pseudorandom_integers(seed: int, count: int, bits: int) -> Iterator[int]:
    """Yield signed integers of up to so many bits (a linear congruential generator)."""
    for _ in range(count):
        seed = (6364136223846793005 * seed + 1442695040888963407) % 2**64
        yield (seed >> (64 - bits)) * (1 if seed & 1 else -1)


def _array(ops: Arithmetic, values: object) -> Array:
    return ops.xp.asarray(values, dtype=ops.dtype, device=ops.device)


def _check_matmul(ops: Arithmetic) -> Array:
    """Compare a product of matrices that needs all 53 bits with the product of integers."""
    a = [list(_pseudorandom_integers(row, _TERMS, 23)) for row in range(1, _SIZE + 1)]
    b = [list(_pseudorandom_integers(100 + column, _TERMS, 23)) for column in range(_SIZE)]
    expected = [[sum(x * y for x, y in zip(row, column, strict=True)) for column in b] for row in a]
    columns = ops.xp.matrix_transpose(_array(ops, [[float(x) for x in column] for column in b]))
    rows = _array(ops, [[float(x) for x in row] for row in a])
    return ops.xp.matmul(rows, columns) == _array(ops, [[float(x) for x in row] for row in expected])


def _check_elementwise(function: Callable[[Number, Number], Number]) -> Callable[[Arithmetic], Array]:
    """Return a comparison of an operation on the device with the same one on the host."""

    def is_exact(ops: Arithmetic) -> Array:
        x = [value / 2.0**53 for value in _pseudorandom_integers(7, 64, 53)]
        y = [1.0 + value / 2.0**40 for value in _pseudorandom_integers(9, 64, 39)]
        expected = [function(a, b) for a, b in zip(x, y, strict=True)]
        return cast("Array", function(_array(ops, x), _array(ops, y))) == _array(ops, expected)

    return is_exact


def _check_quotients(ops: Arithmetic) -> Array:
    """Compare quotients that lie next to the middle between two numbers with those of the host.

    For y odd and 2^53 x = (y ± 1)/2 modulo y, 2^53 x / y is a whole number plus ½ ± 1/(2y). Of the two x, the
    larger has a quotient of 53 bits before the point. A division that rounds twice fails at many of them.
    """
    y = [2**52 + abs(value) | 1 for value in _pseudorandom_integers(9, 64, 52)]
    x = [max((each + sign) // 2 * pow(2, -53, each) % each for sign in (1, -1)) for each in y]
    expected = [a / b for a, b in zip(x, y, strict=True)]
    return _array(ops, [float(a) for a in x]) / _array(ops, [float(b) for b in y]) == _array(ops, expected)


def _check_rounding(ops: Arithmetic) -> Array:
    """Check that adding and subtracting 1.5 · 2^52 rounds halves to even."""
    whole = 1.5 * 2.0**52
    halves = _array(ops, [0.5, 1.5, 2.5, -0.5, -1.5, 3.25])
    return (halves + whole) - whole == _array(ops, [0.0, 2.0, 2.0, 0.0, -2.0, 3.0])


_PROBES: dict[str, Callable[[Arithmetic], Array]] = {
    "products of matrices": _check_matmul,
    "sums": _check_elementwise(lambda a, b: a + b),
    "products": _check_elementwise(lambda a, b: a * b),
    "quotients": _check_quotients,
    "separate products and sums": _check_elementwise(lambda a, b: a * b + a),
    "rounding to even": _check_rounding,
}
