"""Trainings side by side, of which one comes to harm after its epoch 2.

``python harmed_trial.py HARM NAME COMMAND...`` runs a command of xpnet, of which the trial of that name comes
to harm: its process imports `sitecustomize`.
"""

import os
import signal
import sys
import time
from pathlib import Path
from unittest.mock import patch

from xpnet._lib.interrupts import TERMINATION


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


def harmed(what, name):
    return patch.dict(os.environ, HARM=f"{what}:{name}")


def prepare():
    """Let a trial of the name come to harm in this process, or tell its GPU's number by the exit code."""
    from hooks import OnEpoch

    from xpnet.cli.train import CALLBACKS
    from xpnet.distributed.ranks import ALONE

    what, name = os.environ["HARM"].split(":")
    if what == "tells":
        os._exit(ALONE.local_rank)

    def strike(log):
        if log.epoch == 2 and harm._trainer.config.name == name:
            HARM[what]()

    CALLBACKS.append(harm := OnEpoch(strike))


if __name__ == "__main__":
    from xpnet.__main__ import main as command

    with harmed(*sys.argv[1:3]):
        sys.exit(command(sys.argv[3:]))
