"""Names of dtypes, and their promotion, which is NumPy's on every library."""

from functools import cache
from typing import Any

import numpy as np

from xpnet._typing import DType

INTEGRAL = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATING = ("float32", "float64")
DTYPES = ("bool", *INTEGRAL, *FLOATING)

Scalar = bool | int | float
DEFAULTS = {bool: "bool", int: "int64", float: "float64"}


def name_of(dtype: DType) -> str:
    """Return the name of a dtype of any library, such as ``float64``.

    Raises
    ------
    TypeError
        It is none of the standard's, or complex.
    """
    return _find_name(type(dtype).__module__, dtype)


@cache
def _find_name(library: str, dtype: DType) -> str:  # noqa: ARG001  those of different libraries do not compare
    default = DEFAULTS.get(dtype) if isinstance(dtype, type) else None
    name = str(default or getattr(dtype, "__name__", str(dtype).rpartition(".")[2]))
    name = name.rstrip("_")
    if name not in DTYPES:
        remedy = "take real and imaginary parts of complex numbers"
        raise TypeError(f"{dtype}: expected one of {', '.join(DTYPES)}: {remedy}")
    return name


@cache
def promote(*kinds: str | type[Scalar]) -> str:
    """Return the dtype of a result of arrays, by their dtypes, and of Python's numbers, by their types.

    Beside an array of its kind or a higher one a number has no dtype of its own; else it is bool, int64 or
    float64.
    """
    return np.result_type(*(kind if isinstance(kind, str) else kind(0) for kind in kinds)).name


def isdtype(dtype: DType, kind: Any) -> bool:
    """Tell whether a dtype is of a kind, one of the kinds, or the same."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    named = tuple(each if isinstance(each, str) else np.dtype(name_of(each)) for each in kinds)
    return np.isdtype(np.dtype(name_of(dtype)), named)
