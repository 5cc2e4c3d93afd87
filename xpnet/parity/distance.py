"""Distances between host arrays: unequal bits, units in the last place, relative differences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import HostArray


def ulp_distance(a: HostArray, b: HostArray) -> NDArray[np.float64]:
    """Return elementwise the number of floating-point numbers from ``a`` to ``b``, the distance in ulp.

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


def unequal_bits(a: HostArray, b: HostArray) -> NDArray[np.bool_]:
    """Tell elementwise whether the bits differ; all NaN are equal, the two zeros are not.

    Both have one dtype and one shape, which is the result's.
    """
    if np.iscomplexobj(a):
        return unequal_bits(a.real, b.real) | unequal_bits(a.imag, b.imag)
    if not np.issubdtype(a.dtype, np.floating):
        return np.asarray(a != b)
    return np.asarray((_bit_patterns(a) != _bit_patterns(b)) & ~(np.isnan(a) & np.isnan(b)))


def _bit_patterns(a: HostArray) -> NDArray[np.signedinteger]:
    """Return the bits of floating-point numbers as signed integers of their width."""
    return a.view(np.dtype(f"i{a.dtype.itemsize}"))


def _ordinals(a: HostArray) -> NDArray[np.int64]:
    """Return integers that count the floating-point numbers from zero: neighbours differ by 1."""
    bits = _bit_patterns(a).astype(np.int64)
    lowest = np.int64(np.iinfo(_bit_patterns(a).dtype).min)
    return np.where(bits < 0, lowest - bits, bits)


@dataclass(frozen=True)
class Mismatch:
    """One element in which two arrays differ."""

    index: tuple[int, ...]
    left: Any  # numbers or truth values
    right: Any
    ulp: float | None  # None for integers and booleans

    @property
    def distance(self) -> str:
        """The distance in words."""
        if self.ulp is None:
            return "unequal"
        if self.ulp == 0:
            return "0 ulp, but of another sign"
        return f"{format_count(self.ulp)} ulp"


def first_mismatch(unequal: NDArray[np.bool_], a: HostArray, b: HostArray) -> Mismatch | None:
    """Return the first element, in C order, for which ``unequal`` is true; None if there is none."""
    if not unequal.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(unequal)), unequal.shape))
    inexact = np.issubdtype(a.dtype, np.inexact)
    ulp = float(ulp_distance(np.asarray(a[index]), np.asarray(b[index]))) if inexact else None
    return Mismatch(index, a[index].item(), b[index].item(), ulp)


def format_count(count: float) -> str:
    """Format a number of ulp: in full below a million, else with an exponent."""
    return f"{count:.0f}" if count < 1e6 else f"{count:.1e}"


def relative_difference(a: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest magnitude in ``reference``."""
    difference, largest = (float(np.max(np.abs(x), initial=0.0)) for x in (a - reference, reference))
    if difference == 0.0:
        return 0.0
    relative = difference / largest if largest else np.inf
    return relative if np.isfinite(relative) else np.inf
