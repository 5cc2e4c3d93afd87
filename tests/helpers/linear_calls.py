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


def _general(rows, columns):
    return rp.random.normal(0, (rows, columns)) * 2.0 ** -(np.arange(columns) % 7)


def _positive(n):
    a = rp.random.uniform(1, (n, n))
    return np.tril(a) + np.tril(a, -1).T + n * np.eye(n)


MATRICES = {
    "tall": _general(31, 12),
    "wide": _general(9, 20),
    "square": _general(24, 24),
    "positive": _positive(135),
    "repeated": np.kron(np.eye(5), np.ones((2, 2))) * 1.5,  # eigenvalues, zero among them
    "deficient": np.tile(_general(8, 8), (2, 2)),
    "zero": np.zeros((4, 3)),
    "stack": rp.random.normal(2, (2, 1, 5, 5)),
    "single": rp.random.normal(3, (6, 6)).astype(np.float32),
}
CALLS = [
    ("qr svd pinv", "tall wide square repeated deficient zero stack single", {}),
    ("svdvals matrix_rank", "deficient", {}),
    ("eigh eigvalsh det slogdet", "square deficient repeated stack single", {}),
    ("inv cholesky", "positive", {}),
    ("inv", "square stack", {}),
    ("matrix_norm", "tall", {"ord": 2}),
    ("matrix_norm", "wide", {"ord": "nuc"}),
    ("matrix_norm", "square", {"ord": 1}),
    ("vector_norm", "tall", {"ord": 3, "axis": 0}),
    ("svd", "tall", {"full_matrices": False}),
    ("qr", "tall", {"mode": "complete"}),
]


def digests(name):
    backend = make(name, "cpu")
    wrapped = {key: rp.asarray(backend.from_host(x)) for key, x in MATRICES.items()}
    square, stack, tall, wide = (wrapped[key] for key in ("square", "stack", "tall", "wide"))
    linalg, results = square.__array_namespace__().linalg, {}
    for functions, keys, options in CALLS:
        for function in functions.split():
            for key in keys.split():
                value = getattr(linalg, function)(wrapped[key], **options)
                results[function, key, *options] = digest([*value] if isinstance(value, tuple) else [value])
    results["others"] = digest(
        [
            linalg.matrix_power(stack, -3),
            linalg.solve(square, tall[:24, :4]),
            linalg.solve(stack, stack[0, 0, :, 0]),
            rp.einsum("abij,abjk,kl->ail", stack, stack, stack[0, 0, ...]),
            rp.quantile(square, [0.0, 0.3, 1.0], axis=1),
            rp.cov(wide),
            rp.random.normal(5, 1000, like=square),
            rp.random.shuffle(5, tall, axis=1),
        ]
    )
    return results


def of_all():
    calls = digests("numpy"), array_calls.digests(make("numpy", "cpu"))
    return hashlib.sha256(repr(calls).encode()).hexdigest()


if __name__ == "__main__":
    print(of_all())
