"""Run xpnet or a script on an emulated CUDA device: the unmodified CuPy wheel, on the host's processor.

``python scripts/emulated_cuda.py train --epochs 2 --backend cupy --device cuda`` takes the words of
``xpnet``; ``python scripts/emulated_cuda.py examples/gpt.py --backend cupy`` runs a script. It needs Linux
on x86-64, g++, and the one version of ``cupy-cuda12x`` that is known.
``count [--json]`` in their place prints what the host asks of the device in mini-batches of 128: ``KINDS``,
copies being those within the device; of a step, in JSON also of an epoch, and of an evaluation.

  libcuda.so.1     the driver and the CUDA runtime (``emulation/driver.cpp``), loaded before CuPy looks for it
  libcublas.so.12  matrix products of float32 and float64 (``emulation/cublas.cpp``), too
  NVRTC            g++ compiles the CUDA source of each kernel, with ``emulation/kernel.h`` before it
  CUB              switched off by CUPY_ACCELERATORS: reductions are CuPy's own kernels

It cannot show the rounding of real hardware and of CUDA's mathematical functions, which expressions NVRTC
fuses, subnormal float32 (CuPy has them flushed to zero), speed, the memory model and races between threads,
CUB's kernels, several GPUs, nor what a real driver refuses.

Libraries and kernels are compiled once into ``~/.cache/xpnet-emulated-cuda`` (or in ``XDG_CACHE_HOME``).
Exit code 2, with a line that gives the reason, if there can be no emulated device; else the command's.
"""

import ctypes
import json
import runpy
import sys
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
from emulation.install import build_driver, install
from shared import markdown

from xpnet.errors import XPNetError

KINDS = ("kernels", "products", "uploads", "downloads", "copies", "synchronizations")
NETWORKS: dict[str, dict[str, Any]] = {
    "784-10-10": {},
    "784-10-10 Adam": {"optimizer": "adam", "learning_rate": 0.001},
    "784-256-128-10 dropout": {"hidden": (256, 128), "dropout": 0.3},
    "784-64-10 batch norm": {"hidden": (64,), "batch_norm": True},
    "784-10-10 native": {"arithmetic": "native"},
}
BATCH, STEPS = 128, 75


def main(words: list[str]) -> int:
    """Run a command, or a script that ends in .py, and return its exit code."""
    try:
        install()
    except XPNetError as error:
        print(f"emulated_cuda: {error}", file=sys.stderr)
        return error.exit_code
    if words and words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
        return 0
    if words in (["count"], ["count", "--json"]):
        counts = count_all()
        rows = [[name, *(f"{each[kind]:g}" for kind in KINDS)] for name, each in counts.items()]
        print(json.dumps(counts, indent=2) if words[1:] else markdown(["a step", *KINDS], rows))
        return 0
    from xpnet.__main__ import main as run

    return run(words)


def count_all() -> dict[str, dict[str, Any]]:
    """Return the counts of each network, and of one that is written by hand, by name."""
    import numpy as np
    from benchmarks.gpu_peers import CuPy
    from benchmarks.peers import Images
    from benchmarks.tasks import Task

    import xpnet

    x = np.random.default_rng(0).integers(0, 256, (BATCH * STEPS, 784), np.uint8)
    y, moments = (x[:, 0] % 10).astype(np.int32), dict[str, list[list[int]]]()
    own: dict[str, Any] = {"backend": "cupy", "device": "cuda", "batch_size": BATCH, "epochs": 4}
    for name, settings in NETWORKS.items():
        ends = moments[name] = []  # of epochs, of which the last one alone is evaluated
        own |= {"log_every": 4, "callback": lambda _, ends=ends: ends.append(read_counts())}
        xpnet.fit(x, y, **own, **settings)
    run = CuPy(Images(x, y, x, y)).training(Task(batch=BATCH, rows=len(x)))
    moments["784-10-10 by hand, float32"] = [(run(1), read_counts())[1] for _ in range(4)]
    return {name: describe(*np.diff(ends[-3:], axis=0)) for name, ends in moments.items()}


def read_counts() -> list[int]:
    """Return the counts so far, in the order of ``KINDS``."""
    numbers = (ctypes.c_uint64 * len(KINDS))()
    ctypes.CDLL(str(build_driver())).emulated_counts(numbers)
    return list(numbers)


def describe(epoch: Any, evaluated: Any) -> dict[str, Any]:
    """Return counts by name, of an epoch and of another one with an evaluation."""
    parts = (epoch / STEPS).round(2), epoch, evaluated - epoch
    step, *others = (dict(zip(KINDS, part.tolist(), strict=True)) for part in parts)
    return step | dict(zip(("epoch", "evaluation"), others, strict=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
if __name__ == "__mp_main__":  # a process that the command has started, for one of several trials
    install()
