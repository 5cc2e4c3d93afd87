"""Matrices of many kinds, by which linear algebra is measured."""

from itertools import product

import numpy as np

SMALL, LARGE = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50), (80, 200)
SHAPES = [lambda n: (n, n)] * 3 + [lambda n: (n + 3, n), lambda n: (n, n + n // 2), lambda n: (3 * n, n)]
PLAIN = {
    "normal": lambda draw, rows, columns: draw,
    "graded columns": lambda draw, rows, columns: draw * 2.0**-columns,
    "graded rows": lambda draw, rows, columns: draw * 1.5**rows,
    "hilbert": lambda draw, rows, columns: 1.0 / (1.0 + rows + columns),
    "whole numbers": lambda draw, rows, columns: np.round(draw),
    "zero lines": lambda draw, rows, columns: draw * (columns % 3 > 0),
    "triangular": lambda draw, rows, columns: np.triu(draw, 1),
}
"""Of normal numbers, the numbers of the rows as a column, and those of the columns."""
SPECTRA = {
    "condition 1e4": lambda steps: 1e4**-steps,
    "condition 1e8": lambda steps: 1e8**-steps,
    "condition 1e12": lambda steps: 1e12**-steps,
    "rank deficient": lambda steps: np.where(steps <= 0.5, 2.0 - steps, 0.0),
    "repeated": lambda steps: np.where(steps <= 0.4, 3.0, 1.0),
    "one": np.ones_like,
    "clusters": lambda steps: np.round(1 + 4 * steps) + 1e-13 * np.sin(1e3 * steps),
    "huge": lambda steps: 1e200 * (1 + steps),
    "tiny": lambda steps: 1e-200 * (1 + steps),
}
"""Singular values, of numbers from 0 to 1."""
KINDS = [*PLAIN, *SPECTRA]
CASES = [*product(KINDS, SMALL, range(len(SHAPES))), *product(KINDS, LARGE, [0])]


def _make(kind, shape, generator, signs=1.0, *, is_symmetric=False):
    """Return a matrix of a kind, or one with eigenvalues of these signs, if it has a spectrum."""
    draw = generator.normal(size=shape)
    if kind in PLAIN:
        return PLAIN[kind](draw, np.arange(shape[0])[:, None], np.arange(shape[1]))
    steps = np.linspace(0.0, 1.0, min(shape))
    u = np.linalg.qr(draw)[0]
    v = u if is_symmetric else np.linalg.qr(generator.normal(size=shape[::-1]))[0]
    return u[:, : len(steps)] * SPECTRA[kind](steps) * signs @ v[:, : len(steps)].T


def general(kind, n, shape):
    return _make(kind, SHAPES[shape](n), np.random.default_rng([n, shape, len(kind)]))


def symmetric(kind, n, shape, *, positive=False):
    """Return a symmetric matrix of a kind, with eigenvalues of both signs unless they are to be positive."""
    generator = np.random.default_rng([n, shape, len(kind)])
    signs = 1.0 if positive else generator.choice([-1.0, 1.0], n)
    a = _make(kind, (n, n), generator, signs, is_symmetric=True)
    if positive:
        size = np.abs(a).max() or 1.0
        a = a @ (a / size).T if kind in PLAIN else a
        return np.tril(a) + np.tril(a, -1).T + size * (1.0 if kind in PLAIN else 1e-13) * np.eye(n)
    return a + a.T
