"""One contender of the benchmark in a process of its own, which scripts/benchmark.py starts.

It reads requests from standard input, one JSON object a line, and answers each with one:

* ``{"task": {…}, "target": seconds}`` prepares a task, whose runs then take about so long;
* ``{}`` runs the task once: ``{"seconds": of a unit, "mebibytes": …}``.

The argument is a name of ``benchmarks.tasks.CONTENDERS``.
"""

import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Queue
from typing import IO, Any

from shared import take_stdout

import xpnet
from benchmarks import peers
from benchmarks.peers import Images, Timed, cross_validated, images, repeated
from benchmarks.tasks import CLASSES, CONTENDERS, TABLE_BATCH, TABLE_EPOCHS, Task

ENDLESS = 10**9


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
        self.start()

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
        self.data = data
        self.own: dict[str, Any] = {"arithmetic": arithmetic, "backend": library, "device": device}
        self.current: Training | None = None

    def training(self, task: Task) -> Timed:
        """Return what times the epochs of a training; that of an earlier task ends."""
        if self.current is not None:
            self.current.end()
        x, y = self.data.resized(task.rows)
        settings = {"hidden": task.hidden, "learning_rate": task.learning_rate}
        fit = partial(
            xpnet.fit,
            x,
            y,
            classes=CLASSES,
            **(settings if task.recipe is None else {"recipe": task.recipe}),
            epochs=ENDLESS,
            batch_size=task.batch or "full",
            log_every=ENDLESS,
            **self.own,
        )
        finish = wait_for_jax if self.own["backend"] == "jax" else lambda: None
        self.current = Training(lambda callback: fit(callback=callback), finish)
        return self.current.epochs

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        x, y = self.data.resized(1024)
        model = xpnet.fit(x, y, classes=CLASSES, hidden=task.hidden, epochs=1, **self.own)
        return repeated(partial(model.predict, self.data.x_test[: task.rows]))

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
            **self.own,
        )
        return cross_validated(classifier, task)


def wait_for_jax() -> None:
    """Wait until JAX, which returns before it has computed, has computed everything."""
    import jax

    jax.block_until_ready(jax.live_arrays())


def contender(who: str, data: Images) -> Any:
    """Return the contender of that name."""
    peer = CONTENDERS[who].peer
    if peer is not None:
        return getattr(peers, peer)(data)
    _, arithmetic, library = who.split(":")
    return XPNet(arithmetic, library, data)


def prepared(one: Any, task: Task, target: float) -> Callable[[], float]:
    """Warm up, and return what runs the task for about ``target`` seconds and returns those of a unit."""
    timed: Timed = getattr(one, task.kind)(task)
    timed(1)
    seconds = timed(1)
    if seconds < target:  # the first of many may be slow
        seconds = min(seconds, timed(1))
    passes = max(1, round(target / max(seconds, 1e-6)))
    return lambda: timed(passes) / passes / task.units


def serve(who: str, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more; an error is an answer too."""
    unit = 2**20 if sys.platform == "darwin" else 1024
    try:
        one, run = contender(who, images()), float
        for line in requests:
            request = json.loads(line)
            if request:
                hidden = tuple(request["task"].pop("hidden"))
                run = prepared(one, Task(hidden=hidden, **request["task"]), request["target"])
            seconds = 0.0 if request else run()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
            print(json.dumps({"seconds": seconds, "mebibytes": peak}), file=answers, flush=True)
    except Exception as error:  # noqa: BLE001  each library raises its own errors
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(json.dumps({"error": reason}), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin, take_stdout())
