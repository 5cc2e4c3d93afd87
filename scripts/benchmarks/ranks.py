"""Time training steps on one and two ranks beside PyTorch's DistributedDataParallel with gloo.

    PYTHONPATH=scripts python -m benchmarks.ranks --rounds 10

Each round starts MPI jobs of one rank and of two, of one thread each, in which all train 784-1024-1024-10 in
turn, from parameters of the same size (those of the notebook are so large for 1,024 units that probabilities
become subnormal numbers, with which a processor is slow). Printed are medians over the rounds: milliseconds
for 8,192 samples, and the factor that two ranks gain.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from typing import Any

from checkout import need
from shared import whole_number

SIZES = (1024, 8192)
SAMPLES = 8192
HIDDEN = (1024, 1024)
PORT = "29517"


def measure() -> None:
    """Print the seconds for `SAMPLES` samples of each contender and batch size, on the ranks of this job."""
    import numpy as np

    from xpnet.backends.resolve import make
    from xpnet.config import TrainConfig
    from xpnet.data.datasets import Dataset
    from xpnet.distributed.ranks import connect
    from xpnet.training.trainer import Trainer

    ranks, random = connect(), np.random.default_rng(0)
    x = random.integers(0, 256, (2 * SAMPLES, 784), dtype=np.uint8)
    y = random.integers(0, 10, 2 * SAMPLES).astype(np.int32)
    steps: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        for arithmetic in ("reproducible", "native"):
            for size in SIZES:
                data, backend = Dataset(x, y, x[:1], y[:1], "random"), make("numpy", "cpu")
                settings: dict[str, Any] = {"hidden": HIDDEN, "batch_size": size, "arithmetic": arithmetic}
                config = TrainConfig(**settings, init="he", workers=1)
                opened = Trainer.open(config, data, backend, ranks=ranks, jobs=ranks.size)
                steps[f"{arithmetic} {size}"] = _train(stack.enter_context(opened))
        steps |= {f"DDP {size}": _train_torch(x, y, size, ranks.rank, ranks.size) for size in SIZES}
        seconds = dict.fromkeys(steps, float("inf"))
        for _ in range(3):  # the first compile
            for name, step in steps.items():
                ranks.max(0)
                start = time.perf_counter()
                for _ in range(SAMPLES // int(name.split()[1])):
                    step()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    if ranks.rank == 0:
        print(json.dumps(seconds))


def _train(trainer: Any) -> Callable[[], object]:
    """Return a function that takes a step of xpnet."""
    variables, batches = trainer.initial_state().variables, cycle(trainer.loader.batches(1))

    def step() -> None:
        nonlocal variables
        variables = trainer.step(variables, next(batches), 0.01)

    return step


def _train_torch(x: Any, y: Any, size: int, rank: int, ranks: int) -> Callable[[], object]:
    """Return a function that takes a step of PyTorch, as its users write it."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = nn.Linear(784, HIDDEN[0]), nn.ReLU(), nn.Linear(*HIDDEN), nn.ReLU(), nn.Linear(HIDDEN[1], 10)
    model: nn.Module = nn.Sequential(*layers)
    if ranks > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": PORT}
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pixels, labels = torch.from_numpy(x), torch.from_numpy(y).long()
    starts = cycle(range(rank * size // ranks, len(labels), size))

    def step() -> None:
        part = slice(start := next(starts), start + size // ranks)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pixels[part].float() / 255), labels[part]).backward()
        optimizer.step()

    return step


def main() -> None:
    """Start the jobs, and print."""
    need("mpi4py", "torch", fix='pip install -e ".[mpi,torch]"')
    parser = argparse.ArgumentParser(description="Time steps on one and two ranks, beside DDP.")
    parser.add_argument("--rounds", type=whole_number, default=10, help="(default: %(default)s)")
    rounds = parser.parse_args().rounds
    times: dict[int, dict[str, list[float]]] = {1: {}, 2: {}}
    for _ in range(rounds):
        for ranks, columns in times.items():
            line = ["mpiexec", "-n", str(ranks), sys.executable, "-m", "benchmarks.ranks", "--measure"]
            output = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout
            for name, seconds in json.loads(output.splitlines()[-1]).items():
                columns.setdefault(name, []).append(1000 * seconds)
    for name in times[1]:
        one, two = (statistics.median(times[ranks][name]) for ranks in times)
        print(f"{name:20}  {one:8.0f} ms on one rank  {two:8.0f} on two  gain {one / two:.2f}")


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["--measure"] else main()
