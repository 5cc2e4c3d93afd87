"""The training of numpy_only.py from xpnet's layers, on any --backend with equal bits, as it is written."""

import argparse

from xpnet.arithmetic import Reproducible, random
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.backends.resolve import resolve
from xpnet.cli.guard import handle_errors
from xpnet.data import datasets
from xpnet.nn import functional as F
from xpnet.nn.init import initialize
from xpnet.nn.layers import Linear, linear, linear_backward, linear_backward_input
from xpnet.storage.model_file import fingerprint


def gradient_descent(backend, data, epochs=100, alpha=0.1):
    ops = Reproducible(backend.xp, backend.device, backend.xp.float64)
    put, m = backend.from_host, len(data.y_train)
    # Exact sums over blocks of 1,024 shuffled images, added in a fixed order: the bits of `xpnet train`.
    order = random.permutation(0, m, epoch=0)
    blocks = [(put(data.x_train[order[i:j]].T), put(data.y_train[order[i:j]])) for i, j in block_bounds(m)]
    (W1, b1), (W2, b2) = (map(put, layer) for layer in initialize((784, 10, 10), seed=0))
    for epoch in range(epochs):
        sums = []
        for X, labels in blocks:
            A0, Y = ops.integers(X, 1 / 255), F.one_hot(ops, labels, 10)  # A0 = X / 255
            Z1 = linear(ops, Linear(W1, b1), A0)  # W1 A0 + b1
            A1 = F.relu(ops, Z1)
            Z2 = linear(ops, Linear(W2, b2), A1)  # W2 A1 + b2
            A2 = F.softmax(ops, Z2)
            dZ2 = F.softmax_cross_entropy_backward(A2, Y)  # A2 - Y
            dW2, db2 = linear_backward(ops, A1, dZ2)  # dZ2 A1ᵀ, Σ dZ2
            dA1 = linear_backward_input(ops, Linear(W2, b2), dZ2)  # W2ᵀ dZ2
            dZ1 = F.relu_backward(ops, dA1, Z1)  # dA1 where Z1 > 0, else 0
            dW1, db1 = linear_backward(ops, A0, dZ1)  # dZ1 A0ᵀ, Σ dZ1
            if epoch == 0 and not sums:
                names = "X W1 b1 Z1 A1 W2 b2 Z2 A2 Y dZ2 dW2 db2 dA1 dZ1 dW1 db1"
                for name in names.split():
                    print("{:3} {:4} x {}".format(name, *locals()[name].shape))
            sums.append((dW1, db1, dW2, db2, F.count_correct(ops, F.predictions(ops, A2), labels)))
        *grads, correct = tree_sum(sums)
        if epoch % 10 == 0:
            print(f"epoch {epoch:5}   accuracy {int(correct[0]) / m:.4f}")
        W1, b1, W2, b2 = (p - alpha * (g * (1 / m)) for p, g in zip((W1, b1, W2, b2), grads, strict=True))
    A1 = F.relu(ops, linear(ops, Linear(W1, b1), ops.integers(put(data.x_test.T), 1 / 255)))
    predictions = backend.to_host(F.predictions(ops, linear(ops, Linear(W2, b2), A1)))
    print(f"test          accuracy {(predictions == data.y_test).mean():.4f}")
    return [{"weight": backend.to_host(W), "bias": backend.to_host(b)} for W, b in ((W1, b1), (W2, b2))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--backend", "auto"), ("--device", "auto"), ("--epochs", 100)):
        parser.add_argument(flag, type=type(default), default=default)
    args = parser.parse_args()
    with handle_errors(debug=False) as output:
        backend = resolve(args.device, args.backend, require_device=args.device != "auto").backend
        with backend.scope(), backend.workers(1):
            print("fingerprint  ", fingerprint(gradient_descent(backend, datasets.load(), args.epochs)))
    raise SystemExit(output.code)
