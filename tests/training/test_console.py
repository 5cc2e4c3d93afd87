"""What a training prints on a terminal, and elsewhere."""

import io
import re

import numpy as np
import pytest
from networks import image_data
from rich.console import Console

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.inference import context
from xpnet.training import console as console_module
from xpnet.training.callbacks import Evaluate
from xpnet.training.console import TrainingConsole
from xpnet.training.trainer import Trainer


def separable():
    """Images of three classes, each with pixels of its own."""
    data = image_data(100, 20)
    data.y_train[:] = np.arange(100) % 3
    data.x_train[:] = 255 * (np.arange(data.features) % 3 == data.y_train[:, None])
    return data


@pytest.fixture
def train(monkeypatch):
    """Train a small network and return what is printed, without escape sequences."""

    def train(*, terminal, data=None, width=100, seconds=0.0, **settings):
        output = io.StringIO()
        console = Console(file=output, force_terminal=terminal, width=width, soft_wrap=True)
        monkeypatch.setattr(console_module, "make_console", lambda **_: console)
        monkeypatch.setattr(console_module, "MOVE_SECONDS", seconds)
        config = TrainConfig(
            **{"epochs": 2, "batch_size": 20, "log_every": 1, "init": "he", "learning_rate": 0.5, **settings}
        )
        with Trainer.open(config, data or separable(), make("numpy", "cpu")) as trainer:
            steps, move = [], console_module.TrainingConsole._move

            def watch(self, state, **loss):
                move(self, state, **loss)
                task, is_begun = self._progress.tasks[0], bool(steps)
                loss = f"loss {trainer.estimate_loss(state):.4f}, " if is_begun else ""
                is_own = task.fields["metrics"].partition("accuracy")[0] == loss
                steps.append((state.epoch, state.batch, task.completed, is_own))
                self._progress.refresh()

            monkeypatch.setattr(TrainingConsole, "_move", watch)
            trainer.fit([Evaluate(), TrainingConsole(trainer, config.epochs)])
        text = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue())  # colours, and then movements of the cursor
        return re.sub(r"(\x1b\[[0-9;?]*[A-Za-z]|\r)+", "\n", text), steps

    return train


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_the_bar_moves_within_an_epoch_and_tells_its_loss_accuracy_and_times(train, monkeypatch, seconds):
    monkeypatch.setattr(context, "MOST_STEPS", 1)
    text, steps = train(terminal=True, seconds=seconds)
    assert all(epoch * 5 + batch == completed and is_own for epoch, batch, completed, is_own in steps)
    expected = {(0, 3), (1, 2)} if seconds == 0.0 else {(0, 1), (1, 0), (2, 0)}
    assert expected <= {(epoch, batch) for epoch, batch, *_ in steps}
    times = r"elapsed 0:00:0\d remaining (?:0:00:0\d|-:--:--)"
    assert re.search(rf"epoch [12]/2 \S+ loss \d\.\d{{4}}, accuracy [01]\.\d{{4}}, {times}", text)
    assert len(re.findall(r"^epoch +\d   loss ", text, re.MULTILINE)) == 3


def test_a_narrow_terminal_has_the_bar_on_one_line_and_elsewhere_there_are_lines_only(train):
    text, _ = train(terminal=True, width=60)
    assert max(map(len, text.splitlines())) <= 60
    text, _ = train(terminal=False)
    assert [line[:11] for line in text.splitlines()] == ["epoch     0", "epoch     1", "epoch     2"]


def test_a_network_that_learns_nothing_gets_one_hint(train):
    data = separable()
    data.x_train[:] = 7
    text, _ = train(terminal=False, data=data)
    (hint,) = [line for line in text.splitlines() if line.startswith("note: ")]
    assert hint.startswith("note: training accuracy 0.3")
    assert "at chance (0.3400 of the samples are of the largest class)" in hint
    assert "note" not in train(terminal=False, data=data, epochs=0)[0]


def test_a_line_printed_by_a_signal_handler_while_another_is_printed_comes_once_and_after_it(monkeypatch):
    with Trainer.open(TrainConfig(), separable(), make("numpy", "cpu")) as trainer:
        console, printed = TrainingConsole(trainer, 1), []

    def print_interrupted(text):
        if not printed:
            console.print_line("notice")
        printed.append(str(text))

    monkeypatch.setattr(console._console, "print", print_interrupted)
    console.print_line("epoch 1")
    assert printed == ["epoch 1", "notice"]
