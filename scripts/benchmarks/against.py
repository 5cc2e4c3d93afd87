"""The speed of this commit beside that of another one: scripts/benchmark.py --against COMMIT.

Both commits are unpacked into a temporary folder and run from there, in the same environment. They are driven
through what is public alone, so that their insides may differ in any way: epochs are timed from one call of
``xpnet.fit``'s callback to a later one (contenders.py), without start-up, compiling and evaluation;
the main job, ``--help`` and the import in processes of their own. In each round one side runs after the
other, in the order old, new, new, old and so on, after a run of each to warm up. A ratio is the new
side's time over the old one's in the same round, so that a slow moment of the machine touches both.
A process has a speed of its own, by where its memory happens to lie: the rounds of a training are
spread over several pairs of processes, as far as these start quickly.
"""

import argparse
import io
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from checkout import ROOT
from shared import last_line

from benchmarks.commands import TRAIN, Command
from benchmarks.page import number, scale
from benchmarks.runs import PYTHON, ContenderError, Entrant, Line, entrants, environment, processes
from benchmarks.tasks import CONTENDERS, IMAGES, Task
from xpnet._lib.machine import available_cpus
from xpnet.errors import ConfigError

PARTS = ("epoch", "steps", "main", "startup")
OWN = [who for who, contender in CONTENDERS.items() if contender.peer is None]
STEPS = 60
"""Steps of an epoch in mini-batches, of which a run has several."""
PACKED = ("xpnet", "data")
"""The folders that a side needs."""

_COLUMNS = "{:<52} {:>10} {:>10}   {:>7}   {:<13}   {:<13}"
_IMPORT = """
import time
begin = time.perf_counter()
import xpnet
print(time.perf_counter() - begin)
"""

Variables = dict[str, str]
Pair = tuple[Line, Line]
"""How long the same takes on the old side and on the new one, in the same rounds."""


def compare(options: argparse.Namespace) -> None:
    """Measure both commits, and print what comes of it, one thing after the other.

    Raises
    ------
    ConfigError
        There is no such commit, no git, or something that is not committed.
    ContenderError
        One of the sides failed.
    """
    (old, new), threads = commits(options.against), available_cpus()
    rounds = f"{options.runs} round{'s' if options.runs > 1 else ''}"
    print(f"old {old[:12]}, new {new[:12]}, {rounds}, {threads} threads")
    print(_COLUMNS.format("", "old", "new", "new/old", "quartiles", "min - max").rstrip())
    pairs = []
    with unpacked(old, new) as roots, tempfile.TemporaryDirectory() as name:
        sides = environment(threads, roots[0]), environment(threads, roots[1])
        for root, variables in zip(roots, sides, strict=True):
            check_origin(root, Path(name), variables)
        for pair in compared(options, Path(name), sides):
            pairs.append(pair)
            print(row(pair), flush=True)
    ratio, title = max((new.ratio(old), new.name) for old, new in pairs)
    print(f"worst ratio: {ratio:.3f}, {title}")


def compared(options: argparse.Namespace, folder: Path, sides: tuple[Variables, Variables]) -> Iterator[Pair]:
    """Measure trainings and commands on both sides."""
    steps = 2 if options.quick else STEPS
    batches = [Task(batch=size, rows=min(steps * size, IMAGES), unit="a step") for size in (32, 128, 1024)]
    titles = {f"a step, batches of {task.batch:,}": task for task in batches if "steps" in options.only}
    if "epoch" in options.only:
        titles = {"an epoch, full batch": Task(), **titles}
    for who in OWN if titles else ():
        yield from trainings(who, titles, options, sides)
    for part, command in commands(quick=options.quick):
        if part in options.only:
            runs = [partial(command.run, folder, variables) for variables in sides]
            pair = Line("old", command.name), Line("new", command.name)
            for run in runs[: 2 * (not options.quick)]:
                run()  # once to warm up
            often = 3 if part == "startup" else 1  # a busy moment disturbs those of an instant most
            alternate([Entrant(*each) for each in zip(pair, runs, strict=True)], range(options.runs * often))
            yield pair


def trainings(
    who: str, titles: dict[str, Task], options: argparse.Namespace, sides: tuple[Variables, Variables]
) -> list[Pair]:
    """Time trainings of a contender in pairs of processes: several where it takes little to start them."""
    name, missing = CONTENDERS[who].title, dict[str, str]()
    pairs = [(Line("old", f"{name}: {title}"), Line("new", f"{name}: {title}")) for title in titles]
    count = 3 if who.endswith("numpy") else 1
    ends = [options.runs * i // count for i in range(count + 1)]
    for begin, end in pairwise(ends):
        if begin == end:
            continue
        with processes([who], sides[0]) as old, processes([who], sides[1]) as new:
            for pair, task in zip(pairs, titles.values(), strict=True):
                ready = entrants(task, [*old, *new], options.target, missing)
                if missing:
                    return []
                entered = [Entrant(line, each.measure) for line, each in zip(pair, ready, strict=True)]
                alternate(entered, range(begin, end))
    return pairs


def alternate(both: Sequence[Entrant], rounds: range) -> None:
    """Run both sides in each round: the old one first in those of an even number, else the new one."""
    for index in rounds:
        for entrant in both if index % 2 == 0 else reversed(both):
            entrant.run()


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


def row(pair: Pair) -> str:
    """Return a pair's line: the medians of both sides, and the ratios."""
    old, new = pair
    unit, factor = scale(min(old.median, new.median))
    ratios = new.ratios(old)
    low, _, high = statistics.quantiles(ratios * 2 if len(ratios) == 1 else ratios, n=4, method="inclusive")
    medians = [f"{number(factor * line.median)} {unit}" for line in pair]
    spreads = [f"{a:.3f} - {b:.3f}" for a, b in ((low, high), (min(ratios), max(ratios)))]
    return _COLUMNS.format(new.name, *medians, f"{new.ratio(old):.3f}", *spreads).rstrip()


def check_origin(root: Path, folder: Path, variables: Variables) -> None:
    """Make sure that a side runs its own code, and compile it."""
    command = [PYTHON, "-c", "import xpnet.train, xpnet; print(xpnet.__file__)"]
    answer = subprocess.run(command, cwd=folder, env=variables, check=False, capture_output=True, text=True)
    if answer.returncode or not Path(answer.stdout.strip()).is_relative_to(root):
        reason = last_line((answer.stdout + answer.stderr).splitlines())
        msg = f"{root}: expected import xpnet to find the package there: {reason}"
        raise ContenderError(msg)


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


@contextmanager
def unpacked(old: str, new: str) -> Iterator[tuple[Path, Path]]:
    """Unpack two commits, and remove them in the end."""
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name).resolve() / "old", Path(name).resolve() / "new"
        for commit, folder in zip((old, new), folders, strict=True):
            content = io.BytesIO(_git("archive", "--format=tar", commit, "--", *PACKED))
            with tarfile.open(fileobj=content) as archive:
                archive.extractall(folder, filter="data")
        yield folders


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
