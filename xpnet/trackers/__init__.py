"""Mirrors of a run in experiment trackers: Weights & Biases, trackio and MLflow.

The record in the folder of the run is the truth, and is there with and without them. A tracker is fed
from it by a process of its own (``xpnet.trackers.mirror``): whatever a tracker loads, prints or waits
for, the training neither stops nor slows down.
"""

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from xpnet._lib.text import complain
from xpnet.errors import ConfigError
from xpnet.training.callbacks import Callback
from xpnet.training.state import TrainState

FINISH_SECONDS = 120.0
"""How long a tracker may take after the training has ended."""
GRACE = 5.0
"""Seconds in which its process, which ends itself, is to be gone then."""


def check(names: Sequence[str]) -> None:
    """Raise ConfigError unless the libraries of all these trackers are installed; load none."""
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a mere folder of that name has no origin
            fix = f'pip install -e ".[{name}]" in the checkout of xpnet'
            msg = f"--track {name}: {name} is not installed: {fix}"
            raise ConfigError(msg)


class Mirrors(Callback):
    """Mirrors the run in a folder in each of some trackers.

    A tracker that fails is one warning, as soon as it fails; with ``debug`` all that it prints is shown.
    After Ctrl-C nothing waits for the trackers, which finish by themselves.

    Parameters
    ----------
    names
        The trackers.
    folder
        The folder of the run.
    line
        Called with a line that tells where each tracker has the run.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, line: Callable[[str], None], *, debug: bool = False
    ) -> None:
        self._names, self._folder, self._line, self._debug = names, folder, line, debug
        self._mirrors: list[_Mirror] = []

    def on_train_begin(self, state: TrainState) -> None:  # noqa: ARG002
        """Start the mirrors."""
        self._mirrors = [_Mirror(name, self._folder, debug=self._debug) for name in self._names]

    def close(self) -> None:
        """End the mirrors, and wait for them."""
        for mirror in self._mirrors:
            mirror.end()
        if isinstance(sys.exception(), KeyboardInterrupt):
            return
        for mirror in self._mirrors:
            if where := mirror.wait():
                self._line(f"{mirror.name:<14}{where}")


class _Mirror:
    """A process that mirrors one run in one tracker, and a thread that waits for its answer."""

    def __init__(self, name: str, folder: Path, *, debug: bool) -> None:
        self.name, self.folder = name, folder
        self._where: str | None = None
        self._ended = math.inf
        self._process: subprocess.Popen[bytes] | None = None
        words = [sys.executable, "-P", "-m", "xpnet.trackers.mirror", name, str(folder)]
        try:
            process = subprocess.Popen(  # noqa: S603 - no word of it comes from outside
                [*words, str(FINISH_SECONDS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if debug else subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is not for it
            )
        except OSError as error:
            self._warn(str(error))
        else:
            self._process = process
            self._watcher = threading.Thread(target=self._watch, args=(process,), daemon=True)
            self._watcher.start()

    def end(self) -> None:
        """Tell the process that the training has ended."""
        self._ended = time.monotonic()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self) -> str | None:
        """Return where the tracker has the run; None after a warning."""
        if self._process is not None:
            self._watcher.join(FINISH_SECONDS + GRACE)
            if self._watcher.is_alive():
                self._warn("it does not end")
        return self._where

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout:
            text = process.stdout.read()
        code = process.wait()
        try:
            answer = json.loads(text)
        except ValueError:
            late = time.monotonic() - self._ended >= FINISH_SECONDS
            reason = f"not done {FINISH_SECONDS:g} s after the training" if late else f"exit code {code}"
            answer = {"error": reason}
        self._where = answer.get("where")
        if self._where is None:
            self._warn(answer["error"])

    def _warn(self, reason: str) -> None:
        complain(
            f"warning: --track {self.name}: {reason}: nothing is lost, {self.folder} has the whole record"
        )
