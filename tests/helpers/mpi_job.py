"""Commands of xpnet, one after the other, on the ranks of an MPI job, of which one may come to harm."""

import json
import os
import signal
import subprocess
import sys

from requirements import MPIEXEC


def mpi(ranks, *commands, harm=None, **options):
    """Run commands, lists of words, on so many ranks; return the completed process.

    Its exit code is the largest of the commands'. ``harm`` is what, rank and epoch: after the epoch the rank
    is killed, gets a Ctrl-C, or has other parameters; or it is killed in the middle of writing a checkpoint.
    A rank that is "blind" cannot read data.
    """
    words = json.dumps([[*map(str, command)] for command in commands])
    line = [str(MPIEXEC), "-n", str(ranks), sys.executable, __file__, words, json.dumps(harm)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, **options)


def do_harm(what, rank, epoch):
    """Prepare the harm on its rank."""
    from xpnet._lib.launch import rank_and_size
    from xpnet.data import datasets
    from xpnet.storage import run
    from xpnet.training.callbacks import CompareRanks

    if rank_and_size()[0] != rank:
        return
    if what == "blind":
        datasets.load = None
    compare, write_atomic = CompareRanks.on_epoch_end, run.write_atomic

    def on_epoch_end(self, log):
        if log.epoch == epoch and what == "parameters":
            self._trainer.fingerprint = lambda _: "f" * 64
        if log.epoch == epoch and what in ("kill", "Ctrl-C"):
            os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGINT)
        if log.epoch == epoch and what == "checkpoint":
            run.write_atomic = write_half
        compare(self, log)

    def write_half(path, data):
        if path.name == "checkpoint.safetensors":
            path.with_name(".0123456789abcdef.tmp").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomic(path, data)

    CompareRanks.on_epoch_end = on_epoch_end


def main(text, harm):
    if harm := json.loads(harm):
        do_harm(*harm)
    from xpnet.__main__ import main as command

    return max(command(words) for words in json.loads(text))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
