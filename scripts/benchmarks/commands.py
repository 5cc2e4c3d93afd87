"""The commands that are measured from the start of their process: the main job, and the start."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from checkout import SCRIPTS

from benchmarks.runs import PYTHON, ContenderError, Entrant, Line, run_in_turn
from benchmarks.tasks import CONTENDERS, takes_part

PARTS = ("main", "startup", "first")
TRAIN = [PYTHON, "-m", "xpnet.train"]

_FIRST_EPOCH = """
import sys
from benchmarks.contenders import XPNet, contender
from benchmarks.peers import images
from benchmarks.tasks import Task

XPNet.skipped = 0
print(contender(sys.argv[1], images()).training(Task(batch=32))(1))
"""


@dataclass
class Command:
    """A command whose process is measured."""

    who: str
    name: str
    words: list[str]
    reports: bool = False  # the last word is the seconds that the command measured itself

    def run(self, folder: Path, variables: dict[str, str]) -> tuple[float, float]:
        """Run the command in a folder and return its seconds and peak MiB; ContenderError if it fails."""
        begin = time.perf_counter()
        with subprocess.Popen(
            self.words, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            output = process.stdout.read() if process.stdout else b""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begin
        if process.returncode:
            msg = f"{self.name} ended with code {process.returncode}: {' '.join(self.words)}"
            raise ContenderError(msg)
        if self.reports:
            seconds = float(output.split()[-1])
        unit = 2**20 if sys.platform == "darwin" else 1024
        return seconds, usage.ru_maxrss / unit

    def entrant(self, folder: Path, variables: dict[str, str]) -> Entrant:
        """Return the command and its line, to be measured in a folder."""
        return Entrant(Line(self.who, self.name), partial(self.run, folder, variables))


def measure(ready: Sequence[Entrant], runs: int) -> list[Line]:
    """Run commands in turn, once to warm up and then so many times."""
    for entrant in ready:
        entrant.measure()
    return run_in_turn(ready, runs)


def groups(folder: Path) -> list[tuple[str, str, list[Command]]]:
    """Return parts, titles and commands, of the notebook's CSV files in ``folder``."""
    train = [*TRAIN, "--device", "cpu", "--no-report"]  # the notebook writes none either
    files = ["--data", str(folder / "mnist_train.csv"), "--test-data", str(folder / "mnist_test.csv")]
    main = [
        Command("notebook", "notebook, from CSV", [PYTHON, "-m", "benchmarks.notebook", str(folder)]),
        Command("xpnet", "xpnet reproducible", train),
        Command("xpnet-native", "xpnet native float32", [*train, "--arithmetic", "native"]),
        Command("xpnet-csv", "xpnet reproducible, from the same CSV", [*train, *files]),
    ]
    first = [
        Command(who, CONTENDERS[who].title, [PYTHON, "-c", _FIRST_EPOCH, who], reports=True)
        for who in takes_part("first")
    ]
    job = f"The main job, 100 epochs: python {' '.join(train[1:])}, process start to exit"
    first_title = "The first epoch of a process, compiling included: 784-10-10, mini-batches of 32"
    return [
        ("main", job, main),
        ("first", first_title, first),
        ("startup", "--help, process start to exit", [Command("xpnet", "xpnet", [*TRAIN, "--help"])]),
    ]


def export_csv(folder: Path) -> None:
    """Write the notebook's CSV files."""
    command = [PYTHON, str(SCRIPTS / "export_csv.py"), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
