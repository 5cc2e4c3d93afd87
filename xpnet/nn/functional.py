"""Activations, softmax and losses, each beside its gradient. ReLU and cross-entropy are the notebook's.

Samples are columns: a matrix of activations is (..., units, samples), as in the notebook. ``ops`` is the
arithmetic in force; ``ops.xp`` is the array namespace. ``ACTIVATIONS`` and ``LOSSES`` list them by name.
"""

from typing import NamedTuple

from xpnet._typing import Args, Array, Function
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.elementary import flush_tiny


def relu(ops: Arithmetic, z: Array) -> Array:
    """Return A = max(Z, 0), elementwise. NaN stays NaN."""
    return ops.xp.maximum(z, 0.0)


def relu_backward(ops: Arithmetic, da: Array, z: Array) -> Array:
    """Return dZ = dA .* g'(Z), where g'(Z) is 1 for Z > 0 and 0 elsewhere. All shapes are Z's."""
    return ops.xp.where(z > 0, da, 0.0)


LEAK = 0.01
"""The slope of leaky ReLU below 0."""


def leaky_relu(ops: Arithmetic, z: Array) -> Array:
    """Return Z where Z > 0 and 0.01 Z elsewhere (Maas et al. 2013). NaN stays NaN."""
    return ops.xp.where(z > 0, z, z * LEAK)


def leaky_relu_backward(ops: Arithmetic, da: Array, z: Array, _a: Array) -> Array:
    """Return dZ = dA .* g'(Z), where g'(Z) is 1 for Z > 0 and 0.01 elsewhere."""
    return ops.xp.where(z > 0, da, da * LEAK)


def tanh(ops: Arithmetic, z: Array) -> Array:
    """Return the hyperbolic tangent, elementwise. NaN stays NaN.

    For |z| ≥ ⅝ it is (1 - t) / (1 + t) with t = exp(-2|z|), which cannot overflow, and the sign of z. Nearer
    to 0, where 1 - t has few digits left, it is Lambert's continued fraction z / (1 + z²/(3 + z²/(5 + …)))
    down to the 15. The largest errors in float64 are in docs/reproducibility.md.
    """
    xp = ops.xp
    near = xp.abs(z) < 0.625
    t = ops.exp(xp.abs(z) * -2.0)
    far = (1.0 - t) / (1.0 + t)
    safe = xp.where(near, z, 0.0)
    s = safe * safe
    numerator = ((s + 594.0) * s + 45045.0) * s + 675675.0
    denominator = (((s + 630.0) * s + 51975.0) * s + 945945.0) * s + 2027025.0
    return xp.where(near, safe - safe * (s * (numerator / denominator)), xp.where(z < 0, -far, far))


def tanh_backward(_ops: Arithmetic, da: Array, _z: Array, a: Array) -> Array:
    """Return dZ = dA .* g'(Z), where g'(Z) = 1 - A² with A = tanh(Z)."""
    return da * (1.0 - a * a)


def sigmoid(ops: Arithmetic, z: Array) -> Array:
    """Return 1 / (1 + exp(-Z)), elementwise. NaN stays NaN.

    Computed from t = exp(-|z|), which cannot overflow: 1 / (1 + t), or t / (1 + t) for z < 0.
    """
    t = ops.exp(-ops.xp.abs(z))
    return ops.xp.where(z < 0, t, 1.0) / (1.0 + t)


def sigmoid_backward(_ops: Arithmetic, da: Array, _z: Array, a: Array) -> Array:
    """Return dZ = dA .* g'(Z), where g'(Z) = A (1 - A) with A = sigmoid(Z)."""
    return da * (a * (1.0 - a))


def elu(ops: Arithmetic, z: Array) -> Array:
    """Return Z where Z > 0 and exp(Z) - 1 elsewhere (Clevert et al. 2016). NaN stays NaN.

    exp(Z) - 1 = 2t / (1 - t) with t = tanh(Z/2), which near 0 keeps the digits that a difference would lose.
    """
    t = tanh(ops, ops.xp.where(z > 0, 0.0, z) * 0.5)
    return ops.xp.where(z > 0, z, t * 2.0 / (1.0 - t))


def elu_backward(ops: Arithmetic, da: Array, z: Array, a: Array) -> Array:
    """Return dZ = dA .* g'(Z), where g'(Z) is 1 for Z > 0 and A + 1 elsewhere."""
    return ops.xp.where(z > 0, da, da * (a + 1.0))


class Activation(NamedTuple):
    """An elementwise activation function with its gradient, and its forms elsewhere.

    Without a form, a network of this activation has no export, or no field to draw in in its report.
    """

    forward: Function  # (ops, Z) -> A
    backward: Function  # (ops, dA, Z, A) -> dZ
    torch: str | None = None  # a class of torch.nn
    onnx: Args | None = None  # an operator of ONNX and its operands: "z", numbers or such tuples
    script: str | None = None  # a term of z in JavaScript


ACTIVATIONS = {
    "relu": Activation(
        relu,
        lambda ops, da, z, _: relu_backward(ops, da, z),
        torch="ReLU",
        onnx=("Relu", "z"),
        script="Math.max(z, 0)",
    ),
    "leaky-relu": Activation(
        leaky_relu,
        leaky_relu_backward,
        torch="LeakyReLU",
        onnx=("Max", "z", ("Mul", "z", LEAK)),  # LeakyRelu has its slope in float32
        script=f"z > 0 ? z : z * {LEAK}",
    ),
    "elu": Activation(
        elu,
        elu_backward,
        torch="ELU",
        onnx=("Add", ("Relu", "z"), ("Sub", ("Exp", ("Min", "z", 0.0)), 1.0)),  # not every runtime has Elu
        script="z > 0 ? z : Math.expm1(z)",
    ),
    "tanh": Activation(tanh, tanh_backward, torch="Tanh", onnx=("Tanh", "z"), script="Math.tanh(z)"),
    "sigmoid": Activation(
        sigmoid, sigmoid_backward, torch="Sigmoid", onnx=("Sigmoid", "z"), script="1 / (1 + Math.exp(-z))"
    ),
}
"""The activations by name, as in ``Network.activation``."""


def targets(ops: Arithmetic, labels: Array, classes: int, smoothing: float = 0.0) -> Array:
    """Return the target probabilities, (..., classes, samples): (1 - ε) Y + ε / classes.

    Y is ``one_hot``, and ε is the label smoothing of Szegedy et al. 2016, in PyTorch's convention.
    """
    y = one_hot(ops, labels, classes)
    return y * (1.0 - smoothing) + smoothing / classes if smoothing else y


def one_hot(ops: Arithmetic, labels: Array, classes: int) -> Array:
    """Return Y, (..., classes, samples): a one in the row of each sample's label, zeros elsewhere.

    ``labels`` (..., samples) are integers in 0 … classes - 1.
    """
    numbers = ops.xp.arange(classes, dtype=ops.xp.int32, device=ops.device)  # CuPy's of floats are fused
    rows = ops.xp.astype(numbers, labels.dtype)
    row = ops.xp.reshape(labels, (*labels.shape[:-1], 1, labels.shape[-1]))
    return ops.xp.astype(ops.xp.expand_dims(rows, axis=1) == row, ops.dtype)


def softmax(ops: Arithmetic, z: Array, axis: int = -2) -> Array:
    """Return the probabilities exp(z_i) / Σ_j exp(z_j) along an axis, by default over the units.

    The largest logit of each sample is subtracted first, which changes nothing but keeps exp in range.
    """
    exponentials = ops.exp(_subtract_maximum(ops, z, axis))
    return exponentials * ops.reciprocal(ops.sum(exponentials, axis))


def cross_entropy(ops: Arithmetic, z: Array, y: Array) -> Array:
    """Return the cross-entropy of each sample, (..., 1, samples), in nats.

    -Σ_i y_i log softmax(z)_i = log Σ_j exp(z_j) - Σ_i y_i z_i, with logits ``z`` and ``targets`` ``y``, both
    (..., units, samples): for one-hot targets, the last sum is the logit of the label.
    """
    shifted = _subtract_maximum(ops, z)
    total = ops.sum(ops.exp(shifted), axis=-2)
    expected = y * ops.xp.where(y > 0, shifted, 0.0)  # a logit of -infinity counts only where it is a target
    return ops.log(total) - ops.sum(expected, axis=-2)


def softmax_cross_entropy_backward(probabilities: Array, y: Array) -> Array:
    """Return dZ = A - Y, the gradient of each sample's cross-entropy with respect to the logits Z.

    ``probabilities`` is A = softmax(Z). Derived in docs/math.md; all shapes are (..., units, samples).
    """
    return probabilities - y


def squared_error(ops: Arithmetic, z: Array, y: Array) -> Array:
    """Return ½ Σ_i (softmax(z)_i - y_i)² of each sample, (..., 1, samples)."""
    difference = softmax(ops, z) - y
    return flush_tiny(ops.sum(difference * difference, axis=-2) * 0.5)


def squared_error_backward(ops: Arithmetic, probabilities: Array, y: Array) -> Array:
    """Return dZ = A .* (D - Σ_i a_i d_i), with D = A - Y the gradient with respect to A = softmax(Z).

    ∂a_i/∂z_k = a_i (δ_ik - a_k), so that Σ_i d_i ∂a_i/∂z_k = a_k (d_k - Σ_i a_i d_i).
    """
    difference = probabilities - y
    return probabilities * (difference - ops.sum(probabilities * difference, axis=-2))


class Loss(NamedTuple):
    """A loss of each sample's logits and targets, and its gradient."""

    per_sample: Function  # (ops, Z, Y) -> (..., 1, samples)
    backward: Function  # (ops, softmax(Z), Y) -> dZ


LOSSES = {
    "cross-entropy": Loss(cross_entropy, lambda _, a, y: softmax_cross_entropy_backward(a, y)),
    "squared-error": Loss(squared_error, squared_error_backward),
}
"""The losses by name, as in ``Network.loss``."""


def predictions(ops: Arithmetic, z: Array) -> Array:
    """Return the index of the largest logit of each sample, of equal ones the first, (..., samples)."""
    return ops.xp.argmax(z, axis=-2)


def count_correct(ops: Arithmetic, predicted: Array, labels: Array) -> Array:
    """Return the number of correct predictions (..., samples), as (..., 1) int32."""
    right = ops.xp.astype(predicted == labels, ops.xp.int32)
    return ops.xp.sum(right, axis=-1, keepdims=True, dtype=ops.xp.int32)


def _subtract_maximum(ops: Arithmetic, z: Array, axis: int = -2) -> Array:
    return z - ops.xp.max(z, axis=axis, keepdims=True)
