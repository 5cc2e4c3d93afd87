"""Computations that use all of the reproducible arithmetic: the test vectors, MNIST, and its functions."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from checkout import ROOT

sys.path.insert(0, str(ROOT / "docs" / "vectors"))
import make_vectors

import xpnet
from xpnet import reproducible as r
from xpnet.backends.base import Backend
from xpnet.data import datasets

IMAGES = 6_000
"""Images of MNIST: blocks in stacks, as the test vectors have none."""
AXES = (None, -1, 0)
FUNCTIONS: dict[str, Callable[[Any], object]] = {
    "matmul": lambda x: [r.matmul(x, x.T, slices=slices, block=20) for slices in (None, 1, 7)],
    "vecdot": lambda x: [r.vecdot(x, x, axis=axis) for axis in (-1, -2)],
    "sum": lambda x: [r.sum(x, axis=axis) for axis in AXES],
    "cumulative_sum": lambda x: [r.cumulative_sum(x, axis=axis, include_initial=True) for axis in (-1, 0)],
    "one_hot": lambda x: r.one_hot(x, 3, axis=0),
    "mean": lambda x: [r.mean(x, axis=axis) for axis in AXES],
    "var": lambda x: [r.var(x, axis=axis, correction=1.0) for axis in AXES],
    "logsumexp": lambda x: [r.logsumexp(x, axis=axis) for axis in AXES],
    "softmax": lambda x: [r.softmax(x, axis=axis) for axis in AXES[1:]],
    **{name: getattr(r, name) for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "sin", "cos")},
    "random": lambda x: [r.random.uniform(0, 5, like=x), r.random.permutation(0, 5, like=x)],
}
"""Calls of each public function of xpnet.reproducible."""
DTYPES = ("float64", "float32", "int64", "int32", "uint8", "bool")


def run(backend: Backend) -> None:
    """Compute all of it, the functions with arrays of several dtypes and layouts."""
    for name in make_vectors.FILES.keys() - {"arrays"}:  # which CuPy computes in part on the host
        make_vectors.content(name, backend)
    mnist = datasets.load()
    x, y = mnist.x_train[:IMAGES], mnist.y_train[:IMAGES]
    for batch_size in ("full", 2000):
        model = xpnet.fit(x, y, epochs=1, batch_size=batch_size, backend=backend.name, device="cuda")
        model.evaluate(x, y)
    with backend.scope():
        x = np.random.default_rng(2).uniform(0.1, 3.0, size=(3, 20, 24))
        stacks = [x, x[0], x[0, :, ::2].T, x[0, 0], x[0, 0, 0], np.ones((2, 1200))]
        for function in FUNCTIONS.values():
            for stack in stacks:
                for dtype in DTYPES:
                    with contextlib.suppress(xpnet.XPNetError):  # no such axis, or dtype
                        function(backend.from_host(stack.astype(dtype)))
