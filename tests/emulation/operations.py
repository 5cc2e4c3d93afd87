"""Print the names of general operations on the emulated device that differ from NumPy."""

import sys

import array_api_compat.cupy as xp
import array_api_compat.numpy as nx
import cupy
import numpy as np

GENERATOR = np.random.default_rng(0)
A = GENERATOR.normal(size=(5, 7))
S = A.T @ A + np.eye(7)
B = GENERATOR.integers(0, 9, 20)
N = np.asarray([2.0, np.nan, -np.inf, 0.5, np.nan, -0.0, 3.0])
Z = A[0] + 1j * A[1]


def _set(x, key, value):
    copied = x.copy()
    copied[key] = value
    return copied


def operations(m, a, s, b, n, z):
    """Operations of a library on the arrays above, by their names."""
    return {
        "sum": lambda: m.sum(a, axis=0),
        "mean": lambda: m.mean(a),
        "var": lambda: m.var(a, axis=1),
        "prod": lambda: m.prod(a, axis=0),
        "max": lambda: m.max(a, axis=0),
        "argmin": lambda: m.argmin(a, axis=1),
        "cumulative_sum": lambda: m.cumulative_sum(a, axis=1),
        "matmul": lambda: m.matmul(a, s),
        "matmul of float32": lambda: m.matmul(m.astype(a, m.float32), m.astype(s, m.float32)),
        "matmul of float16": lambda: m.matmul(a.astype("e"), s.astype("e")).astype("f").round(-1),
        "matmul of complex": lambda: m.matmul(a + 1j * a, s - 2j * s),
        "tensordot": lambda: m.tensordot(a, s, axes=1),
        "vecdot": lambda: m.vecdot(a, a),
        "exp": lambda: m.exp(a),
        "atan2": lambda: m.atan2(a, a + 1),
        "pow": lambda: m.pow(m.abs(a), 1.5),
        "where": lambda: m.where(a > 0, a, -a),
        "a boolean index": lambda: a[a > 0],
        "nonzero": lambda: m.nonzero(a > 0)[1],
        "take": lambda: m.take(a, m.asarray([2, 0]), axis=1),
        "sort": lambda: m.sort(a, axis=1),
        "sort with NaN": lambda: m.sort(n),
        "sort of complex": lambda: m.sort(z + n),
        "partition": lambda: m.partition(m.sin(m.arange(300.0)), 40)[40:41],
        "argsort": lambda: m.argsort(n),
        "unique_values": lambda: m.unique_values(b),
        "unique_counts": lambda: m.unique_counts(b).counts,
        "searchsorted": lambda: m.searchsorted(m.sort(b), b),
        "concat": lambda: m.concat([a, a]),
        "roll": lambda: m.roll(a, 2, axis=1),
        "tril": lambda: m.tril(s),
        "linspace": lambda: m.linspace(0, 1, 11),
        "meshgrid": lambda: m.meshgrid(b, b)[0],
        "abs of complex": lambda: m.abs(z),
        "functions of complex": lambda: m.sqrt(m.exp(z)) / z + m.conj(z) * m.log(z),
        "floor_divide": lambda: b // 3,
        "bitwise": lambda: (b ^ 5) & 3,
        "an assignment": lambda: _set(a, (slice(None), 0), 1.0),
        "an assignment by a mask": lambda: _set(a, a > 0, 1.0),
        "any": lambda: m.any(a > 2, axis=0),
        "interp": lambda: m.interp(n[5:], m.asarray([0.0, 1, 2]), m.asarray([5.0, 6, 3])),
        "cholesky": lambda: m.linalg.cholesky(s),
        "solve": lambda: m.linalg.solve(s, a.T),
        "solve of a batch": lambda: m.linalg.solve(m.stack([s, s + s]), m.stack([a.T, a.T])),
        "svdvals": lambda: m.linalg.svdvals(a),
        "svd": lambda: m.abs(m.linalg.svd(a, full_matrices=True)[2]),
        "eigh": lambda: m.linalg.eigvalsh(s),
        "qr": lambda: m.abs(m.linalg.qr(a.T)[1]),
        "inv": lambda: m.linalg.inv(s),
        "det": lambda: m.linalg.det(s),
        "fft": lambda: m.fft.fft(z),
        "rfftn": lambda: m.fft.rfftn(s),
        "irfftn": lambda: m.fft.irfftn(m.fft.rfftn(a), s=a.shape),
        "fft of a large prime": lambda: m.fft.ifft(m.fft.fft(m.arange(211.0))),
        "einsum": lambda: m.einsum("ij,jk->ki", a, s),
        "bincount": lambda: m.bincount(b, minlength=12),
    }


def is_equal(ours, theirs):
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-5, atol=1e-9, equal_nan=True)


def main():
    host = (A, S, B, N, Z)
    on_device = operations(xp, *(cupy.asarray(x) for x in host))
    for name, operation in operations(nx, *host).items():
        with np.errstate(all="ignore"):
            ours, theirs = on_device[name](), operation()
        assert isinstance(ours, cupy.ndarray), name
        if not is_equal(ours.get(), np.asarray(theirs)):
            print(name, ours, theirs)


sys.exit(main())
