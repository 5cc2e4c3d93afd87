"""The commands that are measured from the start of their process: the main job, the start, and loading."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared import SCRIPTS

from benchmarks.runs import PYTHON, ContenderError, Effort, Line, Table, run_in_turn
from benchmarks.tasks import NAMES

TRAIN = [PYTHON, "-m", "xpnet.train"]
SHORT = 4.0
"""Seconds that a round of all commands takes at most to be repeated three times as often."""

_TIMED = """
import sys, time
{imports}
begin = time.perf_counter()
{work}
print(time.perf_counter() - begin)
"""
_PLAIN_IDX = _TIMED.format(
    imports="import gzip, pathlib, numpy",
    work="""
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.gz")):
    content = gzip.open(path).read()
    sizes = numpy.frombuffer(content, ">u4", content[3], 4)
    numpy.frombuffer(content, numpy.uint8, offset=4 + 4 * content[3]).reshape(sizes)
""",
)
_PLAIN_CSV = _TIMED.format(
    imports="import pandas", work="train, test = pandas.read_csv(sys.argv[1]), pandas.read_csv(sys.argv[2])"
)
_XPNET = _TIMED.format(
    imports="from pathlib import Path\nfrom xpnet.data import datasets",
    work="data = datasets.load(*map(Path, sys.argv[1:]))",
)


_FIRST_EPOCH = """
import sys
from benchmarks.contenders import contender
from benchmarks.peers import images
from benchmarks.tasks import Task

one, task = contender(sys.argv[1], images()), Task(batch=32)
print(one.training(task)(1))
"""


@dataclass
class Command:
    """A command whose process is measured."""

    who: str
    name: str
    words: list[str]
    stop_at: bytes | None = None  # measure to the line that starts so, rather than to the end
    reports: bool = False  # the last line is the seconds that the command measured itself

    def run(self, folder: Path, variables: dict[str, str]) -> tuple[float, float]:
        """Run the command once in ``folder`` and return its seconds and peak MiB.

        Raises
        ------
        ContenderError
            The command failed.
        """
        begin = time.perf_counter()
        with subprocess.Popen(
            self.words, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            seconds, line = None, b""
            for line in process.stdout or ():
                if self.stop_at is not None and line.startswith(self.stop_at):
                    seconds = time.perf_counter() - begin
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            msg = f"{self.name} ended with code {process.returncode}: {' '.join(self.words)}"
            raise ContenderError(msg)
        if self.stop_at is not None and seconds is None:
            msg = f"{self.name} printed no line that starts with {self.stop_at!r}"
            raise ContenderError(msg)
        if self.reports:
            seconds = float(line)
        elif seconds is None:
            seconds = time.perf_counter() - begin
        unit = 2**20 if sys.platform == "darwin" else 1024
        return seconds, usage.ru_maxrss / unit


@dataclass
class CommandEntrant:
    """A command that is to run in a folder, and its line in a table."""

    line: Line
    command: Command
    folder: Path
    variables: dict[str, str]

    def run(self) -> None:
        """Run the command once."""
        seconds, mebibytes = self.command.run(self.folder, self.variables)
        self.line.seconds.append(seconds)
        self.line.mebibytes.append(mebibytes)


@dataclass(frozen=True)
class Group:
    """Commands that do the same."""

    key: str
    title: str
    commands: tuple[Command, ...]


def warm_up(ready: Sequence[CommandEntrant]) -> float:
    """Run commands once, uncounted, and return the seconds that all took."""
    begin = time.perf_counter()
    for entrant in ready:
        entrant.command.run(entrant.folder, entrant.variables)
    return time.perf_counter() - begin


def measure(group: Group, folder: Path, variables: dict[str, str], effort: Effort) -> Table:
    """Run commands in turn, once to warm up and then as often as the effort says.

    Those of a few seconds, which a busy moment disturbs most, run three times as often.
    """
    ready = [
        CommandEntrant(Line(command.who, command.name), command, folder, variables)
        for command in group.commands
    ]
    short = effort.warm_up and warm_up(ready) < SHORT
    run_in_turn(ready, effort.runs * (3 if short else 1))
    return Table(group.key, group.title, [entrant.line for entrant in ready])


def groups(folder: Path, idx: Path) -> tuple[Group, ...]:
    """Return what is measured, of the notebook's CSV files in ``folder`` and the IDX files in ``idx``."""
    csv = [str(folder / f"mnist_{half}.csv") for half in ("train", "test")]
    train = [*TRAIN, "--device", "cpu", "--no-report"]  # the notebook writes none either
    native = [*train, "--arithmetic", "native"]
    same_csv = [*train, "--data", csv[0], "--test-data", csv[1]]
    notebook = [PYTHON, "-m", "benchmarks.notebook", str(folder)]
    first_epoch = [*train, "--epochs", "1"]
    size = sum(Path(file).stat().st_size for file in csv) / 1e6

    def reader(who: str, name: str, code: str, *arguments: str) -> Command:
        return Command(who, name, [PYTHON, "-c", code, *arguments], reports=True)

    return (
        Group(
            "main",
            f"The main job, 100 epochs: python {' '.join(train[1:])}, process start to exit",
            (
                Command("notebook", "notebook, from CSV", notebook),
                Command("xpnet", "xpnet reproducible", train),
                Command("xpnet-native", "xpnet native float32", native),
                Command("xpnet-csv", "xpnet reproducible, from the same CSV", same_csv),
            ),
        ),
        Group(
            "startup",
            "Process start to the first epoch's line",
            (Command("xpnet", "xpnet reproducible", first_epoch, stop_at=b"epoch     0"),),
        ),
        Group(
            "first",
            "The first epoch of a process, compiling included: 784-10-10, mini-batches of 32",
            tuple(
                Command(who, NAMES[who], [PYTHON, "-c", _FIRST_EPOCH, who], reports=True)
                for who in ("jax", "jax-scan", "xpnet:native:jax", "xpnet:reproducible:jax")
            ),
        ),
        Group("startup", "--help, process start to exit", (Command("xpnet", "xpnet", [*TRAIN, "--help"]),)),
        Group(
            "loading",
            "Loading MNIST from its four IDX.gz files",
            (
                reader("plain", "gzip and numpy.frombuffer", _PLAIN_IDX, str(idx)),
                reader("xpnet", "xpnet.data.datasets.load", _XPNET, str(idx)),
            ),
        ),
        Group(
            "loading",
            f"Loading MNIST from its two CSV files ({size:.0f} MB)",
            (
                reader("plain", "pandas.read_csv", _PLAIN_CSV, *csv),
                reader("xpnet", "xpnet.data.datasets.load", _XPNET, *csv),
            ),
        ),
    )


def export_csv(folder: Path) -> None:
    """Write the notebook's CSV files."""
    command = [PYTHON, str(SCRIPTS / "export_csv.py"), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
