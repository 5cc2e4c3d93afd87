"""Runs contenders in turn, each in a process of its own, and keeps what every run took.

This process loads no array library: a new process inherits the peak memory of the one that starts it.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from shared import ROOT, last_line, python_path

from benchmarks.tasks import NAMES, OWN, Task, steps, title

PYTHON = sys.executable

PATIENCE = 600.0
"""Seconds after which a contender that has not answered is given up."""

PAUSE = 0.05
"""Seconds between two runs, in which the threads of the last one go to sleep."""


class ContenderError(Exception):
    """A contender that cannot take part, and why."""


@dataclass
class Line:
    """A contender in a table: the seconds of an epoch, step, pass or process in each of its runs."""

    who: str
    name: str
    seconds: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median time, in seconds."""
        return statistics.median(self.seconds)

    @property
    def peak(self) -> float:
        """The median of the peak memory, in MiB."""
        return statistics.median(self.mebibytes)

    def ratio(self, peer: "Line") -> float:
        """Return the median ratio of this line's times to the times of ``peer`` in the same rounds."""
        pairs = zip(self.seconds, peer.seconds, strict=True)
        return statistics.median(a / b for a, b in pairs)


@dataclass
class Table:
    """The results of one task, or of one set of commands."""

    key: str
    title: str
    lines: list[Line] = field(default_factory=list)
    task: Task | None = None

    @property
    def by_contender(self) -> dict[str, Line]:
        """The lines by the names of the contenders."""
        return {line.who: line for line in self.lines}


@dataclass(frozen=True)
class Effort:
    """How often and how long contenders run."""

    runs: int
    target: float  # seconds of a run of a task
    longest: float | None  # seconds of an epoch above which a run is a part of one; None: never
    trial: int = 10  # steps from which the time of an epoch is foreseen
    warm_up: bool = True  # whether commands run once uncounted


def environment(threads: int, root: Path = ROOT) -> dict[str, str]:
    """Return the environment of every contender: the same number of threads for every library.

    ``root`` is the checkout whose xpnet takes part.
    """
    variables = dict(os.environ)
    # Settings for old BLAS builds slow current ones; flags of the user's own would favour one side.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "XLA_FLAGS", "OMP_WAIT_POLICY"):
        variables.pop(name, None)
    libraries = ("OMP", "MKL", "OPENBLAS", "VECLIB", "NUMEXPR")
    variables |= {f"{library}_NUM_THREADS": str(threads) for library in libraries}
    variables |= {
        "NPROC": str(threads),  # the size of XLA's pool of threads
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": python_path(root),
    }
    return variables


class Process:
    """A running contenders.py."""

    def __init__(self, who: str, variables: dict[str, str]) -> None:
        self.who = who
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self.popen = subprocess.Popen(
            [PYTHON, "-m", "benchmarks.contenders", who],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises
        ------
        ContenderError
            The contender failed, ended, or took more than ten minutes.
        """
        stdin, stdout = self.popen.stdin, self.popen.stdout
        if stdin is None or stdout is None:
            raise AssertionError
        timer = threading.Timer(PATIENCE, self.popen.kill)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # its last words say why
                stdin.write(json.dumps(request) + "\n")
                stdin.flush()
            text = stdout.readline()
        finally:
            timer.cancel()
        answer: dict[str, Any] = json.loads(text) if text else {"error": self._last_words()}
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self.popen.kill()
        self.popen.communicate()
        self.errors.close()

    def _last_words(self) -> str:
        code = self.popen.wait()
        self.errors.seek(0)
        return (
            f"ended with code {code}: {last_line(self.errors.read().decode(errors='replace').splitlines())}"
        )


@contextlib.contextmanager
def processes(contenders: Sequence[str], variables: dict[str, str]) -> Iterator[list[tuple[str, Process]]]:
    """Start contenders, which load libraries and data side by side, and end them in the end."""
    with contextlib.ExitStack() as stack:
        started = []
        for who in contenders:
            process = Process(who, variables)
            stack.callback(process.close)
            started.append((who, process))
        yield started


class Entrant(Protocol):
    """A contender or command that is ready: ``run`` runs it once and adds what it took to its line."""

    line: Line

    def run(self) -> None:
        """Run once."""


@dataclass
class TaskEntrant:
    """A contender that is ready to run a task, and its line in the task's table."""

    line: Line
    process: Process
    task: Task

    def run(self) -> None:
        """Run the task once."""
        time.sleep(PAUSE)
        answer, task = self.process.ask(), self.task
        self.line.seconds.append(seconds_of_pass(task, answer))
        self.line.mebibytes.append(answer["mebibytes"])
        part = steps(answer["rows"], task.batch)
        if part < task.steps:
            self.line.name = f"{NAMES[self.line.who]} ({part:,} of {task.steps:,} steps)"


def entrants(
    task: Task, running: Sequence[tuple[str, Process]], effort: Effort
) -> tuple[list[TaskEntrant], dict[str, str]]:
    """Prepare a task in each process; return those that can do it, and why the others cannot.

    Raises
    ------
    ContenderError
        xpnet failed. A library that is absent, or does not work on this machine, is no failure.
    """
    ready, missing = [], {}
    for who, process in running:
        try:
            amounts = {"target": effort.target, "longest": effort.longest, "trial": effort.trial}
            process.ask(task=asdict(task), **amounts)
        except ContenderError as error:
            if who in OWN and not str(error).startswith("BackendError"):
                msg = f"{NAMES[who]}: {title(task)}: {error}"
                raise ContenderError(msg) from error
            missing[who] = str(error)
        else:
            ready.append(TaskEntrant(Line(who, NAMES[who]), process, task))
    return ready, missing


def run_in_turn(ready: Sequence[Entrant], runs: int) -> None:
    """Run all, one after the other, so many times."""
    for _ in range(runs):
        for entrant in ready:
            entrant.run()


def seconds_of_pass(task: Task, answer: dict[str, Any]) -> float:
    """Return the seconds of a whole pass, from a run of some passes over part of its steps."""
    share = steps(answer["rows"], task.batch) / task.steps
    return float(answer["seconds"]) / answer["passes"] / share
