"""Bugs that ports of NumPy code have: each with its original, and what assert_parity says of it."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device

SQUARE = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125], [1.0, 0.75, -4.0]])
GAP, COMPLEX = np.asarray([1.0, np.nan, 3.0]), (np.asarray([1j, 2.0]), np.asarray([1.0, 1j]))
TIES, ZERO = np.asarray([3.0, 1.0, 3.0]), np.asarray([0.0, 2.0])
STRICT, NARROW = "array-api-strict", "array-api-strict:no_float64"
DECIMALS, LINE = np.asarray([0.1, -1.7, 2.3]), np.linspace(-2.0, 2.0, 40)
BYTES = np.uint8([3, 200, 10]), np.uint8([5, 100, 250])
VARY = {"vary": True}
SYNC, RAISES, MUTATES, FLOAT32 = {"sync": False}, {"raises": ValueError}, {"mutates": [1]}, {"float64": False}


class Bug(NamedTuple):
    """A wrong port, which ``backend`` finds."""

    name: str  # as in the table of docs/parity.md
    original: Callable[..., Any]
    port: Callable[..., Any]
    text: str = "result differs first at"  # of the line
    backend: str = "numpy"
    options: Mapping[str, Any] = {}
    arguments: tuple[Any, ...] = (SQUARE,)


def fill(x):
    out = x * 0.0
    out[0, 0] = 1.0
    return out


def write_to_view(x):
    out = x * 0.0
    view = out[0, :]
    view += 1.0
    return out


def scale_in_place(x, factor):
    x *= factor
    return x + 0.0


def add_to(x, out):
    out += x


def rebind(x, out):
    out = out + x


def check_and_root(x):
    if (x < 0).any():
        raise ValueError("negative")
    return np.sqrt(x)


def root(x):
    return np.sqrt(np.maximum(x, 0.0))


def two_of_one(x):
    a = b = x + 1
    b *= 2
    return a, b


indices = cache(lambda xp, where: xp.arange(4, dtype=xp.float64, device=where))


class Moments(NamedTuple):
    sum: Any
    mean: Any


WORKSPACE, WEIGHTS = np.zeros(40), np.ones(40)


def weigh_and_change(x, xp):
    weights = xp.asarray(WEIGHTS, device=device(x))
    out = x * weights
    weights -= 0.5
    return out


def in_workspace(x, xp=np, factor=2):
    if not isinstance(x, np.ndarray):
        return x * factor
    WORKSPACE[...] = x * factor
    return WORKSPACE


BUGS = [
    Bug("sum over another axis, square input", lambda x: x.sum(axis=0), lambda x, xp: xp.sum(x, axis=1)),
    Bug("variance without `ddof=1`", lambda x: x.var(ddof=1), lambda x, xp: xp.var(x)),
    Bug("broadcasting along another axis", lambda x: x - x[:, :1], lambda x, xp: x - x[:, 0]),
    Bug("`keepdims` left out", lambda x: x.max(1, keepdims=True), lambda x, xp: xp.max(x, axis=1), "shape"),
    Bug(
        "promotion to another dtype",
        lambda x: x * np.float32(2),
        lambda x, xp: xp.astype(x, xp.float64) * 2,
        "dtype",
        arguments=(np.float32(SQUARE),),
    ),
    Bug(
        "integer quotient truncated",
        lambda x: x // 2,
        lambda x, xp: xp.astype(x / 2, x.dtype),
        arguments=(-np.arange(9),),
    ),
    Bug("NaN not left out", np.nanmax, lambda x, xp: xp.max(x), arguments=(GAP,)),
    Bug(
        "ties in another order",
        lambda x: np.argsort(-x, kind="stable"),
        lambda x, xp: xp.flip(xp.argsort(x, stable=True)),
        arguments=(TIES,),
    ),
    Bug("memory order of `ravel`", lambda x: x.ravel(order="F"), lambda x, xp: xp.reshape(x, (-1,))),
    Bug("factor conjugated by `vecdot`", np.dot, lambda x, y, xp: xp.vecdot(x, y), arguments=COMPLEX),
    Bug(
        "literals in float32",
        lambda x: x * np.asarray([0.1, 0.2, 0.7]),
        lambda x, xp: x * xp.asarray([0.1, 0.2, 0.7], device=device(x)),
        backend="torch",
    ),
    Bug("element assigned to", fill, fill, "TypeError: JAX", "jax"),
    Bug("view written to, which is a copy", write_to_view, write_to_view, "; zeros where", "jax"),
    Bug(
        "caller's array changed",
        lambda x, s: x * s,
        scale_in_place,
        "argument 0 is changed",
        arguments=(LINE, 2.0),
    ),
    Bug(
        "another device", lambda x: x + np.ones(3), lambda x, xp: x + xp.ones(3), "different devices", STRICT
    ),
    Bug("silent round trip", np.abs, lambda x, xp: xp.asarray(np.abs(np.asarray(x))), "NumPy", STRICT),
    Bug("method of NumPy's arrays", lambda x: x.copy(), lambda x: x.copy(), "attribute 'copy'", "torch"),
    Bug("data-dependent shape", lambda x: x[x > 0], lambda x, xp: x[x > 0], "True allows it", STRICT),
    Bug(
        "new warning",
        lambda x: np.where(x != 0, 1 / np.where(x != 0, x, 1), 0),
        lambda x, xp: xp.where(x != 0, 1 / x, 0),
        "divide by zero",
        arguments=(ZERO,),
    ),
    Bug("result that shares memory", np.copy, lambda x, xp: xp.asarray(x), "result shares memory"),
    Bug(
        "host synchronization",
        lambda x: x / x.sum(),
        lambda x, xp: x / float(xp.sum(x)),
        "item",
        "torch",
        SYNC,
    ),
    Bug("error left out", check_and_root, lambda x, xp: xp.sqrt(x), "raises no ValueError", "numpy", RAISES),
    Bug(
        "output argument left alone", add_to, rebind, "argument 1 differs", "numpy", MUTATES, (SQUARE, SQUARE)
    ),
    Bug(
        "float64 taken for granted",
        lambda x: x * 0.5,
        lambda x, xp: x * xp.astype(xp.asarray(0.5, dtype=xp.float64, device=device(x)), x.dtype),
        "no_float64",
        NARROW,
        FLOAT32,
    ),
    Bug(
        "unsigned difference wraps",
        lambda a, b: abs(a - b.astype(int)).sum(),
        lambda a, b, xp: xp.sum(xp.astype(a - b, xp.int64)),
        arguments=BYTES,
    ),
    Bug("halves rounded to even", lambda x: np.floor(x + 0.5), lambda x, xp: xp.round(x)),
    Bug("zero of another sign", lambda x: 1 / np.copysign(0.0, x), lambda x, xp: 1 / xp.abs(x * 0.0)),
    Bug(
        "each NaN kept",
        np.unique,
        lambda x, xp: xp.unique_values(x),
        "shape",
        arguments=(np.append(GAP, np.nan),),
    ),
    Bug("NaN is the smallest", np.nanargmin, lambda x, xp: xp.argmin(x), arguments=(GAP,)),
    Bug(
        "index out of range",
        lambda x, i: x[i],
        lambda x, i: x[i],
        "raises no IndexError",
        "jax",
        {"raises": IndexError},
        (DECIMALS, 7),
    ),
    Bug("two results are one buffer", lambda x: (x + 1, (x + 1) * 2), two_of_one, "result[0] differs"),
    Bug(
        "cached result",
        lambda x: np.arange(4.0) + 0 * x.sum(),
        lambda x, xp: indices(xp, device(x)),
        "memory with that of an earlier call",
    ),
    Bug("indices in int32", np.argsort, lambda x, xp: xp.astype(xp.argsort(x), xp.int32), "dtype"),
    Bug(
        "mask subtracted as a number",
        lambda m, x: np.where(~m, x, 0.0),
        lambda m, x, xp: (1 - xp.astype(m, x.dtype)) * x,
        "['NaN in argument 1']",
        options=VARY,
        arguments=(DECIMALS > 0, DECIMALS),
    ),
    Bug(
        "conjugation left out",
        lambda a: a.conj().T @ a,
        lambda a, xp: xp.matrix_transpose(a) @ a,
        arguments=(SQUARE * (1 + 1j),),
    ),
    Bug(
        "sum in float32",
        lambda x: x.sum(dtype=np.float64),
        lambda x, xp: xp.astype(xp.sum(x), xp.float64),
        arguments=(np.float32(DECIMALS),),
    ),
    Bug(
        "choices of `where` swapped",
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda x, xp: xp.where(x > 0, 0.1 * x, x),
    ),
    Bug(
        "`tile` for `repeat`",
        lambda x: np.repeat(x, 2),
        lambda x, xp: xp.tile(x, (2,)),
        arguments=(DECIMALS,),
    ),
    Bug(
        "no value for no element",
        lambda x: np.max(x, axis=0, initial=0.0),
        lambda x, xp: xp.max(x, axis=0),
        "zero-size array",
        arguments=(np.zeros((0, 3)),),
    ),
    Bug(
        "write in place of the same values",
        lambda x, s: x * s,
        scale_in_place,
        "['read-only']",
        arguments=(DECIMALS, 1.0),
    ),
    Bug(
        "`view` of a transposed tensor",
        lambda x: x.reshape(-1),
        lambda x, xp: x.view(-1) if hasattr(x, "data_ptr") else xp.reshape(x, (-1,)),
        "['F order']",
        "torch",
    ),
    Bug(
        "named tuple becomes a tuple",
        lambda x: Moments(x.sum(), x.mean()),
        lambda x, xp: (xp.sum(x), xp.mean(x)),
        "a tuple of 2, the reference's a named tuple of sum, mean",
    ),
    Bug(
        "read-only result",
        lambda x: np.full(3, 2.0),
        lambda x, xp: xp.broadcast_to(xp.asarray(2.0, dtype=x.dtype, device=device(x)), (3,)),
        "result is read-only, the reference's is not",
    ),
    Bug(
        "int32 product overflows",
        lambda x: np.sum(x.astype(np.int64) * 100_000),
        lambda x, xp: xp.sum(xp.astype(x * 100_000, xp.int64)),
        arguments=(np.int32([50_000, 60_000]),),
    ),
    Bug(
        "subnormals flushed",
        lambda x: x * 0.5,
        lambda x, xp: xp.where(xp.abs(x) < 4e-308, xp.zeros_like(x), x * 0.5),
        "are subnormal",
        arguments=(np.float64([3e-308, 1.0]),),
    ),
    Bug("NaN sorted first", lambda x: -np.sort(-x), lambda x, xp: xp.flip(xp.sort(x)), arguments=(GAP,)),
    Bug("sign by a quotient", np.sign, lambda x, xp: x / xp.abs(x), arguments=(ZERO,)),
    Bug(
        "int64 through float64",
        lambda x: x // 1,
        lambda x, xp: xp.astype(xp.astype(x, xp.float64), xp.int64),
        arguments=(np.asarray([2**53 + 1, 5]),),
    ),
    Bug(
        "closed-over array changed",
        lambda x: x * np.ones(40),
        weigh_and_change,
        "differs first at (0,)",
        arguments=(LINE,),
    ),
    Bug(
        "workspace shared with the original",
        in_workspace,
        lambda x, xp: in_workspace(x, xp, 3 if isinstance(x, np.ndarray) else 2),
        arguments=(LINE,),
    ),
    Bug(
        "NaN becomes zero",
        root,
        lambda x, xp: xp.sqrt(xp.where(x > 0, x, xp.zeros_like(x))),
        "['NaN in argument 0']",
        options=VARY,
        arguments=(ZERO,),
    ),
    Bug(
        "NaN gradient behind `where`",
        root,
        lambda x, xp: xp.where(x > 0, xp.sqrt(x), x * 0.0),
        "gradient with respect to argument 0 is nan at [0]",
        "torch",
        {"gradients": True},
        (ZERO,),
    ),
    Bug(
        "gradient cut by `detach`",
        lambda x: x * x,
        lambda x: x * (x.detach() if hasattr(x, "detach") else x),
        "in a random direction, by differences of the reference",
        "torch",
        {"gradients": True},
    ),
    Bug(
        "NaN lost in many elements",
        lambda x: x.max(),
        lambda x, xp: xp.max(x),
        "['5000 elements with NaN']",
        "jax",
        VARY,
    ),
    Bug(
        "default dtype of `linspace`",
        lambda x: x * np.linspace(0, 1, 40),
        lambda x, xp: x * xp.linspace(0, 1, 40, device=device(x)),
        "['default dtype']",
        "torch",
        {**VARY, "rtol": 1e-6},
        (LINE,),
    ),
    Bug(
        "loop over elements",
        lambda x: (x * x).sum(),
        lambda x: sum(x[i] * x[i] for i in range(x.shape[0])),
        "16 subscripts of an array by integers",
        "torch",
        SYNC,
        (LINE,),
    ),
]
