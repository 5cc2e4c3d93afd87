"""Eigenvalues of symmetric matrices and singular values, with vectors, on the host.

Reflections lead to two diagonals, in which rotations leave one (Bowdler et al. 1968, "The QR and QL
algorithms for symmetric matrices"; Golub and Reinsch 1970, "Singular value decomposition and least squares
solutions"; the shift for singular values is that of Demmel and Kahan 1990, "Accurate singular values of
bidiagonal matrices"). ``docs/arrays-specification.md`` specifies the sequence of operations.
"""

import math
from itertools import chain
from typing import Any

import numpy as np

from xpnet._typing import Function, HostArray
from xpnet.arithmetic.factors import Reflections, fold, orthogonal_matrix, power_below, qr, reflect, reflector

EPSILON = 2.0**-53
TINY = 2.0**-400
"""What is negligible in a matrix that is scaled to magnitudes below 2."""

HUGE = 2.0**500

MOST_SWEEPS = 80
"""Sweeps for each eigenvalue or singular value, of which about two are needed."""

SWEEPS_AT_ONCE = 64

Numbers = list[float]
Sweep = list[tuple[int, float, float]]
"""Rotations of neighbouring rows, downwards: the number of the first row, cosine and sine."""


def _is_negligible(e: float, p: float, q: float) -> bool:
    """Tell whether an element beside the diagonal is negligible beside those of its row and column."""
    return abs(e) <= EPSILON * (abs(p) + abs(q)) or abs(e) < TINY


def _rotation(f: float, g: float) -> tuple[float, float, float]:
    """Return c, s and r such that c f + s g = r and c g - s f = 0."""
    if g == 0.0:
        return 1.0, 0.0, f
    if f == 0.0:
        return 0.0, 1.0, g
    if abs(f) + abs(g) < TINY:  # whose squares have few digits
        c, s, r = _rotation(f * HUGE, g * HUGE)
        return c, s, r / HUGE
    r = math.sqrt(f * f + g * g)
    return f / r, g / r, r


def _rotate(rows: HostArray, sweeps: list[Sweep]) -> None:
    """Apply sweeps of rotations to the rows of a matrix, in place.

    A rotation maps rows i and i + 1, p and q, to c p - s q and s p + c q. Those of different rows are applied
    together: a sweep follows the one before two rows later.
    """
    for start in range(0, len(sweeps), SWEEPS_AT_ONCE):
        some = sweeps[start : start + SWEEPS_AT_ONCE]
        first, cosine, sine = map(np.array, zip(*chain(*some), strict=True))
        time = first + np.repeat(2 * np.arange(len(some)), [len(sweep) for sweep in some])
        order = np.argsort(time, kind="stable")
        for now in np.split(order, np.flatnonzero(np.diff(time[order])) + 1):
            i = first[now]
            c = cosine[now, None]
            s = sine[now, None]
            p, q = rows[i], rows[i + 1]
            rows[i], rows[i + 1] = c * p - s * q, s * p + c * q


def _diagonalise(d: Numbers, e: Numbers, sweep: Function) -> list[Any]:
    """Make the numbers e beside a diagonal negligible, from the last on, and return what the sweeps do.

    A sweep changes the rows from a first to a last one, between which no number is negligible.

    Raises
    ------
    LinAlgError
        The iteration does not converge.
    """
    sweeps: list[Any] = []
    last = len(d) - 1
    for _ in range(MOST_SWEEPS * len(d) + 1):
        if last <= 0:
            return sweeps
        first = last
        while first > 0 and not _is_negligible(e[first - 1], d[first - 1], d[first]):
            first -= 1
        if first == last:
            last -= 1
        else:
            sweeps.append(sweep(d, e, first, last))
    raise np.linalg.LinAlgError("the iteration does not converge")


def _signs(vectors: HostArray) -> HostArray:
    """Return -1 or 1 for each row: the sign of its first element of the largest magnitude."""
    largest = np.argmax(np.abs(vectors), axis=1)
    return np.where(vectors[np.arange(len(vectors)), largest] < 0.0, -1.0, 1.0)


# Eigenvalues


def _tridiagonal(a: HostArray) -> tuple[Numbers, Numbers, Reflections]:
    """Return the two diagonals of QᵀA Q, of a symmetric A that is overwritten, and the reflections of Q."""
    below, reflections = [], []
    for j in range(len(a) - 1):
        reflection, alpha = reflector(a[j + 1 :, j])
        below.append(alpha)
        if not reflection:
            continue
        v, beta = reflection
        rest = a[j + 1 :, j + 1 :]
        w = fold(v[:, None] * rest) * beta
        w -= (0.5 * beta * float(fold(w * v))) * v
        products = v[:, None] * w
        rest -= products
        rest -= products.T
        reflections.append((j + 1, reflection))
    return np.diagonal(a).tolist(), below, reflections


def eigh(a: HostArray, *, vectors: bool = True) -> tuple[HostArray, HostArray]:
    """Return the eigenvalues of a symmetric matrix (n, n), ascending, and the vectors, one a column.

    The lower triangle of A is taken. Of the elements of a vector, the first of the largest magnitude is
    positive. Without ``vectors`` these are zeros, of no meaning.

    Raises
    ------
    LinAlgError
        The iteration does not converge.
    """
    scale = power_below(a)
    diagonal, below, reflections = _tridiagonal((np.tril(a) + np.tril(a, -1).T) / scale)
    sweeps = _diagonalise(diagonal, below, _sweep_symmetric)
    values = np.array(diagonal[::-1]) * scale
    order = np.argsort(values, kind="stable")
    if not vectors:
        return values[order], np.zeros_like(a)
    rows = np.ascontiguousarray(orthogonal_matrix(reflections, len(a), len(a)).T)
    _rotate(rows, sweeps)
    rows = rows[::-1][order]
    return values[order], np.ascontiguousarray((rows * _signs(rows)[:, None]).T)


def _sweep_symmetric(d: Numbers, e: Numbers, first: int, last: int) -> Sweep:
    """Make one implicit QL step on rows last … first: of graded matrices the small ones are below."""
    g = (d[last - 1] - d[last]) / (2.0 * e[last - 1])
    r = math.sqrt(g * g + 1.0) if abs(g) < HUGE else abs(g)
    g = d[first] - d[last] + e[last - 1] / (g + math.copysign(r, g))
    s = c = 1.0
    p = 0.0
    sweep = []
    for i in range(first, last):
        f, b = s * e[i], c * e[i]
        c, s, r = _rotation(g, f)
        if i > 0:
            e[i - 1] = r if i > first else 0.0
        g = d[i] - p
        r = (d[i + 1] - g) * s + 2.0 * c * b
        p = s * r
        d[i] = g + p
        g = c * r - b
        sweep.append((i, c, -s))
    d[last] -= p
    e[last - 1] = g
    return sweep


# Singular values


def _bidiagonal(a: HostArray) -> tuple[Numbers, Numbers, list[Reflections]]:
    """Return the two diagonals of the upper bidiagonal UᵀA V, of A (n, n), and the reflections of U and V."""
    a = np.array(a)
    diagonal: Numbers = []
    above: Numbers = []
    reflections: list[Reflections] = [[], []]
    for j in range(len(a)):
        steps = ((a[j:, j], a[j:, j + 1 :], diagonal), (a[j, j + 1 :], a[j + 1 :, j + 1 :].T, above))
        for side, (line, rest, numbers) in enumerate(steps):
            if len(line) == 0:
                continue
            reflection, number = reflector(line)
            numbers.append(number)
            if reflection:
                reflect(reflection, rest)
                reflections[side].append((j + side, reflection))
    return diagonal, above, reflections


def svd(
    a: HostArray, multiply: Function, *, full: bool = True, vectors: bool = True
) -> tuple[HostArray, ...]:
    """Return U, the singular values, descending, and Vᵀ of A = U diag(s) Vᵀ, (m, n).

    U and Vᵀ are square if ``full``, else of min(m, n) columns and rows. Of the elements of a column of U that
    belongs to a singular value, the first of the largest magnitude is positive. Without ``vectors``, A is in
    the place of U and Vᵀ. ``multiply`` returns products of matrices.

    Raises
    ------
    LinAlgError
        The iteration does not converge.
    """
    scale, is_wide = power_below(a), a.shape[0] < a.shape[1]
    tall = (a.T if is_wide else a) / scale
    count = tall.shape[1]
    q, r = qr(tall, complete=full) if len(tall) > count else (None, tall)
    d, e, reflections = _bidiagonal(r[:count])
    sweeps = _diagonalise(d, e, _sweep_bidiagonal)
    values = np.abs(d)
    order = np.argsort(-values, kind="stable")
    if not vectors:
        return a, values[order] * scale, a
    u, v = (np.ascontiguousarray(orthogonal_matrix(each, count, count).T) for each in reflections)
    for side, rows in enumerate((u, v)):
        _rotate(rows, [sweep[side] for sweep in sweeps])
    v[np.array(d) < 0.0] *= -1.0
    u, v = u[order].T, v[order].T
    if q is not None:
        u = np.concatenate([multiply(q[:, :count], u), q[:, count:]], axis=1)
    u, v = (v, u) if is_wide else (u, v)
    signs = _signs(u[:, :count].T)
    u[:, :count] *= signs
    v[:, :count] *= signs
    return u, values[order] * scale, v.T


def _shift(d: Numbers, e: Numbers, first: int, last: int) -> float:
    """Return the smaller singular value of the last two rows, or 0 if it is negligible beside the first."""
    low, high = sorted((abs(d[last - 1]), abs(d[last])))
    if low == 0.0 or d[first] == 0.0:
        return 0.0
    ratio, above = low / high, e[last - 1] / high
    larger, smaller = 1.0 + ratio, 1.0 - ratio
    square = above * above
    shift = low * (2.0 / (math.sqrt(larger * larger + square) + math.sqrt(smaller * smaller + square)))
    relative = shift / d[first]
    return shift if relative * relative > EPSILON else 0.0


def _sweep_bidiagonal(d: Numbers, e: Numbers, first: int, last: int) -> tuple[Sweep, Sweep]:
    """Make one implicit QR step on rows first … last."""
    shift, size = _shift(d, e, first, last), abs(d[first])
    f, g = d[first], e[first]
    if shift != 0.0:
        f = (size - shift) * (math.copysign(1.0, f) + shift / f)
    u = []
    v = []
    for i in range(first, last):
        c, s, r = _rotation(f, g)
        if i > first:
            e[i - 1] = r
        f, e[i] = c * d[i] + s * e[i], c * e[i] - s * d[i]
        g, d[i + 1] = s * d[i + 1], c * d[i + 1]
        v.append((i, c, -s))
        c, s, d[i] = _rotation(f, g)
        f, d[i + 1] = c * e[i] + s * d[i + 1], c * d[i + 1] - s * e[i]
        if i + 1 < last:
            g, e[i + 1] = s * e[i + 1], c * e[i + 1]
        u.append((i, c, -s))
    e[last - 1] = f
    return u, v
