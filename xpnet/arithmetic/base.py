"""The operations whose rounding depends on the library, and the library's own: native arithmetic.

Native arithmetic is fast, in float32 or float64. Backends agree to within rounding, not bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from xpnet._typing import Array, Device, DType, Namespace, Pair


@dataclass(frozen=True)
class Operand:
    """A matrix (..., rows, columns) that is ``factor`` times ``values``, for products of matrices.

    The factor is applied to a product, not to the (much larger) matrix.
    """

    values: Array
    factor: float = 1.0
    integer: bool = False  # True if the values are known to be integers from 0 to 255
    transposed: bool = False  # True if the matrix is the transpose of the values
    is_shared: bool = False  # True if it is a factor of several products, along both axes
    powers: dict[int, Array] = field(default_factory=dict)  # of its grids along an axis, once known

    def own_axis(self, axis: int) -> int:
        """Return the axis of the values, -1 or -2, for one of the matrix."""
        return -3 - axis if self.transposed else axis


Matrix: TypeAlias = Array | Operand
"""A factor of a product of matrices."""


@dataclass(frozen=True)
class Arithmetic:
    """Matrix products, sums, exp, log and square root over one array namespace, device and float dtype.

    They are the library's own; another arithmetic is a subclass that defines each of them. Everything else in
    the mathematics (+, -, *, division of equal shapes, comparison, ``where``, ``max``) is elementwise and
    fixed by IEEE 754, and is taken from ``xp`` directly.

    Matrices are the last two axes of an array; leading axes are batches of them. The factors of products
    are arrays, or results of ``operand``, ``integers`` and ``transpose``.
    """

    xp: Namespace
    device: Device
    dtype: DType
    fuses: bool = False  # True if the library's compiler fuses elementwise operations

    name = "native"
    has_native_roots = True  # True if a square root is one operation of the library

    def operand(self, matrix: Array) -> Matrix:
        """Prepare a matrix (..., rows, columns) for several products."""
        return matrix

    def integers(self, values: Array, factor: float) -> Operand:
        """Return the operand ``factor`` times ``values`` (..., rows, columns), integers 0 … 255."""
        return Operand(self.xp.astype(values, self.dtype), factor, integer=True)

    def transpose(self, matrix: Matrix) -> Matrix:
        """Exchange the last two axes of an operand."""
        if isinstance(matrix, Operand):
            return Operand(self.xp.matrix_transpose(matrix.values), matrix.factor)
        return self.xp.matrix_transpose(matrix)

    def matmul(self, a: Matrix, b: Matrix) -> Array:
        """Return the matrix product of two operands, (..., n, k) times (..., k, m) -> (..., n, m)."""
        if isinstance(a, Operand):
            return self.matmul(a.values, b) * a.factor
        if not isinstance(b, Operand):
            return self.xp.matmul(a, b)
        if a.shape[-1] < b.values.shape[-1]:  # then `a` is smaller than the product
            return self.xp.matmul(a * b.factor, b.values)
        return self.xp.matmul(a, b.values) * b.factor

    def weight_and_bias_gradients(self, dz: Matrix, a: Matrix) -> Pair:
        """Return dZ Aᵀ and Σ dZ, the contractions over the m samples.

        (..., n, m) and an operand (..., k, m) -> (..., n, k) and (..., n, 1).
        """
        return self.matmul(dz, self.transpose(a)), self.sum(dz, axis=-1)

    def sum(self, x: Array, axis: int) -> Array:
        """Return the sum along one axis, which is kept with length 1."""
        return self.xp.sum(x, axis=axis, keepdims=True)

    def reciprocal(self, x: Array, numerator: float = 1.0) -> Array:
        """Return 1 / x, or another number by x, elementwise.

        Division is of equal shapes: libraries that divide by a broadcast operand may multiply by its
        reciprocal.
        """
        return self.xp.full_like(x, numerator) / x

    def exp(self, x: Array) -> Array:
        """Return e to the power x, elementwise, for x up to 0."""
        return self.xp.exp(x)

    def log(self, x: Array) -> Array:
        """Return the natural logarithm, elementwise."""
        return self.xp.log(x)

    def sqrt(self, x: Array) -> Array:
        """Return the square root, elementwise."""
        return self.xp.sqrt(x)

    def array(self, values: object) -> Array:
        """Return numbers, or nested lists of them, as an array of the device."""
        return self.xp.asarray(values, dtype=self.dtype, device=self.device)

    def constants(self, function: Callable[..., object], *args: object) -> Array:
        """Return a function's numbers as an array of the device, which is kept."""
        key = (function, *args)
        if key not in self._constants:
            self._constants[key] = self.array(function(*args))
        return self._constants[key]

    @cached_property
    def _constants(self) -> dict[object, Array]:
        return {}
