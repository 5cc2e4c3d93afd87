"""Runs contenders in turn, each in a process of its own, and keeps what every run took.

This process loads no array library: a new process inherits the peak memory of the one that starts it.
"""

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from checkout import ROOT
from shared import python_path

from benchmarks.tasks import CONTENDERS, Task

PYTHON = sys.executable
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

    def ratios(self, peer: "Line") -> list[float]:
        """Return the ratios of this line's times to the times of ``peer`` in the same rounds."""
        return [a / b for a, b in zip(self.seconds, peer.seconds, strict=True)]

    def ratio(self, peer: "Line") -> float:
        """Return the median of the ratios."""
        return statistics.median(self.ratios(peer))


@dataclass
class Table:
    """The results of one task, or of one set of commands."""

    key: str
    title: str
    lines: list[Line]
    task: Task | None = None


@dataclass
class Entrant:
    """A contender or command that is ready to be measured, and its line in a table."""

    line: Line
    measure: Callable[[], tuple[float, float]]  # seconds, and peak MiB


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def shortest(call: Callable[[], object], repeats: int) -> float:
    """Return the shortest of the seconds that some calls take, after one to warm up."""
    call()
    return min(seconds(call) for _ in range(repeats))


def run_in_turn(ready: Sequence[Entrant], runs: int) -> list[Line]:
    """Run all so many times, in a round forwards and in the next backwards, and return their lines."""
    for index in range(runs):
        for entrant in ready if index % 2 == 0 else reversed(ready):
            time_of_unit, mebibytes = entrant.measure()
            entrant.line.seconds.append(time_of_unit)
            entrant.line.mebibytes.append(mebibytes)
    return [entrant.line for entrant in ready]


def environment(threads: int, root: Path = ROOT) -> dict[str, str]:
    """Return the environment of every contender: the same number of threads for every library.

    ``root`` is the checkout whose xpnet takes part.
    """
    # Settings for old BLAS builds slow current ones; flags of the user's own would favour one side.
    unwanted = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_WAIT_POLICY"}
    variables = {name: value for name, value in os.environ.items() if name not in unwanted}
    libraries = ("OMP", "MKL", "OPENBLAS", "VECLIB", "NUMEXPR")
    variables |= {f"{library}_NUM_THREADS": str(threads) for library in libraries}
    return variables | {
        "NPROC": str(threads),  # the size of XLA's pool of threads
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": python_path(root),
    }


class Process:
    """A running contenders.py."""

    module = "benchmarks.contenders"

    def __init__(self, who: str, variables: dict[str, str], *before: str, log: IO[str] | None = None) -> None:
        self.who = who
        self.popen = subprocess.Popen(
            [PYTHON, *before, "-m", self.module, who],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            process_group=0,  # with the processes that it starts
        )

    def end(self) -> None:
        """End the process, and those that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            with contextlib.suppress(BrokenPipeError):  # what it has not read
                cast("IO[str]", stream).close()

    def ask(self, limit: float | None = None, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; ContenderError if the contender failed or ended.

        One that does not answer in ``limit`` seconds has failed, too, and is ended.
        """
        stdin, stdout = cast("IO[str]", self.popen.stdin), cast("IO[str]", self.popen.stdout)
        with contextlib.suppress(BrokenPipeError):  # its last answer says why
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        if not select.select([stdout], [], [], limit)[0]:
            self.end()
            raise ContenderError(f"stopped after {limit:.0f} s")
        text = stdout.readline()
        answer: dict[str, Any] = (
            json.loads(text) if text else {"error": f"its process ended with code {self.popen.wait()}"}
        )
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def measure(self) -> tuple[float, float]:
        """Run the task once, and return the seconds of a unit and the peak MiB."""
        time.sleep(PAUSE)
        answer = self.ask()
        return answer["seconds"], answer["mebibytes"]


@contextlib.contextmanager
def processes(contenders: Sequence[str], variables: dict[str, str]) -> Iterator[list[Process]]:
    """Start contenders, which load libraries and data side by side, and end them in the end."""
    running = [Process(who, variables) for who in contenders]
    try:
        yield running
    finally:
        for process in running:
            process.end()


def entrants(task: Task, running: Sequence[Process], target: float, missing: dict[str, str]) -> list[Entrant]:
    """Prepare a task in each process, with runs of about ``target`` seconds; ContenderError if xpnet fails.

    A contender whose library is absent or does not work is left out, and added to ``missing``.
    """
    ready = []
    for process in running:
        who = process.who
        if who in missing:
            continue
        name = CONTENDERS[who].title
        try:
            process.ask(task=asdict(task), target=target)
        except ContenderError as error:
            if CONTENDERS[who].peer is None and not str(error).startswith("BackendError"):
                msg = f"{name}: {task.title}: {error}"
                raise ContenderError(msg) from error
            missing[who] = str(error)
            print(f"{name} does not take part: {error}", file=sys.stderr)
        else:
            ready.append(Entrant(Line(who, name), process.measure))
    return ready
