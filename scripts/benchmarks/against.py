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

import io
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from shared import ROOT, last_line

from benchmarks.commands import TRAIN, Command, CommandEntrant, warm_up
from benchmarks.page import UNITS, number
from benchmarks.runs import (
    PYTHON,
    ContenderError,
    Effort,
    Entrant,
    Line,
    entrants,
    environment,
    processes,
    run_in_turn,
)
from benchmarks.tasks import IMAGES, NAMES, Task
from xpnet.errors import ConfigError

PARTS = ("epoch", "steps", "main", "startup")
CONTENDERS = {
    "xpnet:reproducible:numpy": 3,
    "xpnet:native:numpy": 3,
    "xpnet:reproducible:torch": 1,
    "xpnet:native:torch": 1,
    "xpnet:reproducible:jax": 1,
    "xpnet:native:jax": 1,
}
"""How many pairs of processes share the rounds: one where it takes long to load or to compile."""

STEPS = 60
"""Steps of an epoch in mini-batches, of which a run has several."""

_IMPORT = """
import time
begin = time.perf_counter()
import xpnet
print(time.perf_counter() - begin)
"""


@dataclass
class Pair:
    """How long the same takes on both sides, in the same rounds."""

    key: str
    title: str
    parts: int = 1  # the times are shown as those of a part, such as a step of an epoch
    old: list[float] = field(default_factory=list)  # seconds
    new: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """The new times over the old ones of the same rounds."""
        return [new / old for old, new in zip(self.old, self.new, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The ratios that a quarter of all are below, and above."""
        ratios = self.ratios if len(self.ratios) > 1 else self.ratios * 2
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high


Sides = tuple[dict[str, str], dict[str, str]]
"""The environment variables of the old side and of the new one."""


def compared(
    old: str, new: str, parts: Sequence[str], effort: Effort, threads: int, *, quick: bool
) -> Iterator[Pair]:
    """Measure two commits, and yield what comes of it, one thing after the other.

    Raises
    ------
    ContenderError
        One of the sides failed.
    """
    with unpacked(old, new) as roots, tempfile.TemporaryDirectory() as name:
        sides = environment(threads, roots[0]), environment(threads, roots[1])
        for root, variables in zip(roots, sides, strict=True):
            check_origin(root, Path(name), variables)
        for who, processes_each in CONTENDERS.items():
            yield from trainings(who, processes_each, tasks(parts, quick=quick), effort, sides)
        for key, command in commands(quick=quick):
            if key in parts:
                yield one_command(key, command, effort, Path(name), sides)


def tasks(parts: Sequence[str], *, quick: bool) -> list[tuple[Pair, Task]]:
    """Return the trainings to time, each with the pair that it fills."""
    steps = 2 if quick else STEPS
    pairs = [(Pair("epoch", "an epoch, full batch"), Task())]
    for size in (32, 128, 1024):
        task = Task(batch=size, rows=min(steps * size, IMAGES))
        pairs.append((Pair("steps", f"a step, batches of {size:,}", task.steps), task))
    return [(pair, task) for pair, task in pairs if pair.key in parts]


def trainings(
    who: str, count: int, wanted: Sequence[tuple[Pair, Task]], effort: Effort, sides: Sides
) -> Iterator[Pair]:
    """Time trainings in ``count`` pairs of processes, one pair after the other."""
    ends = [effort.runs * i // count for i in range(count + 1)]
    for begin, end in pairwise(ends):
        if not wanted or begin == end:
            continue
        with processes([who], sides[0]) as old, processes([who], sides[1]) as new:
            for pair, task in wanted:
                ready, missing = entrants(task, [*old, *new], effort)
                if missing:
                    print(f"{NAMES[who]} takes no part: {missing[who]}", flush=True)
                    return
                alternate(pair, ready, range(begin, end))
    for pair, _ in wanted:
        pair.title = f"{NAMES[who]}: {pair.title}"
        yield pair


def commands(*, quick: bool) -> list[tuple[str, Command]]:
    """Return the commands to time, each with its part."""
    job = [*TRAIN, "--device", "cpu", "--backend", "numpy", "--no-report"]
    job += ["--epochs", "2"] if quick else []
    help_ = [*TRAIN, "--help"]
    return [
        ("main", Command("", "xpnet reproducible, NumPy: the main job", job)),
        ("main", Command("", "xpnet native, NumPy: the main job", [*job, "--arithmetic", "native"])),
        ("startup", Command("", "--help", help_)),
        ("startup", Command("", "import xpnet", [PYTHON, "-c", _IMPORT], reports=True)),
    ]


def one_command(key: str, command: Command, effort: Effort, folder: Path, sides: Sides) -> Pair:
    """Time a command; those of an instant, which a busy moment disturbs most, three times as often."""
    pair = Pair(key, command.name)
    both = [CommandEntrant(Line("", command.name), command, folder, variables) for variables in sides]
    if effort.warm_up:
        warm_up(both)
    alternate(pair, both, range(effort.runs * (3 if key == "startup" else 1)))
    return pair


def alternate(pair: Pair, both: Sequence[Entrant], rounds: range) -> None:
    """Run both sides in each round: the old one first in those of an even number, else the new one."""
    for index in rounds:
        run_in_turn(both if index % 2 == 0 else both[::-1], 1)
    pair.old += both[0].line.seconds
    pair.new += both[1].line.seconds


def check_origin(root: Path, folder: Path, variables: dict[str, str]) -> None:
    """Make sure that a side runs its own code, and compile it."""
    command = [PYTHON, "-c", "import xpnet.train, xpnet; print(xpnet.__file__)"]
    answer = subprocess.run(command, cwd=folder, env=variables, check=False, capture_output=True, text=True)
    if answer.returncode or not Path(answer.stdout.strip()).is_relative_to(root):
        reason = last_line((answer.stdout + answer.stderr).splitlines())
        msg = f"{root}: expected import xpnet to find the package there: {reason}"
        raise ContenderError(msg)


# The two commits

PACKED = ("xpnet", "data")
"""The folders that a side needs."""


def commits(commit: str) -> tuple[str, str]:
    """Return the full names of the commit to compare with and of the one that is checked out.

    Raises
    ------
    ConfigError
        There is no such commit, no git, or something that is not committed.
    """
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
    try:
        answer = subprocess.run(
            [git, "-C", str(ROOT), *words], env=variables, check=True, capture_output=True
        )
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        msg = f"--against: git {words[0]}: {reason}"
        raise ConfigError(msg) from error
    return answer.stdout


# The table

_COLUMNS = "{:<52} {:>10} {:>10}   {:>7}   {:<13}   {:<13}"


def heading() -> str:
    """Return the line above the pairs."""
    return _COLUMNS.format("", "old", "new", "new/old", "quartiles", "min - max").rstrip()


def row(pair: Pair) -> str:
    """Return a pair's line: the medians of both sides, and the ratios."""
    medians = [statistics.median(times) / pair.parts for times in (pair.old, pair.new)]
    unit, factor, _ = next(unit for unit in UNITS if min(medians) >= unit[2])
    times = [f"{number(factor * median)} {unit}" for median in medians]
    ends = min(pair.ratios), max(pair.ratios)
    spreads = [f"{low:.3f} - {high:.3f}" for low, high in (pair.quartiles, ends)]
    return _COLUMNS.format(pair.title, *times, f"{pair.ratio:.3f}", *spreads).rstrip()


def worst(pairs: Sequence[Pair]) -> str:
    """Return the closing line."""
    slowest = max(pairs, key=lambda pair: pair.ratio)
    return f"worst ratio: {slowest.ratio:.3f}, {slowest.title}"
