"""Tolerance tiers, and the difference between an output and NumPy's."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import HostArray
from xpnet.errors import ConfigError
from xpnet.parity.distance import (
    first_mismatch,
    format_count,
    relative_difference,
    ulp_distance,
    unequal_bits,
)

Exceeds: TypeAlias = Callable[[HostArray, HostArray], NDArray[np.bool_] | np.bool_]


class Tolerance(NamedTuple):
    """A tier, and what must be equal besides the values.

    Attributes
    ----------
    text
        A description, such as "at most 4 ulp".
    exceeds
        The elementwise test of whether an output is too far from the expected one, of the same dtype.
    dtype, shape
        True if they must be equal.
    """

    text: str
    exceeds: Exceeds
    dtype: bool = True
    shape: bool = True


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
    is_sensible = all(0 <= value < float("inf") for value in (ulp or 0, rtol or 0, norm or 0, atol))
    if len(tiers) != 1 or tier not in (None, "bitwise") or (atol and rtol is None) or not is_sensible:
        msg = (
            'expected exactly one of tier="bitwise", ulp=n, rtol=r (which alone takes atol) and norm=r, '
            f"finite and 0 or more, got {tier=}, {ulp=}, {rtol=}, {atol=}, {norm=}"
        )
        raise ConfigError(msg)
    if ulp is not None:
        return Tolerance(f"at most {ulp} ulp", lambda a, b: ulp_distance(a, b) > ulp)
    if rtol is not None:
        close = partial(np.isclose, rtol=rtol, atol=atol, equal_nan=True)
        text = f"rtol {rtol:g}" + (f", atol {atol:g}" if atol else "")
        return Tolerance(text, lambda a, b: ~close(a, b))
    if norm is not None:
        return Tolerance(f"norm {norm:g}", partial(_exceeds_norm, norm))
    return Tolerance("the same bits", unequal_bits)


def _exceeds_norm(norm: float, a: HostArray, b: HostArray) -> NDArray[np.bool_]:
    """Tell elementwise whether the difference exceeds norm times the largest finite magnitude of ``b``."""
    largest = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
    return np.asarray(~np.isclose(a, b, rtol=0.0, atol=norm * largest, equal_nan=True))


def find_difference(a: HostArray, b: HostArray, tolerance: Tolerance, whose: str = "NumPy") -> str | None:
    """Describe how an output differs from the expected one, ``b``; None if it is within the tolerance.

    Arrays of two dtypes are compared in the one that holds the values of both, of two shapes in C order.
    """
    if tolerance.dtype and a.dtype != b.dtype:
        return f"has dtype {a.dtype}, {whose}'s {b.dtype}"
    if a.shape != b.shape and (tolerance.shape or a.size != b.size):
        return f"has shape {a.shape}, {whose}'s {b.shape}"
    dtype = a.dtype if a.dtype == b.dtype else np.result_type(a.dtype, b.dtype)
    a, b = a.astype(dtype, copy=False).reshape(b.shape), b.astype(dtype, copy=False)
    inexact = np.issubdtype(dtype, np.inexact)
    unequal = np.asarray(tolerance.exceeds(a, b) if inexact else unequal_bits(a, b))
    mismatch = first_mismatch(unequal, a, b)
    if mismatch is None:
        return None
    largest = ""
    if inexact:
        largest = f", at most {format_count(float(np.max(ulp_distance(a, b))))} ulp"
        largest += f", norm {relative_difference(a, b):.1e}" if tolerance.text.startswith("norm") else ""
    return (
        f"differs first at {mismatch.index}: {mismatch.left} where {whose} has {mismatch.right} "
        f"({mismatch.distance}); {np.count_nonzero(unequal)} of {unequal.size} values{largest}; "
        f"expected {tolerance.text}"
    )
