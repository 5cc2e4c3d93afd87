"""What the exercises of the course need, with the same bits everywhere: docs/reproducibility.md, 5 to 7.

A matrix has one row for each unit (or feature) and one column for each sample. Whole numbers are pixels, from
0 to 255, and stand for pixels/255; all other numbers are 64-bit floats.
"""

import gzip
import hashlib
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def matmul(A: ArrayLike, B: ArrayLike) -> Array:
    """Return A B, the rows of A and the columns of B rounded to grids on which every sum is exact (5)."""
    A, B = np.asarray(A), np.asarray(B)
    first, second, slices = _budget(A.shape[1], B)
    left = _slices(A, first, slices, axis=1)
    if _are_pixels(B):
        return (left[0] @ B.astype(float) + 0.0) * (1 / 255)
    right = _slices(B, second, slices, axis=0)
    product = left[0] @ right[0] + 0.0
    return product if slices == 1 else product + (left[1] @ right[0] + left[0] @ right[1])


def sum_samples(dZ: ArrayLike, A: ArrayLike) -> Array:
    """Return the sum of each row of dZ, as a column, on the grid that dZ has in matmul(dZ, A.T) (5.4)."""
    dZ = np.asarray(dZ)
    first, _, slices = _budget(dZ.shape[1], np.asarray(A))
    return sum(part.sum(axis=1, keepdims=True) for part in _slices(dZ, first, slices, axis=1)) + 0.0


def _are_pixels(B: np.ndarray) -> bool:
    return B.dtype.kind in "iu"


def _budget(terms: int, B: np.ndarray) -> tuple[int, int, int]:
    """Return the bits of each operand, and the number of slices (5.1)."""
    free = 53 - (terms - 1).bit_length()
    first = free - 8 if _are_pixels(B) else free // 2
    return first, free - first, 1 if first >= 20 else 2


def _slices(A: np.ndarray, bits: int, slices: int, axis: int) -> list[Array]:
    """Round the vectors along an axis to grids, each by its largest magnitude (5.2)."""
    largest = np.maximum(np.abs(A).max(axis=axis, keepdims=True), 2.0**-400)
    fraction, exponent = np.frexp(largest)
    p = np.where(largest <= 2.0**400, np.ldexp(1.0, exponent - (fraction == 0.5)), np.nan)
    parts = []
    for number in range(1, slices + 1):
        shift = 1.5 * 2.0**52 * p * 2.0 ** (-bits * number)
        parts.append((A + shift) - shift)
        A = A - parts[-1]
    return parts


def fold(terms: ArrayLike) -> Array:
    """Return the sum over the first axis: the second half is added to the first, until one is left (6)."""
    terms = np.asarray(terms, dtype=float)
    half = (1 << (len(terms) - 1).bit_length()) // 2
    terms = np.concatenate([terms, np.zeros((max(2 * half, 1) - len(terms), *terms.shape[1:]))])
    while len(terms) > 1:
        half = len(terms) // 2
        terms = terms[:half] + terms[half:]
    return terms[0]


def tree(sums: Sequence[Array]) -> Array:
    """Return the sum of what the blocks of a batch give, added in pairs of neighbours (10.2)."""
    if len(sums) == 1:
        return sums[0]
    half = 1 << ((len(sums) - 1).bit_length() - 1)
    return tree(sums[:half]) + tree(sums[half:])


with localcontext(prec=80):
    _LN2 = Decimal(2).ln()
    _SCALE = float(64 / _LN2)
    _EXP_HIGH = math.ldexp(math.floor(_LN2 / 64 * 2**42), -42)
    _EXP_LOW = float(_LN2 / 64 - Decimal(_EXP_HIGH))
    _POWERS = np.array([float((_LN2 * f / 64).exp()) for f in range(64)])  # 2^(f/64)
    _LOG_HIGH = math.ldexp(math.floor(_LN2 * 2**40), -40)
    _LOG_LOW = float(_LN2 - Decimal(_LOG_HIGH))


def exp(x: ArrayLike) -> Array:
    """Return e^x for x ≤ 709 (7)."""
    x = np.asarray(x, dtype=float)
    inside = np.clip(np.where(np.isnan(x), 0.0, x), -670, 709)
    k = (inside * _SCALE + 1.5 * 2.0**52) - 1.5 * 2.0**52
    r = (inside - k * _EXP_HIGH) - k * _EXP_LOW
    q = ((r * (1 / 120) + 1 / 24) * r + 1 / 6) * r + 1 / 2
    g, f = np.divmod(k.astype(int), 64)
    power = np.ldexp(_POWERS[f], g)
    return np.where(np.isnan(x), x, np.where(x < -670, 0.0, power + power * (q * (r * r) + r)))


def log(x: ArrayLike) -> Array:
    """Return the natural logarithm (7)."""
    x = np.asarray(x, dtype=float)
    m, e = np.frexp(np.where((x > 0) & (x < np.inf), x, 1.0))
    m, e = 2 * m, e - 1
    is_large = m > 1.4142135623730951
    m, e = np.where(is_large, m / 2, m), np.where(is_large, e + 1, e)
    s = (m - 1) / (m + 1)
    z = s * s
    q = z * (1 / 21) + 1 / 19
    for d in (17, 15, 13, 11, 9, 7, 5, 3):
        q = q * z + 1 / d
    result = e * _LOG_HIGH + (e * _LOG_LOW + (2 * s + 2 * s * (z * q)))
    return np.select([x == 0, x == np.inf, x > 0], [-np.inf, x, result], np.nan)


def sqrt(x: ArrayLike) -> Array:
    """Return the square root (7)."""
    x = np.asarray(x, dtype=float)
    inside = np.where((x > 0) & (x < np.inf), x, 1.0)
    e = (np.frexp(inside)[1] - 1) // 2
    m = np.ldexp(inside, -2 * e)
    y = m * (1 / 3) + 11 / 16
    for _ in range(4):
        y = 0.5 * (y + m / y)
    return np.select([(x == 0) | (x == np.inf), x > 0], [x, np.ldexp(y, e)], np.nan)


def read_idx(path: str) -> NDArray[np.uint8]:
    """Return the numbers in a file of MNIST, .gz or not: images × rows × columns, or labels."""
    data = Path(path).read_bytes()
    data = gzip.decompress(data) if path.endswith(".gz") else data
    sizes = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def fingerprint(parameters: Iterable[ArrayLike]) -> str:
    """Return the SHA-256 of the parameters W1, b1, W2, b2, …, row by row (13)."""
    return hashlib.sha256(b"".join(np.asarray(p, dtype="<f8").tobytes() for p in parameters)).hexdigest()
