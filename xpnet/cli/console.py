"""Console output of a training run: a progress bar on a terminal, plain lines elsewhere, or nothing."""

import sys
from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from xpnet._lib.text import plain
from xpnet.cli.tables import make_console, style_text
from xpnet.training.callbacks import Callback, EpochLog
from xpnet.training.evaluation import Evaluation
from xpnet.training.state import TrainState

MOST_CLASSES = 100
"""The largest number of classes for which the accuracies by class are printed."""


class TrainingConsole(Callback):
    """Prints the metrics of a training run on standard output, with a progress bar on a terminal."""

    def __init__(self, epochs: int, *, quiet: bool) -> None:
        self._console = make_console(quiet=quiet)
        columns = ("epoch", MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        hidden = quiet or not sys.stdout.isatty()
        self._progress = Progress(*columns, console=self._console, transient=True, disable=hidden)
        self._task = self._progress.add_task("train", total=epochs)

    def print_line(self, text: str) -> None:
        """Print one line, above the progress bar if there is one."""
        self._console.print(style_text(text))

    def on_train_begin(self, state: TrainState) -> None:
        """Show the progress bar."""
        self._progress.update(self._task, completed=state.epoch)
        self._progress.start()

    def on_epoch_end(self, log: EpochLog) -> None:
        """Print the metrics of a logged epoch."""
        self._progress.update(self._task, completed=log.epoch)
        if log.training is not None:
            held_out = "" if log.validation is None else f"   validation {log.validation.accuracy:.4f}"
            self.print_line(f"epoch {log.epoch:>5}   {_format_evaluation(log.training)}{held_out}")

    def close(self) -> None:
        """Remove the progress bar."""
        self._progress.live.stop()  # Progress.stop may print an empty line

    def print_evaluation(self, name: str, evaluation: Evaluation) -> None:
        """Print loss and accuracy on a set of samples."""
        self.print_line(f"{name:<14}{_format_evaluation(evaluation)}")

    def print_test_evaluation(
        self, evaluation: Evaluation, per_class: Sequence[float | None], names: Sequence[str] | None = None
    ) -> None:
        """Print loss, accuracy and the accuracies by class on the test data."""
        self.print_evaluation("test", evaluation)
        if len(per_class) > MOST_CLASSES:
            self.print_line(f"  the accuracy of each of the {len(per_class)} classes is in run.json")
            return
        names = list(map(plain, range(len(per_class)) if names is None else names))
        width = max(map(len, ["   ", *names]))
        for name, accuracy in zip(names, per_class, strict=True):
            text = "none in the test data" if accuracy is None else f"{accuracy:.4f}"
            self.print_line(f"  class {name:>{width}}                accuracy {text}")


def _format_evaluation(evaluation: Evaluation) -> str:
    return f"loss {evaluation.loss:.4f}   accuracy {evaluation.accuracy:.4f}"
