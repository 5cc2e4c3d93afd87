"""NumPy, on the CPU: the backend that is always there."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import array_api_compat.numpy
import numpy as np
from threadpoolctl import threadpool_limits

from xpnet.backends.base import Array, Backend, Item, Probe, Result, device_problem, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

NAME = "numpy"
DEVICES = ("cpu",)
BLOCKS_AHEAD = 16
"""Blocks that may be computed or waiting at a time."""


class NumPyBackend(Backend):
    """NumPy arrays, which are host arrays already."""

    name = NAME
    xp = array_api_compat.numpy
    device = "cpu"
    device_name = "cpu"
    parallel_blocks = True

    def __init__(self, version: str) -> None:
        self.version = version
        self._pool: ThreadPoolExecutor | None = None

    def scope(self) -> AbstractContextManager[None]:
        """Let infinities and NaN arise without warnings: the training loop looks for them."""
        return np.errstate(all="ignore")

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Keep `count` threads for blocks, each with a BLAS of one thread.

        The matrices of a block are so small that several blocks at once are faster than one block
        by all threads of the BLAS.
        """
        if count == 1:
            yield
            return
        ignore = partial(np.seterr, all="ignore")
        with (
            threadpool_limits(limits=1, user_api="blas"),
            ThreadPoolExecutor(count, initializer=ignore) as pool,
        ):
            self._pool = pool
            try:
                yield
            finally:
                self._pool = None

    def map_blocks(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Apply `function` to each item, several at once, and yield the results in order."""
        items = list(items)
        if self._pool is None or len(items) == 1:  # handing over a single block would only cost
            return map(function, items)
        return _map_ahead(self._pool, function, items)

    def from_host(self, array: npt.NDArray[np.generic]) -> Array:
        """Return `array` itself."""
        return array

    def to_host(self, array: Array) -> npt.NDArray[np.generic]:
        """Return `array` itself."""
        return np.asarray(array)

    def synchronize(self) -> None:
        """Do nothing: NumPy has finished when it returns."""


def _map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield results in order while the next ones are computed, few enough to bound the memory."""
    remaining = iter(items)
    pending: deque[Future[Result]] = deque()
    try:
        for item in remaining:
            pending.append(pool.submit(function, item))
            if len(pending) == BLOCKS_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def probe(device: str) -> Probe:
    """Say whether NumPy can run on `device`."""
    return Probe.of(device_problem(NAME, device, DEVICES), np.__version__, *DEVICES)


def make(device: str) -> Backend:
    """Return NumPy on `device`; raise BackendError when it cannot run there."""
    return NumPyBackend(require(NAME, device, probe(device)))
