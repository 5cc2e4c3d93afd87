"""Commands of xpnet, one after the other, on the ranks of an MPI job, of which one may come to harm."""

import ctypes
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from threading import Lock

from requirements import MPIEXEC


def mpi(ranks, *commands, harm=None, **variables):
    """Run commands, lists of words, on so many ranks; return the completed process.

    Its exit code is the largest of the commands'. ``harm`` is what, rank and when: for what is in `AT_ONCE`
    an epoch, or an event of ``sys.audit`` and the end of its first argument; the number of `IN_STEP`.
    """
    words = json.dumps([[*map(str, command)] for command in commands])
    line = [str(MPIEXEC), "-n", str(ranks), sys.executable, __file__, words, json.dumps(harm)]
    options = {"capture_output": True, "text": True, "env": {**os.environ, **variables}}
    return subprocess.run(line, check=False, timeout=240, **options)


def see_other_files():

    def redirect(function):
        def call(path, *arguments, **options):
            if isinstance(path, str | os.PathLike):
                path = re.sub(r"(^|/)runs(?=/|$)", r"\1elsewhere", os.fspath(path))
            return function(path, *arguments, **options)

        return call

    for module, name in ((os, "stat"), (os, "scandir"), (os, "open"), (io, "open")):
        setattr(module, name, redirect(getattr(module, name)))


def receive(number):
    return lambda: os.kill(os.getpid(), number)


def exhaust_memory():
    raise MemoryError


AT_ONCE = {name: receive(getattr(signal, name)) for name in ("SIGKILL", "SIGINT", "SIGTERM")}
AT_ONCE["MemoryError"] = exhaust_memory


def lock_twice():
    lock = Lock()
    with lock:
        lock.acquire()


def halve_weights(trainer):
    """Halve the weights of the samples in the memory of the rank, and thereby its gradients."""
    trainer.samples.weights[...] *= 0.5


def halve_rates(trainer):
    """Halve the learning rate of the following steps, and thereby the updates of the rank."""
    find_rate = trainer.learning_rate
    trainer.learning_rate = lambda step: 0.5 * find_rate(step)


IN_STEP = {
    "slow": lambda _trainer, _number, seconds: time.sleep(seconds),
    "stopped": lambda _, number, first: number == first and os.kill(os.getpid(), signal.SIGSTOP),
    "locked": lambda _, number, first: number == first and lock_twice(),
    "halves": lambda trainer, number, first: number == first and halve_weights(trainer),
    "halves updates": lambda trainer, number, first: number == first and halve_rates(trainer),
}
"""What happens in the steps of one rank, given its trainer and their number."""


def act_in_steps(act, when):
    """Return a callback that lets Python act in each step, at the first call or return of a function."""
    from xpnet.training.loop import LoopCallback

    class InStep(LoopCallback):
        last = 0

        def on_train_begin(self, state):
            trainer = self._trainer

            def look(*_):
                if trainer.ranks.activity.step > self.last:
                    self.last += 1
                    act(trainer, self.last, when)

            sys.setprofile(look)

    return InStep()


def strike_at(point, strike):
    kind, _, name = point.partition(" ")
    strikes = [strike]

    def look(event, arguments):
        if strikes and event == kind and str(arguments[0]).endswith(name):
            strikes.pop()()

    sys.addaudithook(look)


def use_gpu():
    """Compute on an emulated GPU, of which the MPI library says that it can access its memory."""
    from xpnet.emulation.device import install

    class Library(ctypes.CDLL):
        MPIX_Query_cuda_support = staticmethod(lambda: 1)

    ctypes.CDLL = Library
    install()


def prepare(what, rank, when):
    if what == "direct":
        use_gpu()
    if int(os.environ["PMI_RANK"]) != rank:
        return
    if what == "elsewhere":
        platform.node = lambda: "elsewhere"
    elif what == "other files":
        see_other_files()
    elif isinstance(when, str):
        strike_at(when, AT_ONCE[what])
    elif what != "direct":
        from hooks import OnEpoch

        from xpnet.cli.train import CALLBACKS

        at_epoch = OnEpoch(lambda log: log.epoch == when and AT_ONCE[what]())
        CALLBACKS.append(act_in_steps(IN_STEP[what], when) if what in IN_STEP else at_epoch)


def main(text, harm):
    if harm := json.loads(harm):
        prepare(*harm)
    from xpnet.__main__ import main as command

    return max(command(words) for words in json.loads(text))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
