"""What a training prints: a live progress bar on a terminal, plain lines elsewhere, or nothing."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xpnet.training.evaluation import Evaluation

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MOST_CLASSES = 100
"""Classes up to which each has a line after training."""


class Console:
    """Prints the course of a training on standard output."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @contextmanager
    def training(self, epochs: int) -> Iterator[None]:
        """Show a progress bar while the body trains, if standard output is a terminal."""
        if self._quiet or not sys.stdout.isatty():
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("epoch", MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as self._progress:
            self._task = self._progress.add_task("train", total=epochs)
            yield
        self._progress = None

    def line(self, text: str) -> None:
        """Print one line, above the progress bar if there is one."""
        if self._quiet:
            return
        if self._progress is None:
            print(text, flush=True)
        else:
            self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def introduce(self, lines: Iterable[str]) -> None:
        """Print what is about to be trained."""
        for text in lines:
            self.line(text)

    def epoch(
        self, epoch: int, evaluation: Evaluation | None, validation: Evaluation | None = None
    ) -> None:
        """Report a finished epoch: on the training samples, and on those held out."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=epoch)
        if evaluation is not None:
            held_out = "" if validation is None else f"   validation {validation.accuracy:.4f}"
            self.line(f"epoch {epoch:>5}   {_figures(evaluation)}{held_out}")

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
