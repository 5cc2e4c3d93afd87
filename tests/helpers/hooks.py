"""Callbacks for the trainings of commands, which take none on the command line."""

from contextlib import contextmanager

from xpnet.training.loop import LoopCallback


class OnEpoch(LoopCallback):
    def __init__(self, function):
        self._function = function

    def on_epoch_end(self, log):
        self._function(log)


class OnStep(LoopCallback):
    needs_every_step = True

    def __init__(self, function):
        self._function = function

    def on_step_end(self, state):
        self._function(state)


@contextmanager
def calling(callback):
    """Let the trainings of commands in this process have a further callback."""
    from xpnet.cli.train import CALLBACKS

    CALLBACKS.append(callback)
    try:
        yield
    finally:
        CALLBACKS.remove(callback)
