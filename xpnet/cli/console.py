"""What a training prints: a live progress bar on a terminal, plain lines elsewhere, or nothing."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xpnet.cli.tables import new_console, styled
from xpnet.training.callbacks import Callback, EpochLog
from xpnet.training.evaluation import Evaluation
from xpnet.training.state import TrainState

if TYPE_CHECKING:
    from rich.progress import Progress

MOST_CLASSES = 100
"""Classes up to which each has a line after training."""


class Console(Callback):
    """Prints the course of a training run on standard output, with a progress bar on a terminal."""

    def __init__(self, epochs: int, *, quiet: bool) -> None:
        self._epochs, self._console = epochs, new_console(quiet=quiet)
        self._progress: Progress | None = None

    def line(self, text: str) -> None:
        """Print one line, above the progress bar if there is one."""
        self._console.print(styled(text))

    def on_train_begin(self, state: TrainState) -> None:
        """Show the progress bar."""
        if self._console.quiet or not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("epoch", MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._progress.add_task("train", total=self._epochs, completed=state.epoch)
        self._progress.start()

    def on_epoch_end(self, log: EpochLog) -> None:
        """Print the metrics of a logged epoch."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=log.epoch)
        if log.training is not None:
            held_out = "" if log.validation is None else f"   validation {log.validation.accuracy:.4f}"
            self.line(f"epoch {log.epoch:>5}   {_figures(log.training)}{held_out}")

    def close(self) -> None:
        """Take the progress bar away."""
        if self._progress is not None:
            self._progress.stop()

    def figures(self, name: str, evaluation: Evaluation) -> None:
        """Report the figures on some samples."""
        self.line(f"{name:<14}{_figures(evaluation)}")

    def test(self, evaluation: Evaluation, per_class: Sequence[float | None]) -> None:
        """Report the figures on the test data."""
        self.figures("test", evaluation)
        if len(per_class) > MOST_CLASSES:
            self.line(f"  the accuracy of each of the {len(per_class)} classes is in run.json")
            return
        for label, accuracy in enumerate(per_class):
            share = "none in the test data" if accuracy is None else f"{accuracy:.4f}"
            self.line(f"  class {label:>3}                accuracy {share}")


def _figures(evaluation: Evaluation) -> str:
    return f"loss {evaluation.loss:.4f}   accuracy {evaluation.accuracy:.4f}"
