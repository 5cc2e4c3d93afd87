"""Threads that compute blocks in parallel, for libraries that let each use one processor."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

from xpnet._typing import Context, Item, Result

MAX_PENDING = 4
"""Items submitted to the threads at a time."""
THREADS = "xpnet-blocks"
"""The beginning of their names."""


@cache
def find_blas() -> Any:
    """Return the controller of the BLAS's threads, which takes milliseconds to find."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


class Workers:
    """A pool of threads, which has work inside the context of `start`, and is kept for the next one.

    ``parallel`` returns the context in which they compute.
    """

    def __init__(self, parallel: Callable[[], Context] = nullcontext) -> None:
        self.count, self._parallel = 1, parallel
        self.sharing = True  # whether `share` uses the threads
        self._pool: ThreadPoolExecutor | None = None
        self._pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # the last one, by its count and process

    @contextmanager
    def start(self, count: int, prepare_thread: Callable[[], object]) -> Iterator[None]:
        """Compute in `count` threads, each of which calls `prepare_thread` first."""
        key = count, os.getpid()  # a process that is forked has no threads of its parent
        if count > 1 and key not in self._pools:
            # The threads live as long as this object, so what they hold must not lead to it.
            self._pools = {key: ThreadPoolExecutor(count, THREADS, prepare_thread)}
        self.count, self._pool = count, self._pools.get(key)
        try:
            yield
        finally:
            self._pool = None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results in order while the next ones are computed; ``MAX_PENDING`` bounds the memory."""
        items = list(items)
        if self._pool is None or len(items) == 1:  # a single block gains nothing from the threads
            yield from map(function, items)
            return
        pending = deque[Future[Result]]()
        with self._parallel():
            try:
                for item in items:
                    pending.append(self._pool.submit(function, item))
                    if len(pending) == MAX_PENDING:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                wait([future for future in pending if not future.cancel()])

    @property
    def includes_caller(self) -> bool:
        """True in one of the threads, or in those of another pool."""
        return threading.current_thread().name.startswith(THREADS)

    @property
    def sharers(self) -> int:
        """The number of threads that `share` uses at most."""
        return self.count if self.sharing and self._pool is not None else 1

    def share(self, work: Callable[[Item], object], lanes: Sequence[Item]) -> None:
        """Do `work` with the first of some lanes in this thread, and with others in those that are free.

        If not ``sharing``, in this thread alone: the work of the others is left to the first.
        """
        pool = self._pool if self.sharing else None
        futures = [pool.submit(work, lane) for lane in lanes[1:]] if pool else []
        try:
            work(lanes[0])
        finally:
            for future in futures:
                if not future.cancel():
                    future.result()
