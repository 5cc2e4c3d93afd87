"""JAX: the CPU and CUDA GPUs.

JAX computes in float32 unless ``jax_enable_x64`` is set, which holds for the whole process.
`JaxBackend.scope` sets it for one thread and one scope, so that the JAX code of a program that uses xpnet
is not affected.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from xpnet._typing import Array, Function, HostArray, Names
from xpnet.backends.base import Backend, replace_functions
from xpnet.backends.probing import GpuCount, Probe, Problem, cuda_major, missing_driver_or, one_line

LAYOUT_ROWS = 256
"""Rows of the left operand from which materialising both operands costs less than it saves."""
GATHERED_BYTES = 1 << 24
"""Samples of several steps that are gathered before the first one: in the loop, few rows take longer."""
MOST_NUMBERS = 64
"""Numbers, such as learning rates, that are kept on a GPU for each compiled function."""


class JaxBackend(Backend):
    """JAX arrays on one device."""

    name = module = "jax"
    fuses = compiles_shapes = True
    install, install_gpu = "pip install jax", 'pip install "jax[cuda{}]"'

    def set_up(self, device: str) -> None:
        """Set the namespace and the device."""
        platform, _, index = device.partition(":")
        self.device = self.library.devices(platform)[int(index or 0)]
        self.xp = _make_xla_namespace(self.library) if platform == "cpu" else self.library.numpy

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Compute in full precision on this device, with float64 allowed.

        This holds for the calling thread alone. Otherwise a GPU would shorten the float32 operands
        of a product to 10 bits (TF32).
        """
        with (
            self.library.enable_x64(new_val=True),
            self.library.default_matmul_precision("highest"),
            self.library.default_device(self.device),
        ):
            yield

    def compile(self, function: Function, *, exact: bool, donated: bool = False, **_: Any) -> Function:
        """Return `function` compiled by XLA, which may fuse and reorder operations unless `exact`.

        On a GPU, numbers among the arguments are kept there: each would be copied in every call.
        """
        compiled: Function
        if exact:
            from xpnet.backends.fence import compile_fenced

            compiled = compile_fenced(function, donated=donated, zero=self._zero)
        else:
            compiled = self.library.jit(function, donate_argnums=(0,) if donated else ())
        if not self.on_gpu:
            return compiled
        number = lru_cache(MOST_NUMBERS)(self.library.numpy.asarray)  # whose dtype gives way, as a number's

        def run(*args: object) -> object:
            return compiled(*(number(arg) if isinstance(arg, float) else arg for arg in args))

        return run

    @cached_property
    def _zero(self) -> Any:
        """The zero of fences, on the device if that is a GPU."""
        from xpnet.backends.fence import ZERO

        return self.from_host(np.asarray(ZERO)) if self.on_gpu else ZERO

    def compile_steps(self, step: Function, compiled: Function, *, exact: bool) -> Function:
        """Return a function that takes several steps in one compiled loop."""
        jax, one_by_one = self.library, super().compile_steps(step, compiled, exact=exact)
        from xpnet.backends.fence import UnknownPrimitiveError, fenced

        in_loop: Function = fenced(step) if exact else lambda _, *args: step(*args)

        def scan(zero: Any, variables: Any, block: Any, rates: Any) -> Any:
            indices, samples = block.indices, block._replace(indices=None, masks=None)
            row_bytes = sum(array.nbytes // array.shape[0] for array in jax.tree.leaves(samples))
            gathered = indices.size * row_bytes <= GATHERED_BYTES
            rows = jax.tree.map(lambda x: self.xp.take(x, indices, axis=0), samples) if gathered else indices

            def take_step(variables: Any, own: tuple[Any, Any, Array]) -> tuple[Any, None]:
                row, masks, rate = own
                batch = row if gathered else block._replace(indices=row)
                return in_loop(zero, variables, batch._replace(masks=masks), rate), None

            # The dtype of the rates would be that of the results.
            rates = rates.astype(jax.tree.leaves(variables)[0].dtype)
            return jax.lax.scan(take_step, variables, (rows, block.masks, rates))[0]

        loop, zero = jax.jit(scan), self._zero
        put = lru_cache(MOST_NUMBERS)(lambda rates: self.from_host(np.asarray(rates)))
        put_rates = put if self.on_gpu else np.asarray

        def take_steps(variables: Any, block: Any, rates: Sequence[float]) -> Any:
            try:
                return loop(zero, variables, block, put_rates(rates))
            except UnknownPrimitiveError:  # of which the compiled step warns
                return one_by_one(variables, block, rates)

        return take_steps

    def from_host(self, array: HostArray) -> Array:
        """Put a NumPy array on the device, keeping its dtype."""
        with self.scope():
            return self.library.device_put(array, self.device)

    def to_user(self, array: HostArray) -> Array:
        """Put results on the device, in 32 bits unless the user has set ``jax_enable_x64``.

        In 32-bit mode, functions of JAX warn of 64-bit arrays, or fail.
        """
        return self.library.device_put(array, self.device)

    @classmethod
    def probe(cls, device: str) -> Probe:
        """Probe JAX, which takes a GPU's memory as it needs it: at its start it would take most of it."""
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        return super().probe(device)

    @classmethod
    def host_devices(cls, library: ModuleType) -> Names:
        """Return the CPU, and the further ones that XLA_FLAGS may simulate."""
        return ("cpu", *(f"cpu:{index}" for index in range(1, len(library.devices("cpu")))))

    @classmethod
    def name_device(cls, array: Any) -> str:
        """Return the name of the device of an array, of an array on several devices, that of the first."""
        device = min(array.devices(), key=lambda each: each.id)
        platform = "cuda" if device.platform == "gpu" else device.platform
        index = device.client.devices().index(device)
        return platform if (platform, index) == ("cpu", 0) else f"{platform}:{index}"

    @classmethod
    def count_gpus(cls, library: ModuleType) -> GpuCount:
        """Return the number of GPUs that JAX sees, or 0 and the problem."""
        try:
            return len(library.devices("cuda")), None
        except RuntimeError as error:
            reason = f"jax {library.__version__} sees no GPU: {one_line(error)}"
            return 0, missing_driver_or(Problem(reason, cls.install_gpu.format(cuda_major())))


def _make_xla_namespace(jax: ModuleType) -> ModuleType:
    """Return ``jax.numpy`` with ``matmul`` and ``take`` that compile to faster code on the CPU.

    Within rounding, and for indices in range, they are equivalent to those of JAX. ``asarray`` returns an
    array with values even in a function that is traced, so that it may be kept for later calls.
    """

    def asarray(values: object, /, **keywords: object) -> Array:
        is_traced = isinstance(values, jax.core.Tracer)
        with nullcontext() if is_traced else jax.ensure_compile_time_eval():
            return jax.numpy.asarray(values, **keywords)

    def matmul(a: Array, b: Array, /) -> Array:
        # XLA fuses a transposition into the product, whose inner loops then stride across memory.
        if isinstance(b, jax.core.Tracer) and a.ndim > 1 and a.shape[-2] >= LAYOUT_ROWS:
            a, b = jax.lax.optimization_barrier((a, b))
        return jax.numpy.matmul(a, b)

    def take(x: Array, /, indices: Array, *, axis: int | None = None) -> Array:
        # JAX's default fills with NaN for indices out of range, which costs a selection per element.
        mode = "clip" if isinstance(indices, jax.core.Tracer) else None
        return jax.numpy.take(x, indices, axis=axis, mode=mode)

    return replace_functions(jax.numpy, asarray=asarray, matmul=matmul, take=take)
