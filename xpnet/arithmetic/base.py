"""What the mathematics asks of an arithmetic."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from xpnet._typing import Array


@dataclass(frozen=True)
class Arithmetic(ABC):
    """Matrix products, sums, exp and log over one array namespace, device and float dtype.

    Everything else in the mathematics (+, -, *, division of equal shapes, comparison, ``where``,
    ``max``) is elementwise and fixed by IEEE 754, and is taken from ``xp`` directly.

    Matrices are the last two axes of an array; leading axes are batches of them. An *operand* is
    whatever ``operand``, ``integers`` or ``transpose`` return; a plain array is one too.
    """

    xp: Any
    device: Any
    dtype: Any

    name: ClassVar[str]

    @abstractmethod
    def operand(self, matrix: Array) -> Any:
        """Prepare a matrix (..., rows, columns) that takes part in several products."""

    @abstractmethod
    def integers(self, values: Array, factor: float) -> Any:
        """Return the operand ``factor`` times ``values`` (..., rows, columns), integers 0 … 255."""

    @abstractmethod
    def transpose(self, matrix: Any) -> Any:
        """Exchange the last two axes of an operand."""

    @abstractmethod
    def matmul(self, a: Any, b: Any) -> Array:
        """Return the matrix product of two operands, (..., n, k) times (..., k, m) -> (..., n, m)."""

    @abstractmethod
    def over_samples(self, dz: Array, a: Any) -> tuple[Array, Array]:
        """Return dZ Aᵀ and Σ dZ, the contractions over the samples, of which both have m.

        (..., n, m) and an operand (..., k, m) -> (..., n, k) and (..., n, 1).
        """

    @abstractmethod
    def sum(self, x: Array, axis: int) -> Array:
        """Return the sum along one axis, which keeps its place with length 1."""

    @abstractmethod
    def exp(self, x: Array) -> Array:
        """Return e to the power x, elementwise, for x up to 0."""

    @abstractmethod
    def log(self, x: Array, largest: float = math.inf) -> Array:
        """Return the natural logarithm, elementwise; with ``largest``, of x between 1 and that."""

    @abstractmethod
    def sqrt(self, x: Array) -> Array:
        """Return the square root, elementwise."""
