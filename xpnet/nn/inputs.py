"""Normalising the inputs: x = (raw - shift) · scale, with statistics of the training data."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from xpnet._typing import Array, HostArray
from xpnet.arithmetic.base import Arithmetic, Matrix
from xpnet.arithmetic.random import NOISE_STEP
from xpnet.config.settings import Normalize
from xpnet.errors import DataError, setting
from xpnet.nn.architecture import NOTEBOOK, Network
from xpnet.nn.dropout import NO_MASKS, Masks, dropout_scale
from xpnet.nn.layers import dropout

SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}
"""Of floats, by dtype. JAX, and CuPy for float32, compute with 0 in place of what is smaller."""
_VALUES_AT_ONCE = 1 << 15


def flush_subnormals(x: HostArray) -> HostArray:
    """Return features (samples, ...) with zeros of their signs for subnormal floats, itself without such."""
    result, smallest = x, SMALLEST_NORMAL.get(x.dtype.name, 0.0)
    size = 1 + _VALUES_AT_ONCE // max(x[:1].size, 1)
    for start in range(0, len(x) if smallest else 0, size):
        rows = x[start : start + size]
        is_subnormal = (np.abs(rows) < smallest) & (rows != 0)
        if is_subnormal.any():
            result = x.copy() if result is x else result
            result[start : start + size][is_subnormal] *= 0
    return result


@dataclass(frozen=True)
class Inputs:
    """The function from raw rows (..., samples, features) to inputs (..., features, samples).

    Attributes
    ----------
    ops
        The arithmetic.
    shift, scale
        Of the features, () or (features, 1), on the device.
    factor
        The scale as a number if pixels need no shift: they remain integers, with this factor.
    flushes
        True if rows may have subnormal floats, as those in mapped files, which count as zeros.
    """

    ops: Arithmetic
    shift: Array
    scale: Array
    factor: float | None
    flushes: bool = False

    def __call__(self, rows: Array, masks: Masks = NO_MASKS, network: Network = NOTEBOOK) -> Matrix:
        """Return the inputs, with dropout and noise of the magnitudes of the network.

        Those where the mask (samples, features) is true are multiplied by ``dropout_scale``, the others are
        0; then the noise (samples, features), multiples of 2^-15 of ``input_noise``, is added (Bishop 1995,
        "Training with noise is equivalent to Tikhonov regularization").
        """
        xp = self.ops.xp
        mask = masks.inputs
        noise = masks.noise
        kept_scale = dropout_scale(network.input_dropout)
        if self.factor is not None and rows.dtype == xp.uint8 and noise is None:
            kept = rows if mask is None else rows * xp.astype(mask, xp.uint8)
            return self.ops.integers(xp.matrix_transpose(kept), self.factor * kept_scale)
        if self.flushes and rows.dtype != xp.uint8:
            smallest = SMALLEST_NORMAL["float32" if rows.dtype == xp.float32 else "float64"]
            rows = xp.where(xp.abs(rows) < smallest, rows * 0.0, rows)
        x = (xp.astype(xp.matrix_transpose(rows), self.ops.dtype) - self.shift) * self.scale
        x = dropout(self.ops, x, mask, kept_scale)
        if noise is None:
            return x
        amplitude = network.input_noise * NOISE_STEP
        return x + xp.astype(xp.matrix_transpose(noise), self.ops.dtype) * amplitude


@dataclass(frozen=True)
class Normalization:
    """The map from raw features to the network's inputs."""

    kind: Normalize
    shift: HostArray  # () for all features, or (features,)
    scale: HostArray  # () for all features, or (features,)

    @property
    def is_of_pixels(self) -> bool:
        """True if it was fitted to uint8 pixels, False if it does not tell.

        Pixels are divided by 255, or standardised by a mean and deviation that all share.
        """
        if self.shift.ndim or self.scale.ndim:
            return False
        is_divided = self.kind == "scale" and float(self.scale) == 1.0 / 255.0
        return is_divided or self.kind == "standardize"

    def on_device(self, ops: Arithmetic, from_host: Callable[[HostArray], Array]) -> Inputs:
        """Return the function that normalises."""
        columns = (from_host(np.reshape(statistic, (-1, 1))) for statistic in (self.shift, self.scale))
        shift, scale = (ops.xp.astype(column, ops.dtype) for column in columns)
        return Inputs(ops, shift, scale, None if self.shift.any() or self.scale.ndim else float(self.scale))


def fit_normalization(kind: Normalize, x: HostArray) -> Normalization:
    """Return the normalisation ``kind`` for training features ``x`` (samples, features).

    * ``scale``: pixels (uint8) are divided by 255; float features by the largest magnitude among them.
    * ``standardize``: mean 0 and standard deviation 1. Pixels, which have the same unit, share one mean and
      deviation; each float feature has its own. A constant feature is only shifted.
    * ``none``: the raw numbers.

    Sums are exact, so the statistics do not depend on the order of the samples or on the machine. Subnormal
    floats count as zeros.

    Raises
    ------
    DataError
        A feature is too large to be standardised.
    """
    zero, one = np.zeros(()), np.ones(())
    if kind == "none":
        return Normalization(kind, zero, one)
    if kind == "scale":
        # Maximum and minimum: an array of magnitudes may not fit into memory.
        largest = 255.0 if x.dtype == np.uint8 else float(max(np.max(x), -np.min(x)))
        is_zero = largest < SMALLEST_NORMAL.get(x.dtype.name, 0.0)
        return Normalization(kind, zero, np.asarray(1.0 / (1.0 if is_zero else largest)))
    mean, deviation = _pixel_statistics(x) if x.dtype == np.uint8 else _feature_statistics(x)
    return Normalization(kind, mean, 1.0 / np.where(deviation > 0, deviation, 1.0))


def _pixel_statistics(x: HostArray) -> tuple[HostArray, HostArray]:
    """Return the mean and standard deviation, each (), of all pixels, from their exact histogram."""
    histogram = np.zeros(256, dtype=np.int64)
    for start in range(0, x.shape[0], 1024):
        histogram += np.bincount(x[start : start + 1024].ravel(), minlength=256)
    values = np.arange(256)
    n = int(histogram.sum())
    total = int(histogram @ values)
    squares = int(histogram @ values**2)
    return np.asarray(total / n), np.asarray(math.sqrt((n * squares - total * total) / (n * n)))


def _feature_statistics(x: HostArray) -> tuple[HostArray, HostArray]:
    """Return the mean and standard deviation, each (features,), with exactly rounded sums.

    Raises
    ------
    DataError
        The deviation of a feature is too large for a float.
    """
    means, deviations = np.empty(x.shape[1]), np.full(x.shape[1], math.inf)
    for feature in range(x.shape[1]):
        values = flush_subnormals(x[:, feature]).astype(np.float64)
        with suppress(OverflowError), np.errstate(over="ignore"):  # of sums and of squares
            means[feature] = mean = math.fsum(values) / values.size
            deviations[feature] = math.sqrt(math.fsum((values - mean) ** 2) / values.size)
        if not math.isfinite(deviations[feature]):
            problem = f"values from {values.min():.3g} to {values.max():.3g} are too large to standardise"
            raise DataError(f"feature {feature}: {problem}: use {setting('normalize', 'scale')}")
    return means, deviations
