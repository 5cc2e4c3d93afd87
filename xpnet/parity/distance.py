"""Distances between host arrays, in bits, ulp and relative to a magnitude, and tolerances of them."""

import sys
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from xpnet._typing import Function, HostArray
from xpnet.errors import ConfigError

DtypeCheck = bool | Literal["kind"]
"""True if dtypes must be equal; ``"kind"``: all but the width."""


def ulp_distance(a: HostArray, b: HostArray) -> HostArray:
    """Return elementwise the number of floating-point numbers from ``a`` to ``b``, the distance in ulp.

    Both have one dtype, floating-point or complex (then the larger of the two parts' distances), and
    one shape, which is the result's. Zeros of either sign are 0 apart, and so are two NaN; a NaN is
    infinitely far from a number. Distances above 2^53 are rounded.
    """
    if np.iscomplexobj(a):
        return np.maximum(ulp_distance(a.real, b.real), ulp_distance(a.imag, b.imag))
    with np.errstate(all="ignore"):
        if a.dtype.itemsize > 8:  # longdouble, which no integer counts
            apart = np.abs(a - b) / np.spacing(np.maximum(np.abs(a), np.abs(b)))
            distance = np.where(a == b, 0.0, apart).astype(np.float64)
        else:
            left, right = _ordinals(a), _ordinals(b)
            # The difference of two int64 may need 64 bits without a sign, which is what wrapping leaves.
            wrapped = np.where(left > right, left - right, right - left)
            distance = wrapped.astype(np.uint64).astype(np.float64)
    return np.where(np.isnan(a) ^ np.isnan(b), np.inf, np.where(np.isnan(a), 0.0, distance))


def unequal_bits(a: HostArray, b: HostArray) -> HostArray:
    """Tell elementwise whether the bits differ. All NaN are equal, the two zeros are not.

    Both have one dtype and one shape, which is the result's.
    """
    if np.iscomplexobj(a):
        return unequal_bits(a.real, b.real) | unequal_bits(a.imag, b.imag)
    if not np.issubdtype(a.dtype, np.floating):
        return np.asarray(a != b)
    are_nan = np.isnan(a) & np.isnan(b)
    return np.asarray(((a != b) | (np.signbit(a) != np.signbit(b))) & ~are_nan)


def _ordinals(a: HostArray) -> HostArray:
    """Return integers that count the floating-point numbers from zero: neighbours differ by 1."""
    patterns = a.view(f"i{a.dtype.itemsize}")
    bits, lowest = patterns.astype(np.int64), np.iinfo(patterns.dtype).min
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
        return "0 ulp, but of another sign" if self.ulp == 0 else f"{format_count(self.ulp)} ulp"


def first_mismatch(unequal: HostArray, a: HostArray, b: HostArray) -> Mismatch | None:
    """Return the first element, in C order, for which ``unequal`` is true, None if there is none."""
    if not unequal.any():
        return None
    index = tuple(np.argwhere(unequal)[0].tolist())
    left, right = (np.asarray(x[index]) for x in (a, b))
    ulp = float(ulp_distance(left, right)) if np.issubdtype(a.dtype, np.inexact) else None
    return Mismatch(index, left.item(), right.item(), ulp)


def format_count(count: float) -> str:
    """Format a number of ulp: in full below a million, else with an exponent."""
    return f"{count:.0f}" if count < 1e6 else f"{count:.1e}"


def relative_difference(a: HostArray, reference: HostArray) -> float:
    """Return the largest difference, relative to the largest magnitude in ``reference``."""
    difference, largest = (float(np.max(np.abs(x), initial=0.0)) for x in (a - reference, reference))
    if difference == 0.0:
        return 0.0
    relative = difference / largest if largest else np.inf
    return relative if np.isfinite(relative) else np.inf


# Tolerance tiers


class Tolerance(NamedTuple):
    """A tier, and what must be equal besides the values.

    Attributes
    ----------
    text
        A description, such as "at most 4 ulp".
    exceeds
        The elementwise test of whether an output is too far from the expected one, of the same dtype.
    shape, device
        True if they must be equal; the device, to that of the arguments.
    """

    text: str
    exceeds: Function
    shape: bool = True
    device: bool = True


BITWISE = Tolerance("the same bits", unequal_bits)


def parse_tolerance(
    tier: str | None, ulp: int | None, rtol: float | None, atol: float, norm: float | None
) -> Tolerance:
    """Return the tolerance of a tier.

    Raises
    ------
    ConfigError
        There is not exactly one tier, or a tolerance is negative or infinite.
    """
    tiers = [value for value in (tier, ulp, rtol, norm) if value is not None]
    is_sensible = all(0 <= (value or 0) <= sys.float_info.max for value in (ulp, rtol, norm, atol))
    if len(tiers) != 1 or (atol and rtol is None) or not is_sensible:
        known = 'tier="bitwise", ulp=n, rtol=r (which alone takes atol) and norm=r, finite and 0 or more'
        raise ConfigError(f"expected exactly one of {known}, got {tier=}, {ulp=}, {rtol=}, {atol=}, {norm=}")
    if tier:
        return BITWISE
    if ulp is not None:
        return Tolerance(f"at most {ulp} ulp", lambda a, b: ulp_distance(a, b) > ulp)

    def exceeds(a: HostArray, b: HostArray) -> HostArray:
        largest = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
        limit = atol + (norm or 0.0) * largest
        return np.asarray(~np.isclose(a, b, rtol=rtol or 0.0, atol=limit, equal_nan=True))

    text = f"norm {norm:g}" if rtol is None else f"rtol {rtol:g}" + (f", atol {atol:g}" if atol else "")
    return Tolerance(text, exceeds)


def find_difference(
    a: HostArray, b: HostArray, tolerance: Tolerance, whose: str, check_dtype: DtypeCheck
) -> str | None:
    """Describe how an output differs from the expected one, ``b``, None if it is within the tolerance.

    Floating-point arrays of two dtypes are compared in the one that holds the values of both, arrays of two
    shapes in C order. An integer or a boolean beside any number must be equal to it.
    """
    is_same = a.dtype.kind == b.dtype.kind if check_dtype == "kind" else a.dtype == b.dtype
    if check_dtype and not is_same:
        return f"has dtype {a.dtype}, {whose}'s {b.dtype}"
    if a.shape != b.shape and (tolerance.shape or a.size != b.size):
        return f"has shape {a.shape}, {whose}'s {b.shape}"
    if a.dtype == b.dtype and a.tobytes() == b.tobytes():
        return None
    a, b = (x.astype(np.float32) if x.dtype.kind == "V" else x for x in (a, b))  # bfloat16
    inexact = a.dtype.kind in "fc" and b.dtype.kind in "fc"
    dtype = np.result_type(a, b) if inexact else np.dtype(object)  # whose numbers are Python's, exact
    a, b = (x if a.dtype == b.dtype else x.astype(dtype) for x in (a.reshape(b.shape), b))
    unequal = np.asarray(tolerance.exceeds(a, b) if inexact else a != b)
    mismatch = first_mismatch(unequal, a, b)
    if mismatch is None:
        return None
    first = f"differs first at {mismatch.index}: {mismatch.left} where {whose} has {mismatch.right}"
    count = f"{np.count_nonzero(unequal)} of {unequal.size} values"
    if inexact:
        ulp = ulp_distance(a, b)
        absolute = np.where(ulp == 0, 0.0, np.where(np.isnan(a) | np.isnan(b), np.inf, np.abs(a - b)))
        relative = np.nanmax(np.where(np.isfinite(absolute), absolute / np.abs(b), np.inf), initial=0.0)
        norm = f", norm {relative_difference(a, b):.1e}" if tolerance.text.startswith("norm") else ""
        errors = f"{relative:.1e} relative, {np.max(absolute):.1e} absolute{norm}"
        count = f"{count}, at most {format_count(float(np.max(ulp)))} ulp, {errors}"
    return f"{first} ({mismatch.distance}); {count}; expected {tolerance.text}"
