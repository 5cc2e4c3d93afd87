"""Threads that compute blocks in parallel, for libraries that let each use one processor."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

from xpnet._typing import Item, Result

MAX_PENDING = 4
"""Items submitted to the threads at a time."""


class Workers:
    """A pool of threads, which exists inside the context of `start`.

    ``parallel`` returns the context in which they compute.
    """

    def __init__(self, parallel: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self.count, self._parallel = 1, parallel
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def start(self, count: int, prepare_thread: Callable[[], object]) -> Iterator[None]:
        """Keep `count` threads, each of which calls `prepare_thread` first."""
        with ThreadPoolExecutor(count, initializer=prepare_thread) as pool:
            self.count, self._pool = count, pool if count > 1 else None
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
        pending: deque[Future[Result]] = deque()
        with self._parallel():
            try:
                for item in items:
                    pending.append(self._pool.submit(function, item))
                    if len(pending) == MAX_PENDING:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def share(self, function: Callable[[Item], object], items: Sequence[Item]) -> None:
        """Apply `function` to items in the calling thread, and in those of the pool that are free meanwhile."""
        pending = list(items)

        def work() -> None:
            while pending:
                try:
                    item = pending.pop()
                except IndexError:  # another thread took the last one
                    return
                function(item)

        pool, helpers = self._pool, min(self.count, len(pending)) - 1
        futures = [] if pool is None else [pool.submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            pending.clear()
            for future in futures:
                if not future.cancel():
                    future.result()
