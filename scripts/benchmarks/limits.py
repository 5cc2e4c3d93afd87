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

    The array is far larger than any cache. Products have the threads of the BLAS, or one a product in as many
    threads: the better rate counts.
    """
    import numpy as np
    from threadpoolctl import threadpool_info, threadpool_limits

    def parallel(work: Callable[[int], object]) -> float:
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            return shortest(lambda: list(pool.map(work, range(threads))), repeats)

    def product_rate(dtype: str) -> float:
        a, b, out = np.full((3, threads, size, size), 0.5, dtype)
        alone = shortest(lambda: np.matmul(a[0], b[0], out=out[0]), repeats)
        beside = parallel(lambda index: np.matmul(a[index], b[index], out=out[index])) / threads
        return 2.0 * size**3 / min(alone, beside)

    parts = np.ones((threads, mebibytes * 2**20 // 8 // threads))
    reading = parts.nbytes / parallel(lambda index: np.sum(parts[index]))
    library = next((x for x in threadpool_info() if x["user_api"] == "blas"), {})
    words = (library.get("internal_api"), library.get("version"), library.get("architecture"))
    blas = " ".join(str(word) for word in words if word) or "unknown"
    return Limits(product_rate("float32"), product_rate("float64"), reading, blas)


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def shortest(call: Callable[[], object], repeats: int) -> float:
    """Return the shortest of the seconds that some calls take, after one to warm up."""
    call()
    return min(seconds(call) for _ in range(repeats))


if __name__ == "__main__":
    print(json.dumps(asdict(measure(*map(int, sys.argv[1:])))))
