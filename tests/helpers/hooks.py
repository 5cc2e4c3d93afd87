"""Callbacks for the trainings of commands, which take none on the command line."""

from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

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
    from xpnet.cli import train

    with patch.object(train, "record", partial(train.record, users=[callback])):
        yield
