"""The linear algebra of the standard, for stacks of matrices: factors are found by NumPy on the host."""

import math
import warnings
from collections import namedtuple
from functools import partial
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from xpnet._typing import DType, Function, Functions, HostArray
from xpnet.arithmetic import factors, spectra
from xpnet.reproducible import functions
from xpnet.reproducible.array import Array
from xpnet.reproducible.elementwise import operands
from xpnet.reproducible.functions import Axis
from xpnet.reproducible.places import FLOATING, name_of
from xpnet.reproducible.reductions import OWN as REDUCTIONS

RESULTS: Functions = {
    "eigh": namedtuple("EighResult", "eigenvalues eigenvectors"),  # noqa: PYI024
    "qr": namedtuple("QRResult", "Q R"),  # noqa: PYI024
    "slogdet": namedtuple("SlogdetResult", "sign logabsdet"),  # noqa: PYI024
    "svd": namedtuple("SVDResult", "U S Vh"),  # noqa: PYI024
}
"""What functions with several results return."""
SLOW = {"eigh": 1500, "svd": 1400, "pinv": 1400}
"""The length of a matrix beyond which a function takes more than a minute."""
OBLONG = ("matrix_rank", "pinv", "qr", "svd", "svdvals")
"""Functions of matrices that need not be square."""


def _map(function: Function, name: str, *arrays: Array, **options: Any) -> Any:
    """Return the results of a function of each matrix, of float64, rounded once.

    Raises
    ------
    LinAlgError
        A matrix is not square, but has to be; it has infinities or NaN; or the function raises it.
    """
    place, data, dtype = operands(name, *arrays)
    with place.computing.scope():
        hosts = [place.fetch(place.widen(x)) for x in data]
    for x in hosts:
        if x.ndim < 2:
            raise LinAlgError(f"{name}: expected matrices, got an array of shape {x.shape}")
        if not np.isfinite(x).all():
            raise LinAlgError(f"{name}: a matrix has infinities or NaN")
    rows, columns = hosts[0].shape[-2:]
    if rows != columns and name not in OBLONG:
        raise LinAlgError(f"{name}: expected square matrices, got {rows} rows and {columns} columns")
    if min(rows, columns) > SLOW.get(name, 2500):
        what = f"{name} of a matrix of {rows} rows and {columns} columns takes minutes"
        warnings.warn(f"{what}: NumPy's is faster, with other bits", stacklevel=2 if name in OF_EACH else 3)
    try:
        stack = np.broadcast_shapes(*(x.shape[:-2] for x in hosts))
        count = math.prod(stack)
        stacks = (np.broadcast_to(x, stack + x.shape[-2:]).reshape(count, *x.shape[-2:]) for x in hosts)
        flat = [x if count else np.eye(*x.shape[-2:])[None] for x in stacks]
        with np.errstate(all="ignore"):
            results = [function(*matrices, **options) for matrices in zip(*flat, strict=True)]
        results = results if isinstance(results[0], tuple) else [(each,) for each in results]
    except LinAlgError as error:
        raise LinAlgError(f"{name}: {error}") from None
    joined = (np.stack(each)[:count] for each in zip(*results, strict=True))
    with place.computing.scope():
        parts = [Array(place, place.narrow(place.put(x.reshape(stack + x.shape[1:])), dtype)) for x in joined]
    return RESULTS[name](*parts) if name in RESULTS else parts[0]


def _multiply(a: HostArray, b: HostArray) -> HostArray:
    return np.asarray(functions.matmul(a, b, slices=functions.ACCURATE))


# Equations


def solve(x1: Array, x2: Array, /) -> Any:
    """Return the solutions of linear equations, with one right side or several."""
    b = x2[:, None] if x2.ndim == 1 else x2
    if x1.shape[-1:] != b.shape[-2:-1]:
        shapes = f"{x1.shape} and {x2.shape}"
        raise LinAlgError(f"solve: expected as many right sides as rows, got shapes {shapes}")
    x = _map(factors.solve, "solve", x1, b)
    return x[..., 0] if x2.ndim == 1 else x


def _pivots(a: HostArray) -> HostArray:
    """Return the factors of the determinant: that of the permutation, and the pivots."""
    u, _, sign = factors.triangular_factors(a)
    return np.array([sign, *np.diagonal(u)])


def _sign_and_logarithm(a: HostArray) -> tuple[float, HostArray]:
    pivots = _pivots(a)
    return math.prod(np.sign(pivots)), factors.fold(functions.log(np.abs(pivots)))


def _qr(a: HostArray, mode: str = "reduced") -> tuple[HostArray, HostArray]:
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: expected a mode reduced or complete, got {mode!r}")
    return factors.qr(a, complete=mode == "complete")


OF_EACH: Functions = {
    "cholesky": lambda a, upper=False: factors.cholesky(a).T if upper else factors.cholesky(a),
    "inv": lambda a: factors.solve(a, np.eye(len(a))),
    "det": lambda a: math.prod(_pivots(a)),
    "slogdet": _sign_and_logarithm,
    "qr": _qr,
    "eigh": spectra.eigh,
    "eigvalsh": lambda a: spectra.eigh(a, vectors=False)[0],
    "svd": lambda a, full_matrices=True: spectra.svd(a, _multiply, full=full_matrices),
    "svdvals": lambda a: spectra.svd(a, _multiply, full=False, vectors=False)[1],
}
"""Functions of one matrix."""


def matrix_power(x: Array, n: int, /) -> Any:
    """Return whole powers of matrices, by squaring for each binary digit of n, highest first."""
    space = x.space
    base = OWN["inv"](x) if n < 0 else x
    power = space.broadcast_to(space.eye(x.shape[-1], dtype=x.dtype, device=x.device), x.shape)
    for position, digit in enumerate(f"{abs(n):b}"):
        power = power @ power if position else power
        if digit == "1":
            power = power @ base if position else base
    return space.asarray(power, copy=True)


# Decompositions


def _map_significant(name: str, function: Function, x: Array, rtol: Any) -> Any:
    """Return results of a function of the decomposition of each matrix, and of what of it is significant.

    These are the singular values above the tolerance times the largest. By default the tolerance is the
    larger length of the matrix times the distance of 1 from the next number.
    """

    def compute(a: HostArray, tolerance: HostArray) -> HostArray:
        u, s, vh = spectra.svd(a, _multiply, full=False, vectors=name == "pinv")
        return np.asarray(function(u, s, vh, s > tolerance[0, 0] * np.max(s, initial=0.0)))

    dtype, space = _real(x), x.space
    rtol = max(x.shape[-2:], default=1) * space.finfo(dtype).eps if rtol is None else rtol
    tolerance = space.asarray(rtol, dtype=dtype, device=x.device)[..., None, None]
    return _map(compute, name, x, tolerance)


def pinv(x: Array, /, *, rtol: Any = None) -> Any:
    """Return pseudoinverses: the vectors of the significant singular values, over these."""

    def invert(u: HostArray, s: HostArray, vh: HostArray, kept: HostArray) -> HostArray:
        return _multiply(vh[kept].T / s[kept], u[:, kept].T)

    return _map_significant("pinv", invert, x, rtol)


def matrix_rank(x: Array, /, *, rtol: Any = None) -> Any:
    """Return the numbers of significant singular values, int64."""
    ranks = _map_significant("matrix_rank", lambda *parts: np.count_nonzero(parts[-1]), x, rtol)
    return x.space.astype(ranks, x.space.int64)


# Norms


def vector_norm(x: Array, /, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Any:  # noqa: A002
    """Return norms: the largest or smallest magnitude, the number of others than 0, or (Σ |x|^p)^(1/p)."""
    space = x.space
    size, where = space.abs(_widened(x)), {"axis": axis, "keepdims": keepdims}
    if abs(ord) == math.inf:
        norm = (space.max if ord > 0 else space.min)(size, **where)
    elif ord == 0:
        norm = space.count_nonzero(size, **where)
    else:
        norm = space.sum(size**ord, **where) ** (1.0 / ord)
    return space.astype(norm, _real(x))


def matrix_norm(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:  # noqa: A002
    """Return the norms of matrices, by their elements, by sums of columns or rows, or by singular values."""
    space, wide = x.space, _widened(x)
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in (2, -2, "nuc"):
        numbers = OWN["svdvals"](wide)[..., None]
    elif ord in (1, -1, math.inf, -math.inf):
        numbers = space.sum(space.abs(wide), axis=-2 if abs(ord) == 1 else -1, keepdims=True)
    else:
        raise ValueError(f"matrix_norm: expected fro, nuc, 1, 2 or infinity, or a negative one, got {ord!r}")
    combine = space.sum if ord == "nuc" else space.max if ord > 0 else space.min
    return space.astype(combine(numbers, axis=(-2, -1), keepdims=keepdims), _real(x))


def _real(x: Array) -> DType:
    return x.dtype if name_of(x.dtype) in FLOATING else x.space.float64


def _widened(x: Array) -> Any:
    return x.space.astype(x, x.space.float64)


# Elements


def diagonal(x: Array, /, *, offset: int = 0) -> Any:
    """Return copies of diagonals, above the main one or below."""
    space, (rows, columns) = x.space, x.shape[-2:]
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), offset)
    flat = space.reshape(x, (*x.shape[:-2], rows * columns))
    return space.take(flat, space.asarray(places, device=x.device, copy=True), axis=-1)


def trace(x: Array, /, *, offset: int = 0, **options: Any) -> Any:
    """Return the sums of diagonals."""
    return x.space.sum(diagonal(x, offset=offset), axis=-1, **options)


def outer(x1: Array, x2: Array, /) -> Any:
    """Return the products of each element of a vector with each one of another."""
    if (x1.ndim, x2.ndim) != (1, 1):
        raise ValueError(f"outer: expected two vectors, got shapes {x1.shape} and {x2.shape}")
    return x1[:, None] * x2[None, :]


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Any:
    """Return the cross products of vectors of three elements."""
    space = x1.space
    a, b = space.broadcast_arrays(x1, x2)
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ValueError(f"cross: expected vectors of 3 elements, got shapes {x1.shape} and {x2.shape}")
    a1, a2, b1, b2 = (space.roll(each, -shift, axis=axis) for each in (a, b) for shift in (1, 2))
    return a1 * b2 - a2 * b1


OWN: Functions = {
    **{name: partial(_map, function, name) for name, function in OF_EACH.items()},
    **{each.__name__: each for each in (cross, diagonal, matrix_norm, matrix_power, matrix_rank)},
    **{each.__name__: each for each in (outer, pinv, solve, trace, vector_norm)},
    **{name: REDUCTIONS[name] for name in ("matmul", "tensordot", "vecdot")},
}
