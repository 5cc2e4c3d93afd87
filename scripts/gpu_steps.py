"""Prints the microseconds of a training step, 784-10-10: a library's on a GPU, by xpnet and written by hand.

    python scripts/gpu_steps.py LIBRARY DEVICE

The medians of several runs. Below are the operations that a step starts on the GPU, and the busy share of the
time, "?" without a PyTorch that can trace them. Every five seconds nvidia-smi prints the state of the card.
"""

import sys
from importlib import import_module, util
from shutil import which
from statistics import median
from subprocess import Popen
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
from benchmarks.contenders import XPNet, prepared
from benchmarks.gpu_peers import CuPy, TorchGraph
from benchmarks.peers import Jax, Torch, TorchCompiled, images
from benchmarks.tasks import IMAGES, Task
from shared import markdown

from xpnet.backends.resolve import make

BATCHES = (None, 1024, 128)
RUNS = 5
SECONDS = 0.3  # of a run, about
PEERS: dict[str, Any] = {"torch": (Torch, TorchCompiled, TorchGraph), "jax": (Jax,), "cupy": (CuPy,)}
STATE = "clocks.sm,clocks.mem,utilization.gpu,ecc.mode.current,ecc.errors.uncorrected.volatile.total"


def main(library: str, device: str) -> None:
    """Measure xpnet in both arithmetics, and others by hand, on a device."""
    smi, words = which("nvidia-smi"), (f"--query-gpu={STATE} -l 5", "--query-compute-apps=pid,name")
    watching = [Popen([smi, "--format=csv", *each.split()]) for each in words] if smi else []
    print("" if smi else "nvidia-smi is missing: clocks, ECC and other processes are not recorded\n")
    data, backend, tasks = images(), make(library, device), [Task(batch=n, unit="a step") for n in BATCHES]
    if library == "jax":
        backend.library.config.update("jax_default_device", backend.device)
        backend.library.config.update("jax_default_matmul_precision", "highest")
    contenders, rows = dict[str, Any](), []
    for kind in ("reproducible", "native"):
        contenders[f"xpnet, {kind}"] = XPNet(kind, library, data, device)
    for peer in PEERS.get(library, ()):
        contenders[f"by hand: {peer.__name__}"] = peer(data, device) if library == "torch" else peer(data)
    for name, contender in contenders.items():
        runs = [prepared(contender, task, SECONDS) for task in tasks]
        rows.append([name, *(f"{1e6 * median(run() for _ in range(RUNS)):,.1f}" for run in runs)])
        rows.append(["", *(trace(contender.training(task), task) for task in tasks)])
    print(markdown([f"{library} on {device}", *(f"batch of {batch or IMAGES:,}" for batch in BATCHES)], rows))
    for process in watching:
        process.terminate()


def trace(run: Any, task: Task) -> str:
    """Return the operations on the GPU of a step, and its busy share, by way of PyTorch's profiler."""
    profiler: Any = import_module("torch.profiler") if util.find_spec("torch") else None
    if profiler is None or (cuda := profiler.ProfilerActivity.CUDA) not in profiler.supported_activities():
        return "?"
    sums = []
    for passes in (1, 3):
        with profiler.profile(activities=[cuda]) as seen:
            seconds = run(passes)
        times = [each.time_range.elapsed_us() for each in seen.events() if each.device_type.name == "CUDA"]
        sums.append((len(times), sum(times) / 1e6, seconds))
    count, busy, seconds = (last - first for first, last in zip(*sums, strict=True))  # without the start
    return f"{count / 2 / task.units:.1f}, {busy / seconds:.0%}"


if __name__ == "__main__":
    main(*sys.argv[1:])
