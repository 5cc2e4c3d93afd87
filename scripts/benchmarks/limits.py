"""The machine's own limits: how fast it multiplies matrices and reads memory, with all its threads.

As a script it measures them and prints a JSON object, `Limits`; arguments: threads, size, MiB, repeats.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from benchmarks.tasks import Task

DTYPES = {"native": "float32", "reproducible": "float64"}
"""What each arithmetic multiplies in."""


@dataclass(frozen=True)
class Limits:
    """What one run of this script found."""

    float32: float  # operations a second, in matrix products
    float64: float
    bandwidth: float  # bytes a second, read from memory
    blas: str

    def floor(self, task: Task, arithmetic: str) -> float:
        """Return the seconds that a unit takes at least: the arithmetic's or the reading's."""
        return max(task.flops / float(getattr(self, DTYPES[arithmetic])), task.bytes / self.bandwidth)


def measure(threads: int, size: int, mebibytes: int, repeats: int) -> Limits:
    """Measure products of ``size`` × ``size`` matrices, and sums over an array of so many MiB.

    Of two ways, the better rate counts: one product by the BLAS's threads or one in each thread; sums or
    scalar products over an array far larger than any cache.
    """
    import numpy as np
    from threadpoolctl import threadpool_info, threadpool_limits

    def rate(work: Callable[[int], object], amount: float) -> float:
        """Return the rate of ``work(index)``, which does so much: once, or in all threads at a time."""
        alone = amount / shortest(lambda: work(0), repeats)
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            seconds = shortest(lambda: list(pool.map(work, range(threads))), repeats)
        return max(alone, threads * amount / seconds)

    def product_rate(dtype: str) -> float:
        a, b = (np.full((threads, size, size), 0.5, dtype) for _ in range(2))
        out = np.empty((threads, size, size), dtype)
        return rate(lambda index: np.matmul(a[index], b[index], out=out[index]), 2.0 * size**3)

    products = product_rate("float32"), product_rate("float64")
    parts = np.ones((threads, mebibytes * 2**20 // 8 // threads))
    readings = (
        rate(lambda index: np.sum(parts[index]), parts[0].nbytes),
        rate(lambda index: np.dot(parts[index], parts[index]), parts[0].nbytes),
    )
    library = next((x for x in threadpool_info() if x["user_api"] == "blas"), {})
    words = (library.get("internal_api"), library.get("version"), library.get("architecture"))
    return Limits(*products, max(readings), " ".join(str(word) for word in words if word) or "unknown")


def shortest(call: Callable[[], object], repeats: int) -> float:
    """Return the shortest of the seconds that some calls take, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


if __name__ == "__main__":
    print(json.dumps(asdict(measure(*map(int, sys.argv[1:])))))
