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


def kind_of(x: Any) -> Any:
    """Return the name of a dtype, or of a number the type, by which a result's dtype is found."""
    return type(x) if type(x) in DEFAULTS else name_of(x)


@cache
def promote(*kinds: Any) -> str:
    """Return the dtype of a result of arrays and of Python's numbers, by the `kind_of` each.

    Beside an array of its kind or a higher one a number has no dtype of its own; else it is bool, int64 or
    float64.
    """
    return np.result_type(*(kind if isinstance(kind, str) else kind(0) for kind in kinds)).name


def isdtype(dtype: DType, kind: Any) -> bool:
    """Tell whether a dtype is of a kind, one of the kinds, or the same."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    named = tuple(each if isinstance(each, str) else np.dtype(name_of(each)) for each in kinds)
    return np.isdtype(np.dtype(name_of(dtype)), named)
