"""LeNet-5 (LeCun et al. 1998; here with ReLU and max-pooling) on MNIST, with equal bits on any --backend."""

import argparse
import hashlib
import math
from functools import partial

import xpnet.reproducible as rp
from xpnet.backends.resolve import resolve
from xpnet.cli.guard import handle_errors
from xpnet.data import datasets

SHAPES = [(6, 25), (16, 150), (120, 400), (84, 120), (10, 84)]  # of W: units and inputs, two of filters first
dot = partial(rp.matmul, slices=1, block=4096)  # factors of 20 to 25 bits, where float32 has 24


def pad(xp, x, top, bottom, left, right):  # with zeros; images are (channels, m, rows, columns)
    x = xp.concat([xp.zeros_like(x[:, :, :top, :]), x, xp.zeros_like(x[:, :, :bottom, :])], axis=2)
    return xp.concat([xp.zeros_like(x[..., :left]), x, xp.zeros_like(x[..., :right])], axis=3)


def patches(xp, x):  # each patch of 5 × 5 pixels as a column: (25 channels, m places)
    rows, columns = x.shape[2] - 4, x.shape[3] - 4
    shifted = [x[:, :, i : i + rows, j : j + columns] for i in range(5) for j in range(5)]
    return xp.reshape(xp.stack(shifted, axis=1), (25 * x.shape[0], -1))


def add_patches(xp, dP, channels, m, rows, columns):  # the gradient of patches: 25 terms in a fixed order
    dP, dx = xp.reshape(dP, (channels, 25, m, rows - 4, columns - 4)), 0.0
    for n in range(25):
        dx = dx + pad(xp, dP[:, n, ...], n // 5, 4 - n // 5, n % 5, 4 - n % 5)
    return dx


def pool(xp, x):  # the largest of each 2 × 2 pixels and its number, the first of equal ones
    corners = xp.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    return xp.max(corners, axis=0), xp.argmax(corners, axis=0)


def unpool(xp, d, number):  # the gradient of pool
    corners = xp.stack([xp.where(number == n, d, 0.0) for n in range(4)])
    corners = xp.permute_dims(xp.reshape(corners, (2, 2, *d.shape)), (2, 3, 4, 0, 5, 1))
    return xp.reshape(corners, (*d.shape[:2], 2 * d.shape[2], 2 * d.shape[3]))


def forward_prop(xp, p, X):  # X (m, 784) of pixels from 0 to 255
    ((W1, b1), (W2, b2), (W3, b3), (W4, b4), (W5, b5)), m = p, X.shape[0]
    X = xp.reshape(xp.astype(X, xp.float64) * (1 / 255), (1, m, 28, 28))
    P1 = patches(xp, pad(xp, X, 2, 2, 2, 2))
    Z1, n1 = pool(xp, xp.reshape(dot(W1, P1) + b1, (6, m, 28, 28)))
    P2 = patches(xp, xp.maximum(Z1, 0.0))
    Z2, n2 = pool(xp, xp.reshape(dot(W2, P2) + b2, (16, m, 10, 10)))
    A2 = xp.reshape(xp.permute_dims(xp.maximum(Z2, 0.0), (0, 2, 3, 1)), (400, m))
    Z3 = dot(W3, A2) + b3
    Z4 = dot(W4, xp.maximum(Z3, 0.0)) + b4
    Z5 = dot(W5, xp.maximum(Z4, 0.0)) + b5
    return P1, Z1, n1, P2, Z2, n2, A2, Z3, Z4, Z5


def back_prop(xp, p, layers, Y):
    (P1, Z1, n1, P2, Z2, n2, A2, Z3, Z4, Z5), (W2, W3, W4, W5) = layers, (W for W, _ in p[1:])
    dZ5 = (rp.softmax(Z5, axis=0) - Y) * (1 / Y.shape[1])
    dZ4 = xp.where(Z4 > 0, dot(W5.T, dZ5), 0.0)
    dZ3 = xp.where(Z3 > 0, dot(W4.T, dZ4), 0.0)
    dA2 = xp.permute_dims(xp.reshape(dot(W3.T, dZ3), (16, 5, 5, -1)), (0, 3, 1, 2))
    dZ2 = xp.reshape(unpool(xp, xp.where(Z2 > 0, dA2, 0.0), n2), (16, -1))
    dA1 = add_patches(xp, dot(W2.T, dZ2), *Z1.shape)
    dZ1 = xp.reshape(unpool(xp, xp.where(Z1 > 0, dA1, 0.0), n1), (6, -1))
    factors = (dZ1, P1), (dZ2, P2), (dZ3, A2), (dZ4, xp.maximum(Z3, 0.0)), (dZ5, xp.maximum(Z4, 0.0))
    return [(dot(dZ, A.T), rp.sum(dZ, axis=1, keepdims=True)) for dZ, A in factors]


def gradient_descent(backend, images, labels, steps, alpha, m=100):  # m images in a step
    draws = (2.0 * rp.random.uniform(layer, shape) - 1.0 for layer, shape in enumerate(SHAPES))
    weights = [backend.from_host(u * math.sqrt(6 / u.shape[1])) for u in draws]  # of variance 2 / inputs
    p, batches = [(W, backend.xp.zeros_like(W[:, :1])) for W in weights], len(labels) // m
    for step in range(steps):
        chosen = rp.random.permutation(step // batches, len(labels))[step % batches * m :][:m]
        Y = rp.one_hot(backend.from_host(labels[chosen]), 10, axis=0)
        layers = forward_prop(backend.xp, p, backend.from_host(images[chosen]))
        if step % 100 == 0:
            loss = rp.mean(rp.logsumexp(layers[-1], axis=0) - rp.sum(Y * layers[-1], axis=0))
            print(f"step {step:5}   loss {float(loss):.4f}")
        gradients, rate = back_prop(backend.xp, p, layers, Y), alpha * (1 - step / steps)
        p = [(W - rate * dW, b - rate * db) for (W, b), (dW, db) in zip(p, gradients, strict=True)]
    return p


def error(backend, p, images, labels):  # in per cent
    wrong = 0
    for i in range(0, len(labels), 500):
        Z5 = forward_prop(backend.xp, p, backend.from_host(images[i : i + 500]))[-1]
        wrong += (backend.to_host(backend.xp.argmax(Z5, axis=0)) != labels[i : i + 500]).sum()
    return 100 * wrong / len(labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--backend", "auto"), ("--steps", 1200), ("--rate", 0.4), ("--validation", 0)):
        parser.add_argument(flag, type=type(default), default=default)
    args = parser.parse_args()
    with handle_errors(debug=False) as output:
        backend, data, end = resolve("auto", args.backend).backend, datasets.load(), -args.validation or None
        x, y = (data.x_train[end:], data.y_train[end:]) if end else (data.x_test, data.y_test)
        with backend.scope(), backend.workers(1):
            p = gradient_descent(backend, data.x_train[:end], data.y_train[:end], args.steps, args.rate)
            print(f"error        {error(backend, p, x, y):.2f} %")
            numbers = (backend.to_host(part).tobytes() for layer in p for part in layer)
            print("fingerprint ", hashlib.sha256(b"".join(numbers)).hexdigest())
    raise SystemExit(output.code)
