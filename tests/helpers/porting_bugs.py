"""Bugs that ports of NumPy code have: each with its original, and what assert_parity says of it."""

from collections.abc import Callable, Mapping
from functools import cache
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device

SQUARE = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125], [1.0, 0.75, -4.0]])
GAP, COMPLEX = np.asarray([1.0, np.nan, 3.0]), (np.asarray([1j, 2.0]), np.asarray([1.0, 1j]))
TIES, ZERO = np.asarray([3.0, 1.0, 3.0]), np.asarray([0.0, 2.0])
STRICT, NARROW = "array-api-strict", "array-api-strict:no_float64"
DECIMALS, LINE = np.asarray([0.1, -1.7, 2.3]), np.linspace(-2.0, 2.0, 40)
BYTES = np.uint8([3, 200, 10]), np.uint8([5, 100, 250])
VARY, SYNC, GRADIENTS = {"vary": True}, {"sync": False}, {"gradients": True}


class Bug(NamedTuple):
    """A wrong port, which ``backend`` finds; ``given`` is the argument, or a tuple of them."""

    given: Any
    original: Callable[..., Any]
    port: Callable[..., Any]
    text: str = "result differs first at"  # of the line
    backend: str = "numpy"
    options: Mapping[str, Any] = {}

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.given if isinstance(self.given, tuple) else (self.given,)


def calls(name, **options):
    """A port that calls the function of that name."""
    return lambda *arrays, xp: getattr(xp, name)(*arrays, **options)


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


BUGS = {
    "sum over another axis, square input": Bug(SQUARE, lambda x: x.sum(axis=0), calls("sum", axis=1)),
    "variance without `ddof=1`": Bug(SQUARE, lambda x: x.var(ddof=1), calls("var")),
    "broadcasting along another axis": Bug(SQUARE, lambda x: x - x[:, :1], lambda x, xp: x - x[:, 0]),
    "`keepdims` left out": Bug(SQUARE, lambda x: x.max(1, keepdims=True), calls("max", axis=1), "shape"),
    "promotion to another dtype": Bug(
        np.float32(SQUARE), lambda x: x * np.float32(2), lambda x, xp: xp.astype(x, xp.float64) * 2, "dtype"
    ),
    "integer quotient truncated": Bug(
        -np.arange(9), lambda x: x // 2, lambda x, xp: xp.astype(x / 2, x.dtype)
    ),
    "NaN not left out": Bug(GAP, np.nanmax, calls("max")),
    "ties in another order": Bug(
        TIES, lambda x: np.argsort(-x, kind="stable"), lambda x, xp: xp.flip(xp.argsort(x, stable=True))
    ),
    "memory order of `ravel`": Bug(SQUARE, lambda x: x.ravel(order="F"), lambda x, xp: xp.reshape(x, (-1,))),
    "factor conjugated by `vecdot`": Bug(COMPLEX, np.dot, calls("vecdot")),
    "literals in float32": Bug(
        SQUARE,
        lambda x: x * np.asarray([0.1, 0.2, 0.7]),
        lambda x, xp: x * xp.asarray([0.1, 0.2, 0.7], device=device(x)),
        backend="torch",
    ),
    "element assigned to": Bug(SQUARE, fill, fill, "TypeError: JAX", "jax"),
    "view written to, which is a copy": Bug(SQUARE, write_to_view, write_to_view, "; zeros where", "jax"),
    "caller's array changed": Bug((LINE, 2.0), np.multiply, scale_in_place, "argument 0 is changed"),
    "another device": Bug(
        SQUARE, lambda x: x + np.ones(3), lambda x, xp: x + xp.ones(3), "different devices", STRICT
    ),
    "silent round trip": Bug(
        SQUARE, np.abs, lambda x, xp: xp.asarray(np.abs(np.asarray(x))), "NumPy", STRICT
    ),
    "method of NumPy's arrays": Bug(
        SQUARE, lambda x: x.copy(), lambda x: x.copy(), "attribute 'copy'", "torch"
    ),
    "data-dependent shape": Bug(SQUARE, lambda x: x[x > 0], lambda x, xp: x[x > 0], "True allows it", STRICT),
    "new warning": Bug(
        ZERO, lambda x: (x != 0) * 1.0, lambda x, xp: xp.where(x != 0, x / x, 0.0), "invalid value"
    ),
    "result that shares memory": Bug(SQUARE, np.copy, calls("asarray"), "result shares memory"),
    "host synchronization": Bug(
        SQUARE, lambda x: x / x.sum(), lambda x, xp: x / float(xp.sum(x)), "item", "torch", SYNC
    ),
    "error left out": Bug(
        SQUARE, check_and_root, calls("sqrt"), "no ValueError", options={"raises": ValueError}
    ),
    "output argument left alone": Bug(
        (SQUARE, SQUARE), add_to, lambda x, out: None, "argument 1 differs", options={"mutates": [1]}
    ),
    "float64 taken for granted": Bug(
        SQUARE,
        lambda x: x / 2,
        lambda x, xp: xp.astype(xp.astype(x, xp.float64) / 2, x.dtype),
        "no_float64",
        NARROW,
        {"float64": False},
    ),
    "unsigned difference wraps": Bug(
        BYTES, lambda a, b: abs(a - b.astype(int)).sum(), lambda a, b, xp: xp.sum(xp.astype(a - b, xp.int64))
    ),
    "halves rounded to even": Bug(SQUARE, lambda x: np.floor(x + 0.5), calls("round")),
    "zero of another sign": Bug(SQUARE, lambda x: 1 / np.copysign(0.0, x), lambda x, xp: 1 / xp.abs(x * 0.0)),
    "each NaN kept": Bug(np.append(GAP, np.nan), np.unique, calls("unique_values"), "shape"),
    "NaN is the smallest": Bug(GAP, np.nanargmin, calls("argmin")),
    "index out of range": Bug(
        (DECIMALS, 7), getitem, getitem, "no IndexError", "jax", {"raises": IndexError}
    ),
    "two results are one buffer": Bug(
        SQUARE, lambda x: (x + 1, (x + 1) * 2), two_of_one, "result[0] differs"
    ),
    "cached result": Bug(
        SQUARE, lambda x: np.arange(4.0), lambda x, xp: indices(xp, device(x)), "an earlier call"
    ),
    "indices in int32": Bug(SQUARE, np.argsort, lambda x, xp: xp.astype(xp.argsort(x), xp.int32), "dtype"),
    "mask subtracted as a number": Bug(
        (DECIMALS > 0, DECIMALS),
        lambda m, x: np.where(~m, x, 0.0),
        lambda m, x, xp: (1 - xp.astype(m, x.dtype)) * x,
        "['NaN in argument 1']",
        options=VARY,
    ),
    "conjugation left out": Bug(
        SQUARE * (1 + 1j), lambda a: a.conj().T @ a, lambda a, xp: xp.matrix_transpose(a) @ a
    ),
    "sum in float32": Bug(
        np.float32(DECIMALS), lambda x: x.sum(dtype=float), lambda x, xp: xp.astype(xp.sum(x), xp.float64)
    ),
    "choices of `where` swapped": Bug(
        SQUARE, lambda x: np.where(x > 0, x, 0.1 * x), lambda x, xp: xp.where(x > 0, 0.1 * x, x)
    ),
    "`tile` for `repeat`": Bug((DECIMALS, (2,)), np.repeat, calls("tile")),
    "no value for no element": Bug(
        np.zeros((0, 3)), lambda x: x.max(axis=0, initial=0.0), calls("max", axis=0), "zero-size"
    ),
    "write in place of the same values": Bug((DECIMALS, 1.0), np.multiply, scale_in_place, "['read-only']"),
    "`view` of a transposed tensor": Bug(
        SQUARE,
        np.ravel,
        lambda x, xp: x.view(-1) if hasattr(x, "data_ptr") else xp.reshape(x, (-1,)),
        "['F order']",
        "torch",
    ),
    "named tuple becomes a tuple": Bug(
        SQUARE, np.linalg.qr, lambda x, xp: (*xp.linalg.qr(x),), "a named tuple"
    ),
    "read-only result": Bug(
        LINE, lambda x: np.stack([x, x]), lambda x, xp: xp.broadcast_to(x + 0, (2, 40)), "result is read-only"
    ),
    "int32 product overflows": Bug(
        np.int32([50_000]), lambda x: x.astype(int) * 100_000, lambda x, xp: xp.astype(x * 100_000, xp.int64)
    ),
    "subnormals flushed": Bug(
        np.float64([3e-308]), lambda x: x / 2, lambda x, xp: xp.where(x < 4e-308, 0.0, x / 2), "are subnormal"
    ),
    "NaN sorted first": Bug(GAP, lambda x: -np.sort(-x), lambda x, xp: xp.flip(xp.sort(x))),
    "sign by a quotient": Bug(ZERO, np.sign, lambda x, xp: x / xp.abs(x)),
    "int64 through float64": Bug(
        np.asarray([2**53 + 1]), np.positive, lambda x, xp: xp.astype(xp.astype(x, xp.float64), xp.int64)
    ),
    "closed-over array changed": Bug(
        LINE, lambda x: x * np.ones(40), weigh_and_change, "differs first at (0,)"
    ),
    "workspace shared with the original": Bug(
        LINE, in_workspace, lambda x, xp: in_workspace(x, xp, 3 if isinstance(x, np.ndarray) else 2)
    ),
    "NaN becomes zero": Bug(
        ZERO, root, lambda x, xp: xp.sqrt(xp.where(x > 0, x, 0.0)), "['NaN in argument 0']", options=VARY
    ),
    "NaN gradient behind `where`": Bug(
        ZERO, root, lambda x, xp: xp.where(x > 0, xp.sqrt(x), 0.0), "is nan at [0]", "torch", GRADIENTS
    ),
    "gradient cut by `detach`": Bug(
        ZERO, np.square, lambda x: x * getattr(x, "detach", lambda: x)(), "direction", "torch", GRADIENTS
    ),
    "NaN lost in many elements": Bug(SQUARE, np.max, calls("max"), "['5000 elements with NaN']", "jax", VARY),
    "default dtype of `linspace`": Bug(
        LINE,
        lambda x: x * np.linspace(0, 1, 40),
        lambda x, xp: x * xp.linspace(0, 1, 40, device=device(x)),
        "['default dtype']",
        "torch",
        {**VARY, "rtol": 1e-6},
    ),
    "loop over elements": Bug(
        LINE, lambda x: x @ x, lambda x: sum(x[i] * x[i] for i in range(40)), "16 subscripts", "torch", SYNC
    ),
}
