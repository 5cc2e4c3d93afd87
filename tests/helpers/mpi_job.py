"""Commands of xpnet, one after the other, on the ranks of an MPI job, of which one may come to harm."""

import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from itertools import count
from pkgutil import resolve_name
from threading import Lock

from requirements import MPIEXEC


def mpi(ranks, *commands, harm=None, **variables):
    """Run commands, lists of words, on so many ranks; return the completed process.

    Its exit code is the largest of the commands'. ``harm`` is what, rank and when: an epoch or a point for
    what is in `AT_POINT`, seconds for `IN_STEP`. Batches of one block are shared however small they are.
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
    return lambda *_: os.kill(os.getpid(), number)


def exhaust_memory(*_):
    raise MemoryError


SIGNALS = {name: receive(getattr(signal, name)) for name in ("SIGKILL", "SIGINT", "SIGTERM")}
AT_POINT = SIGNALS | {"MemoryError": exhaust_memory}
POINTS = {
    "connect": "xpnet.distributed.ranks:initialize",
    "begin": "xpnet.cli.train:check_installed",
    "read": "xpnet.training.opening:load_shared",
    "open": "xpnet.cli.train:record",
    "step": "xpnet.training.shared_step:SharedStep.__call__",
}


def replace_function(place, wrap):
    """Put in the place of a function, ``module:name``, what is made of it."""
    module, _, name = place.partition(":")
    owner, _, name = name.rpartition(".")
    owner = resolve_name(f"{module}:{owner}" if owner else module)
    setattr(owner, name, wrap(getattr(owner, name)))


def before(strike):
    return lambda call: lambda *arguments, **options: (strike(*arguments), call(*arguments, **options))[1]


def lock_twice():
    lock = Lock()
    with lock:
        lock.acquire()


IN_STEP = {
    "slow": lambda number, seconds: time.sleep(seconds),
    "stopped": lambda number, _: number == 5 and os.kill(os.getpid(), signal.SIGSTOP),
    "locked": lambda number, _: number == 5 and lock_twice(),
}
"""What happens in the steps of one rank, given their number."""
STEP = "xpnet.training.shared_step:SharedStep"


def halve_gradients(first):
    """Halve the gradient of the first layer from a call on, as compiled functions return it."""
    from xpnet.training.shared_step import SharedStep

    init = SharedStep.__init__

    def init_and_halve(self, *arguments):
        init(self, *arguments)
        numbers, make, step, steps = count(1), self._part_sums, self._step, self._steps

        def halved(function):
            def call(*arguments):
                dw, *others = function(*arguments)
                return [dw * (0.5 if next(numbers) >= first else 1.0), *others]

            return call

        self._block_sums = halved(self._block_sums)
        self._part_sums = lambda *sizes: halved(make(*sizes))
        # Of plain SGD: half of the rate is half of the gradient.
        self._step = lambda variables, block, rate: step(variables, block, 0.5 * rate)
        self._steps = lambda variables, block, rates: steps(variables, block, [0.5 * rate for rate in rates])

    SharedStep.__init__ = init_and_halve


def halve_updates(first):
    """Halve the learning rate of the updates of slices from a call on, as compiled functions apply it."""
    from xpnet.training.shared_step import SharedStep

    update_rows, numbers = SharedStep._update_rows, count(1)

    def update_half(self, variables, sums, factors, rate):
        update, half = self._update, 0.5 if next(numbers) >= first else 1.0
        self._update = lambda own, sums, factors, rate, *more: update(own, sums, factors, half * rate, *more)
        variables = update_rows(self, variables, sums, factors, rate)
        self._update = update
        return variables

    SharedStep._update_rows = update_half


def let_mpi_access_arrays():
    from xpnet.distributed import exchange

    make = exchange.Memory

    def direct_memory(comm, backend):
        memory = make(comm, backend)
        assert memory.xp is backend.xp
        return memory

    exchange.cuda_index, exchange.is_cuda_aware = (lambda _: 0), (lambda: True)
    exchange.Memory = direct_memory


def prepare(what, rank, when):
    from xpnet.distributed.launch import rank_and_size

    if what == "direct":
        let_mpi_access_arrays()
    if rank_and_size()[0] != rank:
        return
    if isinstance(when, str):
        replace_function(POINTS[when], before(AT_POINT[what]))
    elif what in IN_STEP:
        numbers = count(1)
        replace_function(f"{STEP}.__call__", before(lambda *_: IN_STEP[what](next(numbers), when)))
    elif what in SIGNALS:
        strike = before(lambda _, log: log.epoch == when and SIGNALS[what]())
        replace_function("xpnet.training.callbacks:Evaluate.on_epoch_end", strike)
    elif what == "halves":
        halve_gradients(when)
    elif what == "halves updates":
        halve_updates(when)
    elif what == "elsewhere":
        platform.node = lambda: "elsewhere"
    elif what == "other files":
        see_other_files()


def main(text, harm):
    if harm := json.loads(harm):
        prepare(*harm)
    from xpnet.__main__ import main as command
    from xpnet.training import shared_step

    shared_step.SENT_SAMPLES = shared_step.WAIT_MULTIPLICATIONS = 0
    return max(command(words) for words in json.loads(text))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
