"""One contender of the benchmark in a process of its own, which scripts/benchmark.py starts.

It reads requests from standard input, one JSON object a line, and answers each with one:

* ``{"task": {…}, "target": seconds}`` prepares a task, whose runs then take about so long;
* ``{}`` runs the task once: ``{"seconds": of a unit, "host": without the wait for a GPU, "mebibytes": …}``;
* ``{"observe": true}`` tells what a unit asks of a GPU, as `benchmarks.gpu.observe`.

The argument is a name of ``benchmarks.tasks.CONTENDERS``, with ``@`` and a device unless that is the CPU.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import IO, Any

from shared import take_stdout

import xpnet
from benchmarks import peers
from benchmarks.peers import WAITED, Images, Timed, cross_validated, images, make_wait, repeated
from benchmarks.tasks import CLASSES, CONTENDERS, TABLE_EPOCHS, Task

NEVER = 10**9


class XPNet:
    """xpnet with one arithmetic on one array library."""

    skipped = 1
    """Epochs of a training that are not timed: the first one compiles."""

    def __init__(self, arithmetic: str, library: str, data: Images, device: str = "cpu") -> None:
        self.data = data
        self.own: dict[str, Any] = {"arithmetic": arithmetic, "backend": library, "device": device}
        self.wait = make_wait(library, device)

    def training(self, task: Task) -> Timed:
        """Return what times the epochs of a training, without any evaluation.

        ``xpnet.fit`` calls back before the first epoch and after each: the time from one call to a later one
        is that of the epochs alone, whatever xpnet is like inside.
        """
        settings = {"hidden": task.hidden, "learning_rate": task.learning_rate}
        fit = partial(
            xpnet.fit,
            self.data.x_train[: task.rows],
            self.data.y_train[: task.rows],
            classes=CLASSES,
            **(settings if task.recipe is None else {"recipe": task.recipe}),
            epochs=NEVER,
            batch_size=task.batch or "full",
            log_every=NEVER,
            **self.own,
        )

        def run(passes: int) -> float:
            moments = []

            def stop_after(epoch: xpnet.Epoch) -> bool:
                if epoch.epoch in {self.skipped, self.skipped + passes}:
                    self.wait()
                    moments.append(time.perf_counter())
                return len(moments) == 2

            fit(callback=stop_after)
            return moments[1] - moments[0]

        return run

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        x, y = self.data.x_train[:1024], self.data.y_train[:1024]
        model = xpnet.fit(x, y, classes=CLASSES, hidden=task.hidden, epochs=1, **self.own)
        return repeated(partial(model.predict, self.data.x_test[: task.rows]))

    def validation(self, task: Task) -> Timed:
        """Return what times a cross-validation of the scikit-learn classifier."""
        from xpnet.estimator import XPNetClassifier

        classifier = XPNetClassifier(
            hidden=task.hidden,
            epochs=TABLE_EPOCHS,
            batch_size=task.batch,
            learning_rate=task.learning_rate,
            schedule="constant",
            weight_decay=0,
            **self.own,
        )
        return cross_validated(classifier, task)


def contender(who: str, data: Images) -> Any:
    """Return the contender of that name."""
    name, _, device = who.partition("@")
    place, peer = (data, device) if device else (data,), CONTENDERS[name].peer
    if peer is not None:
        module = peers if hasattr(peers, peer) else import_module("benchmarks.gpu_peers")
        return getattr(module, peer)(*place)
    _, arithmetic, library, *switches = name.split(":")
    os.environ.update(dict.fromkeys(switches, "1"))
    return XPNet(arithmetic, library, *place)


def prepared(one: Any, task: Task, target: float) -> Callable[[], tuple[float, float]]:
    """Warm up, and return what runs the task for about ``target`` seconds.

    It returns the seconds of a unit, and those of them before the wait for a GPU.
    """
    timed: Timed = getattr(one, task.kind)(task)
    timed(1)
    seconds = min(timed(1), timed(1))  # the first of many may be slow
    passes = max(1, round(target / max(seconds, 1e-6)))

    def run() -> tuple[float, float]:
        seconds = timed(passes)
        return seconds / passes / task.units, (seconds - WAITED[0]) / passes / task.units

    return run


def serve(who: str, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more; an error is an answer too."""
    unit = 2**20 if sys.platform == "darwin" else 1024
    try:
        one, task, run = contender(who, images()), Task(), Callable[[], tuple[float, float]]
        for line in requests:
            request, answer = json.loads(line), dict[str, Any]()
            if "task" in request:
                task = Task(**{**request["task"], "hidden": tuple(request["task"]["hidden"])})
                run = prepared(one, task, request["target"])
            elif request:
                from benchmarks.gpu import observe

                answer = observe(getattr(one, task.kind)(task), task)
            else:
                answer = dict(zip(("seconds", "host"), run(), strict=True))
            answer["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
            print(json.dumps(answer), file=answers, flush=True)
    except Exception as error:  # noqa: BLE001  each library raises its own errors
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(json.dumps({"error": reason}), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin, take_stdout())
