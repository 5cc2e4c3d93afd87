"""Trains like ``python -m xpnet.train``, with Ctrl-C pressed after the epoch that the first argument names.

The process presses it itself, so that the training cannot be over before; all of its process group gets
it, as from a terminal.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch


@contextmanager
def handled_by(handler, number=signal.SIGINT):
    """Let this process handle SIGINT, or another signal, so, and the processes that it starts begin so.

    A shell has jobs in the background ignore SIGINT, nohup SIGHUP, and what they start inherits that:
    tests that interrupt something say what they expect.
    """
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


def pressed(epoch, words, **options):
    """Return the completed process of a training in which Ctrl-C is pressed after an epoch."""
    with handled_by(signal.default_int_handler):
        return subprocess.run(
            [sys.executable, __file__, str(epoch), *words],
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # a process group of its own
            **options,
        )


def interrupted(epoch, words):
    """Train in this process, with Ctrl-C pressed after an epoch."""
    from xpnet import train
    from xpnet.storage.run import Run

    log = Run.log

    def log_and_press(run, values):
        log(run, values)
        if values["epoch"] == epoch:
            signal.raise_signal(signal.SIGINT)

    with handled_by(signal.default_int_handler), patch.object(Run, "log", log_and_press):
        assert train.main([*map(str, words)]) == 130


def press_after(epoch, until=None):
    """Press Ctrl-C after an epoch, once a file exists."""
    from xpnet.storage.run import Run

    log = Run.log

    def log_and_press(run, values):
        log(run, values)
        if values["epoch"] == int(epoch):
            while until is not None and not until.exists():
                time.sleep(0.01)
            if sys.platform == "win32":  # without process groups
                signal.raise_signal(signal.SIGINT)
            else:
                os.killpg(0, signal.SIGINT)

    Run.log = log_and_press


def capture_trial(epoch, call, number):
    """Run a trial in its process; in that of seed 0, press once seed 1 trains too."""
    from xpnet.cli import trials

    config = call.args[0]
    if config.seed == 0:
        press_after(epoch, config.out / "seed-1" / "metrics.jsonl")
    return trials.capture_trial(call)


def die_of_seed_1(call, number):
    """Run a trial in its process, which ends with exit code 9 after an epoch of seed 1."""
    from xpnet.cli import trials
    from xpnet.storage.run import Run

    if call.args[0].seed == 1:
        Run.log = lambda *_: os._exit(9)
    return trials.capture_trial(call)


def main(epoch, *words):
    from xpnet import train
    from xpnet.cli import trials

    press_after(epoch)
    trials.capture_trial = partial(capture_trial, epoch)
    return train.main(words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
