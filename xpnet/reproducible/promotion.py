"""Names of dtypes, and their promotion, which is NumPy's on every library."""

from functools import cache
from typing import Any, Final

import numpy as np

from xpnet._typing import DType

INTEGRAL: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATING: Final = ("float32", "float64")
DTYPES: Final = ("bool", *INTEGRAL, *FLOATING)

Scalar = bool | int | float
DEFAULTS: Final = {bool: "bool", int: "int64", float: "float64"}


_known: dict[type, dict[DType, str]] = {}
"""Names of dtypes by their type: those of different libraries must not be compared."""


def name_of(dtype: DType) -> str:
    """Return the name of a dtype of any library, such as ``float64``.

    Raises
    ------
    TypeError
        It is none of the standard's, or complex.
    """
    try:
        return _known[type(dtype)][dtype]
    except KeyError:
        return _known.setdefault(type(dtype), {}).setdefault(dtype, _find_name(dtype))


def _find_name(dtype: DType) -> str:
    default = DEFAULTS.get(dtype) if isinstance(dtype, type) else None
    name = str(default or getattr(dtype, "__name__", str(dtype).rpartition(".")[2]))
    if name.rstrip("_") not in DTYPES:
        remedy = "take real and imaginary parts of complex numbers"
        raise TypeError(f"{dtype}: expected one of {', '.join(DTYPES)}: {remedy}")
    return name.rstrip("_")


@cache
def promote(names: tuple[str, ...], scalars: tuple[type[Scalar], ...] = ()) -> str:
    """Return the dtype of a result of arrays, by their dtypes, and of Python's numbers, by their types.

    Beside an array of its kind or a higher one a number has no dtype of its own; else it is bool, int64 or
    float64.
    """
    return np.result_type(*names, *(scalar(0) for scalar in scalars)).name


def isdtype(dtype: DType, kind: Any) -> bool:
    """Tell whether a dtype is of a kind, one of the kinds, or the same."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    named = tuple(each if isinstance(each, str) else np.dtype(name_of(each)) for each in kinds)
    return np.isdtype(np.dtype(name_of(dtype)), named)
