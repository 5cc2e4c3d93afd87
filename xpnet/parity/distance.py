"""How far apart two host arrays are: in bits, in units in the last place, relative to the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ulp_distance(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return elementwise how many floating-point numbers lie from ``a`` to ``b``.

    Both have one dtype, floating-point or complex (then the larger of the two parts' distances), and
    one shape, which is the result's. Zeros of either sign are 0 apart, and so are two NaN; a NaN is
    infinitely far from a number. Distances above 2^53 are rounded.
    """
    if np.iscomplexobj(a):
        return np.maximum(ulp_distance(a.real, b.real), ulp_distance(a.imag, b.imag))
    left, right = _ordinals(a), _ordinals(b)
    # The difference of two int64 may need 64 bits without a sign, which is what wrapping leaves.
    with np.errstate(over="ignore"):
        wrapped = np.where(left > right, left - right, right - left).astype(np.uint64)
    distance = wrapped.astype(np.float64)
    distance = np.where(np.isnan(a) & np.isnan(b), 0.0, distance)
    return np.where(np.isnan(a) ^ np.isnan(b), np.inf, distance)


def unequal_bits(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Return elementwise whether the bits differ; all NaN are equal, the two zeros are not.

    Both have one dtype and one shape, which is the result's.
    """
    if np.iscomplexobj(a):
        return unequal_bits(a.real, b.real) | unequal_bits(a.imag, b.imag)
    if not np.issubdtype(a.dtype, np.floating):
        return np.asarray(a != b)
    return np.asarray((_bits(a) != _bits(b)) & ~(np.isnan(a) & np.isnan(b)))


def _bits(a: NDArray[Any]) -> NDArray[Any]:
    """Return the bits of floating-point numbers as signed integers of their width."""
    return a.view(np.dtype(f"i{a.dtype.itemsize}"))


def _ordinals(a: NDArray[Any]) -> NDArray[np.int64]:
    """Return integers that count the floating-point numbers from zero: neighbours differ by 1."""
    bits = _bits(a).astype(np.int64)
    lowest = np.int64(np.iinfo(_bits(a).dtype).min)
    return np.where(bits < 0, lowest - bits, bits)


@dataclass(frozen=True)
class Mismatch:
    """One element in which two arrays differ."""

    index: tuple[int, ...]
    left: Any  # NumPy scalars
    right: Any
    ulp: float | None  # None for integers and truth values

    @property
    def distance(self) -> str:
        """The distance in words."""
        if self.ulp is None:
            return "unequal"
        if self.ulp == 0:
            return "0 ulp, but of another sign"
        return f"{format_count(self.ulp)} ulp"


def first_mismatch(wrong: NDArray[np.bool_], a: NDArray[Any], b: NDArray[Any]) -> Mismatch | None:
    """Return the first element, in C order, where ``wrong`` holds, or None where it nowhere does."""
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    left, right = a[index], b[index]
    ulp = None
    if np.issubdtype(a.dtype, np.inexact):
        ulp = float(ulp_distance(np.asarray(left), np.asarray(right)))
    return Mismatch(index, left, right, ulp)


def format_count(count: float) -> str:
    """Return a number of ulp for people: in full while that is short."""
    return f"{count:.0f}" if count < 1e6 else f"{count:.1e}"


def relative_difference(a: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest magnitude in ``reference``."""
    difference, largest = (float(np.max(np.abs(x), initial=0.0)) for x in (a - reference, reference))
    if difference == 0.0:
        return 0.0
    relative = difference / largest if largest else np.inf
    return relative if np.isfinite(relative) else np.inf
