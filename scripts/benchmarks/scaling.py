"""Predicts the time of an epoch on the ranks of an MPI job, one a machine.

Measures a training step and its update in this process, and prints a table:
`PYTHONPATH=scripts python -m benchmarks.scaling`. LINKS are latency and bandwidth between the ranks.

A step takes the blocks of the rank with most of them, the exchange of the sums, and the update. The nodes of
the tree are exchanged whole (Allgather) if they are small, else in slices (Alltoallv, then Allgatherv). A
batch of up to 1,024 samples is split by samples, with one Allreduce for the maxima of rows and one for the
gradients. Not counted are evaluations, waiting for slower ranks, and messages that share a cable.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from shared import markdown, processor

from benchmarks.runs import shortest
from benchmarks.tasks import IMAGES, TIMING_RATE, Task
from xpnet._lib.machine import available_cpus
from xpnet.arithmetic.blocks import BLOCK_SIZE
from xpnet.config.flags import Parser
from xpnet.distributed.exchange import SMALL_BYTES, list_nodes, share_blocks
from xpnet.errors import XPNetError

BYTES = 8
"""Bytes of a number, in reproducible arithmetic."""
RANKS = tuple(2**power for power in range(11))
HIDDEN = ((10,), (1024, 1024, 1024))
SHOWN = (4, 64, 1024)
BATCHES = (None, 8192, 1024)
MOST_MEASURED = 16 * BLOCK_SIZE
"""The largest batch that is measured; of larger ones, blocks take as long."""


@dataclass(frozen=True)
class Link:
    """The network between the ranks."""

    name: str
    latency: float  # seconds of an empty message
    bandwidth: float  # bytes a second that a rank sends


LINKS = (Link("10 Gbit/s, 25 µs", 25e-6, 10e9 / 8), Link("100 Gbit/s, 2 µs", 2e-6, 100e9 / 8))
"""Ethernet and InfiniBand."""


@dataclass(frozen=True)
class Cost:
    """What a training step costs on one process."""

    numbers: int  # parameters, and as many sums
    maxima: int  # of rows, in the matrix products over the samples: units and inputs of each layer
    sample: float  # seconds of one sample: the calls alone
    block: float  # seconds of BLOCK_SIZE samples
    update: float  # seconds


def exchange_seconds(link: Link, numbers: int, nodes: Sequence[int]) -> float:
    """Return the time in which all ranks receive the sum over the nodes of each, so many numbers a node."""
    ranks, size = len(nodes), BYTES * numbers / link.bandwidth
    others = (ranks - 1) / ranks
    if BYTES * numbers * sum(nodes) <= SMALL_BYTES:
        return math.log2(ranks) * link.latency + others * sum(nodes) * size
    return 2 * (ranks - 1) * link.latency + others * (max(nodes) + 1) * size


def allreduce_seconds(link: Link, numbers: int, ranks: int) -> float:
    """Return the time of an Allreduce: of whole arrays in log2 rounds, or of slices in twice as many."""
    rounds, size = math.log2(ranks), BYTES * numbers / link.bandwidth
    whole = rounds * (link.latency + size)
    return min(whole, 2 * rounds * link.latency + 2 * size * (ranks - 1) / ranks)


def step_seconds(cost: Cost, link: Link, samples: int, ranks: int) -> float:
    """Return the time of a step over a batch."""
    if samples <= BLOCK_SIZE:
        share = -(-samples // ranks) / BLOCK_SIZE
        exchange = sum(allreduce_seconds(link, count, ranks) for count in (cost.maxima, cost.numbers))
        return cost.sample + share * (cost.block - cost.sample) + cost.update + exchange
    blocks = -(-samples // BLOCK_SIZE)
    shares = share_blocks(blocks, ranks)
    nodes = [len(each) for each in list_nodes(blocks, ranks)]
    most = max(stop - first for first, stop in shares)
    return most * cost.block + cost.update + exchange_seconds(link, cost.numbers, nodes)


def epoch_seconds(cost: Cost, link: Link, task: Task, ranks: int) -> float:
    """Return the time of an epoch; its last batch may be short."""
    batch = task.batch or task.rows
    full, rest = divmod(task.rows, batch)
    seconds = full * step_seconds(cost, link, batch, ranks)
    return seconds + step_seconds(cost, link, rest, ranks) if rest else seconds


def measure(task: Task, repeats: int) -> Cost:
    """Measure what a step costs on this machine, with all of its processors."""
    rows = min(task.batch or task.rows, MOST_MEASURED)
    step, update = measure_step(task, rows, repeats)
    sample, _ = measure_step(task, 1, repeats)
    layer_sizes = list(pairwise(task.sizes))
    return Cost(
        numbers=sum((inputs + 1) * units for inputs, units in layer_sizes),
        maxima=sum(inputs + units for inputs, units in layer_sizes),
        sample=max(sample - update, 0.0),
        block=(step - update) * BLOCK_SIZE / rows,
        update=update,
    )


def measure_step(task: Task, rows: int, repeats: int) -> tuple[float, float]:
    """Return the seconds of a step over so many samples, and those of its update."""
    import numpy as np

    from xpnet.backends.resolve import make
    from xpnet.config import TrainConfig
    from xpnet.data.datasets import Dataset
    from xpnet.training.trainer import Trainer

    x = (np.arange(rows * task.sizes[0]) % 251).astype(np.uint8).reshape(rows, -1)
    labels = np.arange(rows) % task.sizes[-1]
    data = Dataset(x, labels, x[:1], labels[:1], "pixels")
    config = TrainConfig(hidden=task.hidden, batch_size="full", learning_rate=TIMING_RATE)
    with Trainer.open(config, data, make("numpy", "cpu")) as trainer:
        (batch,) = trainer.loader.batches(1)
        variables = trainer.initial_state().variables
        layers, update, state = variables.parameters, trainer.optimizer.update, variables.optimizer
        update_time = shortest(lambda: update(layers, state, layers, TIMING_RATE), 3 * repeats)

        def take_step() -> None:
            nonlocal variables
            variables = trainer.step(variables, batch, TIMING_RATE)

        return shortest(take_step, repeats), update_time


def predict(task: Task, cost: Cost) -> list[list[str]]:
    """Return the rows of the table for a task: its network and batch, and the speed-ups over each link."""
    network, batch = "-".join(map(str, task.sizes)), f"batches of {task.batch or 0:,}"
    name = f"{network}, {batch if task.batch else f'full batch of {IMAGES:,}'}"
    rows = []
    for link in LINKS:
        seconds = {ranks: epoch_seconds(cost, link, task, ranks) for ranks in RANKS}
        speed_ups = {ranks: seconds[1] / time for ranks, time in seconds.items()}
        wasteful = (f"{ranks:,}" for ranks in RANKS if speed_ups[ranks] < 0.5 * ranks)
        fastest = max(RANKS, key=speed_ups.__getitem__)
        shown = [f"{speed_ups[ranks]:.1f}×" for ranks in SHOWN]
        ends = [next(wasteful, "none"), f"{fastest:,} ({speed_ups[fastest]:.1f}×)"]
        rows.append([name, link.name, f"{1000 * seconds[1]:,.0f}", *shown, *ends])
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, predict, print the table, and return the exit code: 2 bad options."""
    parser = Parser(debug=False, prog="scaling.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="measure each step once")
    try:
        options = parser.parse_args(sys.argv[1:] if argv is None else argv)
        print(f"{processor()}, {available_cpus()} processors, NumPy, reproducible arithmetic\n")
        tasks = [Task(hidden=hidden, batch=batch) for hidden in HIDDEN for batch in BATCHES]
        rows = [row for task in tasks for row in predict(task, measure(task, 1 if options.quick else 7))]
        ends = ["below 50 %", "fastest"]
        head = [
            "network, batch",
            "between ranks",
            "1 rank, ms",
            *(f"{ranks:,} ranks" for ranks in SHOWN),
            *ends,
        ]
        print(markdown(head, rows))
    except XPNetError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
