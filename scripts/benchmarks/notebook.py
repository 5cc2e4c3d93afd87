"""The notebook's network as the notebook writes it, as a script: the baseline of the benchmarks.

Reads the two CSV files (see scripts/export_csv.py), trains in float64 and prints what the notebook prints.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd


def init_params():
    W1 = np.random.rand(10, 784) - 0.5
    b1 = np.random.rand(10, 1) - 0.5
    W2 = np.random.rand(10, 10) - 0.5
    b2 = np.random.rand(10, 1) - 0.5
    return W1, b1, W2, b2


def ReLU(Z):
    return np.maximum(Z, 0)


def softmax(Z):
    return np.exp(Z) / sum(np.exp(Z))


def forward_prop(W1, b1, W2, b2, X):
    Z1 = W1.dot(X) + b1
    A1 = ReLU(Z1)
    Z2 = W2.dot(A1) + b2
    A2 = softmax(Z2)
    return Z1, A1, Z2, A2


def one_hot(Y):
    one_hot_Y = np.zeros((Y.size, 10))
    one_hot_Y[np.arange(Y.size), Y] = 1
    return one_hot_Y.T


def deriv_ReLU(Z):
    return Z > 0


def back_prop(Z1, A1, A2, W2, X, Y):
    n = Y.size
    dZ2 = A2 - one_hot(Y)
    dW2 = (1 / n) * dZ2.dot(A1.T)
    db2 = ((1 / n) * np.sum(dZ2, axis=1)).reshape((10, 1))
    dZ1 = W2.T.dot(dZ2) * deriv_ReLU(Z1)
    dW1 = (1 / n) * dZ1.dot(X.T)
    db1 = ((1 / n) * np.sum(dZ1, axis=1)).reshape((10, 1))
    return dW1, db1, dW2, db2


def update_params(W1, b1, W2, b2, dW1, db1, dW2, db2, alpha):
    W1 = W1 - alpha * dW1
    b1 = b1 - alpha * db1
    W2 = W2 - alpha * dW2
    b2 = b2 - alpha * db2
    return W1, b1, W2, b2


def get_predictions(A2):
    return np.argmax(A2, 0)


def get_accuracy(predictions, Y):
    return np.sum(predictions == Y) / Y.size


def gradient_descent(X, Y, iterations, alpha, start=None):
    W1, b1, W2, b2 = init_params() if start is None else start
    for i in range(iterations):
        Z1, A1, _, A2 = forward_prop(W1, b1, W2, b2, X)
        dW1, db1, dW2, db2 = back_prop(Z1, A1, A2, W2, X, Y)
        W1, b1, W2, b2 = update_params(W1, b1, W2, b2, dW1, db1, dW2, db2, alpha)
        if i % 10 == 0:
            print("Iteration: ", i)
            print(get_accuracy(get_predictions(A2), Y))
    return W1, b1, W2, b2


def main(folder: Path) -> None:
    train_data = np.array(pd.read_csv(folder / "mnist_train.csv"))
    dev_data = np.array(pd.read_csv(folder / "mnist_test.csv"))
    np.random.shuffle(train_data)
    X_train, Y_train = train_data[:, 1:].T / 255, train_data[:, 0].T
    X_dev, Y_dev = dev_data[:, 1:].T / 255, dev_data[:, 0].T
    W1, b1, W2, b2 = gradient_descent(X_train, Y_train, 100, 0.1)
    _, _, _, A2 = forward_prop(W1, b1, W2, b2, X_dev)
    print(get_accuracy(get_predictions(A2), Y_dev))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
