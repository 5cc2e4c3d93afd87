"""Count what the host asks of a CUDA device, the emulated one of ``xpnet.emulation``: ``KINDS``.

``python scripts/emulated_cuda.py [--json]`` prints the counts of a step in mini-batches of 128, copies being
those within the device; in JSON also of an epoch, and of an evaluation.

Exit code 2, with a line that gives the reason, if there can be no emulated device.
"""

import json
import sys
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
from shared import markdown

from xpnet.emulation.device import KINDS, install, read_counts
from xpnet.errors import XPNetError

NETWORKS: dict[str, dict[str, Any]] = {
    "784-10-10": {},
    "784-10-10 Adam": {"optimizer": "adam", "learning_rate": 0.001},
    "784-256-128-10 dropout": {"hidden": (256, 128), "dropout": 0.3},
    "784-64-10 batch norm": {"hidden": (64,), "batch_norm": True},
    "784-10-10 native": {"arithmetic": "native"},
}
BATCH, STEPS = 128, 25


def main(words: list[str]) -> int:
    """Print the counts and return the exit code."""
    try:
        install()
    except XPNetError as error:
        print(f"emulated_cuda: {error}", file=sys.stderr)
        return error.exit_code
    counts = count_all()
    rows = [[name, *(f"{each[kind]:g}" for kind in KINDS)] for name, each in counts.items()]
    print(json.dumps(counts, indent=2) if words == ["--json"] else markdown(["a step", *KINDS], rows))
    return 0


def count_all() -> dict[str, dict[str, Any]]:
    """Return the counts of each network, and of one that is written by hand, by name."""
    import numpy as np
    from benchmarks.gpu_peers import CuPy
    from benchmarks.peers import Images
    from benchmarks.tasks import Task

    import xpnet

    x = np.random.default_rng(0).integers(0, 256, (BATCH * STEPS, 784), np.uint8)
    y, moments = (x[:, 0] % 10).astype(np.int32), dict[str, list[list[int]]]()
    own: dict[str, Any] = {"backend": "cupy", "device": "cuda", "batch_size": BATCH, "epochs": 3}
    for name, settings in NETWORKS.items():
        ends = moments[name] = []  # of epochs, of which the last one alone is evaluated
        own |= {"log_every": 3, "callback": lambda _, ends=ends: ends.append([*read_counts().values()])}
        xpnet.fit(x, y, **own, **settings)
    run = CuPy(Images(x, y, x, y)).training(Task(batch=BATCH, rows=len(x)))
    moments["784-10-10 by hand, float32"] = [(run(1), [*read_counts().values()])[1] for _ in range(4)]
    return {name: describe(*np.diff(ends[-3:], axis=0)) for name, ends in moments.items()}


def describe(epoch: Any, evaluated: Any) -> dict[str, Any]:
    """Return counts by name, of an epoch and of another one with an evaluation."""
    parts = (epoch / STEPS).round(2), epoch, evaluated - epoch
    step, *others = (dict(zip(KINDS, part.tolist(), strict=True)) for part in parts)
    return step | dict(zip(("epoch", "evaluation"), others, strict=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
