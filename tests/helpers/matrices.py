"""Matrices of many kinds, by which linear algebra is measured: ``matrices(…)`` makes them by number."""

from itertools import product

import numpy as np

SMALL, LARGE = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50), (80, 200)
SHAPES = [lambda n: (n, n)] * 3 + [lambda n: (n + 3, n), lambda n: (n, n + n // 2), lambda n: (3 * n, n)]


def _spectrum(kind, count, generator):
    """Return singular values by the kind of matrix."""
    steps = np.arange(count) / max(count - 1, 1)
    conditions = {"condition 1e4": 1e4, "condition 1e8": 1e8, "condition 1e12": 1e12}
    if kind in conditions:
        return conditions[kind] ** -steps
    return {
        "rank deficient": np.where(steps <= 0.5, 1.0 + generator.random(count), 0.0),
        "repeated": np.where(steps <= 0.4, 3.0, 1.0),
        "one": np.ones(count),
        "clusters": np.round(1 + 4 * steps) + 1e-13 * generator.random(count),
        "huge": 1e200 * (1 + steps),
        "tiny": 1e-200 * (1 + steps),
    }[kind]


def _orthogonal(rows, columns, generator):
    return np.linalg.qr(generator.normal(size=(rows, columns)))[0]


def _hilbert(rows, columns):
    return 1.0 / (1.0 + np.arange(rows)[:, None] + np.arange(columns))


PLAIN = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "graded columns": lambda generator, shape: generator.normal(size=shape) * 2.0 ** -np.arange(shape[1]),
    "graded rows": lambda generator, shape: (
        generator.normal(size=shape) * 1.5 ** np.arange(shape[0])[:, None]
    ),
    "hilbert": lambda _, shape: _hilbert(*shape),
    "whole numbers": lambda generator, shape: generator.integers(-2, 3, shape) * 1.0,
    "zero lines": lambda generator, shape: generator.normal(size=shape) * (np.arange(shape[1]) % 3 > 0),
    "triangular": lambda generator, shape: np.triu(generator.normal(size=shape), 1),
}
SPECTRAL = [
    *("condition 1e4", "condition 1e8", "condition 1e12", "rank deficient", "repeated", "one", "clusters"),
    *("huge", "tiny"),
]
CASES = [
    *((kind, n, shape) for kind, n, shape in product([*PLAIN, *SPECTRAL], SMALL, range(len(SHAPES)))),
    *((kind, n, 0) for kind, n in product([*PLAIN, *SPECTRAL], LARGE)),
]


def general(kind, n, shape):
    """Return a matrix of a kind."""
    generator = np.random.default_rng([n, shape, len(kind)])
    rows, columns = SHAPES[shape](n)
    if kind in PLAIN:
        return PLAIN[kind](generator, (rows, columns))
    count = min(rows, columns)
    u, v = _orthogonal(rows, count, generator), _orthogonal(columns, count, generator)
    return u * _spectrum(kind, count, generator) @ v.T


def symmetric(kind, n, shape, *, positive=False):
    """Return a symmetric matrix of a kind, with eigenvalues of both signs unless they are to be positive."""
    generator = np.random.default_rng([n, shape, len(kind)])
    if kind in PLAIN:
        a = PLAIN[kind](generator, (n, n))
        size = np.abs(a).max() or 1.0
        return a @ a.T + size * size * np.eye(n) if positive else a + a.T
    values = _spectrum(kind, n, generator)
    values = values + values[0] * 1e-13 if positive else values * generator.choice([-1.0, 1.0], n)
    q = _orthogonal(n, n, generator)
    a = q * values @ q.T
    return np.tril(a) + np.tril(a, -1).T
