"""One contender of the benchmark in a process of its own, which scripts/benchmark.py starts.

It reads requests from standard input, one JSON object a line, and answers each with one:

* ``{"task": {…}, "target": seconds, "longest": seconds, "trial": steps}`` prepares a task;
* ``{}`` runs the task once: ``{"seconds": …, "passes": …, "rows": …, "mebibytes": …}``.

The argument is a name of ``benchmarks.tasks.NAMES``.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import Queue
from typing import IO, Any

import numpy as np
from shared import take_stdout

import xpnet
from benchmarks.fast_peers import JaxScan, TorchManual
from benchmarks.peers import (
    Contender,
    Images,
    Jax,
    Notebook,
    ScikitLearn,
    Timed,
    Torch,
    TorchCompiled,
    cross_validated,
    images,
    repeated,
)
from benchmarks.tasks import CLASSES, TABLE_BATCH, TABLE_EPOCHS, Task, steps

ENDLESS = 10**9

MAKERS: dict[str, Callable[[Images], Contender]] = {
    "notebook": Notebook,
    "torch": Torch,
    "torch-compile": TorchCompiled,
    "torch-manual": TorchManual,
    "jax": Jax,
    "jax-scan": JaxScan,
    "sklearn": ScikitLearn,
}


class Training(threading.Thread):
    """A training that goes on in a thread of its own, some epochs at a time.

    What a training does once, such as compiling, is then done once and not in every run. ``xpnet.fit``
    calls back after each epoch, and before the first: the time from one call to the one that many epochs
    later is that of the epochs alone, whatever xpnet is like inside.
    """

    def __init__(self, fit: Callable[[Any], object], finish: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.fit, self.finish = fit, finish
        self.turns: Queue[int] = Queue()  # how many epochs come next; 0 ends the training
        self.results: Queue[float | Exception] = Queue()
        self.left, self.begin = 0, 0.0

    def epochs(self, count: int) -> float:
        """Train for so many epochs more and return their seconds, without any evaluation."""
        self.turns.put(count)
        result = self.results.get()
        if isinstance(result, Exception):
            raise result
        return result

    def end(self) -> None:
        """End the training."""
        self.turns.put(0)
        self.join()

    def run(self) -> None:
        """Train; called by ``start``."""
        try:
            self.fit(self._on_epoch)
        except Exception as error:  # noqa: BLE001
            self.results.put(error)

    def _on_epoch(self, epoch: xpnet.Epoch) -> bool:
        self.left -= 1
        if epoch.epoch > 0 and self.left > 0:
            return False
        self.finish()
        if epoch.epoch > 0:
            self.results.put(time.perf_counter() - self.begin)
        self.left = self.turns.get()
        self.begin = time.perf_counter()
        return self.left == 0


class XPNet:
    """xpnet with one arithmetic on one array library."""

    def __init__(self, arithmetic: str, library: str, data: Images, device: str = "cpu") -> None:
        self.arithmetic, self.library, self.data, self.device = arithmetic, library, data, device
        self.current: Training | None = None

    def training(self, task: Task) -> Timed:
        """Return what times the epochs of a training; that of an earlier task ends."""
        if self.current is not None:
            self.current.end()
        finish = wait_for_jax if self.library == "jax" else lambda: None
        self.current = Training(partial(self._fit, task), finish)
        self.current.start()
        return self.current.epochs

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        if self.current is not None:
            self.current.end()
        few = resized(self.data, 1024)
        own = {"arithmetic": self.arithmetic, "backend": self.library, "device": self.device}
        model = xpnet.fit(few.x_train, few.y_train, classes=CLASSES, hidden=task.hidden, epochs=1, **own)
        x = self.data.x_test[: task.rows]
        return repeated(lambda: model.predict(x))

    def validation(self, task: Task) -> Timed:
        """Return what times a cross-validation of the scikit-learn classifier."""
        from xpnet.estimator import XPNetClassifier

        classifier = XPNetClassifier(
            hidden=task.hidden,
            epochs=TABLE_EPOCHS,
            batch_size=TABLE_BATCH,
            learning_rate=task.learning_rate,
            schedule="constant",
            weight_decay=0,
            arithmetic=self.arithmetic,
            backend=self.library,
            device=self.device,
        )
        return cross_validated(classifier, task)

    def _fit(self, task: Task, callback: Callable[[xpnet.Epoch], bool]) -> None:
        data = resized(self.data, task.rows)
        settings: dict[str, Any] = {"hidden": task.hidden, "learning_rate": task.learning_rate}
        xpnet.fit(
            data.x_train,
            data.y_train,
            classes=CLASSES,
            **(settings if task.recipe is None else {"recipe": task.recipe}),
            epochs=ENDLESS,
            batch_size=task.batch or "full",
            log_every=ENDLESS,
            arithmetic=self.arithmetic,
            backend=self.library,
            device=self.device,
            callback=callback,
        )


def wait_for_jax() -> None:
    """Wait until JAX, which returns before it has computed, has computed everything."""
    import jax

    jax.block_until_ready(jax.live_arrays())


def resized(data: Images, rows: int) -> Images:
    """Return the images with the first ``rows`` training images, repeated if there are too few."""
    x, y = data.x_train, data.y_train
    if rows > len(y):
        repeated_rows = np.arange(rows) % len(y)
        x, y = np.take(x, repeated_rows, axis=0), np.take(y, repeated_rows)
    return data._replace(x_train=x[:rows], y_train=y[:rows])


def contender(who: str, data: Images) -> Contender:
    """Return the contender of that name."""
    if who in MAKERS:
        return MAKERS[who](data)
    _, arithmetic, library = who.split(":")
    return XPNet(arithmetic, library, data)


def prepared(
    one: Contender, task: Task, target: float, longest: float | None, trial: int
) -> Callable[[], Any]:
    """Warm up, and return what runs the task once.

    A run takes about ``target`` seconds. Where one epoch takes more than ``longest``, as ``trial`` steps
    foresee, a run is as many steps as take that long, on the first images; without ``longest`` it is
    whole epochs.
    """
    if task.kind == "predict":
        timed, rows = one.inference(task), task.rows
    elif task.kind == "validate":
        timed, rows = one.validation(task), task.rows
    else:
        part = task.batch is not None and longest is not None
        rows = affordable_rows(one, task, longest, trial) if part else task.rows
        timed = one.training(replace(task, rows=rows))
    timed(1)
    passes = passes_within(timed, target) if rows == task.rows else 1

    def run() -> dict[str, float]:
        return {"seconds": timed(passes), "passes": passes, "rows": rows, "mebibytes": peak_memory() / 2**20}

    return run


def passes_within(timed: Timed, target: float) -> int:
    """Return how many passes take about ``target`` seconds, at least one."""
    seconds = timed(1)
    if seconds < target:  # the first of many may be slow
        seconds = min(seconds, timed(1))
    return max(1, round(target / max(seconds, 1e-6)))


def affordable_rows(one: Contender, task: Task, longest: float, trial: int) -> int:
    """Return how many of the task's rows a run of ``longest`` seconds can visit: all, or full batches."""
    batch = task.batch or task.rows
    few = min(task.rows, trial * batch)
    timed = one.training(replace(task, rows=few))
    timed(1)
    return rows_within(task, min(timed(1), timed(1)) / steps(few, batch), longest)


def rows_within(task: Task, seconds_of_step: float, longest: float) -> int:
    """Return all rows of the task if its steps take at most ``longest`` seconds, else as many as do."""
    batch = task.batch or task.rows
    if task.steps * seconds_of_step <= longest:
        return task.rows
    return min(task.rows, max(1, int(longest / seconds_of_step)) * batch)


def peak_memory() -> int:
    """Return the largest resident set of this process, in bytes."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    # Elsewhere the kernel's figure, which includes that of the process that started this one.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def serve(who: str, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more; an error is an answer too."""

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    def answered(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal run
        if "task" not in request:
            return run()
        fields = request.pop("task")
        run = prepared(one, Task(**{**fields, "hidden": tuple(fields["hidden"])}), **request)
        return {}

    run: Callable[[], dict[str, Any]] = dict
    try:
        one = contender(who, images())
    except Exception as error:  # noqa: BLE001  each library raises its own errors
        answer(_failure(error))
        return
    for line in requests:
        try:
            answer(answered(json.loads(line)))
        except Exception as error:  # noqa: BLE001
            answer(_failure(error))


def _failure(error: Exception) -> dict[str, Any]:
    return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}


def main() -> None:
    """Serve on standard input and output."""
    serve(sys.argv[1], sys.stdin, take_stdout())


if __name__ == "__main__":
    main()
