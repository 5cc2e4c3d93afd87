"""The machine's own limits: how fast it multiplies matrices and reads memory, with all its threads.

As a script it measures them and prints a JSON object, `Limits`.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

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

    def flops(self, arithmetic: str) -> float:
        """Return the operations a second in the dtype of an arithmetic."""
        return float(getattr(self, DTYPES[arithmetic]))

    def floor(self, task: Task, arithmetic: str) -> float:
        """Return the seconds that a pass takes at least: the arithmetic's or the reading's."""
        return max(task.flops / self.flops(arithmetic), task.bytes / self.bandwidth)


def better(a: Limits, b: Limits) -> Limits:
    """Return the larger of two measurements in each respect: something else may disturb one."""
    return Limits(max(a.float32, b.float32), max(a.float64, b.float64), max(a.bandwidth, b.bandwidth), a.blas)


def measure(threads: int, size: int, mebibytes: int, repeats: int) -> Limits:
    """Measure products of ``size`` × ``size`` matrices, and sums over an array of so many MiB."""
    return Limits(
        product_rate("float32", threads, size, repeats),
        product_rate("float64", threads, size, repeats),
        reading_rate(threads, mebibytes, repeats),
        _blas(),
    )


def product_rate(dtype: str, threads: int, size: int, repeats: int) -> float:
    """Return operations a second: of one product by the BLAS's threads, or of one in each thread."""
    import numpy as np

    factors = [np.full((size, size), 0.5, dtype) for _ in range(2 * threads)]
    results = [np.empty((size, size), dtype) for _ in range(threads)]

    def multiply(index: int) -> None:
        np.matmul(factors[2 * index], factors[2 * index + 1], out=results[index])

    return rate(multiply, threads, 2.0 * size**3, repeats)


def reading_rate(threads: int, mebibytes: int, repeats: int) -> float:
    """Return bytes a second: by sums or scalar products, over an array far larger than any cache."""
    import numpy as np

    count = mebibytes * 2**20 // 8 // threads
    parts = [np.ones(count) for _ in range(threads)]
    functions: list[Callable[[Any], Any]] = [np.sum, lambda part: np.dot(part, part)]
    return max(
        rate(lambda index, f=function: f(parts[index]), threads, 8.0 * count, repeats)
        for function in functions
    )


def rate(work: Callable[[int], object], threads: int, amount: float, repeats: int) -> float:
    """Return the best rate of ``work(index)``, which does so much: once, or in all threads at a time."""
    from threadpoolctl import threadpool_limits

    best = amount / shortest(partial(work, 0), repeats)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        seconds = shortest(lambda: list(pool.map(work, range(threads))), repeats)
    return max(best, threads * amount / seconds)


def _blas() -> str:
    """Return the name, version and kernels of NumPy's BLAS, which is loaded by now."""
    from threadpoolctl import threadpool_info

    library = next((x for x in threadpool_info() if x["user_api"] == "blas"), {})
    words = (library.get("internal_api"), library.get("version"), library.get("architecture"))
    return " ".join(str(word) for word in words if word) or "unknown"


def shortest(call: Callable[[], object], repeats: int) -> float:
    """Return the shortest of the seconds that some calls take, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def main() -> None:
    """Measure as the arguments say (threads, size, MiB, repeats) and print the limits."""
    threads, size, mebibytes, repeats = map(int, sys.argv[1:])
    print(json.dumps(asdict(measure(threads, size, mebibytes, repeats))))


if __name__ == "__main__":
    main()
