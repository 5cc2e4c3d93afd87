"""The interface of an arithmetic: matrix products, sums, exp, log and square root."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from xpnet._typing import Array, Device, DType, Namespace


@dataclass(frozen=True)
class Operand:
    """A matrix (..., rows, columns) that is ``factor`` times ``values``, for products of matrices.

    The factor is applied to a product, not to the (much larger) matrix.
    """

    values: Array
    factor: float = 1.0
    integer: bool = False  # True if the values are known to be integers from 0 to 255
    transposed: bool = False  # True if the matrix is the transpose of the values
    roundings: dict[tuple[int, int, int], list[Array]] = field(default_factory=dict)  # a cache

    @property
    def columns(self) -> int:
        """The length of the last axis."""
        return int(self.values.shape[-2 if self.transposed else -1])


@dataclass(frozen=True)
class Arithmetic(ABC):
    """Matrix products, sums, exp and log over one array namespace, device and float dtype.

    Everything else in the mathematics (+, -, *, division of equal shapes, comparison, ``where``,
    ``max``) is elementwise and fixed by IEEE 754, and is taken from ``xp`` directly.

    Matrices are the last two axes of an array; leading axes are batches of them. The factors of products
    are arrays, or results of ``operand``, ``integers`` and ``transpose``.
    """

    xp: Namespace
    device: Device
    dtype: DType

    name: ClassVar[str]
    has_native_roots: ClassVar[bool]  # True if a square root is one operation of the library

    @abstractmethod
    def operand(self, matrix: Array) -> Array | Operand:
        """Prepare a matrix (..., rows, columns) for several products."""

    @abstractmethod
    def integers(self, values: Array, factor: float) -> Operand:
        """Return the operand ``factor`` times ``values`` (..., rows, columns), integers 0 … 255."""

    @abstractmethod
    def transpose(self, matrix: Array | Operand) -> Array | Operand:
        """Exchange the last two axes of an operand."""

    @abstractmethod
    def matmul(self, a: Array | Operand, b: Array | Operand) -> Array:
        """Return the matrix product of two operands, (..., n, k) times (..., k, m) -> (..., n, m)."""

    @abstractmethod
    def weight_and_bias_gradients(self, dz: Array, a: Array | Operand) -> tuple[Array, Array]:
        """Return dZ Aᵀ and Σ dZ, the contractions over the m samples.

        (..., n, m) and an operand (..., k, m) -> (..., n, k) and (..., n, 1).
        """

    @abstractmethod
    def sample_maxima(self, dz: Array, a: Array | Operand) -> list[Array]:
        """Return what `partial_gradients` has to know of all samples, as maxima over these samples.

        (n, m) and an operand (k, m) -> arrays (..., 1). A row with NaN gives NaN, whatever its maximum.
        """

    @abstractmethod
    def partial_gradients(
        self, dz: Array, a: Array | Operand, samples: int, maxima: Iterator[Array]
    ) -> tuple[Array, Array]:
        """Return dZ Aᵀ, without the factor of A, and Σ dZ over a part of a batch of one block.

        ``samples`` is their number in the batch, and ``maxima`` yields those over all of them. Added up over
        the parts, in any order, the results are those of `weight_and_bias_gradients`.
        """

    @abstractmethod
    def sum(self, x: Array, axis: int) -> Array:
        """Return the sum along one axis, which is kept with length 1."""

    @abstractmethod
    def exp(self, x: Array) -> Array:
        """Return e to the power x, elementwise, for x up to 0."""

    @abstractmethod
    def log(self, x: Array, largest: float = math.inf) -> Array:
        """Return the natural logarithm, elementwise; ``largest`` promises that x is between 1 and it."""

    @abstractmethod
    def sqrt(self, x: Array) -> Array:
        """Return the square root, elementwise."""
