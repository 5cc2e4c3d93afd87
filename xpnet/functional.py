"""The notebook's functions, each beside its gradient: ReLU, softmax, cross-entropy, one-hot.

Samples are columns: a matrix of activations is (..., units, samples), as in the notebook. ``ops`` is the
arithmetic in force; ``ops.xp`` is the array namespace.
"""

from xpnet.arithmetic.base import Arithmetic
from xpnet.backends.base import Array


def relu(ops: Arithmetic, z: Array) -> Array:
    """Return A = max(Z, 0), elementwise. NaN stays NaN."""
    return ops.xp.maximum(z, 0.0)


def relu_backward(ops: Arithmetic, da: Array, z: Array) -> Array:
    """Return dZ = dA .* g'(Z), where g'(Z) is 1 for Z > 0 and 0 elsewhere. All shapes are Z's."""
    return ops.xp.where(z > 0, da, 0.0)


def one_hot(ops: Arithmetic, labels: Array, classes: int) -> Array:
    """Return Y, (..., classes, samples): a one in the row of each sample's label, zeros elsewhere.

    ``labels`` (..., samples) are integers in 0 … classes - 1.
    """
    rows = ops.xp.arange(classes, dtype=labels.dtype, device=ops.device)
    matches = ops.xp.expand_dims(rows, axis=1) == ops.xp.expand_dims(labels, axis=-2)
    return ops.xp.astype(matches, ops.dtype)


def softmax(ops: Arithmetic, z: Array) -> Array:
    """Return the probabilities exp(z_i) / Σ_j exp(z_j) over the units, (..., units, samples).

    The largest logit of each sample is subtracted first, which changes nothing but keeps exp in range.
    """
    exponentials = ops.exp(_below_maximum(ops, z))
    return exponentials * _reciprocal(ops, ops.sum(exponentials, axis=-2))


def cross_entropy(ops: Arithmetic, z: Array, y: Array) -> Array:
    """Return the cross-entropy of each sample, (..., 1, samples), in nats.

    -log softmax(z)_label = log Σ_j exp(z_j) - z_label, with logits ``z`` and one-hot labels ``y``, both
    (..., units, samples).
    """
    shifted = _below_maximum(ops, z)
    total = ops.sum(ops.exp(shifted), axis=-2)
    # One term of each column is not zero, so this sum is exact in any order.
    of_label = ops.xp.sum(ops.xp.where(y > 0, shifted, 0.0), axis=-2, keepdims=True)
    return ops.log(total) - of_label


def softmax_cross_entropy_backward(probabilities: Array, y: Array) -> Array:
    """Return dZ = A - Y, the gradient of each sample's cross-entropy by the logits Z.

    ``probabilities`` is A = softmax(Z). Derived in docs/math.md; all shapes are (..., units, samples).
    """
    return probabilities - y


def predictions(ops: Arithmetic, z: Array) -> Array:
    """Return the unit with the largest activation (the first of equals) of each sample, (..., samples)."""
    return ops.xp.argmax(z, axis=-2)


def correct(ops: Arithmetic, predicted: Array, labels: Array) -> Array:
    """Return how many of the predictions are right, a 0-dimensional int32."""
    return ops.xp.sum(ops.xp.astype(predicted == labels, ops.xp.int32), dtype=ops.xp.int32)


def _below_maximum(ops: Arithmetic, z: Array) -> Array:
    return z - ops.xp.max(z, axis=-2, keepdims=True)


def _reciprocal(ops: Arithmetic, x: Array) -> Array:
    # Equal shapes: libraries that divide by a broadcast operand may multiply by its reciprocal instead.
    return ops.xp.ones_like(x) / x
