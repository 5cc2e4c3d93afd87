"""Factors of a matrix and solutions of linear equations, on the host.

Each is a fixed sequence of elementwise float64 operations of NumPy and square roots, which IEEE 754 fixes,
and of folded sums: LAPACK and BLAS round in an order that depends on the processor.
``docs/arrays-specification.md`` specifies the sequences.
"""

import math

import numpy as np

from xpnet._typing import HostArray

Reflection = tuple[HostArray, float]
"""A vector v and a number β: the matrix I - β v vᵀ."""

Reflections = list[tuple[int, Reflection]]
"""Reflections, each of the rows from a number on."""

ROWS = 128
"""Rows of a triangle that are updated at a time, so that their products stay in the cache."""


def fold(x: HostArray) -> HostArray:
    """Return the folded sum along the first axis, of at least one term, and overwrite ``x``."""
    count = len(x)
    while count > 1:
        half = 1 << (count - 1).bit_length() - 1
        x[: count - half] += x[half:count]
        count = half
    return np.asarray(x[0] + 0.0)


def power_below(x: HostArray) -> float:
    """Return the power of two at or below the largest magnitude, 1 of zeros."""
    largest = float(np.max(np.abs(x), initial=0.0))
    return math.ldexp(0.5, math.frexp(largest)[1]) if largest else 1.0


def cholesky(a: HostArray) -> HostArray:
    """Return the lower triangular L of A = L Lᵀ, by the lower triangle of A (n, n).

    Raises
    ------
    LinAlgError
        A is not positive definite.
    """
    a = np.array(a)
    for j in range(len(a)):
        if not a[j, j] > 0.0:
            raise np.linalg.LinAlgError(f"the matrix is not positive definite (in column {j})")
        a[j, j] = math.sqrt(a[j, j])
        column = a[j + 1 :, j] / a[j, j]
        a[j + 1 :, j] = column
        rest = a[j + 1 :, j + 1 :]
        for first in range(0, len(rest), ROWS):
            part, stop = slice(first, first + ROWS), first + ROWS
            rest[part, :stop] -= column[part, None] * column[:stop]
    return np.tril(a)


def triangular_factors(a: HostArray) -> tuple[HostArray, HostArray, float]:
    """Return L and U of L U = P A, in one matrix, the order of the rows of P A, and the determinant of P.

    The pivot of a column is its first element of the largest magnitude.
    """
    a = np.array(a)
    order, sign = np.arange(len(a)), 1.0
    for j in range(len(a)):
        pivot = j + int(np.argmax(np.abs(a[j:, j])))
        if pivot != j:
            a[[j, pivot]], order[[j, pivot]] = a[[pivot, j]], order[[pivot, j]]
            sign = -sign
        if a[j, j] != 0.0:
            a[j + 1 :, j] /= a[j, j]
            a[j + 1 :, j + 1 :] -= a[j + 1 :, j, None] * a[j, j + 1 :]
    return a, order, sign


def solve(a: HostArray, b: HostArray) -> HostArray:
    """Return X of A X = B, (n, n) and (n, k), by elimination with pivots.

    Raises
    ------
    LinAlgError
        A pivot is 0.
    """
    factors, order, _ = triangular_factors(a)
    if not np.all(np.diagonal(factors)):
        raise np.linalg.LinAlgError("the matrix is singular: pinv gives least squares")
    x = np.array(b[order])
    for j in range(len(x) - 1):
        x[j + 1 :] -= factors[j + 1 :, j, None] * x[j]
    for j in reversed(range(len(x))):
        x[j] /= factors[j, j]
        x[:j] -= factors[:j, j, None] * x[j]
    return x


def reflector(x: HostArray) -> tuple[Reflection | None, float]:
    """Return v and β, and α, such that (I - β v vᵀ) x = (α, 0, …); None for v and β if x is such a vector."""
    if not np.any(x[1:]):
        return None, float(x[0])
    power = power_below(x)
    v = x / power
    square = float(fold(v * v))
    norm, first = math.sqrt(square), float(v[0])
    v[0] += math.copysign(norm, first)
    return (v, 1.0 / (square + norm * abs(first))), -math.copysign(norm, first) * power


def reflect(reflection: Reflection, a: HostArray) -> None:
    """Multiply a matrix by I - β v vᵀ from the left, in place."""
    v, beta = reflection
    weights = fold(v[:, None] * a) * beta
    a -= v[:, None] * weights


def orthogonal_matrix(reflections: Reflections, rows: int, columns: int) -> HostArray:
    """Return the first columns of the product of reflections, each of the rows from a number on."""
    q = np.eye(rows, columns)
    for first, reflection in reversed(reflections):
        reflect(reflection, q[first:, first:])
    return q


def qr(a: HostArray, *, complete: bool = False) -> tuple[HostArray, HostArray]:
    """Return Q and the upper triangular R of A = Q R, (m, n), by reflections.

    They have min(m, n) columns and rows, or m if ``complete``.
    """
    rows, columns = a.shape
    r, reflections = np.array(a), []
    for j in range(min(rows - 1, columns)):
        reflection, r[j, j] = reflector(r[j:, j])
        if reflection:
            reflect(reflection, r[j:, j + 1 :])
            reflections.append((j, reflection))
    kept = rows if complete else min(rows, columns)
    return orthogonal_matrix(reflections, rows, kept), np.triu(r[:kept])
