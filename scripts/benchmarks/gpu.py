"""One case of scripts/gpu_check.py in a process of its own, which prints each row, as JSON, when it is known.

    python -m benchmarks.gpu CASE LIBRARY DEVICE [SECONDS [ROWS]]

The case is a name of ``CASES``. It measures for about so many seconds at a time, on at most so many rows.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib import import_module, util
from typing import Any, NamedTuple

import numpy as np
from checkout import ROOT
from emulated_cuda import NETWORKS

import xpnet
from benchmarks.contenders import XPNet
from benchmarks.peers import make_wait, repeated
from benchmarks.tasks import TIMING_RATE, Task
from xpnet.backends.probing import cuda_driver_version, cuda_index, float64_ratio
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data import datasets
from xpnet.parity.devices import BackendDevice
from xpnet.training_parity.runs import compare_backends

NETWORKS_TIMED = (((10,), 0.1), ((1024, 1024), TIMING_RATE))
TASKS = [
    Task(hidden=hidden, learning_rate=rate, batch=batch, unit="a step")
    for batch in (128, None, 8192, 1024)
    for hidden, rate in NETWORKS_TIMED
]
"""Steps that are timed, of two networks with their learning rates."""
PARITY_ROWS = 1000
"""Rows below which a few are compared."""
Rows = Iterator[tuple[str, dict[str, Any]]]
"""The name of each part, and what is known of it."""


class Place(NamedTuple):
    """The arguments of a case."""

    library: str
    device: str
    seconds: float = 0.3
    rows: int = 9600

    @property
    def on_it(self) -> dict[str, Any]:
        """The settings of a training there."""
        return {"backend": self.library, "device": self.device}


def versions(place: Place) -> Rows:
    """Yield the versions of the library, and of what it computes with."""
    backend = make(place.library, place.device)
    found: dict[str, Any] = {"library": backend.version, "driver": cuda_driver_version()}
    found["float32 / float64"] = float64_ratio(cuda_index(place.device) or 0)
    if place.library == "cupy":
        cuda = backend.library.cuda
        found["CUDA"] = cuda.runtime.runtimeGetVersion()
        with suppress(Exception):
            found["NVRTC"] = ".".join(map(str, cuda.nvrtc.getVersion()))
        with suppress(Exception), backend.scope():
            found["cuBLAS"] = cuda.cublas.getVersion(cuda.get_cublas_handle())
    elif place.library == "torch":
        found |= {"CUDA": backend.library.version.cuda, "cuDNN": backend.library.backends.cudnn.version()}
    else:
        found["jaxlib"] = import_module("jaxlib").__version__
    yield "", found


def streams(place: Place) -> Rows:
    """Yield whether two threads, with a stream each, get the answers of NumPy from one model."""
    x, y = load(place.rows)
    models = [xpnet.fit(x, y, epochs=1, **each) for each in (place.on_it, {"backend": "numpy"})]
    cupy: Any = import_module("cupy")

    def predict(part: Any) -> bool:
        with cupy.cuda.Stream(non_blocking=True):
            return all(np.array_equal(*(each.predict_proba(part) for each in models)) for _ in range(20))

    with ThreadPoolExecutor(2) as pool:
        check(all(pool.map(predict, (x[:200], x[50:250]))), "another stream's answers")
    yield "", {"predictions": 40}


def parity(place: Place) -> Rows:
    """Yield the distance from NumPy of trainings in each arithmetic and dtype."""
    data, target = datasets.load(), BackendDevice(place.library, place.device)
    if place.rows < PARITY_ROWS:
        data = replace(data, x_train=data.x_train[: place.rows], y_train=data.y_train[: place.rows])
    config = TrainConfig(epochs=1 if place.rows < PARITY_ROWS else 10, report=False)
    for row in compare_backends(config, data, [target], lambda *_: None):
        yield f"{row.kind}, {row.target.where}", {"max ulp": row.max_ulp, "max relative": row.max_relative}
        check(row.verdict != "FAIL", f"{row}: {row.problem or 'differs from NumPy'}")


def first_call(place: Place) -> Rows:
    """Yield the seconds of a training that compiles all, and of the same one again."""
    x, y = load(place.rows)
    for arithmetic in ("reproducible", "native"):
        train = repeated(lambda own=arithmetic: xpnet.fit(x, y, epochs=2, arithmetic=own, **place.on_it))
        yield arithmetic, {"first s": round(train(1), 2), "again s": round(train(1), 2)}


def products(place: Place) -> Rows:
    """Yield the rates of the products of matrices that the steps take."""
    backend, wait = make(place.library, place.device), make_wait(place.library, place.device)
    shapes = {
        (b, a, min(task.batch or place.rows, place.rows)): None
        for task in TASKS
        for a, b in zip(task.sizes, task.sizes[1:], strict=False)
    }
    for rows, terms, columns in shapes:
        rates = {}
        for dtype in ("float64", "float32"):
            with backend.scope():
                a, b = (
                    backend.from_host(np.ones(shape, dtype)) for shape in ((rows, terms), (terms, columns))
                )
                timed = repeated(lambda a=a, b=b: backend.xp.matmul(a, b), wait)
                best = min(timed(passes(timed, place)) / passes(timed, place) for _ in range(3))
            rates[f"{dtype} GFLOP/s"] = round(2e-9 * rows * terms * columns / best, 1)
        yield f"{rows} x {terms} x {columns}", rates


def counts(place: Place) -> Rows:
    """Yield the time of a step of each network of docs/devices.md, beside what it asks of a GPU there."""
    page = (ROOT / "docs/devices.md").read_text(encoding="utf-8")
    cells = {row[0]: row[1:3] for line in page.splitlines() if len(row := line.strip("| ").split(" | ")) == 7}
    for name, settings in NETWORKS.items():
        own = dict(settings)
        hidden, rate = own.pop("hidden", (10,)), own.pop("learning_rate", 0.1)
        task = Task(hidden=hidden, learning_rate=rate, batch=128, rows=place.rows, unit="a step")
        one = XPNet(own.pop("arithmetic", "reproducible"), place.library, datasets.load(), place.device)
        one.own |= own
        timed = one.training(task)
        number = passes(timed, place)
        known = dict(zip(("kernels", "products"), map(float, cells.get(name, ())), strict=False))
        yield name, {"µs": 1e6 * timed(number) / number / task.units} | known


def settings(place: Place) -> Rows:
    """Yield whether trainings with Adam, dropout and batch norm have the fingerprints of NumPy."""
    x, y = load(min(place.rows, 2048))
    for name, own in NETWORKS.items():
        if own.get("arithmetic") != "native":
            prints = {
                xpnet.fit(x, y, epochs=2, batch_size=128, **own, **each).fingerprint
                for each in (place.on_it, {"backend": "numpy"})
            }
            check(len(prints) == 1, f"{name}: another fingerprint than that of NumPy")
            yield name, {"fingerprint": prints.pop()[:16]}


def load(rows: int) -> tuple[Any, Any]:
    """Return the first images of MNIST, and their labels."""
    data = datasets.load()
    return data.x_train[:rows], data.y_train[:rows]


def passes(timed: Callable[[int], float], place: Place) -> int:
    """Return how many passes take about so many seconds."""
    return max(1, round(place.seconds / max(min(timed(1), timed(1)), 1e-6)))


def check(is_right: object, problem: str) -> None:
    """End the process with one line unless something is right."""
    if not is_right:
        sys.exit(problem)


def observe(timed: Callable[[int], float], task: Task) -> dict[str, Any]:
    """Return the operations on the GPU of a unit, their seconds, by PyTorch's profiler, and peak memory."""
    found, profiler = dict[str, Any](), import_module("torch.profiler") if util.find_spec("torch") else None
    if profiler is not None and (cuda := profiler.ProfilerActivity.CUDA) in profiler.supported_activities():
        sums = []
        for number in (1, 3):
            with profiler.profile(activities=[cuda]) as seen:
                timed(number)
            times = [
                each.time_range.elapsed_us() for each in seen.events() if each.device_type.name == "CUDA"
            ]
            sums.append((len(times), sum(times) / 1e6))
        count, busy = ((last - first) / 2 / task.units for first, last in zip(*sums, strict=True))  # no start
        found = {"card µs": 1e6 * busy, "operations": round(count, 1)}
    for library, peak in PEAKS.items():
        with suppress(Exception):
            if library in sys.modules and (size := peak(sys.modules[library])):
                found[f"{library} MiB"] = size >> 20
    return found


PEAKS: dict[str, Callable[[Any], int]] = {
    "cupy": lambda cupy: cupy.get_default_memory_pool().total_bytes(),
    "torch": lambda torch: torch.cuda.max_memory_allocated(),
    "jax": lambda jax: jax.devices()[0].memory_stats()["peak_bytes_in_use"],
}
CASES: dict[str, Callable[[Place], Rows]] = {
    "parity": parity,
    "versions": versions,
    "streams": streams,
    "compile": first_call,
    "products": products,
    "counts": counts,
    "settings": settings,
}


def main(case: str, library: str, device: str, *limits: str) -> None:
    """Print the rows of a case."""
    place = Place(library, device, *(kind(text) for kind, text in zip((float, int), limits, strict=False)))
    begin = time.perf_counter()
    for part, values in CASES[case](place):
        print(json.dumps({"part": part, "took": time.perf_counter() - begin, "values": values}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
