"""The speed of this commit beside that of another one: scripts/benchmark.py --against COMMIT.

Both commits are unpacked into a temporary folder and run from there, in the same environment. They are driven
through what is public alone, so that their insides may differ in any way: epochs are timed from one call of
``xpnet.fit``'s callback to a later one (contenders.py), without start-up, compiling and evaluation;
the main job, ``--help`` and the import in processes of their own. The sides run in the order old, new, new,
old and so on, after a run of each to warm up. A ratio is the new side's time over the old one's in the same
round, so that a slow moment of the machine touches both. The trainings of a library share a process: its peak
memory is that of the task until then that takes the most.
"""

import argparse
import io
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from checkout import ROOT

from benchmarks.commands import TRAIN, Command, measure
from benchmarks.page import number, scale
from benchmarks.runs import PYTHON, Line, entrants, environment, processes, run_in_turn
from benchmarks.tasks import CONTENDERS, IMAGES, WORKLOADS, Task
from xpnet._lib.machine import available_cpus
from xpnet.errors import ConfigError

PARTS = ("epoch", "steps", "large", "main", "startup")
OWN = [who for who, contender in CONTENDERS.items() if contender.peer is None]
STEPS = 60
"""Steps of an epoch in mini-batches, of which a run has several."""
PACKED = ("xpnet", "data")
"""The folders that a side needs."""

_COLUMNS = "{:<58} {:>10} {:>10}   {:>7}   {:<13}   {:<13}"
_IMPORT = """
import time
begin = time.perf_counter()
import xpnet
print(time.perf_counter() - begin)
"""

Variables = dict[str, str]


def compare(options: argparse.Namespace) -> None:
    """Measure both commits and print the ratios; ConfigError without them, ContenderError if a side fails."""
    (old, new), threads = commits(options.against), available_cpus()
    rounds = f"{options.runs} round{'s' if options.runs > 1 else ''}"
    print(f"old {old[:12]}, new {new[:12]}, {rounds}, {threads} threads")
    print(_COLUMNS.format("", "old", "new", "new/old", "quartiles", "peak MiB").rstrip())
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        roots = unpack(old, folder / "old"), unpack(new, folder / "new")
        sides = [environment(threads, root) for root in roots]
        for title, before, after in compared(options, folder, sides):
            print(row(title, before, after), flush=True)
            ratios.append((after.ratio(before), title))
    ratio, title = max(ratios)
    print(f"worst ratio: {ratio:.3f}, {title}")


def compared(
    options: argparse.Namespace, folder: Path, sides: list[Variables]
) -> Iterator[tuple[str, Line, Line]]:
    """Measure trainings and commands on both sides, and yield their titles and lines."""
    steps = 2 if options.quick else STEPS
    tasks = {"an epoch, full batch": Task()} if "epoch" in options.only else {}
    for size in (32, 128, 1024) if "steps" in options.only else ():
        task = Task(batch=size, rows=min(steps * size, IMAGES), unit="a step")
        tasks[f"a step, batches of {size:,}"] = task
    if "large" in options.only:
        tasks["a step of dropout-1024"] = WORKLOADS["large"][0]
    for who in OWN if tasks else ():
        missing = dict[str, str]()
        with processes([who], sides[0]) as old, processes([who], sides[1]) as new:
            for title, task in tasks.items():
                ready = entrants(task, [*old, *new], options.target, missing)
                if not missing:
                    yield f"{CONTENDERS[who].title}: {title}", *run_in_turn(ready, options.runs)
    for part, command in commands(quick=options.quick):
        if part in options.only:
            ready = [command.entrant(folder, variables) for variables in sides]
            yield command.name, *measure(ready, options.runs)


def commands(*, quick: bool) -> list[tuple[str, Command]]:
    """Return the commands to time, each with its part."""
    job = [*TRAIN, "--device", "cpu", "--backend", "numpy", "--no-report"]
    job += ["--epochs", "2"] if quick else []
    return [
        ("main", Command("", "xpnet reproducible, NumPy: the main job", job)),
        ("main", Command("", "xpnet native, NumPy: the main job", [*job, "--arithmetic", "native"])),
        ("startup", Command("", "--help", [*TRAIN, "--help"])),
        ("startup", Command("", "import xpnet", [PYTHON, "-c", _IMPORT], reports=True)),
    ]


def row(title: str, old: Line, new: Line) -> str:
    """Return what is printed of one measurement: medians, ratios, and the peak memory of both processes."""
    unit, factor = scale(min(old.median, new.median))
    ratios = new.ratios(old)
    low, _, high = statistics.quantiles(ratios * 2 if len(ratios) == 1 else ratios, n=4, method="inclusive")
    medians = [f"{number(factor * line.median)} {unit}" for line in (old, new)]
    peaks = f"{old.peak:.0f} -> {new.peak:.0f}"
    return _COLUMNS.format(title, *medians, f"{new.ratio(old):.3f}", f"{low:.3f} - {high:.3f}", peaks)


def commits(commit: str) -> tuple[str, str]:
    """Return the full names of the commit to compare with and of the one that is checked out."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *PACKED)
    if changed:
        path = changed.decode().splitlines()[0][3:]
        msg = f"--against: compares commits, but {path} has changes: commit or stash them"
        raise ConfigError(msg)
    head = _git("rev-parse", "HEAD")
    try:
        old = _git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    except ConfigError as error:
        msg = f"--against: expected a commit of this repository, got {commit!r}"
        raise ConfigError(msg) from error
    return old.decode().strip(), head.decode().strip()


def unpack(commit: str, folder: Path) -> Path:
    """Unpack a commit into a folder, and return the folder."""
    content = io.BytesIO(_git("archive", "--format=tar", commit, "--", *PACKED))
    with tarfile.open(fileobj=content) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _git(*words: str) -> bytes:
    git = shutil.which("git")
    if git is None:
        msg = "--against: needs git, which is not installed"
        raise ConfigError(msg)
    # A hook's GIT_DIR would name another repository.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    words = ("-C", str(ROOT), *words)
    answer = subprocess.run([git, *words], env=variables, check=False, capture_output=True)
    if answer.returncode:
        msg = f"--against: git {words[2]}: {' '.join(answer.stderr.decode(errors='replace').split())}"
        raise ConfigError(msg)
    return answer.stdout
