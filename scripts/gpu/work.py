"""One library on the GPU in a process of its own, which scripts/gpu_check.py starts.

* ``probe LIBRARY DEVICE``: whether it can be used;
* ``fingerprints LIBRARY DEVICE EPOCHS…``: those of the default run after so many epochs;
* ``speed LIBRARY DEVICE``: memory, matrix products and training steps of xpnet;
* ``peer LIBRARY DEVICE``: training steps as the library's users write them.

Each finding is a JSON object on a line of its own of standard output, as soon as it is made; an error too.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.contenders import XPNet, prepared
from benchmarks.limits import shortest
from benchmarks.peers import Images, Jax, Timed, Torch, images
from benchmarks.tasks import Task
from shared import take_stdout

from xpnet.backends.base import Backend
from xpnet.backends.probing import one_line
from xpnet.backends.resolve import make, probe
from xpnet.config import TrainConfig
from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.storage.model_file import fingerprint
from xpnet.training.loop import Callback, EpochLog
from xpnet.training.trainer import Trainer

Answer = Callable[[dict[str, Any]], None]

BATCHES = (None, 1024, 128)
ARITHMETICS = ("reproducible", "native")
COPIED = 1 << 29
"""Bytes of the array whose copying tells the memory's bandwidth, ten times the largest cache."""
SIDE = 2048
"""Rows and columns of the matrices whose products are timed."""
RUNS = 5
TARGET = 0.3
"""Seconds of a run, about."""


def fingerprints(backend: Backend, marks: Collection[int], data: Dataset, answer: Answer) -> None:
    """Train the default run for as many epochs as the last of `marks`; answer at each of them."""
    begin = time.perf_counter()
    with Trainer.open(TrainConfig(epochs=max(marks)), data, backend) as trainer:
        trainer.fit([_Fingerprints(marks, begin, answer)])


@dataclass
class _Fingerprints(Callback):
    """Answers with the fingerprint at the end of each of some epochs."""

    marks: Collection[int]
    begin: float
    answer: Answer

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        """Answer, if it is one of these epochs."""
        if log.epoch in self.marks:
            digest = fingerprint(trainer.model(log.state).layers)
            seconds = round(time.perf_counter() - self.begin, 3)
            self.answer({"epochs": log.epoch, "fingerprint": digest, "seconds": seconds})


def speed(library: str, device: str, data: Images, answer: Answer) -> None:
    """Measure the memory, products of matrices, and steps in both arithmetics."""
    backend = make(library, device)
    with backend.scope():
        answer({"bandwidth": bandwidth(backend, COPIED)})
        answer({"products": products(backend, SIDE)})
    trained = {name: XPNet(name, library, data, device) for name in ARITHMETICS}
    for batch in BATCHES:
        for name, one in trained.items():
            measured = step(_Synchronized(one, backend), Task(batch=batch, unit="a step"))
            answer({"step": {"arithmetic": name, **measured}})
    for one in trained.values():
        if one.current is not None:
            one.current.end()


def peer(library: str, device: str, data: Images, answer: Answer) -> None:
    """Measure the steps of hand-written training."""
    backend = make(library, device)
    one = _Synchronized(_hand_written(library, backend, data), backend)
    for batch in BATCHES:
        answer({"step": step(one, Task(batch=batch, unit="a step"))})


def step(one: Any, task: Task) -> dict[str, Any]:
    """Return the median seconds of a step, over the runs that it comes with."""
    run_passes = prepared(one, task, TARGET)
    seconds = [run_passes() for _ in range(RUNS)]
    return {
        "batch": task.batch or task.rows,
        "rows": task.rows,
        "seconds": statistics.median(seconds),
        "runs": seconds,
    }


def bandwidth(backend: Backend, size: int) -> float:
    """Return the bytes a second that copying an array of `size` bytes reads and writes."""
    xp = backend.xp
    x = xp.ones((size // 4,), dtype=xp.float32, device=backend.device)
    return 2 * size / _shortest(backend, lambda: xp.asarray(x, copy=True))


def products(backend: Backend, side: int) -> dict[str, float]:
    """Return the seconds of a product of two square matrices, and how much longer float64 takes."""
    single, double = (product_seconds(backend, dtype, side) for dtype in ("float32", "float64"))
    return {"side": side, "float32": single, "float64": double, "ratio": round(double / single, 2)}


def product_seconds(backend: Backend, dtype: str, side: int) -> float:
    """Return the shortest time of a product of two square matrices, in seconds."""
    xp = backend.xp
    a = xp.full((side, side), 0.5, dtype=getattr(xp, dtype), device=backend.device)
    return _shortest(backend, lambda: xp.matmul(a, a))


def _synchronize(backend: Backend) -> None:
    """Wait until the device has finished its work."""
    library = backend.library
    with backend.scope():
        if backend.name == "jax":
            library.block_until_ready(library.live_arrays())
        elif backend.name == "cupy":
            library.cuda.Device().synchronize()
        elif backend.name == "torch" and backend.device_name != "cpu":
            library.cuda.synchronize(backend.device)


def _shortest(backend: Backend, compute: Callable[[], Any]) -> float:
    return shortest(lambda: (compute(), _synchronize(backend)), 5)  # JAX waits for arrays still in use


class _Synchronized:
    """A contender whose passes end when the GPU has finished them."""

    def __init__(self, one: Any, backend: Backend) -> None:
        self.one, self.backend = one, backend

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        timed = self.one.training(task)

        def run(passes: int) -> float:
            _synchronize(self.backend)
            begin = time.perf_counter()
            timed(passes)
            _synchronize(self.backend)
            return time.perf_counter() - begin

        return run

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        return self.one.inference(task)


def _hand_written(library: str, backend: Backend, data: Images) -> Any:
    if library == "torch":
        return Torch(data, backend.device_name)
    import jax

    jax.config.update("jax_default_device", backend.device)
    return Jax(data)


def main(words: list[str], answer: Answer) -> int:
    """Do one piece of work and return the exit code."""
    what, library, device, *epochs = words
    try:
        if what == "probe":
            answer(asdict(probe(library, device)))
        elif what == "fingerprints":
            fingerprints(make(library, device), [*map(int, epochs)], datasets.load(), answer)
        else:
            {"speed": speed, "peer": peer}[what](library, device, images(), answer)
    except Exception as error:  # noqa: BLE001  each library raises its own errors
        answer({"error": f"{type(error).__name__}: {one_line(error)}"[:300]})
        return 1
    return 0


if __name__ == "__main__":
    answers = take_stdout()
    sys.exit(main(sys.argv[1:], lambda result: print(json.dumps(result), file=answers, flush=True)))
