"""The native arithmetic: the library's own matrix product, sums, exp, log and square root.

Fast, in float32 or float64. Backends agree to within rounding, not bit for bit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic, Operand


@dataclass(frozen=True)
class Native(Arithmetic):
    """The array library's matrix products, sums, exp, log and square root."""

    name = "native"
    has_native_roots = True

    def operand(self, matrix: Array) -> Array:
        """Return the matrix unchanged."""
        return matrix

    def integers(self, values: Array, factor: float) -> Operand:
        """Return ``values``, in the arithmetic's dtype, with the factor of their products."""
        return Operand(self.xp.astype(values, self.dtype), factor)

    def transpose(self, matrix: Array | Operand) -> Array | Operand:
        """Exchange the last two axes."""
        if isinstance(matrix, Operand):
            return Operand(self.xp.matrix_transpose(matrix.values), matrix.factor)
        return self.xp.matrix_transpose(matrix)

    def matmul(self, a: Array | Operand, b: Array | Operand) -> Array:
        """Return the library's matrix product, (..., n, k) times (..., k, m) -> (..., n, m)."""
        if isinstance(a, Operand):
            return self.matmul(a.values, b) * a.factor
        if not isinstance(b, Operand):
            return self.xp.matmul(a, b)
        if a.shape[-1] < b.values.shape[-1]:  # then `a` is smaller than the product
            return self.xp.matmul(a * b.factor, b.values)
        return self.xp.matmul(a, b.values) * b.factor

    def weight_and_bias_gradients(self, dz: Array, a: Array | Operand) -> tuple[Array, Array]:
        """Return the library's dZ Aᵀ and Σ dZ over the samples, the last axis of both."""
        return self.matmul(dz, self.transpose(a)), self.sum(dz, axis=-1)

    def sample_maxima(self, dz: Array, a: Array | Operand) -> list[Array]:  # noqa: ARG002
        """Return nothing: the library's product depends on no maximum."""
        return []

    def partial_gradients(
        self,
        dz: Array,
        a: Array | Operand,
        samples: int,  # noqa: ARG002
        maxima: Iterator[Array],  # noqa: ARG002
    ) -> tuple[Array, Array]:
        """Return the library's dZ Aᵀ, without the factor of A, and Σ dZ over the samples."""
        return self.weight_and_bias_gradients(dz, a.values if isinstance(a, Operand) else a)

    def sum(self, x: Array, axis: int) -> Array:
        """Return the library's sum along one axis, which is kept with length 1."""
        return self.xp.sum(x, axis=axis, keepdims=True)

    def exp(self, x: Array) -> Array:
        """Return the library's exponential."""
        return self.xp.exp(x)

    def log(self, x: Array, largest: float = math.inf) -> Array:  # noqa: ARG002
        """Return the library's natural logarithm."""
        return self.xp.log(x)

    def sqrt(self, x: Array) -> Array:
        """Return the library's square root."""
        return self.xp.sqrt(x)
