"""The commands that are measured from the start of their process: the main job, the start, and loading."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared import SCRIPTS

from benchmarks.runs import PYTHON, Command

TRAIN = [PYTHON, "-m", "xpnet.train"]

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


@dataclass(frozen=True)
class Group:
    """Commands that do the same."""

    key: str
    title: str
    commands: tuple[Command, ...]


def groups(folder: Path, idx: Path, variables: Mapping[str, str]) -> tuple[Group, ...]:
    """Return what is measured, of the notebook's CSV files in ``folder`` and the IDX files in ``idx``."""
    csv = [str(folder / f"mnist_{half}.csv") for half in ("train", "test")]
    train = [*TRAIN, "--device", "cpu", *_without_report(variables)]
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


def _without_report(variables: Mapping[str, str]) -> list[str]:
    """Return the flag that leaves the report out, which the notebook does not write either."""
    answer = subprocess.run([*TRAIN, "--help"], env=variables, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.stderr.write(answer.stderr)
    return ["--no-report"] if "--no-report" in answer.stdout else []
