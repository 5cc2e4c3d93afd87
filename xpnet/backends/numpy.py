"""NumPy, on the CPU: the backend that is always available."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from xpnet._typing import Array, Context, Function, HostArray
from xpnet.backends.base import Backend
from xpnet.backends.replay import compile_replay
from xpnet.backends.tape import xp
from xpnet.backends.workers import Workers, find_blas

BLAS_MULTIPLICATIONS = range(1 << 23, 1 << 26)
"""Multiplications of a forward pass for which products by the threads of the BLAS are fastest."""


class NumPyBackend(Backend):
    """NumPy arrays, which are host arrays already."""

    name = module = "numpy"
    install = "pip install numpy"
    xp = xp
    device = "cpu"
    on_host = True
    parallel_blocks = True

    def set_up(self, device: str) -> None:  # noqa: ARG002
        """Give the BLAS one thread while blocks are computed in parallel."""
        self.pool = Workers(lambda: find_blas().limit(limits=1))

    def scope(self) -> Context:
        """Silence floating-point warnings: the training loop checks for infinities and NaN."""
        return np.errstate(all="ignore")

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Keep a pool of `count` threads for blocks, with a single-threaded BLAS.

        The matrices of a block are so small that computing several blocks in parallel is faster than
        one block with a multi-threaded BLAS.
        """
        with find_blas().limit(limits=1), self.pool.start(count, partial(np.seterr, all="ignore")):
            yield

    @contextmanager
    def single_blocks(self, multiplications: int) -> Iterator[None]:
        """Let large operations use all threads: products those of the BLAS, unless they are very large.

        Waiting for the next product, the threads of the BLAS keep all others from the processors.
        """
        workers, threaded = self.pool, multiplications in BLAS_MULTIPLICATIONS
        workers.sharing = not threaded
        try:
            with find_blas().limit(limits=workers.count if threaded else 1):
                yield
        finally:
            workers.sharing = True

    def compile(self, function: Function, **options: Any) -> Function:
        """Return a function that replays `function` in preallocated memory; see `xpnet.backends.replay`."""
        return compile_replay(function, workers=self.pool, **options)

    def from_host(self, array: HostArray) -> Array:
        """Return `array` itself."""
        return array
