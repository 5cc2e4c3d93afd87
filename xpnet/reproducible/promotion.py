"""Names of dtypes, and their promotion, which is NumPy's on every library."""

from functools import cache
from typing import Any, Final

import numpy as np

from xpnet._typing import DType

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float32", "float64"),
    "complex floating": (),
}
"""The dtypes of each kind, as the array-API standard names them."""

INTEGRAL: Final = (*KINDS["signed integer"], *KINDS["unsigned integer"])
FLOATING: Final = KINDS["real floating"]
DTYPES: Final = ("bool", *INTEGRAL, *FLOATING)
ALL_KINDS: Final = {**KINDS, "integral": INTEGRAL, "numeric": (*INTEGRAL, *FLOATING)}

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
    names = _known.setdefault(type(dtype), {})
    if dtype not in names:
        names[dtype] = _find_name(dtype)
    return names[dtype]


def _find_name(dtype: DType) -> str:
    name = (
        (DEFAULTS.get(dtype) if isinstance(dtype, type) else None)
        or getattr(dtype, "__name__", None)
        or str(dtype).rpartition(".")[2]
    )
    name = name.rstrip("_")
    if name not in DTYPES:
        msg = (
            f"{dtype}: expected one of {', '.join(DTYPES)}: take real and imaginary parts of complex numbers"
        )
        raise TypeError(msg)
    return name


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
    name = name_of(dtype)
    return any(name in ALL_KINDS[k] if k in ALL_KINDS else name == name_of(k) for k in kinds)
