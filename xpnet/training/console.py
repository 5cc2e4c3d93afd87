"""What a training prints: lines of metrics, above a progress bar on a terminal and in Jupyter."""

import time
from collections import deque
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from xpnet._lib.text import plain
from xpnet.compute.evaluation import SampleEvaluation, chance_note, recall_note
from xpnet.training.loop import EpochLog, FitResult, LoopCallback, TrainState
from xpnet.training.terminal import make_console, style_text
from xpnet.training.trainer import Trainer

MOST_CLASSES = 100
"""The largest number of classes for which the accuracies by class are printed."""

EPOCHS = "epoch {task.fields[epoch]}/{task.fields[epochs]}"
"""The number of complete epochs, and of all, as a progress bar shows them."""

MOVE_SECONDS = 1.0
"""Seconds from one movement of the progress bar to the next; each takes an evaluation of 1,024 samples."""


class TrainingConsole(LoopCallback):
    """Prints the metrics of a training on standard output, with a progress bar on a terminal or in Jupyter.

    The bar moves every second and to each logged epoch. It shows loss and accuracy there: within an epoch of
    1,024 training samples, at its end the accuracy of the validation samples, if there are any.

    Parameters
    ----------
    trainer
        Its number of steps, and of ranks.
    epochs
        The last epoch.
    quiet
        Print nothing, as on all ranks of an MPI job but the first.
    advise
        Print a hint at the end if the network has learned nothing.
    """

    def __init__(self, trainer: Trainer, epochs: int, *, quiet: bool = False, advise: bool = True) -> None:
        # The same on all ranks, which evaluate together.
        self._steps, self._advise = len(trainer.loader.bounds), advise and not quiet
        self._console = console = make_console(quiet=quiet or trainer.ranks.rank > 0)
        self._lines, self._is_printing = deque[str](), False
        jupyter = console.is_jupyter and find_spec("ipywidgets") is not None
        # mpiexec may give ranks a terminal, whose bars would fill a log.
        self._hidden = hidden = quiet or trainer.ranks.size > 1 or not (console.is_terminal or jupyter)
        bar = BarColumn(bar_width=None, table_column=Column(ratio=1))
        metrics = TextColumn("{task.fields[metrics]}elapsed", table_column=Column(no_wrap=True))
        columns = EPOCHS, bar, metrics, TimeElapsedColumn(), "remaining", TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, transient=True, expand=True, disable=hidden)
        self._task = self._progress.add_task("train", total=epochs * self._steps, epochs=epochs)
        self._next_move = 0.0

    def print_line(self, text: str) -> None:
        """Print one line, above the progress bar if there is one; signal handlers may call it too."""
        if self._console.quiet:
            return
        self._lines.append(text)
        if self._is_printing:  # the interrupted call prints it: a console prints twice what it was printing
            return
        self._is_printing = True
        try:
            while self._lines:
                self._console.print(style_text(self._lines.popleft()))
        finally:
            self._is_printing = False

    def on_train_begin(self, state: TrainState) -> None:
        """Show the progress bar."""
        self._move(state)
        self._progress.start()

    def on_step_end(self, state: TrainState) -> None:
        """Move the progress bar, every second."""
        if not self._hidden and time.monotonic() >= self._next_move:
            estimate = self._trainer.estimate(state)
            self._move(state, f"loss {estimate.loss:.4f}, accuracy {estimate.accuracy:.4f}, ")
            self._next_move = time.monotonic() + MOVE_SECONDS

    def on_epoch_end(self, log: EpochLog) -> None:
        """Print the metrics of a logged epoch."""
        if log.training:
            accuracy = (log.validation or log.training).accuracy
            self._move(log.state, f"loss {log.training.loss:.4f}, accuracy {accuracy:.4f}, ")
            held_out = f"   validation {_format_accuracy(log.validation)}" if log.validation else ""
            self.print_line(f"epoch {log.epoch:>5}   {_format_evaluation(log.training)}{held_out}")

    def on_train_end(self, result: FitResult) -> None:
        """Print a hint if the network has learned nothing."""
        if not self._advise:
            return
        labels, recalls = self._trainer.data.y_train, self._trainer.training_recalls(result.best)
        chance = self._trainer.evaluate(result.best).accuracy, np.bincount(labels).max(), len(labels)
        note = chance_note(*chance) if recalls is None else recall_note(recalls)
        if result.state.epoch and note:
            self.print_line(f"note: {note}")

    def close(self) -> None:
        """Remove the progress bar."""
        self._progress.live.stop()  # Progress.stop may print an empty line

    def print_evaluation(self, name: str, evaluation: SampleEvaluation) -> None:
        """Print loss and accuracy on a set of samples."""
        self.print_line(f"{name:<14}{_format_evaluation(evaluation)}")

    def print_test_evaluation(
        self, evaluation: SampleEvaluation, per_class: Sequence[float | None], names: Sequence[str] | None
    ) -> None:
        """Print loss, accuracy and the accuracies by class on the test data."""
        self.print_evaluation("test", evaluation)
        if len(per_class) > MOST_CLASSES:
            self.print_line(f"  the accuracy of each of the {len(per_class)} classes is in run.json")
            return
        names = list(map(plain, names or range(len(per_class))))
        width = max(map(len, ["   ", *names]))
        for name, accuracy in zip(names, per_class, strict=True):
            text = "none in the test data" if accuracy is None else f"{accuracy:.4f}"
            self.print_line(f"  class {name:>{width}}                accuracy {text}")

    def _move(self, state: TrainState, metrics: str = "") -> None:
        completed = state.epoch * self._steps + state.batch
        epoch = completed // self._steps
        self._progress.update(self._task, completed=completed, epoch=epoch, metrics=metrics)


def _format_evaluation(evaluation: SampleEvaluation) -> str:
    return f"loss {evaluation.loss:.4f}   accuracy {_format_accuracy(evaluation)}"


def _format_accuracy(evaluation: SampleEvaluation) -> str:
    """Format the accuracy, and the score if it is another."""
    score = "" if evaluation.score is None else f"   score {evaluation.score:.4f}"
    return f"{evaluation.accuracy:.4f}{score}"
