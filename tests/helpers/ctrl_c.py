"""Trains like ``python -m xpnet.train``, with Ctrl-C pressed after the epoch that the first argument names.

The process presses it itself, so that the training cannot be over before; all of its process group gets
it, as from a terminal.
"""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager


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
    command, streams = [sys.executable, __file__, str(epoch), *words], {"capture_output": True, "text": True}
    with handled_by(signal.default_int_handler):
        return subprocess.run(command, check=False, start_new_session=True, **streams, **options)


def train_and_press(epoch, words, press):
    from hooks import OnEpoch, calling

    from xpnet import train

    with calling(OnEpoch(lambda log: press() if log.epoch == epoch else None)):
        return train.main(words)


def interrupted(epoch, words):
    with handled_by(signal.default_int_handler):
        assert train_and_press(epoch, [*map(str, words)], lambda: signal.raise_signal(signal.SIGINT)) == 130


def press_for_group():
    if sys.platform == "win32":  # without process groups
        signal.raise_signal(signal.SIGINT)
    else:
        os.killpg(0, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(train_and_press(int(sys.argv[1]), sys.argv[2:], press_for_group))
