"""The data and the network of docs/reproducibility.md, written from that page alone: sections 8 and 9."""

import math
from typing import NamedTuple

import numpy as np
from reference import blocks, elementwise, exp, folded_sum, log, sqrt, tiny


class Layer(NamedTuple):
    """The parameters and running statistics of a layer, as in the fingerprint, or gradients of them.

    Without batch normalisation the last four are empty. Beside gradients stand S and Q (9.3).
    """

    weight: np.ndarray
    bias: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def pack(network):  # all numbers of a network, in the order of the fingerprint (13)
    return np.concatenate([array.ravel() for layer in network for array in layer])


def unpack(numbers, like):  # the network of these numbers, with the shapes of another
    parts = iter(np.split(numbers, np.cumsum([array.size for layer in like for array in layer])))
    return [Layer(*(next(parts).reshape(array.shape) for array in layer)) for layer in like]


# The data

SMALLEST = {"pixels": 0.0, "floats": 2.0**-1022, "float32": 2.0**-126}
"""The smallest normal number of each type of features."""


def feature(x, kind):  # what features of a type count as (8.1)
    return np.where(np.abs(x) < SMALLEST[kind], np.copysign(0.0, x), x)


def normalisation(kind, x, *, pixels):
    """Return shift and scale of training samples: a number, or one for each feature (8.3)."""
    if kind == "none":
        return 0.0, 1.0
    if kind == "scale":
        return 0.0, 1 / (255 if pixels else np.max(np.abs(x)) or 1.0)
    if pixels:
        values = x.astype(int).ravel().tolist()
        number, total, squares = len(values), sum(values), sum(value * value for value in values)
        deviation = math.sqrt((number * squares - total * total) / number**2)  # Python's / of integers is fl
        return total / number, 1 / deviation if deviation else 1.0
    return tuple(map(np.array, zip(*map(_statistics, x.T), strict=True)))


def _statistics(column):
    shift = math.fsum(column) / len(column)
    deviation = math.sqrt(math.fsum((x - shift) * (x - shift) for x in column) / len(column))
    return shift, 1 / deviation if deviation else 1.0


def weights_of(labels, own, of_classes=None):
    """Return w of all training samples, from their own weights and those of the classes (8.4)."""
    w = np.ones(len(labels)) if own is None else np.array(own) / max(own)
    return w if of_classes is None else w * (np.array(of_classes) / max(of_classes))[labels]


def balance(w, labels):  # w of samples divided by the sum of those of their class (8.4)
    return w / np.bincount(labels, w)[labels]


def weight_factors(labels, w, *, balanced):
    """Return the factors of the samples that are not held out, from their w (8.4)."""
    w = balance(w, labels) if balanced else w
    w = w / max(w)
    return w * (len(w) / math.fsum(w))


# The network


@elementwise
def tanh(z):  # the hyperbolic tangent (9.2)
    if abs(z) < 0.625:
        s = z * z
        n = ((s + 594) * s + 45045) * s + 675675
        d = (((s + 630) * s + 51975) * s + 945945) * s + 2027025
        return z - z * (s * (n / d))
    t = exp(abs(z) * (-2))
    value = (1 - t) / (1 + t)
    return -value if z < 0 else value


def sigmoid(z):  # the logistic function (9.2)
    t = exp(-abs(z))
    return np.where(z < 0, t, 1.0) / (1 + t)


def elu(z):  # the exponential linear unit (9.2)
    t = tanh(np.minimum(z, 0.0) * 0.5)
    return np.where(z > 0, z, t * 2 / (1 - t))


ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0.0), lambda da, z, a: np.where(z > 0, da, 0.0)),
    "leaky-relu": (lambda z: np.where(z > 0, z, z * 0.01), lambda da, z, a: np.where(z > 0, da, da * 0.01)),
    "sigmoid": (sigmoid, lambda da, z, a: da * (a * (1 - a))),
    "tanh": (tanh, lambda da, z, a: da * (1 - a * a)),
    "elu": (elu, lambda da, z, a: np.where(z > 0, da, da * (a + 1))),
}
"""For each activation a from z, and dz from da, z and a (9.2)."""


def softmax(z):  # the probabilities (9.5)
    e = exp(z - np.max(z, axis=0))
    return e * (1 / folded_sum(e))


def targets(labels, classes, smoothing):  # y (9.5)
    y = np.eye(classes)[:, labels]
    return y * (1 - smoothing) + smoothing / classes if smoothing > 0 else y


def cross_entropy(z, y):  # the losses of samples (9.5)
    t = z - np.max(z, axis=0)
    return log(folded_sum(exp(t))) - folded_sum(np.where(y == 0, 0.0, y * t))


def squared_error(z, y):  # the losses of samples (9.5)
    d = softmax(z) - y
    return tiny(folded_sum(d * d) * 0.5)


def squared_error_backward(z, y):  # dZ (9.5)
    a = softmax(z)
    d = a - y
    return a * (d - folded_sum(a * d))


LOSSES = {
    "cross-entropy": (cross_entropy, lambda z, y: softmax(z) - y),
    "squared-error": (squared_error, squared_error_backward),
}


def total(rows):
    return folded_sum(rows.T)[:, np.newaxis]


def batch_norm(z, gamma, beta):  # Y of a block, what its backward pass takes, and S and Q (9.3)
    h = 1 / z.shape[1]
    s = total(z)
    c = z - s * h
    q = total(c * c)
    r = 1 / sqrt(q * h + 1e-5)
    z_hat = c * r
    return gamma * z_hat + beta, (z_hat, r), (s, q)


def batch_norm_backward(dy, gamma, z_hat, r):  # dZ of a block, dgamma and dbeta (9.3)
    h = 1 / dy.shape[1]
    dgamma, dbeta = total(dy * z_hat), total(dy)
    return (gamma * r) * (dy - (dbeta + z_hat * dgamma) * h), dgamma, dbeta


def batch_norm_evaluation(z, gamma, beta, mean, variance):  # Y by the running statistics (9.3)
    return gamma * ((z - mean) * (1 / sqrt(variance + 1e-5))) + beta


def update_statistics(layer, sums, samples):
    """Return the layer with the running statistics after a batch with these S and Q (9.3)."""
    of_mean, of_variance = 1 / samples, 1 / max(samples - len(blocks(samples)), 1)
    mean = tiny(layer.mean + (sums.mean * of_mean - layer.mean) * 0.1)
    variance = tiny(layer.variance + (sums.variance * of_variance - layer.variance) * 0.1)
    return layer._replace(mean=mean, variance=variance)
