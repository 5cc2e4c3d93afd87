"""What a training prints on a terminal, and elsewhere."""

import io
import re

from networks import image_data
from rich.console import Console

from xpnet.backends.resolve import make
from xpnet.compute import context
from xpnet.config import TrainConfig
from xpnet.training import console as console_module
from xpnet.training.callbacks import Evaluate
from xpnet.training.console import TrainingConsole
from xpnet.training.loop import LoopCallback
from xpnet.training.trainer import Trainer


class Refreshed(TrainingConsole):
    def _move(self, state, metrics=""):
        super()._move(state, metrics)
        self._progress.refresh()


def train(monkeypatch, *, terminal, width=100, callbacks=()):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=width, soft_wrap=True)
    monkeypatch.setattr(console_module, "make_console", lambda **_: console)
    monkeypatch.setattr(console_module, "MOVE_SECONDS", 0.0)
    monkeypatch.setattr(context, "MOST_STEPS", 1)
    config = TrainConfig(epochs=2, batch_size=20, log_every=1, workers=1)
    with Trainer.open(config, image_data(100, 20), make("numpy", "cpu")) as trainer:
        trainer.fit([Evaluate(), Refreshed(trainer, 2), *callbacks])
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue())  # colours, and then movements of the cursor
    return re.sub(r"(\x1b\[[0-9;?]*[A-Za-z]|\r)+", "\n", text)


def test_the_bar_moves_and_tells_times_and_the_loss_and_accuracy_of_the_same_parameters(monkeypatch):
    class Evaluated(LoopCallback):
        def on_step_end(self, state):
            evaluation = self._trainer.evaluate(state)  # of all samples, which are fewer than 1,024
            pairs.append((f"{evaluation.loss:.4f}", f"{evaluation.accuracy:.4f}"))

    pairs = []
    text = train(monkeypatch, terminal=True, callbacks=[Evaluated()])
    times = r"elapsed 0:00:0\d remaining (?:0:00:0\d|-:--:--)"
    shown = re.findall(rf"epoch [12]/2 \S+ loss (\S+), accuracy (\S+), {times}", text)
    assert len(set(shown)) > 4
    assert set(shown) <= {*pairs, shown[0]}  # the first are of the initial parameters


def test_a_narrow_terminal_has_the_bar_on_one_line_and_elsewhere_there_are_lines_only(monkeypatch):
    bars = [line for line in train(monkeypatch, terminal=True, width=60).splitlines() if "elapsed" in line]
    assert set(map(len, bars)) == {60}
    lines = train(monkeypatch, terminal=False).splitlines()
    assert [line[:11] for line in lines[:3]] == ["epoch     0", "epoch     1", "epoch     2"]
