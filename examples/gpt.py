"""A character model of the file LICENSE, one block of a GPT, with equal bits on any --backend."""

import argparse
import hashlib
import math
from functools import partial
from pathlib import Path

import numpy as np

import xpnet.reproducible as rp
from xpnet.backends.resolve import resolve
from xpnet.cli.guard import handle_errors

TEXT = Path(__file__).resolve().parents[1].joinpath("LICENSE").read_text(encoding="utf-8")
WIDTH, HEADS, LENGTH = 32, 4, 32  # features, heads, characters of a sample
SIZE = WIDTH // HEADS  # features of a head
dot = partial(rp.matmul, slices=1, block=1024)  # factors of 21 to 25 bits, where float32 has 24


def init_params(backend, characters):  # weights uniform with variance 1 / inputs, embeddings with variance 1
    shapes = {"E": (WIDTH, characters), "P": (WIDTH, LENGTH), "Wa": (3 * WIDTH, WIDTH), "Wo": (WIDTH, WIDTH)}
    shapes |= {"Wu": (4 * WIDTH, WIDTH), "Wd": (WIDTH, 4 * WIDTH), "Wz": (characters, WIDTH)}
    draws = {name: rp.random.uniform(seed, shapes[name]) - 0.5 for seed, name in enumerate(shapes)}
    inputs = {name: shapes[name][1] if name.startswith("W") else 1 for name in shapes}
    return {name: backend.from_host(u * math.sqrt(12 / inputs[name])) for name, u in draws.items()}


def normalize(xp, X):  # divide each column by the root of its mean square
    root = rp.sqrt(rp.mean(X * X, axis=0, keepdims=True) + 1e-5)
    r = xp.ones_like(root) / root
    return X * r, r


def normalize_backward(N, r, dN):
    return r * (dN - N * rp.mean(dN * N, axis=0, keepdims=True))


def split(xp, X):  # (k WIDTH, m LENGTH) -> (k, m, HEADS, SIZE, LENGTH), for m samples
    return xp.permute_dims(xp.reshape(X, (X.shape[0] // WIDTH, HEADS, SIZE, -1, LENGTH)), (0, 3, 1, 2, 4))


def join(xp, X):  # the inverse
    return xp.reshape(xp.permute_dims(X, (0, 2, 3, 1, 4)), (X.shape[0] * WIDTH, -1))


def forward_prop(xp, p, tokens, mask):  # tokens (m LENGTH,)
    E = xp.reshape(xp.take(p["E"], tokens, axis=1), (WIDTH, -1, LENGTH))
    X1 = xp.reshape(E + p["P"][:, None, :], (WIDTH, -1))
    N1, r1 = normalize(xp, X1)
    heads = split(xp, dot(p["Wa"], N1))
    Q, K, V = (heads[n, ...] for n in range(3))
    S = dot(xp.matrix_transpose(K), Q) * (1 / math.sqrt(SIZE))  # (m, HEADS, keys, queries)
    A = rp.softmax(xp.where(mask, S, -math.inf), axis=-2)
    C = join(xp, dot(V, A)[None, ...])
    X2 = X1 + dot(p["Wo"], C)
    N2, r2 = normalize(xp, X2)
    U = dot(p["Wu"], N2)
    X3 = X2 + dot(p["Wd"], xp.maximum(U, 0.0))
    N3, r3 = normalize(xp, X3)
    return N1, r1, Q, K, V, A, C, N2, r2, U, N3, r3, dot(p["Wz"], N3)


def back_prop(xp, p, tokens, layers, Y):
    N1, r1, Q, K, V, A, C, N2, r2, U, N3, r3, Z = layers
    dZ = (rp.softmax(Z, axis=0) - Y) * (1 / Y.shape[1])
    dX3 = normalize_backward(N3, r3, dot(p["Wz"].T, dZ))
    dU = xp.where(U > 0, dot(p["Wd"].T, dX3), 0.0)
    dX2 = dX3 + normalize_backward(N2, r2, dot(p["Wu"].T, dU))
    dC = split(xp, dot(p["Wo"].T, dX2))[0, ...]
    dA = dot(xp.matrix_transpose(V), dC)
    dS = A * (dA - rp.sum(A * dA, axis=-2, keepdims=True)) * (1 / math.sqrt(SIZE))
    heads = dot(K, dS), dot(Q, xp.matrix_transpose(dS)), dot(dC, xp.matrix_transpose(A))
    dQKV = join(xp, xp.stack(heads))
    dX1 = dX2 + normalize_backward(N1, r1, dot(p["Wa"].T, dQKV))
    factors = {"Wa": (dQKV, N1), "Wo": (dX2, C), "Wu": (dU, N2), "Wd": (dX3, xp.maximum(U, 0.0))}
    factors |= {"Wz": (dZ, N3), "E": (dX1, rp.one_hot(tokens, Y.shape[0], axis=0))}  # E: sums by character
    g = {name: dot(d, x.T) for name, (d, x) in factors.items()}
    return {**g, "P": rp.sum(xp.reshape(dX1, (WIDTH, -1, LENGTH)), axis=1)}


def gradient_descent(backend, steps, alpha, m=16):
    characters, places = sorted(set(TEXT)), np.arange(LENGTH)
    text, p = np.array([characters.index(each) for each in TEXT]), init_params(backend, len(characters))
    mask = backend.from_host(places[:, None] <= places)  # a character sees those before it, and itself
    for step in range(steps):
        starts = (rp.random.uniform(100 + step, (m, 1)) * (len(TEXT) - LENGTH)).astype(np.int64) + places
        tokens, following = (backend.from_host(text[(starts + n).ravel()]) for n in (0, 1))
        Y = rp.one_hot(following, len(characters), axis=0)
        layers = forward_prop(backend.xp, p, tokens, mask)
        if step % 100 == 0 or step == steps - 1:
            loss = rp.mean(rp.logsumexp(layers[-1], axis=0) - rp.sum(Y * layers[-1], axis=0))
            print(f"step {step:5}   loss {float(loss):.4f}")
        g, rate = back_prop(backend.xp, p, tokens, layers, Y), alpha * min(1.0, 2.0 - 2.0 * step / steps)
        p = {name: p[name] - rate * g[name] for name in p}
    return p


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--backend", "auto"), ("--steps", 1000), ("--rate", 1.0)):
        parser.add_argument(flag, type=type(default), default=default)
    args = parser.parse_args()
    with handle_errors(debug=False) as output:
        backend = resolve("auto", args.backend).backend
        with backend.scope(), backend.workers(1):
            p = gradient_descent(backend, args.steps, args.rate)
            numbers = (backend.to_host(p[name]).tobytes() for name in sorted(p))
            print("fingerprint ", hashlib.sha256(b"".join(numbers)).hexdigest())
    raise SystemExit(output.code)
