"""Measures xpnet beside the notebook's code and PyTorch, in turn, and writes docs/benchmarks.md.

Every figure is the median of several runs, and every ratio the median of the ratios of neighbouring runs,
for machines are noisy. Peak memory is the largest resident set of the process.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from xpnet.files import write_atomic
from xpnet.machine import available_cpus

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
READ = """
import sys, time, pathlib, pandas
from xpnet.datasets.csv import read_csv
begin = time.perf_counter()
{}
print(time.perf_counter() - begin)
"""
PANDAS = READ.format("pandas.read_csv(sys.argv[1])")
XPNET = READ.format("read_csv(pathlib.Path(sys.argv[1]))")


SHORT = 4.0
"""Seconds that one run of all contenders of a workload takes at most to count as short."""


@dataclass
class Usage:
    """What one run of a command took."""

    seconds: float
    mebibytes: float


@dataclass
class Contender:
    """A command, and what its runs took."""

    name: str
    command: list[str]
    stop_at: bytes | None = None  # measure to the line that starts so, rather than to the end
    reports: bool = False  # the last line is the seconds that the command measured itself
    runs: list[Usage] = field(default_factory=list)

    def run(self, folder: Path) -> None:
        """Run the command once in `folder`."""
        begin = time.perf_counter()
        with subprocess.Popen(
            self.command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            seconds, line = None, b""
            for line in process.stdout or ():
                if self.stop_at is not None and line.startswith(self.stop_at):
                    seconds = time.perf_counter() - begin
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if self.reports and not process.returncode:
            seconds = float(line)
        elif seconds is None:
            seconds = time.perf_counter() - begin
        if process.returncode:
            msg = f"{self.name} ended with code {process.returncode}: {' '.join(self.command)}"
            raise SystemExit(msg)
        self.runs.append(Usage(seconds, usage.ru_maxrss / 1024))

    def median(self, what: str) -> float:
        """Return the median of ``seconds`` or ``mebibytes`` over the runs."""
        return statistics.median(getattr(run, what) for run in self.runs)

    def spread(self) -> str:
        """Return the smallest and the largest time."""
        times = [run.seconds for run in self.runs]
        return f"{min(times):.3g} - {max(times):.3g}"

    def ratio(self, other: "Contender", what: str) -> float:
        """Return the median ratio of this contender's runs to the runs of `other` beside them."""
        pairs = zip(self.runs, other.runs, strict=True)
        return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


def contenders(csv: Path) -> dict[str, list[Contender]]:
    """Return the workloads: in each, the first contender is what the others are compared with."""
    train = [PYTHON, "-m", "xpnet.train", "--device", "cpu"]
    native = [*train, "--arithmetic", "native"]

    def epochs(name: str, contender: str) -> Contender:
        script = str(ROOT / "scripts/contenders.py")
        return Contender(name, [PYTHON, script, contender], reports=True)

    file = str(csv / "mnist_train.csv")
    return {
        "main job: 100 epochs, process start to exit": [
            Contender("notebook", [PYTHON, str(ROOT / "scripts/notebook_baseline.py"), str(csv)]),
            Contender("xpnet, reproducible", train),
            Contender("xpnet, native float32", native),
        ],
        "one epoch, full batch of 60,000 images": [
            epochs("notebook, float64", "notebook"),
            epochs("PyTorch eager, float32", "torch"),
            epochs("xpnet, reproducible", "reproducible"),
            epochs("xpnet, native float32", "native"),
        ],
        "one step, mini-batch of 128": [
            epochs("PyTorch eager, float32", "torch-128"),
            epochs("xpnet, reproducible", "reproducible-128"),
            epochs("xpnet, native float32", "native-128"),
        ],
        "process start to the first epoch": [
            Contender("xpnet", [*train, "--epochs", "1"], stop_at=b"epoch     0"),
        ],
        "--help": [Contender("xpnet", [PYTHON, "-m", "xpnet.train", "--help"])],
        "reading mnist_train.csv (109 MB)": [
            Contender("pandas.read_csv", [PYTHON, "-c", PANDAS, file], reports=True),
            Contender("xpnet.datasets", [PYTHON, "-c", XPNET, file], reports=True),
        ],
    }


def measure(workloads: dict[str, list[Contender]], runs: int, folder: Path) -> None:
    """Run all contenders of each workload in turn, once to warm up and then `runs` times.

    Runs of a few seconds, which a busy moment disturbs most, are made three times as often.
    """
    for title, group in workloads.items():
        begin = time.perf_counter()
        for contender in group:
            contender.run(folder)
            contender.runs.clear()
        short = time.perf_counter() - begin < SHORT
        for _ in range(3 * runs if short else runs):
            for contender in group:
                contender.run(folder)
        print(
            title,
            *(f"  {c.name}: {c.median('seconds'):.3g} s" for c in group),
            sep="\n",
            flush=True,
        )


def table(workloads: dict[str, list[Contender]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| workload | | seconds | min - max | × first | peak MiB | × first |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for title, group in workloads.items():
        for contender in group:
            ratios = [
                "" if contender is group[0] else f"{contender.ratio(group[0], what):.2f}"
                for what in ("seconds", "mebibytes")
            ]
            lines.append(
                f"| {title if contender is group[0] else ''} | {contender.name} "
                f"| {contender.median('seconds'):.3g} | {contender.spread()} | {ratios[0]} "
                f"| {contender.median('mebibytes'):.0f} | {ratios[1]} |"
            )
    return "\n".join(lines)


def machine() -> dict[str, str | int]:
    """Return what the figures depend on."""
    import numpy as np
    import pandas as pd

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": _processor(),
        "cpus": available_cpus(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "torch": metadata.version("torch"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def page(workloads: dict[str, list[Contender]], runs: int) -> str:
    """Return docs/benchmarks.md."""
    about = machine()
    return f"""# Benchmarks

Medians of {runs} interleaved runs ({3 * runs} of the short ones), each in a process of its own, after one
to warm up; a ratio is the median of the ratios to the runs of the first line beside them. Each side has
{about["cpus"]} processors and {about["cpus"]} threads. Peak memory is that of the process. On a quiet
machine, in an environment with xpnet and PyTorch, this reproduces the page:

    python scripts/benchmark.py

{about["date"]}, {about["processor"]} with {about["cpus"]} processors, {about["system"]},
Python {about["python"]}, NumPy {about["numpy"]}, pandas {about["pandas"]}, PyTorch {about["torch"]}.

{table(workloads)}

*notebook* is the notebook's algorithm as written, float64, on the CSV files
(`scripts/notebook_baseline.py`). *PyTorch eager* is `torch.nn.Sequential` with autograd and
`torch.optim.SGD`, a batch being `x[index]` (`scripts/contenders.py`). An epoch is the median of several
after the first; a step is the median epoch divided by its 469 steps.
"""


def main() -> None:
    """Measure, print, and write docs/benchmarks.md and docs/benchmarks.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one run of each, nothing written")
    options = parser.parse_args()
    runs = 1 if options.quick else options.runs
    # Settings for old BLAS builds slow current ones.
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(variable, None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = [PYTHON, str(ROOT / "scripts/export_csv.py"), "--out", name]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
        workloads = contenders(folder)
        measure(workloads, runs, folder)
    print(table(workloads))
    if not options.quick:
        figures = {
            title: {c.name: [vars(run) for run in c.runs] for c in group}
            for title, group in workloads.items()
        }
        content = json.dumps({"machine": machine(), "runs": figures}, indent=1) + "\n"
        write_atomic(ROOT / "docs/benchmarks.json", content.encode())
        write_atomic(ROOT / "docs/benchmarks.md", page(workloads, runs).encode())


if __name__ == "__main__":
    main()
