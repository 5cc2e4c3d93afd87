"""Time the sum over ranks in the tree of blocks beside MPI's own Allreduce of as many bytes.

    mpiexec -n 2 python scripts/benchmarks/exchange.py

Both are measured in turn, on all ranks at once; the first rank prints medians in microseconds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from xpnet.backends.resolve import make
from xpnet.distributed.ranks import Ranks, connect

NETWORKS = {"784-10-10": (784, 10, 10), "784-1024-1024-1024-10": (784, 1024, 1024, 1024, 10)}
SAMPLES = 60_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=301)
    rounds = parser.parse_args().rounds
    ranks = connect().on(make("numpy", "cpu"))
    for name, sizes in NETWORKS.items():
        pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
        shapes = tuple(shape for units, inputs in pairs for shape in ((units, inputs), (units, 1)))
        nodes = len(ranks.chunks(SAMPLES, 1))
        sums = [[np.random.default_rng(0).random(shape) for shape in shapes] for _ in range(nodes)]
        numbers = np.concatenate([np.ravel(array) for array in sums[0]])
        tree = partial(ranks.finish, sums, SAMPLES, shapes, "float64")
        allreduce = partial(ranks.comm.Allreduce, numbers, np.empty_like(numbers))
        times = [[measure(ranks, call) for call in (tree, allreduce)] for _ in range(rounds)]
        ours, theirs = (statistics.median(column) * 1e6 for column in zip(*times, strict=True))
        if ranks.rank == 0:
            line = f"{name}: {numbers.nbytes} bytes, {ranks.size} ranks: tree {ours:.0f} us"
            print(f"{line}, Allreduce {theirs:.0f} us, ratio {ours / theirs:.2f}", flush=True)


def measure(ranks: Ranks, call: Callable[[], object]) -> float:
    """Return the seconds of a call that all ranks make together."""
    ranks.comm.Barrier()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
