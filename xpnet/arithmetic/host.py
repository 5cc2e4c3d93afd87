"""Functions of the host's floating-point numbers whose results are the same on every machine.

They use only + - * and division, and Python's integers and decimals: the sines, powers and exponentials of
C libraries differ from machine to machine.
"""

from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from xpnet._typing import HostArray, Namespace

GAUSSIAN_REACH = 4
"""The number of standard deviations beyond which the Gaussian is cut off."""

_BITS = 128
_ONE = 1 << _BITS
_PI = 0x3243F6A8885A308D313198A2E03707344  # floor(2^128 π)
_DIVISORS = [k * (k - 1) for k in range(34, 0, -2)]
_RADIANS = _PI / (180 * _ONE)


def view(xp: Namespace, x: Any, dtype: str) -> Any:
    """Return numbers of other 64 bits with the same ones; array-api-strict has no view, but is NumPy's."""
    if hasattr(x, "view"):
        return x.view(getattr(xp, dtype))
    return xp.asarray(np.from_dlpack(x).view(dtype), device=x.device)


def power(base: float, exponent: int) -> float:
    """Return base to a whole power from 0, by squaring.

    From 1, for each binary digit of the exponent, highest first: square, and where the digit is 1 multiply
    by the base.
    """
    result = 1.0
    for digit in f"{exponent:b}":
        result = result * result
        if digit == "1":
            result = result * base
    return result


def cosine_share(step: int, steps: int) -> float:
    """Return the float nearest to (1 + cos(π step/steps))/2, for a step from 0 to ``steps`` - 1.

    With x = π step/steps, or in the second half its distance from π, whose cosine is subtracted:
    cos x = 1 - x²/(1·2) · (1 - x²/(3·4) · (1 - …)) in whole multiples of 2^-128, up to the term x³⁴/34!; the
    last division rounds correctly.
    """
    is_late = 2 * step > steps
    x = _PI * (steps - step if is_late else step) // steps
    square = x * x >> _BITS
    cosine_of_x = _ONE
    for divisor in _DIVISORS:
        cosine_of_x = _ONE - (square * cosine_of_x >> _BITS) // divisor
    return (_ONE - cosine_of_x if is_late else _ONE + cosine_of_x) / (2 * _ONE)


def sine_and_cosine(degrees: HostArray) -> tuple[HostArray, HostArray]:
    """Return sine and cosine, elementwise, within 2^-51; exact at multiples of 90 degrees.

    The Taylor polynomials to x^17 and x^16, of the difference from the nearest multiple of 90.
    """
    turns = np.rint(degrees * (1 / 90))
    x = (degrees - 90.0 * turns) * _RADIANS
    z = x * x
    sine, cosine = np.ones_like(x), np.ones_like(x)
    for n in range(16, 0, -2):  # 1 - z/((n-1) n) (1 - z/((n+1) (n+2)) (…))
        cosine = 1.0 - z * cosine * (1 / ((n - 1) * n))
        sine = 1.0 - z * sine * (1 / (n * (n + 1)))
    sine = x * sine
    quarter = turns - 4.0 * np.floor(turns * 0.25)
    swapped = (quarter == 1.0) | (quarter == 3.0)
    sine, cosine = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    sine = np.where(quarter >= 2.0, -sine, sine)
    cosine = np.where((quarter == 1.0) | (quarter == 2.0), -cosine, cosine)
    return sine, cosine


def gaussian_matrix(size: int, sigma: float) -> HostArray:
    """Return the (size, size) symmetric matrix that filters a vector with a Gaussian.

    The entry (i, j) is exp(-(i - j)²/(2 sigma²)) over the sum of this for all whole differences up to
    4 sigma + 1/2; beyond, it is zero.
    """
    reach = int(GAUSSIAN_REACH * sigma + 0.5)
    with localcontext(prec=30):
        scale = -1 / (2 * Decimal(sigma) ** 2)
        weights = [(scale * j * j).exp() for j in range(reach + 1)]
        total = 2 * sum(weights) - weights[0]
        values = [float(weight / total) for weight in weights]
    kernel = np.zeros(max(size, len(values)))
    kernel[: len(values)] = values
    indices = np.arange(size)
    return np.asarray(kernel[np.abs(indices[:, None] - indices)])
