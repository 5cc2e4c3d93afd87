"""JAX: the CPU and CUDA GPUs.

JAX computes in float32 unless it is told otherwise, and telling it (``jax_enable_x64``) is a
setting of the whole process. `JaxBackend.scope` tells it for one thread and one scope, so that a
program that uses xpnet beside its own JAX code finds its JAX as it left it.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backends.base import GPU_STACK, Backend
from xpnet.backends.probing import (
    Probe,
    Problem,
    cuda_index,
    cuda_major,
    cuda_names,
    device_problem,
    driver_first,
    import_library,
    one_line,
    require,
    smoke_problem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from xpnet._typing import Array, Function

NAME = "jax"
INSTALL = "pip install jax"
WORTH_LAYING_OUT = 256
"""Rows of the left operand from which laying out both operands costs less than it saves."""


class JaxBackend(Backend):
    """JAX arrays on one device."""

    name = NAME
    whole_steps = True
    stack = 4  # starting an operation costs JAX more than a block's arithmetic

    def __init__(self, device: str, version: str) -> None:
        self._jax = importlib.import_module("jax")
        self.device_name = device
        self.device = _device(self._jax, device)
        self.version = version
        self.xp = self._jax.numpy
        if self.device.platform == "cpu":
            self.xp = _namespace_for_xla(self._jax)
        else:
            self.stack = self.compiled_stack = GPU_STACK

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Allow float64, compute float32 products in full, and make this device the default.

        This holds for the calling thread alone. Otherwise a GPU would shorten the float32 operands
        of a product to 10 bits (TF32).
        """
        with (
            self._jax.enable_x64(new_val=True),
            self._jax.default_matmul_precision("highest"),
            self._jax.default_device(self.device),
        ):
            yield

    def compile(self, function: Function, *, exact: bool, donated: Sequence[int] = ()) -> Function:
        """Return `function` compiled by XLA, which may fuse and reorder what it does: unless `exact`."""
        return function if exact else self._jax.jit(function, donate_argnums=donated)

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Put a NumPy array on the device, keeping its dtype."""
        with self.scope():
            return self._jax.device_put(array, self.device)

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Return `array` as a read-only NumPy array, waiting for the device."""
        return np.asarray(array)

    def synchronize(self) -> None:
        """Wait for every array that is still in use."""
        self._jax.block_until_ready(self._jax.live_arrays())


def _namespace_for_xla(jax: Any) -> ModuleType:
    """Return ``jax.numpy`` with a product and a choice of rows that compile to faster code on the CPU.

    Uncompiled, and within rounding, they do the same for indices that are in range.
    """

    def matmul(a: Array, b: Array, /) -> Array:
        # XLA makes a transposition part of the product, whose loops then run across the memory.
        if isinstance(b, jax.core.Tracer) and a.ndim > 1 and a.shape[-2] >= WORTH_LAYING_OUT:
            a, b = jax.lax.optimization_barrier((a, b))
        return jax.numpy.matmul(a, b)

    def take(x: Array, /, indices: Array, *, axis: int | None = None) -> Array:
        # JAX's own writes NaN, or a number like it, for indices out of range: a choice for each number.
        mode = "clip" if isinstance(indices, jax.core.Tracer) else None
        return jax.numpy.take(x, indices, axis=axis, mode=mode)

    namespace = ModuleType(jax.numpy.__name__)
    namespace.__dict__.update(vars(jax.numpy))
    namespace.__dict__.update(matmul=matmul, take=take)
    return namespace


def _device(jax: Any, name: str) -> Any:
    index = cuda_index(name)
    return jax.devices("cpu")[0] if index is None else jax.devices("cuda")[index]


def _cuda_wheel() -> str:
    return f'pip install "jax[cuda{cuda_major()}]"'


def _cuda_problem(jax: Any) -> Problem | None:
    """Return why JAX sees no GPU, or None when it sees one."""
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        return driver_first(Problem(f"jax {jax.__version__} sees no GPU: {one_line(error)}", _cuda_wheel()))
    return None


def probe(device: str) -> Probe:
    """Say whether JAX can run on `device`."""
    jax, problem = import_library("jax", INSTALL)
    if problem:
        return Probe.of(problem, None)
    version = str(jax.__version__)
    index = cuda_index(device)
    if index is None:
        return Probe.of(device_problem(NAME, device, ("cpu",)), version, "cpu")
    problem = _cuda_problem(jax)
    if problem:
        return Probe.of(problem, version, "cpu")
    devices = cuda_names(len(jax.devices("cuda")))
    problem = device_problem(NAME, f"cuda:{index}", devices) or smoke_problem(
        jax.numpy, _device(jax, device), _cuda_wheel()
    )
    return Probe.of(problem, version, "cpu", *devices)


def make(device: str) -> Backend:
    """Return JAX on `device`; raise BackendError when it cannot run there."""
    version = require(NAME, device, probe(device))
    index = cuda_index(device)
    return JaxBackend(device if index is None else f"cuda:{index}", version)
