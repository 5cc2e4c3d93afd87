"""Trainings side by side, of which one comes to harm after its epoch 2.

``python harmed_trial.py HARM NAME COMMAND...`` runs a command of xpnet, of which the trial of that name comes
to harm; with one argument this is the process of a trial.
"""

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from hooks import calling

from xpnet._lib.interrupts import TERMINATION
from xpnet.cli import trials
from xpnet.distributed.ranks import ALONE
from xpnet.training.loop import LoopCallback


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def press(number=signal.SIGINT, send=os.kill, of=int):
    """Send a signal to the process that has started this one, once both seeds are trained."""
    wait_until(lambda: all(Path("runs/long", f"seed-{seed}", "metrics.jsonl").exists() for seed in (0, 1)))
    send(of(os.getppid()), number)


def press_twice():
    press()
    time.sleep(0.5)
    press()
    time.sleep(60)


def receive_signals():
    for number in (signal.SIGINT, *TERMINATION):
        os.kill(os.getpid(), number)


HARM = {
    "dies": lambda: os._exit(9),
    "Ctrl-C": lambda: press(send=os.killpg, of=os.getpgid),  # of the terminal
    "Ctrl-C twice": press_twice,
    "SIGTERM": lambda: press(signal.SIGTERM),
    "signals": receive_signals,
}


@contextmanager
def harmed(what, name):
    with patch.object(trials, "MODULE", "harmed_trial"), patch.dict(os.environ, HARM=f"{what}:{name}"):
        yield


def main():
    """Run the trial that the argument holds; one that tells returns the number of its GPU instead."""
    what, name = os.environ["HARM"].split(":")
    if what == "tells":
        trials.run_trial = lambda _: ALONE.local_rank

    class Harm(LoopCallback):
        def on_epoch_end(self, log):
            if log.epoch == 2 and self._trainer.config.name == name:
                HARM[what]()

    with calling(Harm()):
        trials.main()


if __name__ == "__main__":
    if not sys.argv[2:]:
        sys.exit(main())
    from xpnet.__main__ import main as command

    with harmed(*sys.argv[1:3]):
        sys.exit(command(sys.argv[3:]))
