"""The layers, forward and backward. A layer's parameters and gradients have the same type."""

from typing import NamedTuple

from xpnet._lib.tree import tree_map
from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic, Matrix
from xpnet.arithmetic.blocks import block_bounds
from xpnet.arithmetic.elementary import flush_tiny


class Linear(NamedTuple):
    """The parameters of Z = W A + b, or their gradients."""

    weight: Array  # (units, inputs), the notebook's W; or an Operand, for several products
    bias: Array  # (units, 1), the notebook's b


def linear(ops: Arithmetic, layer: Linear, a: Matrix) -> Array:
    """Return Z = W A + b: (inputs, samples) -> (units, samples)."""
    return ops.matmul(layer.weight, a) + layer.bias


def linear_backward(ops: Arithmetic, a: Matrix, dz: Matrix) -> Linear:
    """Return the gradients with respect to the parameters, summed over the samples: dW = dZ Aᵀ, db = Σ dZ.

    ``a`` (inputs, samples) is the layer's input, ``dz`` (units, samples) the gradient of the loss with
    respect to its output. The notebook's factor 1/m is applied once, when all blocks are added.
    """
    return Linear(*ops.weight_and_bias_gradients(dz, a))


def linear_backward_input(ops: Arithmetic, layer: Linear, dz: Matrix) -> Array:
    """Return the gradient with respect to the input, dA = Wᵀ dZ: (units, samples) -> (inputs, samples)."""
    return ops.matmul(ops.transpose(layer.weight), dz)


EPSILON = 1e-5
"""Added to a variance before batch normalisation divides by its root."""

BATCH_WEIGHT = 0.1
"""The weight of a batch in the running statistics."""


class BatchNorm(NamedTuple):
    """The parameters of Y = gamma Ẑ + beta, or their gradients; Ẑ: mean 0, variance 1."""

    gamma: Array  # (units, 1)
    beta: Array  # (units, 1)


Parameters = list[Linear | BatchNorm]
"""The parameters of a network: a Linear for each layer; with batch norm a BatchNorm for all but the last."""


class RunningStatistics(NamedTuple):
    """The running mean and (unbiased) variance of each unit's Z, by which evaluation normalises."""

    mean: Array  # (units, 1)
    variance: Array  # (units, 1)


class BatchMoments(NamedTuple):
    """Sums over the samples of a block, from which a batch's mean and variance follow."""

    values: Array  # (units, 1), Σ z over a block
    squares: Array  # (units, 1), Σ (z - μ)² over a block, with μ the block's own mean


class Normalized(NamedTuple):
    """The cache of batch normalisation for its backward pass, and the block's sums."""

    values: Array  # (units, samples), Ẑ
    scale: Array  # (units, 1), 1 / √(variance + ε)
    sums: BatchMoments


def batch_norm(ops: Arithmetic, layer: BatchNorm, z: Array) -> tuple[Array, Normalized]:
    """Return Y = gamma Ẑ + beta, Ẑ = (Z - μ) / √(v + ε), with the mean μ and variance v of these samples.

    Ioffe & Szegedy 2015, algorithm 1; ε = 1e-5, and v = Σ (z - μ)² / n over the n samples (biased). If a
    batch has several blocks, each is normalised separately ("ghost batches", Hoffer et al. 2017).
    """
    share = 1.0 / z.shape[-1]
    total = ops.sum(z, axis=-1)
    centred = z - total * share
    squares = ops.sum(centred * centred, axis=-1)
    scale = _reciprocal_deviation(ops, squares * share)
    values = centred * scale
    return layer.gamma * values + layer.beta, Normalized(values, scale, BatchMoments(total, squares))


def batch_norm_backward(
    ops: Arithmetic, layer: BatchNorm, normalized: Normalized, dy: Array
) -> tuple[BatchNorm, Array]:
    """Return the gradients with respect to gamma, Σ dY .* Ẑ, and beta, Σ dY, as a BatchNorm, and dZ.

    dZ = gamma / √(v + ε) .* (dY - (dbeta + Ẑ dgamma) / n), which is section 3 of Ioffe & Szegedy 2015 with
    their gradients with respect to μ and v inserted, which remove from dY its mean and its part along Ẑ.
    """
    values, scale, _ = normalized
    dgamma = ops.sum(dy * values, axis=-1)
    dbeta = ops.sum(dy, axis=-1)
    common = (dbeta + values * dgamma) * (1.0 / dy.shape[-1])
    return BatchNorm(dgamma, dbeta), (layer.gamma * scale) * (dy - common)


def batch_norm_inference(ops: Arithmetic, layer: BatchNorm, running: RunningStatistics, z: Array) -> Array:
    """Return Y = gamma (Z - μ) / √(v + ε) + beta with the running mean μ and variance v."""
    values = (z - running.mean) * _reciprocal_deviation(ops, running.variance)
    return layer.gamma * values + layer.beta


def update_running_statistics(
    running: RunningStatistics, moments: BatchMoments, factors: tuple[float, float]
) -> RunningStatistics:
    """Return running + 0.1 (batch - running), after a batch.

    ``moments`` are those of the batch's blocks, added up, and ``factors`` `mean_and_variance_factors`.
    The batch's mean is Σ z / samples; its variance is Σ (z - μ)² / (samples - blocks), without bias because
    each block has a mean μ of its own; for a batch of one block this is PyTorch's convention.
    """

    def update(old: Array, total: Array, factor: float) -> Array:
        return flush_tiny(old + (total * factor - old) * BATCH_WEIGHT)

    return tree_map(update, running, moments, factors)


def mean_and_variance_factors(count: int) -> tuple[float, float]:
    """Return the factors that turn sums over a batch of ``count`` samples into means and variances.

    1 / samples and 1 / (samples - blocks); a batch of single samples has no variance, and 0 over 1.
    """
    return 1.0 / count, 1.0 / max(count - len(block_bounds(count)), 1)


def _reciprocal_deviation(ops: Arithmetic, variance: Array) -> Array:
    return ops.reciprocal(ops.sqrt(variance + EPSILON))


def dropout(ops: Arithmetic, a: Array, mask: Array | None, scale: float) -> Array:
    """Return A times ``scale`` where the mask (samples, units) is true, and 0 elsewhere; A without a mask.

    Srivastava et al. 2014, "inverted": with ``scale`` = 1 / (1 - p) the mean stays what it is, and
    evaluation needs no change. It is linear in A, so that the same function takes dY to dA.
    """
    if mask is None:
        return a
    return ops.xp.where(ops.xp.matrix_transpose(mask), a * scale, 0.0)
