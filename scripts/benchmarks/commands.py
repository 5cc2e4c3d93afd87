"""The commands that are measured from the start of their process: the main job, the start, and loading."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from checkout import ROOT, SCRIPTS

from benchmarks.runs import PYTHON, ContenderError, Entrant, Line, Table, run_in_turn
from benchmarks.tasks import CONTENDERS, takes_part

PARTS = ("main", "startup", "first", "loading")
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

print(contender(sys.argv[1], images()).training(Task(batch=32))(1))
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
        if process.returncode or (self.stop_at is not None and seconds is None):
            reason = f"or printed no {self.stop_at!r}" if self.stop_at else " ".join(self.words)
            msg = f"{self.name} ended with code {process.returncode}: {reason}"
            raise ContenderError(msg)
        if self.reports:
            seconds = float(line)
        elif seconds is None:
            seconds = time.perf_counter() - begin
        unit = 2**20 if sys.platform == "darwin" else 1024
        return seconds, usage.ru_maxrss / unit


def measure(
    key: str, title: str, commands: Sequence[Command], folder: Path, variables: dict[str, str], runs: int
) -> Table:
    """Run commands in turn, once to warm up and then so many times.

    Those of a few seconds, which a busy moment disturbs most, run three times as often.
    """
    begin = time.perf_counter()
    for command in commands:
        command.run(folder, variables)
    is_short = time.perf_counter() - begin < SHORT
    ready = [
        Entrant(Line(command.who, command.name), partial(command.run, folder, variables))
        for command in commands
    ]
    run_in_turn(ready, runs * (3 if is_short else 1))
    return Table(key, title, [entrant.line for entrant in ready])


def groups(folder: Path) -> list[tuple[str, str, list[Command]]]:
    """Return parts, titles and commands, of the notebook's CSV files in ``folder``."""
    csv, idx = [str(folder / f"mnist_{half}.csv") for half in ("train", "test")], str(ROOT / "data" / "mnist")
    train = [*TRAIN, "--device", "cpu", "--no-report"]  # the notebook writes none either
    size = sum(Path(file).stat().st_size for file in csv) / 1e6

    def reader(who: str, name: str, code: str, *arguments: str) -> Command:
        return Command(who, name, [PYTHON, "-c", code, *arguments], reports=True)

    main = [
        Command("notebook", "notebook, from CSV", [PYTHON, "-m", "benchmarks.notebook", str(folder)]),
        Command("xpnet", "xpnet reproducible", train),
        Command("xpnet-native", "xpnet native float32", [*train, "--arithmetic", "native"]),
        Command(
            "xpnet-csv",
            "xpnet reproducible, from the same CSV",
            [*train, "--data", csv[0], "--test-data", csv[1]],
        ),
    ]
    first_line = Command("xpnet", "xpnet reproducible", [*train, "--epochs", "1"], stop_at=b"epoch     0")
    first = [reader(who, CONTENDERS[who].title, _FIRST_EPOCH, who) for who in takes_part("first")]
    from_idx = [
        reader("plain", "gzip and numpy.frombuffer", _PLAIN_IDX, idx),
        reader("xpnet", "xpnet.data.datasets.load", _XPNET, idx),
    ]
    from_csv = [
        reader("plain", "pandas.read_csv", _PLAIN_CSV, *csv),
        reader("xpnet", "xpnet.data.datasets.load", _XPNET, *csv),
    ]
    job = f"The main job, 100 epochs: python {' '.join(train[1:])}, process start to exit"
    first_title = "The first epoch of a process, compiling included: 784-10-10, mini-batches of 32"
    return [
        ("main", job, main),
        ("startup", "Process start to the first epoch's line", [first_line]),
        ("first", first_title, first),
        ("startup", "--help, process start to exit", [Command("xpnet", "xpnet", [*TRAIN, "--help"])]),
        ("loading", "Loading MNIST from its four IDX.gz files", from_idx),
        ("loading", f"Loading MNIST from its two CSV files ({size:.0f} MB)", from_csv),
    ]


def export_csv(folder: Path) -> None:
    """Write the notebook's CSV files."""
    command = [PYTHON, str(SCRIPTS / "export_csv.py"), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
