"""Time the sum over ranks in the tree of blocks beside MPI's own Allreduce of as many bytes.

    PYTHONPATH=scripts mpiexec -n 2 python -m benchmarks.exchange

Both are measured in turn, on all ranks at once; the first rank prints medians in microseconds.
"""

import statistics
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise

from checkout import need

from benchmarks.runs import seconds
from benchmarks.tasks import IMAGES

ROUNDS = 301
SIZES = ((784, 10, 10), (784, 1024, 1024, 1024, 10))


def main() -> None:
    """Measure and print."""
    need("mpi4py", fix='pip install -e ".[mpi]"')
    import numpy as np

    from xpnet.backends.resolve import make
    from xpnet.distributed.ranks import connect

    ranks = replace(connect(), backend=make("numpy", "cpu"))
    if ranks.comm is None:
        sys.exit("exchange: expected several ranks: start it with mpiexec -n 2")
    for sizes in SIZES:
        shapes = [shape for inputs, units in pairwise(sizes) for shape in ((units, inputs), (units, 1))]
        nodes = len(ranks.chunks(IMAGES, 1))
        sums = [[np.random.default_rng(0).random(shape) for shape in shapes] for _ in range(nodes)]
        numbers = np.concatenate([np.ravel(array) for array in sums[0]])
        tree = partial(ranks.finish, sums, IMAGES, tuple(shapes), "float64")
        allreduce = partial(ranks.comm.Allreduce, numbers, np.empty_like(numbers))
        times: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for column, call in zip(times, (tree, allreduce), strict=True):
                ranks.comm.Barrier()
                column.append(1e6 * seconds(call))
        ours, theirs = map(statistics.median, times)
        if ranks.rank == 0:
            name = "-".join(map(str, sizes))
            line = f"{name}: {numbers.nbytes} bytes, {ranks.size} ranks: tree {ours:.0f} us"
            print(f"{line}, Allreduce {theirs:.0f} us, ratio {ours / theirs:.2f}", flush=True)


if __name__ == "__main__":
    main()
