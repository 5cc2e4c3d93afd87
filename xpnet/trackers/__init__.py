"""Copies of a run in experiment trackers: Weights & Biases, trackio and MLflow.

The folder of the run is the record, with and without trackers. A child process (``xpnet.trackers.mirror``)
copies it to each tracker, because their libraries print, crash, and wait for servers, even at the exit of the
interpreter: training neither stops nor slows down.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet._lib.text import complain
from xpnet.errors import ConfigError
from xpnet.training.callbacks import Callback, EpochLog
from xpnet.training.state import TrainState

if TYPE_CHECKING:
    from xpnet.training.loop import FitResult

FINISH_SECONDS = 120.0
"""How long a tracker may take after training has ended."""
GRACE = 5.0
"""Seconds in which the child process, which then ends itself, must have ended."""


def check(names: Sequence[str]) -> None:
    """Check that the libraries of these trackers are installed, without importing them.

    Raises
    ------
    ConfigError
        A library is not installed.
    """
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a mere folder of that name has no origin
            fix = f'pip install -e ".[{name}]" in the checkout of xpnet'
            msg = f"--track {name}: {name} is not installed: {fix}"
            raise ConfigError(msg)


class Tracker(Callback):
    """Copies the run in a folder to one tracker; a tracker that fails is one warning.

    After Ctrl-C it does not wait for the child process, which finishes by itself.

    Parameters
    ----------
    name
        Of the tracker.
    folder
        The folder of the run.
    line
        Called with a line of text that says where the tracker has the run.
    debug
        Show all that the library prints.
    """

    def __init__(self, name: str, folder: Path, line: Callable[[str], None], *, debug: bool = False) -> None:
        self._name, self._folder, self._line, self._debug = name, folder, line, debug
        self._process: subprocess.Popen[str] | None = None

    def on_train_begin(self, state: TrainState) -> None:  # noqa: ARG002
        """Start the child process."""
        arguments = [self._name, str(self._folder), str(FINISH_SECONDS)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the arguments are validated settings
                [sys.executable, "-P", "-u", "-m", "xpnet.trackers.mirror", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if self._debug else subprocess.DEVNULL,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # out of reach of Ctrl-C
            )
        except OSError as error:
            self._warn(str(error))

    def on_epoch_end(self, log: EpochLog) -> None:  # noqa: ARG002
        """Warn if the child process has died."""
        if self._process is not None and self._process.poll() is not None:
            self._report(self._process)

    def on_train_end(self, result: "FitResult") -> None:  # noqa: ARG002
        """Tell the child process that the record is complete."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.stdin = None

    def close(self) -> None:
        """Let the child process finish, and wait for it."""
        if self._process is not None and not isinstance(sys.exception(), KeyboardInterrupt):
            self._report(self._process)

    def _report(self, process: "subprocess.Popen[str]") -> None:
        """Wait for the answer of the child process; print it, or a warning."""
        self._process = None
        try:
            answer, _ = process.communicate(timeout=FINISH_SECONDS + GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            answer, _ = process.communicate()
        if process.returncode == 0:
            self._line(f"{self._name:<14}{answer}")
        else:
            self._warn(answer or f"exit code {process.returncode}")

    def _warn(self, reason: str) -> None:
        complain(
            f"warning: --track {self._name}: {reason}: nothing is lost, {self._folder} has the whole record"
        )
