"""Prints the microseconds of a training step, 784-10-10: a library's on a GPU, by xpnet and written by hand.

    python scripts/gpu_steps.py LIBRARY DEVICE

The medians of several runs. PyTorch by hand is eager; JAX is compiled, its products in its default precision.
"""

import sys
from statistics import median
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
from benchmarks.contenders import XPNet, prepared
from benchmarks.peers import Jax, Torch, images
from benchmarks.tasks import IMAGES, Task
from shared import markdown

from xpnet.backends.resolve import make

BATCHES = (None, 1024, 128)
RUNS = 5
SECONDS = 0.3
"""Of a run, about."""


def main(library: str, device: str) -> None:
    """Measure xpnet in both arithmetics, and PyTorch or JAX by hand, on a device."""
    data, backend = images(), make(library, device)
    contenders: dict[str, Any] = {
        f"xpnet, {arithmetic}": XPNet(arithmetic, library, data, device)
        for arithmetic in ("reproducible", "native")
    }
    if library == "torch":
        contenders["by hand"] = Torch(data, device)
    elif library == "jax":
        backend.library.config.update("jax_default_device", backend.device)
        contenders["by hand"] = Jax(data)
    rows = []
    for name, contender in contenders.items():
        runs = [prepared(contender, Task(batch=batch, unit="a step"), SECONDS) for batch in BATCHES]
        rows.append([name, *(f"{1e6 * median(run() for _ in range(RUNS)):,.1f}" for run in runs)])
    print(markdown([f"{library} on {device}", *(f"batch of {batch or IMAGES:,}" for batch in BATCHES)], rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
