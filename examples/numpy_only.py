"""The notebook's network and training in plain NumPy, from the initial parameters of `xpnet train`."""

import gzip
from pathlib import Path

import numpy as np


def init_params():  # uniform in [-0.5, 0.5): docs/reproducibility.md, sections 4.1 and 4.2
    words = [np.random.Philox(key=0, counter=[0, i, 0, 1]).random_raw(n) for i, n in enumerate((7850, 110))]
    (W1, b1), (W2, b2) = (np.split((w >> np.uint64(40)) * 2.0**-24 - 0.5, [w.size - 10]) for w in words)
    return W1.reshape(10, 784), b1.reshape(10, 1), W2.reshape(10, 10), b2.reshape(10, 1)

def forward_prop(W1, b1, W2, b2, X):
    Z1 = W1 @ X + b1
    A1 = np.maximum(Z1, 0)  # ReLU
    Z2 = W2 @ A1 + b2
    return Z1, A1, np.exp(Z2) / np.sum(np.exp(Z2), axis=0)  # A2 = softmax(Z2)

def back_prop(Z1, A1, A2, W2, X, Y):
    dZ2 = (A2 - (np.arange(10)[:, np.newaxis] == Y)) / Y.size  # A2 - one-hot Y, and the 1/m of all gradients
    dZ1 = W2.T @ dZ2 * (Z1 > 0)
    return dZ1 @ X.T, np.sum(dZ1, axis=1, keepdims=True), dZ2 @ A1.T, np.sum(dZ2, axis=1, keepdims=True)

def update_params(params, gradients, alpha):
    return [param - alpha * gradient for param, gradient in zip(params, gradients, strict=True)]

def get_accuracy(A2, Y):
    return np.mean(np.argmax(A2, axis=0) == Y)

def gradient_descent(X, Y, X_test, Y_test, iterations=100, alpha=0.1):
    params = init_params()
    for i in range(iterations + 1):
        layers = forward_prop(*params, X)
        if i % 10 == 0:
            print(f"epoch {i:5}   accuracy {get_accuracy(layers[-1], Y):.4f}")
        if i < iterations:
            params = update_params(params, back_prop(*layers, params[2], X, Y), alpha)
    print(f"test          accuracy {get_accuracy(forward_prop(*params, X_test)[-1], Y_test):.4f}")

if __name__ == "__main__":
    files = sorted(Path(__file__).resolve().parents[1].glob("data/mnist/*.gz"))  # t10k, train
    X_test, Y_test, X, Y = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    X_test, X = (pixels[16:].reshape(-1, 784).T / 255 for pixels in (X_test, X))  # a column for each image
    gradient_descent(X, Y[8:], X_test, Y_test[8:])
