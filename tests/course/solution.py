"""The right answers of docs/course, which check.py compares with those of a student.

Known mistakes are changes of this file: mistakes.toml.
"""

import numpy as np
from given import exp, fold, log, matmul, sqrt, sum_samples, tree

NAMES = "W1", "b1", "W2", "b2"


def layer(W, A, b):
    return {"Z": matmul(W, A) + b}


def activate(Z):
    e = exp(Z - Z.max(axis=0))
    return {"relu": np.where(Z > 0, Z, 0.0), "softmax": e * (1 / fold(e))}


def loss(Z, Y):
    t = Z - Z.max(axis=0)
    losses = log(fold(exp(t))) - t[Y, np.arange(len(Y))]
    return {"losses": losses, "mean": fold(losses) * (1 / len(Y))}


def backward(W2, X, Z1, A1, A2, Y, m):
    dZ2 = A2 - (np.arange(len(A2))[:, np.newaxis] == Y)
    dZ1 = np.where(Z1 > 0, matmul(W2.T, dZ2), 0.0)
    dW1, db1 = matmul(dZ1, X.T), sum_samples(dZ1, X)
    dW2, db2 = matmul(dZ2, A1.T), sum_samples(dZ2, A1)
    return {"dW1": dW1 * (1 / m), "db1": db1 * (1 / m), "dW2": dW2 * (1 / m), "db2": db2 * (1 / m)}


def update(W, b, dW, db, rates):
    p = [W, b]
    for t in range(len(rates)):
        p = [p[0] - rates[t] * dW[t], p[1] - rates[t] * db[t]]
    return {"W": p[0], "b": p[1]}


def gradients(network, X, Y):
    W1, b1, W2, b2 = network
    sums, m = [], len(Y)
    for start in range(0, m, 1024):
        x, y = X[:, start : start + 1024], Y[start : start + 1024]
        Z1 = layer(W1, x, b1)["Z"]
        A1 = activate(Z1)["relu"]
        A2 = activate(layer(W2, A1, b2)["Z"])["softmax"]
        sums.append(backward(W2, x, Z1, A1, A2, y, 1).values())
    return [tree(g) * (1 / m) for g in zip(*sums, strict=True)]


def train(W1, b1, W2, b2, X, Y, alpha, epochs):
    network = [W1, b1, W2, b2]
    for _ in range(epochs):
        g = gradients(network, X, Y)
        network = [p - alpha * d for p, d in zip(network, g, strict=True)]
    return dict(zip(NAMES, network, strict=True))


def batches(W1, b1, W2, b2, X, Y, words, size, alpha, epochs):
    network, visited = [W1, b1, W2, b2], []
    for epoch in range(1, epochs + 1):
        order = np.argsort(words[epoch], kind="stable")
        parts = [order[start : start + size] for start in range(0, len(Y), size)]
        for part in parts:
            g = gradients(network, X[:, part], Y[part])
            network = [p - alpha * d for p, d in zip(network, g, strict=True)]
        visited.append(parts)
    return {"batches": visited, **dict(zip(NAMES, network, strict=True))}


def optimize(kind, W, b, dW, db, rates, decay):
    method = momentum if kind == "momentum" else adam
    return {"W": method(W, dW, rates, decay), "b": method(b, db, rates, 0.0)}


def decayed(g, p, decay):
    return g + decay * p if decay else g


def momentum(p, gradient, rates, decay):
    v = 0 * p
    for t in range(len(rates)):
        g = decayed(gradient[t], p, decay)
        v = 0.9 * v + g
        p = p - rates[t] * v
    return p


def adam(p, gradient, rates, decay):
    m, v, c1, c2 = 0 * p, 0 * p, 0.0, 0.0
    for t in range(len(rates)):
        g = decayed(gradient[t], p, decay)
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * (g * g)
        c1, c2 = 0.9 * c1 + (1 - 0.9), 0.999 * c2 + (1 - 0.999)
        p = p - (rates[t] * (1 / c1)) * (m / (sqrt(v * (1 / c2)) + 1e-8))
    return p


def drop(A, dA, numbers, p):
    q = min(round(p * 65536), 65535)
    s, kept = 65536 / (65536 - q), numbers >= q
    return {"A": np.where(kept, A * s, 0.0), "dA": np.where(kept, dA * s, 0.0), "predicted": A}


def normalize(Z, dY, gamma, beta, mean, variance):
    def total(terms):
        return fold(terms.T)[:, np.newaxis]

    n = Z.shape[1]
    S = total(Z)
    C = Z - S * (1 / n)
    Q = total(C * C)
    r = 1 / sqrt(Q * (1 / n) + 1e-5)
    H = C * r
    dgamma, dbeta = total(dY * H), total(dY)
    return {
        "Y": gamma * H + beta,
        "dZ": (gamma * r) * (dY - (dbeta + H * dgamma) * (1 / n)),
        "dgamma": dgamma,
        "dbeta": dbeta,
        "mean": mean + (S * (1 / n) - mean) * 0.1,
        "variance": variance + (Q * (1 / (n - 1)) - variance) * 0.1,
        "predicted": gamma * ((Z - mean) * (1 / sqrt(variance + 1e-5))) + beta,
    }
