"""Operands of one place and dtype, and elementwise functions: the libraries' own, NumPy's, and formulas."""

import operator
from functools import partial
from typing import Any

import numpy as np

from xpnet._typing import Function, Functions
from xpnet.arithmetic import angles, pairs
from xpnet.arithmetic.elementary import SMALLEST_NORMAL
from xpnet.arithmetic.full_range import FullRange
from xpnet.nn import functional as F
from xpnet.reproducible.array import DIRECT, QUIET, Array
from xpnet.reproducible.places import DEFAULTS, FLOATING, INTEGRAL, Place, Scalar, kind_of, name_of, promote

Data = Any
"""An array of the library that computes."""


def as_operand(name: str, value: Any) -> Array | Scalar:
    """Return an array, or a number of Python.

    Raises
    ------
    TypeError
        It is neither: arrays of other libraries have to be wrapped.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Array | Scalar):
        return value
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if isinstance(value, complex):
        raise TypeError(f"{name}: complex numbers are not supported: take real and imaginary parts")
    raise TypeError(f"{name}: expected an rp.Array or a number, got a {kind}: wrap it by rp.asarray")


def operands(
    name: str, *values: Any, place: Place | None = None, dtype: str | None = None
) -> tuple[Place, list[Data], str]:
    """Return the place of operands, and all as data of a dtype, by default that to which they promote.

    Raises
    ------
    TypeError
        They are of several libraries or devices, or there is no array among them.
    """
    numbers = [as_operand(name, value) for value in values]
    for x in numbers:
        if isinstance(x, Array):
            place = place or x.place
            place.check(name, x.place)
    if place is None:
        raise TypeError(f"{name}: expected an rp.Array, got none")
    dtype = dtype or promote(*(kind_of(getattr(x, "dtype", x)) for x in numbers))
    data = [place.convert(x.data, dtype) if isinstance(x, Array) else place.put(x, dtype) for x in numbers]
    return place, data, dtype


def call(kernel: Function, name: str, *values: Any, **options: Any) -> Any:
    """Compute with operands of one place and dtype by a function of place, dtype and data."""
    place, data, dtype = operands(name, *values)
    with place.scope():
        return Array(place, kernel(place, dtype, *data, **options))


# Kernels: the library's own functions, in forms that it cannot change


def own(name: str) -> Function:
    """Return the kernel that is the library's function."""
    return lambda place, _, *data, **options: getattr(place.xp, name)(*data, **options)


def with_plain_zeros(name: str) -> Function:
    """Return the kernel that is the library's function, with +0 for a zero of any sign."""

    def kernel(place: Place, dtype: str, *data: Data, **options: Any) -> Data:
        result = getattr(place.xp, name)(*data, **options)
        return result + 0.0 if dtype in FLOATING else result

    return kernel


def _of_truths(name: str) -> Function:
    return lambda place, _, *data: getattr(place.xp, name)(*(place.convert(x, "bool") for x in data))


def by_numpy(function: Function) -> Function:
    """Return the kernel that is NumPy's function, on the host."""
    return lambda place, _, *data, **options: place.put(
        QUIET.copy().run(function, *map(place.fetch, data), **options)
    )


def _divide(place: Place, dtype: str, a: Data, b: Data) -> Data:
    """Divide arrays of equal shapes: by a number or a row, compilers multiply by the reciprocal."""
    if dtype not in FLOATING:
        a, b = (place.convert(x, "float64") for x in (a, b))
    if a.shape != b.shape and not place.computing.on_host:
        a, b = (place.copy(x) for x in place.xp.broadcast_arrays(a, b))
    return place.xp.divide(a, b)


_OWN = """
    add subtract multiply copysign nextafter bitwise_and bitwise_or bitwise_xor equal not_equal less
    less_equal greater greater_equal abs bitwise_invert ceil floor isfinite isinf isnan negative round
    signbit trunc
""".split()  # noqa: SIM905
HOSTED = ("floor_divide", "remainder", "bitwise_left_shift", "bitwise_right_shift")
"""Functions that NumPy computes, as libraries have other edge cases."""
_LOGICAL = ("logical_not", "logical_and", "logical_or", "logical_xor")
KERNELS: Functions = {
    **{name: own(name) for name in _OWN},
    **{name: _of_truths(name) for name in _LOGICAL},
    **{name: with_plain_zeros(name) for name in ("maximum", "minimum", "sign")},
    **{name: by_numpy(DIRECT[name][0]) for name in HOSTED},
    "divide": _divide,
    **dict.fromkeys(("positive", "conj", "real"), lambda place, _, x: place.copy(x)),
    "square": lambda _, __, x: x * x,
    "imag": lambda place, _, x: place.xp.zeros_like(x),
    "reciprocal": lambda place, dtype, x: _divide(place, dtype, place.xp.ones_like(x), x),
}


# Formulas

FORMULAS: Functions = {
    name: getattr(module, name)
    for module, names in (
        (angles, "acos asin atan atan2 cos sin tan"),
        (FullRange, "exp log sqrt"),
        (pairs, "acosh asinh atanh cosh sinh expm1 log10 log1p log2 hypot logaddexp"),
    )
    for name in names.split()
} | {"tanh": pairs.special(itself=SMALLEST_NORMAL)(F.tanh)}
"""The formulas of functions of real numbers, whose arguments become float64."""


def of_each_number(formula: Function) -> Function:
    """Return the function of arrays of any shapes of a formula, both of the arithmetic and float64 data."""

    def kernel(ops: FullRange, *data: Data) -> Data:
        xp = ops.xp
        x, *others = xp.broadcast_arrays(*data) if data[1:] else data
        flat = (xp.reshape(each, (-1,)) for each in (x, *others))
        return xp.reshape(ops.map_pieces(partial(formula, ops), *flat), x.shape)

    return kernel


def in_float64_of(kernel: Function, name: str, *arrays: Any, to: str | None = None, **options: Any) -> Any:
    """Compute by a function of float64 data, rounded once to a dtype, by default that of the operands."""
    place, data, dtype = operands(name, *arrays)
    with place.computing.scope():
        return Array(place, place.narrow(kernel(place.ops, *map(place.widen, data), **options), to or dtype))


def of_floats(kernel: Function, name: str, *arrays: Any, **options: Any) -> Any:
    """Compute with floats as `in_float64_of`, and with integers by NumPy's function of this name."""
    if operands(name, *arrays)[2] in FLOATING:
        return in_float64_of(kernel, name, *arrays, **options)
    return call(by_numpy(getattr(np, name)), name, *arrays, **options)


# Functions of their own

POWERS = {1: "positive", 2: "square", 0.5: "sqrt"}
"""The functions of the standard that are powers, by the exponent."""


def pow(x1: Any, x2: Any, /) -> Any:  # noqa: A001  as in the standard
    """Return powers: of integers by NumPy, small ones of numbers by products, others by a formula."""
    if type(x2) in (int, float) and x2 in POWERS and isinstance(x1, Array) and name_of(x1.dtype) in FLOATING:
        return getattr(x1.space, POWERS[x2])(x1)
    return of_floats(of_each_number(pairs.pow), "pow", x1, x2)


def clip(x: Any, /, min: Any = None, max: Any = None) -> Array:  # noqa: A002  as in the standard
    """Limit numbers, which keep their dtype."""
    place, (data,), dtype = operands("clip", x)
    limits = np.iinfo(dtype) if dtype in INTEGRAL else None
    with place.scope():
        result = place.copy(data)
        for limit, is_outside in ((min, operator.lt), (max, operator.gt)):
            is_beyond = limits and type(limit) in DEFAULTS and not limits.min <= limit <= limits.max
            if limit is not None and not is_beyond:
                _, (bound,), _ = operands("clip", limit, place=place, dtype=dtype)
                chosen = is_outside(result, bound) | (bound != bound)  # noqa: PLR0124  NaN
                result = place.xp.where(chosen, bound, result)
        return Array(place, result)


def where(condition: Array, x1: Any = None, x2: Any = None, /) -> Any:
    """Choose between two operands of one dtype; as in NumPy, the indices of a condition alone."""
    if x1 is None:
        return condition.space.nonzero(condition)
    place, (chosen,), _ = operands("where", condition)
    _, data, _ = operands("where", x1, x2, place=place)
    with place.scope():
        return Array(place, place.xp.where(chosen, *data))


OWN: Functions = {
    **{name: partial(call, kernel, name) for name, kernel in KERNELS.items()},
    **{name: partial(in_float64_of, of_each_number(formula), name) for name, formula in FORMULAS.items()},
    "pow": pow,
    "clip": clip,
    "where": where,
}
