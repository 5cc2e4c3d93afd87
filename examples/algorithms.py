"""K-means, principal components, attention and least squares, with equal bits on any --backend.

docs/arithmetic.md says which operations beside those of ``rp`` have the same bits everywhere.
"""

import argparse
import hashlib
import math

import numpy as np
from array_api_compat import array_namespace, device

import xpnet.reproducible as rp
from xpnet.backends.resolve import resolve
from xpnet.cli.guard import handle_errors


def kmeans(x, k, steps, seed=0):
    """Return k centres (k, features), by Lloyd's algorithm from k of the samples x (samples, features)."""
    xp = array_namespace(x)
    start = rp.random.permutation(seed, x.shape[0], like=x)[:k]
    centres, numbers = xp.take(x, start, axis=0), xp.arange(k, device=device(x))
    for _ in range(steps):
        distances = rp.vecdot(centres, centres) - 2.0 * rp.matmul(x, centres.T)  # |x - c|² - |x|²
        nearest = xp.argmin(distances, axis=1)
        members = xp.astype(nearest[:, None] == numbers[None, :], x.dtype)
        counts = rp.sum(members, axis=0)[:, None]
        centres = rp.matmul(members.T, x) / xp.broadcast_to(counts, centres.shape)
    return centres


def principal_components(x, count, steps, seed=0):
    """Return the first directions of largest variance (count, features), by power iteration."""
    xp = array_namespace(x)
    x, components = x - rp.mean(x, axis=0), []
    for number in range(count):
        v = rp.random.uniform(seed + number, x.shape[1], like=x) - 0.5
        for _ in range(steps):
            v = rp.matmul(x.T, rp.matmul(x, v))
            for component in components:
                v = v - rp.vecdot(component, v) * component
            v = v / xp.broadcast_to(rp.sqrt(rp.vecdot(v, v)), v.shape)
        components.append(v)
    return xp.stack(components)


def attention(queries, keys, values):
    """Return softmax(Q Kᵀ/√d) V for Q (..., n, d), K (..., m, d) and V (..., m, features)."""
    keys = array_namespace(keys).matrix_transpose(keys)
    weights = rp.softmax(rp.matmul(queries, keys) * (1.0 / math.sqrt(queries.shape[-1])))
    return rp.matmul(weights, values)


def cluster_and_attend(like):
    """Return the results of all three on the library and device of an array."""
    x = rp.random.uniform(1, (500, 8), like=like)
    x = x * x + 2.0 * (x[:, :1] - 0.3 * x[:, 1:2])
    stacks = (rp.random.uniform(seed, (2, 16, 32), like=like) - 0.5 for seed in (2, 3, 4))
    return kmeans(x, k=4, steps=10), principal_components(x, count=2, steps=30), attention(*stacks)


def cholesky(a):
    """Return the lower triangular L (n, n) with L Lᵀ = A, of a symmetric positive definite A (n, n)."""
    xp = array_namespace(a)
    rows, columns = xp.arange(a.shape[0], device=device(a)), []
    for k in range(a.shape[0]):
        column = xp.where(rows >= k, a[:, k], 0.0)
        column = column / xp.broadcast_to(rp.sqrt(a[k, k]), column.shape)
        a = a - column[:, None] * column[None, :]
        columns.append(column)
    return xp.stack(columns, axis=1)


def substitute(triangle, b, order):
    """Return the solution X (n, m) of T X = B, for a triangular T, whose unknowns are found in an order."""
    xp, x = array_namespace(b), {}
    for k in order:
        x[k] = b[k, :] / xp.broadcast_to(triangle[k, k], b[k, :].shape)
        b = b - triangle[:, k][:, None] * x[k][None, :]
    return xp.stack([x[k] for k in range(len(x))])


def least_squares(a, b, steps=2):
    """Return the X (n, m) for which |A X - B| is smallest, with A (samples, n) and B (samples, m)."""
    lower, numbers = cholesky(rp.matmul(a.T, a)), range(a.shape[1])
    x = rp.matmul(a.T, b) * 0.0
    for _ in range(steps):
        gradient = rp.matmul(a.T, b - rp.matmul(a, x))
        x = x + substitute(lower.T, substitute(lower, gradient, numbers), reversed(numbers))
    return x


def waves(like):
    """Return 3 + 2 sin t - cos 3t at 200 random times (200, 1), and the functions that it is made of."""
    xp = array_namespace(like)
    t = rp.cumulative_sum(rp.random.uniform(6, 200, like=like)) * 0.1
    functions = [xp.ones_like(t), *(f(t * float(n)) for n in (1, 2, 3) for f in (rp.sin, rp.cos))]
    a = xp.stack(functions, axis=1)
    noise = rp.random.uniform(7, (200, 1), like=like) - 0.5
    return a, 3.0 * a[:, 0:1] + 2.0 * a[:, 1:2] - a[:, 6:7] + 0.01 * noise


def digests(backend):
    """Return the SHA-256 of the results of each of the two functions above."""
    with backend.scope():
        like = backend.from_host(np.ones(1))
        results = cluster_and_attend(like), [least_squares(*waves(like))]
        numbers = [b"".join(backend.to_host(x).tobytes() for x in arrays) for arrays in results]
    return [hashlib.sha256(each).hexdigest() for each in numbers]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="auto")
    args = parser.parse_args()
    with handle_errors(debug=False) as output:
        print(*digests(resolve("auto", args.backend).backend), sep="\n")
    raise SystemExit(output.code)
