"""A copy of the checkout, and runs of its tests in processes that tell of each test what became of it."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from itertools import count
from pathlib import Path

from planted.observer import CHOSEN, OUTCOMES

NOT_COPIED = (".*cache", ".git", ".venv", ".hypothesis", "__pycache__", "build", "dist", "runs", "site")
PYTEST = (sys.executable, "-m", "pytest", "-p", "planted.observer", "-p", "no:cacheprovider", "-q", "--tb=no")
PYTEST += ("--continue-on-collection-errors",)
NO_TESTS = 5  # exit code of pytest
OF_THIS_RUN = ("PYTEST_CURRENT", "PYTEST_XDIST", "COVERAGE_")
"""Beginnings of environment variables of a run of pytest that runs this script."""
FEW = 3
"""So many tests may have failed for another reason than the fault, such as a busy machine."""

MOMENTS = count(1_000_000_000)
"""Times of changes, all different, so that Python compiles a changed file even if its size is the same."""


@dataclass
class Tests:
    """The tests that ran: the seconds that each took, and which failed; and files that cannot be imported."""

    seconds: dict[str, float]
    failed: set[str]


class Checkout:
    """A copy of the checkout, in which tests run."""

    def __init__(self, root: Path, folder: Path, marks: str) -> None:
        self.copy, self._marks = folder / "copy", marks
        self._outcomes, self._chosen = folder / "outcomes", folder / "chosen"
        shutil.copytree(root, self.copy, ignore=partial(_list_not_copied, root))
        own = {name: value for name, value in os.environ.items() if not name.startswith(OF_THIS_RUN)}
        self._environment = own | {
            "PYTHONPATH": os.pathsep.join((str(self.copy), str(self.copy / "scripts"))),
            "OMP_NUM_THREADS": "1",  # as of the tests in one of several processes
            OUTCOMES: str(self._outcomes),
        }

    def run(self, names: Collection[str], limit: float | None, *words: str, **variables: str) -> Tests:
        """Run the tests of these names, or all; after so many seconds, the test that runs has failed."""
        self._outcomes.write_text("")
        self._chosen.write_text("\n".join(names), encoding="utf-8")
        environment = self._environment | variables | ({CHOSEN: str(self._chosen)} if names else {})
        files = sorted({name.partition("::")[0] for name in names})
        process = subprocess.Popen(
            [*PYTEST, "-m", self._marks, *words, *files],
            cwd=self.copy,
            env=environment,
            stdout=subprocess.DEVNULL if names else None,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):  # its session, unless all processes have ended
                os.killpg(process.pid, signal.SIGKILL)
        seconds, failed, ended = Counter[str](), set[str](), set[str]()
        for line in self._outcomes.read_text(encoding="utf-8").split("\n")[:-1]:
            outcome, duration, name = line.split("\t", 2)
            seconds[name] += float(duration)
            if outcome in {"failed", "ended"}:
                (failed if outcome == "failed" else ended).add(name)
        if not seconds and process.wait() not in {0, NO_TESTS}:  # the fault keeps pytest from starting
            return Tests(dict.fromkeys(names, 0.0), set(names))
        return Tests(seconds, failed | seconds.keys() - ended)

    def plant(self, file: str, old: str, new: str, names: Sequence[str], limit: float) -> Tests:
        """Run tests with one text of a file of xpnet/ in place of another."""
        path = self.copy / "xpnet" / file
        text = path.read_text(encoding="utf-8")
        try:
            _write(path, text.replace(old, new))
            tests = self.run(names, limit)
        finally:
            _write(path, text)
        if 0 < len(tests.failed) <= FEW:
            tests.failed -= self.run(tests.failed, limit).failed
        return tests


def _list_not_copied(root: Path, folder: str, names: list[str]) -> set[str]:
    """Return what a checkout holds besides its files: folders of tools and outputs, and compiled modules."""
    patterns = NOT_COPIED if Path(folder) == root else ("__pycache__",)
    return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    moment = next(MOMENTS)
    os.utime(path, (moment, moment))
