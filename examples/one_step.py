"""A training step of a 2-2-2 network in the numbers of docs/math.md, and a check of its kind of gradients."""

import numpy as np

from xpnet.arithmetic import Native
from xpnet.nn import functional as F
from xpnet.nn.architecture import Network
from xpnet.nn.init import initialize
from xpnet.nn.layers import Linear, linear, linear_backward, linear_backward_input
from xpnet.nn.network import forward, gradients_and_moments, sample_losses

ops = Native(np, None, np.float64)  # NumPy's own matrix products, sums, exp and log
X, labels = np.array([[1.0, 2.0], [2.0, 0.0]]), np.array([0, 1])
W1, b1 = np.array([[1.0, -0.5], [-1.0, 1.0]]), np.array([[0.5], [0.0]])
W2, b2 = np.array([[-0.5, 0.5], [0.5, 0.0]]), np.array([[0.0], [0.5]])
Y, m, alpha = F.one_hot(ops, labels, 2), 2, 0.5


def forward_prop():
    Z1 = linear(ops, Linear(W1, b1), X)
    A1 = F.relu(ops, Z1)
    return Z1, A1, linear(ops, Linear(W2, b2), A1)


def show(**arrays):
    for name, array in arrays.items():
        print(f"{name:<4}", array.round(4).tolist())


Z1, A1, Z2 = forward_prop()
A2 = F.softmax(ops, Z2)
show(Z1=Z1, A1=A1, Z2=Z2, A2=A2, loss=F.cross_entropy(ops, Z2, Y).mean())

dZ2 = F.softmax_cross_entropy_backward(A2, Y)
dW2, db2 = (total / m for total in linear_backward(ops, A1, dZ2))
dA1 = linear_backward_input(ops, Linear(W2, b2), dZ2)
dZ1 = F.relu_backward(ops, dA1, Z1)
dW1, db1 = (total / m for total in linear_backward(ops, X, dZ1))
show(dZ2=dZ2, dW2=dW2, db2=db2, dA1=dA1, dZ1=dZ1, dW1=dW1, db1=db1)

W1, b1, W2, b2 = W1 - alpha * dW1, b1 - alpha * db1, W2 - alpha * dW2, b2 - alpha * db2
show(W1=W1, b1=b1, W2=W2, b2=b2, loss=F.cross_entropy(ops, forward_prop()[-1], Y).mean())

network, generator, h = Network((6, 5, 4)), np.random.default_rng(0), 1e-5
X, labels = generator.normal(size=(6, 8)), generator.integers(0, 4, size=8)
parameters = initialize(network.sizes, seed=0)
gradients, _ = gradients_and_moments(ops, parameters, X, labels, network)


def loss():
    logits, _ = forward(ops, parameters, X, network)
    return sample_losses(ops, logits, labels, network).sum()


def central_difference(array, index):
    value, losses = array[index], []
    for moved in (value + h, value - h):
        array[index] = moved
        losses.append(loss())
    array[index] = value
    return (losses[0] - losses[1]) / (2 * h)


checked = [
    (gradient[index], central_difference(array, index))
    for layer, of_layer in zip(parameters, gradients, strict=True)
    for array, gradient in zip(layer, of_layer, strict=True)
    for index in np.ndindex(array.shape)
]
analytic, numeric = np.transpose(checked)
print(f"{len(checked)} parameters, largest gradient {abs(analytic).max():.4f}")
difference = abs(analytic - numeric).max() / abs(analytic).max()
print(f"largest relative difference {difference:.0e}")
