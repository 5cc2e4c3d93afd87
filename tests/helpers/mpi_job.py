"""Commands of xpnet, one after the other, on the ranks of an MPI job, of which one may come to harm."""

import errno
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
from pkgutil import resolve_name

from requirements import MPIEXEC


def mpi(ranks, *commands, harm=None):
    """Run commands, lists of words, on so many ranks; return the completed process.

    Its exit code is the largest of the commands'. ``harm`` is what, rank and when: an epoch for what is in
    `AFTER_EPOCH`, a point for `AT_POINT`, any for `AT_START`; or the harmless "sliced" and "direct", for
    other ways of sending. Batches of one block are shared however small they are.
    """
    words = json.dumps([[*map(str, command)] for command in commands])
    line = [str(MPIEXEC), "-n", str(ranks), sys.executable, __file__, words, json.dumps(harm)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)


def cannot_read_data():
    from xpnet.data import datasets

    datasets.load = None


def is_elsewhere():
    platform.node = lambda: "elsewhere"


def see_other_files():
    """See other files in the folder runs: those in the folder "elsewhere"."""

    def redirect(function):
        def call(path, *arguments, **options):
            if isinstance(path, str | os.PathLike):
                path = re.sub(r"(^|/)runs(?=/|$)", r"\1elsewhere", os.fspath(path))
            return function(path, *arguments, **options)

        return call

    for module, name in ((os, "stat"), (os, "scandir"), (os, "open"), (io, "open")):
        setattr(module, name, redirect(getattr(module, name)))


def has_other_data():
    """Be on a machine of its own, with its own files, of which one has another label."""
    from xpnet.data import datasets
    from xpnet.distributed.ranks import Ranks

    is_elsewhere()
    load = datasets.load

    def load_other(*arguments, **options):
        data = load(*arguments, **options)
        data.y_train[0] ^= 1
        return data

    datasets.load = load_other
    Ranks.on_this_host = lambda self: self.comm.Split(1)


def die_in_checkpoint(_):
    from xpnet.storage import run

    def write_half(path, data):
        if path.name == "checkpoint.safetensors":
            path.with_name(".0123456789abcdef.tmp").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomic(path, data)

    write_atomic, run.write_atomic = run.write_atomic, write_half


def receive(number):
    return lambda _: os.kill(os.getpid(), number)


def fail(error):
    """A function that raises an error."""

    def raise_it(_=None):
        raise error

    return raise_it


AT_POINT = {
    "OSError": fail(OSError(errno.EIO, "Input/output error", "data.npz")),
    "MemoryError": fail(MemoryError()),
    "ValueError": fail(ValueError("no number")),
    "SystemExit": fail(SystemExit(0)),
    "SIGTERM": receive(signal.SIGTERM),
}
POINTS = {
    "connect": "xpnet.distributed.ranks:initialize",
    "begin": "xpnet.cli.train:check_installed",
    "read": "xpnet.training.opening:load_shared",
    "open": "xpnet.cli.train:record",
    "step": "xpnet.training.step:Step.__call__",
}
"""Functions that are called in the course of a command; of "imports", an import."""


class FailingImport:
    """Finds no module, and comes to harm when one of a command is looked for."""

    def __init__(self, strike):
        self.strike = strike

    def find_spec(self, name, path, target=None):
        if name == "xpnet.cli.trials":
            self.strike()


def come_to_harm(what, point):
    """Come to harm at a point of the command."""
    strike = AT_POINT[what]
    if point == "imports":
        sys.meta_path.insert(0, FailingImport(lambda: strike(None)))
        return
    module, name = POINTS[point].split(":")
    owner, _, name = name.rpartition(".")
    owner = resolve_name(f"{module}:{owner}" if owner else module)
    function = getattr(owner, name)

    def harmed(*arguments, **options):
        strike(None)
        return function(*arguments, **options)

    setattr(owner, name, harmed)


AT_START = {
    "blind": cannot_read_data,
    "elsewhere": is_elsewhere,
    "lose": is_elsewhere,
    "other data": has_other_data,
    "other files": see_other_files,
}
AFTER_EPOCH = {
    "kill": receive(signal.SIGKILL),
    "Ctrl-C": receive(signal.SIGINT),
    "SIGTERM": receive(signal.SIGTERM),
    "lose": receive(signal.SIGSTOP),  # no sign of life any more
    "checkpoint": die_in_checkpoint,
}


def let_mpi_access_arrays():
    """Let MPI access the arrays of libraries, as if on a GPU."""
    from xpnet.distributed import exchange, ranks

    def direct_memory(comm, backend):
        memory = exchange.Memory(comm, backend)
        assert memory.xp is backend.xp
        return memory

    exchange.cuda_index, exchange.is_cuda_aware, ranks.Memory = (lambda _: 0), (lambda: True), direct_memory


def prepare(what, rank, epoch):
    """Prepare the harm."""
    from xpnet.distributed import exchange, ranks
    from xpnet.distributed.launch import rank_and_size
    from xpnet.training.callbacks import Evaluate

    ranks.PAUSE = 0.1
    if what == "lose":
        ranks.SECONDS = 3
    if what in ("sliced", "direct"):
        exchange.SMALL_BYTES = 1000  # only the sums of an evaluation are small
    if what == "direct":
        let_mpi_access_arrays()
    if rank_and_size()[0] != rank:
        if what == "other data":
            ranks.Ranks.on_this_host = lambda self: self.comm.Split(0)
        return
    if isinstance(epoch, str):
        come_to_harm(what, epoch)
    AT_START.get(what, lambda: None)()
    evaluate = Evaluate.on_epoch_end

    def on_epoch_end(self, trainer, log):
        evaluate(self, trainer, log)
        if log.epoch == epoch and what in AFTER_EPOCH:
            AFTER_EPOCH[what](trainer)

    Evaluate.on_epoch_end = on_epoch_end


def main(text, harm):
    if harm := json.loads(harm):
        prepare(*harm)
    from xpnet.__main__ import main as command
    from xpnet.inference import context

    context.LEAST_SAMPLES = context.LEAST_MULTIPLICATIONS = 0
    return max(command(words) for words in json.loads(text))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
