"""Bugs that ports of NumPy code have: each with its original, and what assert_parity says of it."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device

SQUARE = np.asarray([[0.5, -1.5, 2.0], [0.25, 3.0, -0.125], [1.0, 0.75, -4.0]])
DECIMALS, LINE, ZERO = np.asarray([0.1, -1.7, 2.3]), np.linspace(-2.0, 2.0, 40), np.asarray([0.0, 2.0])
STRICT, NARROW = "array-api-strict", "array-api-strict:no_float64"
VARY, SYNC, GRADIENTS = {"vary": True}, {"sync": False}, {"gradients": True}


class Bug(NamedTuple):
    """A wrong port, which ``backend`` finds."""

    name: str  # as in the table of docs/parity.md
    original: Callable[..., Any]
    port: Callable[..., Any]
    text: str = "result differs first at"  # of the line
    backend: str = "numpy"
    arguments: tuple[Any, ...] = (SQUARE,)
    options: Mapping[str, Any] = {}


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


def two_of_one(x):
    a = b = x + 1
    b *= 2
    return a, b


WORKSPACE = np.zeros(40)


def in_workspace(x, xp=np, factor=2):
    if not isinstance(x, np.ndarray):
        return x * factor
    WORKSPACE[...] = x * factor
    return WORKSPACE


indices = cache(lambda xp, where: xp.arange(4, dtype=xp.float64, device=where))


def root(x):
    return np.sqrt(np.maximum(x, 0.0))


BUGS = [
    Bug("sum over another axis, square input", lambda x: x.sum(axis=0), lambda x, xp: xp.sum(x, axis=1)),
    Bug(
        "literals in float32",
        lambda x: x * np.asarray([0.1, 0.2, 0.7]),
        lambda x, xp: x * xp.asarray([0.1, 0.2, 0.7], device=device(x)),
        backend="torch",
    ),
    Bug("element assigned to", fill, fill, "TypeError: JAX", "jax"),
    Bug("view written to, which is a copy", write_to_view, write_to_view, "; zeros where", "jax"),
    Bug(
        "another device", lambda x: x + np.ones(3), lambda x, xp: x + xp.ones(3), "different devices", STRICT
    ),
    Bug("silent round trip", np.abs, lambda x, xp: xp.asarray(np.abs(np.asarray(x))), "NumPy", STRICT),
    Bug("method of NumPy's arrays", lambda x: x.copy(), lambda x: x.copy(), "attribute 'copy'", "torch"),
    Bug("data-dependent shape", lambda x: x[x > 0], lambda x, xp: x[x > 0], "True allows it", STRICT),
    Bug("result that shares memory", np.copy, lambda x, xp: xp.asarray(x), "result shares memory"),
    Bug(
        "host synchronization",
        lambda x: x / x.sum(),
        lambda x, xp: x / float(xp.sum(x)),
        "item",
        "torch",
        options=SYNC,
    ),
    Bug(
        "error left out",
        check_and_root,
        lambda x, xp: xp.sqrt(x),
        "raises no ValueError",
        options={"raises": ValueError},
    ),
    Bug(
        "output argument left alone",
        add_to,
        rebind,
        "argument 1 differs",
        arguments=(SQUARE, SQUARE),
        options={"mutates": [1]},
    ),
    Bug(
        "float64 taken for granted",
        lambda x: x * 0.5,
        lambda x, xp: x * xp.astype(xp.asarray(0.5, dtype=xp.float64, device=device(x)), x.dtype),
        "no_float64",
        NARROW,
        options={"float64": False},
    ),
    Bug(
        "index out of range",
        lambda x, i: x[i],
        lambda x, i: x[i],
        "raises no IndexError",
        "jax",
        (DECIMALS, 7),
        {"raises": IndexError},
    ),
    Bug("two results are one buffer", lambda x: (x + 1, (x + 1) * 2), two_of_one, "result[0] differs"),
    Bug(
        "cached result",
        lambda x: np.arange(4.0) + 0 * x.sum(),
        lambda x, xp: indices(xp, device(x)),
        "memory with that of an earlier call",
    ),
    Bug(
        "mask subtracted as a number",
        lambda m, x: np.where(~m, x, 0.0),
        lambda m, x, xp: (1 - xp.astype(m, x.dtype)) * x,
        "['NaN in argument 1']",
        arguments=(DECIMALS > 0, DECIMALS),
        options=VARY,
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
        "read-only result",
        lambda x: np.full(3, 2.0),
        lambda x, xp: xp.broadcast_to(xp.asarray(2.0, dtype=x.dtype, device=device(x)), (3,)),
        "result is read-only, the reference's is not",
    ),
    Bug(
        "int64 through float64",
        lambda x: x // 1,
        lambda x, xp: xp.astype(xp.astype(x, xp.float64), xp.int64),
        arguments=(np.asarray([2**53 + 1, 5]),),
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
        arguments=(ZERO,),
        options=VARY,
    ),
    Bug(
        "NaN gradient behind `where`",
        root,
        lambda x, xp: xp.where(x > 0, xp.sqrt(x), x * 0.0),
        "gradient with respect to argument 0 is nan at [0]",
        "torch",
        (ZERO,),
        GRADIENTS,
    ),
    Bug(
        "gradient cut by `detach`",
        lambda x: x * x,
        lambda x: x * (x.detach() if hasattr(x, "detach") else x),
        "in a random direction, by differences of the reference",
        "torch",
        options=GRADIENTS,
    ),
    Bug(
        "NaN lost in many elements",
        lambda x: x.max(),
        lambda x, xp: xp.max(x),
        "['5000 elements with NaN']",
        "jax",
        options=VARY,
    ),
    Bug(
        "default dtype of `linspace`",
        lambda x: x * np.linspace(0, 1, 40),
        lambda x, xp: x * xp.linspace(0, 1, 40, device=device(x)),
        "['default dtype']",
        "torch",
        (LINE,),
        {**VARY, "rtol": 1e-6},
    ),
    Bug(
        "loop over elements",
        lambda x: (x * x).sum(),
        lambda x: sum(x[i] * x[i] for i in range(x.shape[0])),
        "16 subscripts of an array by integers",
        "torch",
        (LINE,),
        SYNC,
    ),
]
