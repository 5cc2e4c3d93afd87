"""Prints the microseconds of a training step, 784-10-10: a library's on a GPU, by xpnet and written by hand.

    python scripts/gpu_steps.py LIBRARY DEVICE

The medians of several runs. PyTorch by hand is eager; JAX is compiled, its products in its default precision.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
from benchmarks.contenders import XPNet, prepared
from benchmarks.peers import Images, Jax, Timed, Torch, images
from benchmarks.tasks import IMAGES, Task
from shared import markdown

from xpnet.backends.base import Backend
from xpnet.backends.resolve import make

BATCHES = (None, 1024, 128)
RUNS = 5
SECONDS = 0.3
"""Of a run, about."""


@dataclass
class Synchronized:
    """A contender whose passes end when the GPU has finished them."""

    contender: Any
    wait: Callable[[], object]

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        timed = self.contender.training(task)

        def run(passes: int) -> float:
            self.wait()
            begin = time.perf_counter()
            timed(passes)
            self.wait()
            return time.perf_counter() - begin

        return run


def make_contenders(backend: Backend, data: Images) -> dict[str, Any]:
    """Return xpnet in both arithmetics, and PyTorch or JAX, by name."""
    device = backend.device_name
    contenders: dict[str, Any] = {
        f"xpnet, {arithmetic}": XPNet(arithmetic, backend.name, data, device)
        for arithmetic in ("reproducible", "native")
    }
    if backend.name == "torch":
        contenders["by hand"] = Torch(data, device)
    elif backend.name == "jax":
        backend.library.config.update("jax_default_device", backend.device)
        contenders["by hand"] = Jax(data)
    return contenders


def wait_for(backend: Backend) -> None:
    """Wait until the device has finished its work."""
    library = backend.library
    with backend.scope():
        if backend.name == "jax":
            library.block_until_ready(library.live_arrays())
        elif backend.name == "cupy":
            library.cuda.Device().synchronize()
        elif backend.name == "torch" and backend.device_name != "cpu":
            library.cuda.synchronize(backend.device)


def step_microseconds(contender: Synchronized, task: Task) -> float:
    """Return the median time of a step."""
    run = prepared(contender, task, SECONDS)
    return 1e6 * median(run() for _ in range(RUNS))


def main(library: str, device: str) -> None:
    """Measure all contenders of a library on a device."""
    backend, data = make(library, device), images()
    rows = []
    for name, contender in make_contenders(backend, data).items():
        synchronized = Synchronized(contender, lambda: wait_for(backend))
        times = [step_microseconds(synchronized, Task(batch=batch, unit="a step")) for batch in BATCHES]
        rows.append([name, *(f"{time:,.1f}" for time in times)])
    print(markdown([f"{library} on {device}", *(f"batch of {batch or IMAGES:,}" for batch in BATCHES)], rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
