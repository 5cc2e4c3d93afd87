"""Calls of linear algebra, einsum and statistics, whose bits are compared.

``python linear_calls.py`` prints the digest of all on NumPy, and of the other calls of rp.Array. No input is
a product of NumPy's.
"""

import hashlib

import array_calls
import numpy as np
from array_calls import digest

import xpnet.reproducible as rp
from xpnet.backends.resolve import make


def _general(rows, columns, seed=0):
    return rp.random.normal(seed, (rows, columns)) * 2.0 ** -(np.arange(columns) % 7)


def _repeated(n):
    """A symmetric matrix with repeated eigenvalues, zero among them."""
    return np.kron(np.eye(n // 2), np.ones((2, 2))) * 1.5


def _positive(n):
    a = rp.random.uniform(1, (n, n))
    return np.tril(a) + np.tril(a, -1).T + n * np.eye(n)


MATRICES = {
    "tall": _general(31, 12),
    "wide": _general(9, 20),
    "square": _general(24, 24),
    "positive": _positive(135),
    "repeated": _repeated(10),
    "deficient": np.tile(_general(8, 8), (2, 2)),
    "zero": np.zeros((4, 3)),
    "stack": rp.random.normal(2, (2, 1, 5, 5)),
    "single": rp.random.normal(3, (6, 6)).astype(np.float32),
}
SQUARE = ("square", "deficient", "repeated", "stack", "single")
CALLS = {
    **{(name, key): () for name in ("qr", "svd", "pinv") for key in MATRICES if key != "positive"},
    **{(name, "deficient"): () for name in ("svdvals", "matrix_rank")},
    **{(name, key): () for name in ("eigh", "eigvalsh", "det", "slogdet") for key in SQUARE},
    **{
        ("matrix_norm", key): ({"ord": ord_},)
        for key, ord_ in zip(MATRICES, [2, "nuc", 1, "fro", -2], strict=False)
    },
    ("cholesky", "positive"): (),
    ("inv", "square"): (),
    ("inv", "positive"): (),
    ("inv", "stack"): (),
    ("matrix_power", "stack"): (-3,),
    ("vector_norm", "tall"): ({"ord": 3, "axis": 0},),
    ("trace", "stack"): ({"offset": 1},),
    ("svd", "tall"): ({"full_matrices": False},),
    ("qr", "tall"): ({"mode": "complete"},),
}


def digests(name):
    """The digest of each call on a library."""
    backend = make(name, "cpu")
    wrapped = {key: rp.asarray(backend.from_host(x)) for key, x in MATRICES.items()}
    results = {}
    for (function, key), extra in CALLS.items():
        options = extra[0] if extra and isinstance(extra[0], dict) else {}
        linalg = wrapped[key].__array_namespace__().linalg
        value = getattr(linalg, function)(wrapped[key], *(() if options else extra), **options)
        results[function, key] = digest([*value] if isinstance(value, tuple) else [value])
    square, stack, tall = wrapped["square"], wrapped["stack"], wrapped["tall"]
    space = square.__array_namespace__()
    results["others"] = digest(
        [
            space.linalg.solve(square, tall[:24, :4]),
            space.linalg.solve(stack, stack[0, 0, :, 0]),
            space.linalg.cross(stack[..., :3], stack[0, ..., :3]),
            space.linalg.outer(square[0, :], tall[0, :]),
            space.linalg.tensordot(stack, stack, axes=((1, 3), (1, 2))),
            rp.einsum("abij,abjk,kl->ail", stack, stack, stack[0, 0, ...]),
            rp.einsum("ii,ij->j", square, square),
            *(rp.quantile(square, [0.0, 0.3, 1.0], axis=axis) for axis in (None, 0, 1)),
            rp.median(tall, axis=0),
            rp.cov(wrapped["wide"]),
            rp.corrcoef(wrapped["wide"]),
            rp.random.normal(5, 1000, like=square),
            rp.random.exponential(5, 1000, like=square),
            rp.random.integers(5, -9, 10**18, 100, like=square),
            rp.random.choice(5, 100, 20, like=square),
            rp.random.shuffle(5, tall, axis=1),
        ]
    )
    return results


def of_all():
    """The digest of these and the other calls of rp.Array on NumPy."""
    calls = digests("numpy"), array_calls.digests(make("numpy", "cpu"))
    return hashlib.sha256(repr(calls).encode()).hexdigest()


if __name__ == "__main__":
    print(of_all())
