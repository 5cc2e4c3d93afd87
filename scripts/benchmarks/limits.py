"""The machine's own limits: how fast it multiplies matrices and reads memory, with all its threads.

As a script it measures them and prints a JSON object, `Limits`; arguments: threads, size, MiB, repeats.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from benchmarks.runs import shortest
from benchmarks.tasks import Task


@dataclass(frozen=True)
class Limits:
    """What one run of this script measured."""

    float32: float  # operations a second, in matrix products
    float64: float
    bandwidth: float  # bytes a second, read from memory

    def floor(self, task: Task, arithmetic: str) -> float:
        """Return the seconds that a unit takes at least: the products' or the reading's."""
        rate = self.float32 if arithmetic == "native" else self.float64
        return max(task.flops / rate, task.bytes / self.bandwidth)


def measure(threads: int, size: int, mebibytes: int, repeats: int) -> Limits:
    """Measure products of ``size`` × ``size`` matrices, and sums over an array of so many MiB."""
    import numpy as np

    def product_rate(dtype: str) -> float:
        a = np.full((size, size), 0.5, dtype)
        out = np.empty_like(a)
        return 2.0 * size**3 / shortest(lambda: np.matmul(a, a, out=out), repeats)

    parts = np.ones((threads, mebibytes * 2**20 // 8 // threads))
    with ThreadPoolExecutor(threads) as pool:
        seconds = shortest(lambda: list(pool.map(np.sum, parts)), repeats)
    return Limits(product_rate("float32"), product_rate("float64"), parts.nbytes / seconds)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(*map(int, sys.argv[1:])))))
