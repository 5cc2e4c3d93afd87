"""Bugs that ports of NumPy code have: each with its original, and what assert_parity says of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device

SQUARE = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125], [1.0, 0.75, -4.0]])
GAP, COMPLEX = np.asarray([1.0, np.nan, 3.0]), (np.asarray([1j, 2.0]), np.asarray([1.0, 1j]))
TIES, ZERO = np.asarray([3.0, 1.0, 3.0]), np.asarray([0.0, 2.0])
STRICT, NARROW = "array-api-strict", "array-api-strict:no_float64"
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


def fill(x, xp):
    out = xp.zeros(3, dtype=x.dtype, device=device(x))
    out[0] = x[0, 0]
    return out


def write_to_view(x, xp):
    out = xp.zeros(3, dtype=x.dtype, device=device(x))
    view = out[:]
    view += x[0, :]
    return out


def centre_in_place(x, xp):
    x -= xp.mean(x, axis=0)
    return x


def add_to(x, out):
    out += x


def rebind(x, out):
    out = out + x


def check_and_root(x):
    if (x < 0).any():
        raise ValueError("negative")
    return np.sqrt(x)


def inverse(x):
    return np.divide(1.0, x, out=np.zeros_like(x), where=x != 0)


def weigh(x, xp):
    return xp.sum(x * xp.asarray([0.1, 0.2, 0.7], device=device(x)), axis=1)


def promote(x, xp):
    return x * xp.ones(3, dtype=xp.float64, device=device(x)) * 2


def halve(x, xp):
    return x * xp.astype(xp.asarray(0.5, dtype=xp.float64, device=device(x)), x.dtype)


def ties(x, xp):
    return xp.flip(xp.argsort(x, stable=True))


BUGS = [
    Bug("sum over another axis, square input", lambda x: x.sum(axis=0), lambda x, xp: xp.sum(x, axis=1)),
    Bug("variance without `ddof=1`", lambda x: x.var(ddof=1), lambda x, xp: xp.var(x)),
    Bug("broadcasting along another axis", lambda x: x - x[:, :1], lambda x, xp: x - x[:, 0]),
    Bug("`keepdims` left out", lambda x: x.max(1, keepdims=True), lambda x, xp: xp.max(x, axis=1), "shape"),
    Bug(
        "promotion to another dtype",
        lambda x: x * np.float32(2),
        promote,
        "dtype",
        "numpy",
        {},
        (np.float32(SQUARE),),
    ),
    Bug(
        "integer quotient truncated",
        lambda x: x // 2,
        lambda x, xp: xp.astype(x / 2, x.dtype),
        arguments=(-np.arange(9),),
    ),
    Bug("NaN not left out", np.nanmax, lambda x, xp: xp.max(x), arguments=(GAP,)),
    Bug("ties in another order", lambda x: np.argsort(-x, kind="stable"), ties, arguments=(TIES,)),
    Bug("memory order of `ravel`", lambda x: x.ravel(order="F"), lambda x, xp: xp.reshape(x, (-1,))),
    Bug("factor conjugated by `vecdot`", np.dot, lambda x, y, xp: xp.vecdot(x, y), arguments=COMPLEX),
    Bug("literals in float32", lambda x: x @ np.asarray([0.1, 0.2, 0.7]), weigh, backend="torch"),
    Bug("element assigned to", lambda x: np.asarray([x[0, 0], 0.0, 0.0]), fill, "TypeError: JAX", "jax"),
    Bug("view written to, which is a copy", lambda x: x[0].copy(), write_to_view, "; zeros where", "jax"),
    Bug("caller's array changed", lambda x: x - x.mean(axis=0), centre_in_place, "argument 0 is changed"),
    Bug(
        "another device", lambda x: x + np.ones(3), lambda x, xp: x + xp.ones(3), "different devices", STRICT
    ),
    Bug("silent round trip", np.abs, lambda x, xp: xp.asarray(np.abs(np.asarray(x))), "NumPy", STRICT),
    Bug("method of NumPy's arrays", lambda x: x.copy(), lambda x: x.copy(), "attribute 'copy'", "torch"),
    Bug("data-dependent shape", lambda x: x[x > 0], lambda x, xp: x[x > 0], "True allows it", STRICT),
    Bug(
        "new warning", inverse, lambda x, xp: xp.where(x != 0, 1 / x, 0), "divide by zero", arguments=(ZERO,)
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
    Bug("float64 taken for granted", lambda x: x * 0.5, halve, "no_float64", NARROW, FLOAT32),
]
