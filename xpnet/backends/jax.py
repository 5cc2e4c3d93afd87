"""JAX: the CPU and CUDA GPUs.

JAX computes in float32 unless it is told otherwise, and telling it (``jax_enable_x64``) is a
setting of the whole process. `JaxBackend.scope` tells it for one thread and one scope, so that a
program that uses xpnet beside its own JAX code finds its JAX as it left it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import numpy.typing as npt

from xpnet._typing import AnyFunction, Array, Device
from xpnet.backends.base import GPU_STACK, Backend
from xpnet.backends.probing import Problem, cuda_index, cuda_major, driver_first, one_line

WORTH_LAYING_OUT = 256
"""Rows of the left operand from which laying out both operands costs less than it saves."""


class JaxBackend(Backend):
    """JAX arrays on one device."""

    name = module = "jax"
    whole_steps = True
    stack = 4  # starting an operation costs JAX more than a block's arithmetic

    def __init__(self, device: str, version: str) -> None:
        super().__init__(device, version)
        self.device = _device(self.library, device)
        if cuda_index(device) is None:
            self.xp = _namespace_for_xla(self.library)
        else:
            self.xp = self.library.numpy
            self.stack = self.compiled_stack = GPU_STACK

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Allow float64, compute float32 products in full, and make this device the default.

        This holds for the calling thread alone. Otherwise a GPU would shorten the float32 operands
        of a product to 10 bits (TF32).
        """
        with (
            self.library.enable_x64(new_val=True),
            self.library.default_matmul_precision("highest"),
            self.library.default_device(self.device),
        ):
            yield

    def compile(self, function: AnyFunction, *, exact: bool, donated: Sequence[int] = ()) -> AnyFunction:
        """Return `function` compiled by XLA, which may fuse and reorder its operations: unless `exact`."""
        if exact:
            return function
        compiled: AnyFunction = self.library.jit(function, donate_argnums=donated)
        return compiled

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Put a NumPy array on the device, keeping its dtype."""
        with self.scope():
            copy: Array = self.library.device_put(array, self.device)
        return copy

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Return `array` as a read-only NumPy array, waiting for the device."""
        return np.asarray(array)

    def synchronize(self) -> None:
        """Wait for every array that is still in use."""
        self.library.block_until_ready(self.library.live_arrays())

    @classmethod
    def count_gpus(cls, library: ModuleType) -> tuple[int, Problem | None]:
        """Return how many GPUs JAX sees, or 0 and why it sees none."""
        try:
            return len(library.devices("cuda")), None
        except RuntimeError as error:
            reason = f"jax {library.__version__} sees no GPU: {one_line(error)}"
            return 0, driver_first(Problem(reason, _cuda_wheel()))

    def install_for_cuda(self) -> str:
        """Return the command that installs JAX for this machine's driver."""
        return _cuda_wheel()


def _cuda_wheel() -> str:
    return f'pip install "jax[cuda{cuda_major()}]"'


def _namespace_for_xla(jax: ModuleType) -> ModuleType:
    """Return ``jax.numpy`` with a product and a choice of rows that compile to faster code on the CPU.

    Uncompiled, and within rounding, they do the same for indices that are in range.
    """

    def matmul(a: Array, b: Array, /) -> Array:
        # XLA makes a transposition part of the product, whose loops then run across the memory.
        if isinstance(b, jax.core.Tracer) and a.ndim > 1 and a.shape[-2] >= WORTH_LAYING_OUT:
            a, b = jax.lax.optimization_barrier((a, b))
        product: Array = jax.numpy.matmul(a, b)
        return product

    def take(x: Array, /, indices: Array, *, axis: int | None = None) -> Array:
        # JAX's own writes NaN, or a number like it, for indices out of range: a choice for each number.
        mode = "clip" if isinstance(indices, jax.core.Tracer) else None
        rows: Array = jax.numpy.take(x, indices, axis=axis, mode=mode)
        return rows

    namespace = ModuleType(jax.numpy.__name__)
    namespace.__dict__.update(vars(jax.numpy))
    namespace.__dict__.update(matmul=matmul, take=take)
    return namespace


def _device(jax: ModuleType, name: str) -> Device:
    index = cuda_index(name)
    device: Device = jax.devices("cpu")[0] if index is None else jax.devices("cuda")[index]
    return device


probe, make = JaxBackend.probe, JaxBackend.make
