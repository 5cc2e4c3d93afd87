"""The data and the network of docs/reproducibility.md, written from that page alone: sections 8 and 9."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from reference import Matrix, Vector, block_bounds, exp, folded_sum, log, sqrt, tiny


class Layer(NamedTuple):
    """The parameters and running statistics of a layer, or gradients of them, or sums over a batch.

    Without batch normalisation the last four are empty. Beside gradients stand S and Q (9.3).
    """

    weight: Matrix
    bias: list[float]
    gamma: list[float]
    beta: list[float]
    mean: list[float]
    variance: list[float]

    @property
    def rows(self) -> list[list[float]]:
        """All numbers, in the order of the fingerprint (13)."""
        return [*self.weight, self.bias, self.gamma, self.beta, self.mean, self.variance]

    @property
    def parameters(self) -> "Layer":
        """What an optimiser changes."""
        return self._replace(mean=[], variance=[])


Network = list[Layer]


def transpose(matrix: Sequence[Vector]) -> Matrix:
    """Return the columns of a matrix as rows."""
    return [list(column) for column in zip(*matrix, strict=True)]


def elementwise(operation: Callable[..., float], *networks: Network) -> Network:
    """Combine networks' worth of numbers, number by number."""

    def combine(*rows: Vector) -> list[float]:
        return list(map(operation, *rows))

    return [
        Layer(
            [combine(*rows) for rows in zip(*(layer.weight for layer in layers), strict=True)],
            *(combine(*vectors) for vectors in zip(*(layer[1:] for layer in layers), strict=True)),
        )
        for layers in zip(*networks, strict=True)
    ]


# The data

SMALLEST = {"pixels": 0.0, "floats": 2.0**-1022, "float32": 2.0**-126}
"""The smallest normal number of each type of features."""


def feature(x: float, kind: str) -> float:
    """Return what a feature of a type counts as (8.1)."""
    return math.copysign(0.0, x) if abs(x) < SMALLEST[kind] else x


def normalisation(kind: str, x: Sequence[Vector], *, pixels: bool) -> tuple[Any, Any]:
    """Return shift and scale of training samples: a number, or one for each feature (8.3)."""
    if kind == "none":
        return 0.0, 1.0
    if kind == "scale":
        largest = 255 if pixels else max(abs(value) for row in x for value in row)
        return 0.0, 1 / (largest or 1)
    if pixels:
        values = [int(value) for row in x for value in row]
        number, total, squares = len(values), sum(values), sum(value * value for value in values)
        deviation = math.sqrt((number * squares - total * total) / number**2)  # Python's / of integers is fl
        return total / number, 1 / deviation if deviation else 1.0
    statistics = [_statistics(column) for column in zip(*x, strict=True)]
    return [shift for shift, _ in statistics], [scale for _, scale in statistics]


def _statistics(column: Vector) -> tuple[float, float]:
    shift = math.fsum(column) / len(column)
    deviation = math.sqrt(math.fsum((x - shift) * (x - shift) for x in column) / len(column))
    return shift, 1 / deviation if deviation else 1.0


def normalised(x: Vector, shift: Any, scale: Any) -> list[float]:
    """Return the features of a sample with shift and scale, of all features or of each (8.3)."""
    if not isinstance(shift, list):
        return [(value - shift) * scale for value in x]
    return [(value - a) * b for value, a, b in zip(x, shift, scale, strict=True)]


def weights_of(
    labels: Sequence[int], own: Sequence[float] | None, of_classes: Sequence[float] | None = None
) -> list[float]:
    """Return w of all training samples, from their own weights and those of the classes (8.4)."""
    w = [1.0] * len(labels) if own is None else [s / max(own) for s in own]
    if of_classes is not None:
        w = [value * (of_classes[label] / max(of_classes)) for label, value in zip(labels, w, strict=True)]
    return w


def balance(w: list[float], labels: Sequence[int]) -> list[float]:
    """Return w of samples divided by the sum of those of their class (8.4)."""
    totals: dict[int, float] = {}
    for label, value in zip(labels, w, strict=True):
        totals[label] = totals.get(label, 0.0) + value
    return [value / totals[label] for label, value in zip(labels, w, strict=True)]


def weight_factors(labels: Sequence[int], w: list[float], *, balanced: bool) -> list[float]:
    """Return the factors of the samples that are not held out, from their w (8.4)."""
    w = balance(w, labels) if balanced else w
    largest = max(w)
    w = [value / largest for value in w]
    mean = len(w) / math.fsum(w)
    return [value * mean for value in w]


# The network


def tanh(z: float) -> float:
    """Return the hyperbolic tangent (9.2)."""
    if abs(z) < 0.625:
        s = z * z
        n = ((s + 594) * s + 45045) * s + 675675
        d = (((s + 630) * s + 51975) * s + 945945) * s + 2027025
        return z - z * (s * (n / d))
    t = exp(abs(z) * (-2))
    value = (1 - t) / (1 + t)
    return -value if z < 0 else value


def sigmoid(z: float) -> float:
    """Return the logistic function (9.2)."""
    t = exp(-abs(z))
    return t / (1 + t) if z < 0 else 1 / (1 + t)


def elu(z: float) -> float:
    """Return the exponential linear unit (9.2)."""
    if z > 0:
        return z
    t = tanh(z * 0.5)
    return t * 2 / (1 - t)


Activation = tuple[Callable[[float], float], Callable[[float, float, float], float]]
ACTIVATIONS: dict[str, Activation] = {
    "relu": (lambda z: max(0.0, z), lambda da, z, a: da if z > 0 else 0.0),
    "leaky-relu": (lambda z: z if z > 0 else z * 0.01, lambda da, z, a: da if z > 0 else da * 0.01),
    "sigmoid": (sigmoid, lambda da, z, a: da * (a * (1 - a))),
    "tanh": (tanh, lambda da, z, a: da * (1 - a * a)),
    "elu": (elu, lambda da, z, a: da if z > 0 else da * (a + 1)),
}
"""For each activation a from z, and dz from da, z and a (9.2)."""


def softmax(column: Vector) -> list[float]:
    """Return the probabilities of one sample (9.5)."""
    e = [exp(z - max(column)) for z in column]
    reciprocal = 1 / folded_sum(e)
    return [value * reciprocal for value in e]


def targets(label: int, classes: int, smoothing: float) -> list[float]:
    """Return y of a sample (9.5)."""
    y = [float(unit == label) for unit in range(classes)]
    return [value * (1 - smoothing) + smoothing / classes for value in y] if smoothing > 0 else y


def cross_entropy(column: Vector, y: Vector) -> float:
    """Return the loss of a sample (9.5)."""
    t = [z - max(column) for z in column]
    terms = [0.0 if target == 0 else target * value for target, value in zip(y, t, strict=True)]
    return log(folded_sum([exp(value) for value in t])) - folded_sum(terms)


def squared_error(column: Vector, y: Vector) -> float:
    """Return the loss of a sample (9.5)."""
    d = [a - target for a, target in zip(softmax(column), y, strict=True)]
    return tiny(folded_sum([value * value for value in d]) * 0.5)


def cross_entropy_backward(column: Vector, y: Vector) -> list[float]:
    """Return dz of a sample (9.5)."""
    return [a - target for a, target in zip(softmax(column), y, strict=True)]


def squared_error_backward(column: Vector, y: Vector) -> list[float]:
    """Return dz of a sample (9.5)."""
    probabilities = softmax(column)
    d = [a - target for a, target in zip(probabilities, y, strict=True)]
    mean = folded_sum([a * value for a, value in zip(probabilities, d, strict=True)])
    return [a * (value - mean) for a, value in zip(probabilities, d, strict=True)]


LOSSES = {
    "cross-entropy": (cross_entropy, cross_entropy_backward),
    "squared-error": (squared_error, squared_error_backward),
}


class Normalised(NamedTuple):
    """Batch normalisation of a block of a unit: what its backward pass takes, and S and Q (9.3)."""

    z_hat: list[float]
    r: float
    s: float
    q: float


def batch_norm(z: Vector, gamma: float, beta: float) -> tuple[list[float], Normalised]:
    """Return y of a unit for a block, and what its backward pass takes (9.3)."""
    h = 1 / len(z)
    s = folded_sum(list(z))
    c = [value - s * h for value in z]
    q = folded_sum([value * value for value in c])
    r = 1 / sqrt(q * h + 1e-5)
    z_hat = [value * r for value in c]
    return [gamma * value + beta for value in z_hat], Normalised(z_hat, r, s, q)


def batch_norm_backward(dy: Vector, gamma: float, of: Normalised) -> tuple[list[float], float, float]:
    """Return dz of a unit for a block, dgamma and dbeta (9.3)."""
    h = 1 / len(dy)
    dgamma = folded_sum([a * b for a, b in zip(dy, of.z_hat, strict=True)])
    dbeta = folded_sum(list(dy))
    pairs = zip(dy, of.z_hat, strict=True)
    return [(gamma * of.r) * (d - (dbeta + z * dgamma) * h) for d, z in pairs], dgamma, dbeta


def batch_norm_evaluation(z: Vector, gamma: float, beta: float, mean: float, variance: float) -> list[float]:
    """Return y of a unit by its running statistics (9.3)."""
    scale = 1 / sqrt(variance + 1e-5)
    return [gamma * ((value - mean) * scale) + beta for value in z]


def update_statistics(layer: Layer, s: Vector, q: Vector, samples: int) -> Layer:
    """Return the layer with the running statistics after a batch with these S and Q (9.3)."""
    blocks = len(block_bounds(samples))
    of_mean, of_variance = 1 / samples, 1 / max(samples - blocks, 1)
    mean = [tiny(m + (x * of_mean - m) * 0.1) for m, x in zip(layer.mean, s, strict=True)]
    variance = [tiny(v + (x * of_variance - v) * 0.1) for v, x in zip(layer.variance, q, strict=True)]
    return layer._replace(mean=mean, variance=variance)


def add_bias(matrix: Matrix, bias: list[float]) -> Matrix:
    """Return W A + b from W A (9)."""
    return [[z + b for z in row] for row, b in zip(matrix, bias, strict=True)]
