"""Plant faults in copies of the package, one at a time, and tell which tests catch each of them.

``python scripts/faults.py`` needs pytest, pytest-xdist and coverage. It first runs the tests once, to learn
how long each takes and which lines it reaches, in subprocesses too, and keeps both in ``build/faults`` for
the next times (``--learn`` learns anew). A fault of ``planted/faults.toml`` then stands in a copy of the
checkout, never in the checkout itself, while the tests run that reach its line:

- A line that runs at import, such as a constant, is reached by the tests that run any function of its file;
  a template or a recipe, by those that run a function of its folder or of the one above.
- The tests of the file's topic come first, then the quickest, until they take ``--seconds`` together, as
  they took when learnt. A run that takes three times as long and a minute is ended: its last test has
  caught the fault.
- If three tests or fewer catch a fault, only those count that pass again without it.

The result, a list of tests for each fault, is written to ``--results``. With ``--only`` or ``--uncaught`` it
replaces that of these faults alone. Exit code 1 if a fault is not caught, 2 if one is not found once.

``python scripts/faults.py --against OLD`` runs nothing: it compares the results with those of an earlier
run, and exits with code 1 if a fault is not caught any more.
"""

import argparse
import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import accumulate, count, takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from planted.observer import CHOSEN, OUTCOMES
from shared import ROOT, whole_number

from xpnet._lib.files import write_atomic
from xpnet._lib.machine import available_cpus

TABLE = Path(__file__).parent / "planted" / "faults.toml"
FOLDER = ROOT / "build" / "faults"
NOT_COPIED = (".*cache", ".git", ".venv", ".hypothesis", "__pycache__", "build", "dist", "runs", "site")
PYTEST = (sys.executable, "-m", "pytest", "-p", "planted.observer", "-p", "no:cacheprovider", "-q", "--tb=no")
OF_THIS_RUN = ("PYTEST_CURRENT", "PYTEST_XDIST", "COVERAGE_")
"""Beginnings of environment variables of a run of pytest that runs this script."""
COVERAGE = """\
[run]
source_pkgs = xpnet
parallel = True
data_file = {data}
context = ${{PYTEST_CURRENT_TEST-}}
disable_warnings = no-data-collected, module-not-measured, module-not-imported
"""
FEW = 3
"""So many tests may have failed for another reason than the fault, such as a busy machine."""

Results = dict[str, dict[str, Any]]
"""For each fault its file, the number of tests that reach it and that ran, and the tests that catch it."""

PHASE = re.compile(r" \((setup|call|teardown)\)$")
"""What the variable of the current test adds to its name."""

MOMENTS = count(1_000_000_000)
"""Times of changes, all different, so that Python compiles a changed file even if its size is the same."""


class FaultsError(Exception):
    """A table or a result that cannot be used."""


@dataclass(frozen=True)
class Fault:
    """A programmer's mistake: a text of a file of xpnet/, and the text in its place."""

    name: str
    file: str
    old: str
    new: str

    def position(self) -> int:
        """Return the position of the old text; FaultsError unless it stands in its file exactly once."""
        path = ROOT / "xpnet" / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(self.old) != 1 or self.old == self.new:
            msg = (
                f"{self.file}: {self.name}: expected the text once, got {text.count(self.old)}: {self.old!r}"
            )
            raise FaultsError(msg)
        return text.index(self.old)

    def lines(self) -> set[int]:
        """Return the lines that the fault changes and those of their statement; empty if run at import."""
        text = (ROOT / "xpnet" / self.file).read_text(encoding="utf-8")
        same = _common_length(self.old, self.new)
        same_end = _common_length(self.old[same:][::-1], self.new[same:][::-1])
        start = self.position() + same
        first = text.count("\n", 0, start) + 1
        last = first + text.count("\n", start, self.position() + len(self.old) - same_end)
        if not self.file.endswith(".py"):
            return set()
        functions, statements = set[int](), set[int]()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                functions.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
            elif isinstance(node, ast.stmt) and not isinstance(node, ast.ClassDef):
                block = getattr(node, "body", None)
                end = block[0].lineno - 1 if block else node.end_lineno or 0
                if node.lineno <= last and first <= end:
                    statements.update(range(node.lineno, end + 1))
        return {*range(first, last + 1), *statements} if first in functions else set()


def _common_length(a: str, b: str) -> int:
    """Return the number of characters with which both texts begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def read_table() -> list[Fault]:
    """Return the faults of the table, in its order; FaultsError unless the text of each is found once."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    faults = [Fault(name, file, *texts) for file, lines in table.items() for name, texts in lines.items()]
    for fault in faults:
        fault.position()
    if repeated := [name for name, number in Counter(fault.name for fault in faults).items() if number > 1]:
        msg = f"expected a name for one fault only, got {repeated[0]!r} for several"
        raise FaultsError(msg)
    return faults


@dataclass
class Tests:
    """The tests that ran: the seconds that each took, and which of them failed."""

    seconds: dict[str, float]
    failed: set[str]


class Checkout:
    """A copy of the checkout, in which tests run."""

    def __init__(self, folder: Path, marks: str, threads: int) -> None:
        self.copy, self._marks = folder / "copy", marks
        self._outcomes, self._chosen = folder / "outcomes", folder / "chosen"
        shutil.copytree(ROOT, self.copy, ignore=_list_not_copied)
        own = {name: value for name, value in os.environ.items() if not name.startswith(OF_THIS_RUN)}
        self._environment = own | {
            "PYTHONPATH": os.pathsep.join((str(self.copy), str(self.copy / "scripts"))),
            "OMP_NUM_THREADS": str(threads),
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
        if not seconds and process.wait():  # the fault keeps pytest from starting
            return Tests(dict.fromkeys(names, 0.0), set(names))
        return Tests(seconds, failed | seconds.keys() - ended)

    def plant(self, fault: Fault, names: Sequence[str], limit: float) -> Tests:
        """Run tests with a fault in the package."""
        path = self.copy / "xpnet" / fault.file
        text = path.read_text(encoding="utf-8")
        try:
            _write(path, text.replace(fault.old, fault.new))
            tests = self.run(names, limit)
        finally:
            _write(path, text)
        if 0 < len(tests.failed) <= FEW:
            tests.failed -= self.run(tests.failed, limit).failed
        return tests


def _list_not_copied(folder: str, names: list[str]) -> set[str]:
    """Return what a checkout holds besides its files: folders of tools and outputs, and compiled modules."""
    patterns = NOT_COPIED if Path(folder) == ROOT else ("__pycache__",)
    return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    moment = next(MOMENTS)
    os.utime(path, (moment, moment))


class Reach:
    """The seconds of the tests that pass, and the lines that each test reaches."""

    def __init__(self) -> None:
        from coverage import CoverageData

        self.seconds: dict[str, float] = json.loads((FOLDER / "seconds.json").read_text(encoding="utf-8"))
        self._data = CoverageData(str(FOLDER / "coverage"))
        self._data.read()

    def tests(self, fault: Fault) -> list[str]:
        """Return the tests that reach a fault: those of its topic first, and then the quickest."""
        lines, place = fault.lines(), Path("xpnet", fault.file)
        near = {place.parent, place.parent.parent} if place.suffix != ".py" else set[Path]()
        names = set[str]()
        for path in self._data.measured_files():
            if Path(path) == place or Path(path).parent in near:
                for line, contexts in self._data.contexts_by_lineno(path).items():
                    if line in lines or not lines:
                        names.update(PHASE.sub("", context) for context in contexts)
        own = f"tests/{Path(fault.file).with_name(f'test_{place.stem}.py').as_posix()}::"
        topic = f"tests/{Path(fault.file).parts[0]}/"
        return sorted(
            names & self.seconds.keys(),
            key=lambda name: (not name.startswith(own), not name.startswith(topic), self.seconds[name], name),
        )


def learn(marks: str, jobs: int) -> None:
    """Run all tests once, and write the seconds of those that pass and the lines that each reaches."""
    from coverage import CoverageData
    from coverage.exceptions import CoverageException

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        checkout = Checkout(work, marks, max(1, available_cpus() // jobs))
        settings = work / "coverage.ini"
        settings.write_text(COVERAGE.format(data=work / "lines"), encoding="utf-8")
        variables = {"COVERAGE_PROCESS_START": str(settings), "COVERAGE_CORE": "ctrace"}
        tests = checkout.run((), None, "-n", str(jobs), **variables)
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "coverage").unlink(missing_ok=True)
        combined = CoverageData(str(FOLDER / "coverage"))
        for path in work.glob("lines.*"):
            data = CoverageData(str(path))
            with suppress(CoverageException):  # of a process that was killed
                data.read()
                combined.update(data, map_path=lambda name: str(Path(name).relative_to(checkout.copy)))
    passed = {name: round(seconds, 3) for name, seconds in tests.seconds.items() if name not in tests.failed}
    (FOLDER / "seconds.json").write_text(json.dumps(passed, indent=0), encoding="utf-8")
    failed = ", ".join(sorted(tests.failed)) or "none"
    print(f"learnt {len(passed)} tests; not used, because they fail: {failed}")


def within(names: Sequence[str], seconds: dict[str, float], limit: float) -> list[str]:
    """Return the first of some tests, as many as take no longer together than a limit; one at least."""
    ends = accumulate(seconds[name] for name in names)
    return [
        name for index, (name, end) in enumerate(zip(names, ends, strict=True)) if end <= limit or not index
    ]


def plant_all(faults: Sequence[Fault], options: argparse.Namespace) -> None:
    """Plant faults, print which tests catch each, and write it; the results of other faults are kept."""
    options.results.parent.mkdir(parents=True, exist_ok=True)
    reach, results, checkouts = Reach(), read_results(options.results), SimpleQueue[Checkout]()
    reaching = [reach.tests(fault) for fault in faults]

    def plant(fault: Fault, names: Sequence[str]) -> tuple[Tests, float]:
        begin, checkout = time.monotonic(), checkouts.get()
        try:
            tests = checkout.plant(
                fault, within(names, reach.seconds, options.seconds), 3 * options.seconds + 60
            )
        finally:
            checkouts.put(checkout)
        return tests, time.monotonic() - begin

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as executor:
        for job in range(options.jobs):
            threads = max(1, available_cpus() // options.jobs)
            checkouts.put(Checkout(Path(folder, str(job)), options.marks, threads))
        planted = executor.map(plant, faults, reaching)
        for fault, names, (tests, seconds) in zip(faults, reaching, planted, strict=True):
            results[fault.name] = {
                "file": fault.file,
                "reached_by": len(names),
                "ran": len(tests.seconds),
                "caught_by": sorted(tests.failed),
            }
            write_atomic(options.results, json.dumps(results, indent=1).encode())
            outcome = (
                f"{len(tests.failed):4} of {len(tests.seconds):4}"
                if tests.failed
                else f"NOT of {len(tests.seconds):4}"
            )
            print(
                f"{outcome} ({len(names):4} reach it, {seconds:4.0f} s)  {fault.file}: {fault.name}",
                flush=True,
            )


def read_results(path: Path) -> Results:
    """Return the results of a file; none if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def summarize(results: Results) -> int:
    """Print the faults that one test alone catches and those that none does; return the number of these."""
    missed = [name for name, result in results.items() if not result["caught_by"]]
    alone = {
        name: result["caught_by"][0] for name, result in results.items() if len(result["caught_by"]) == 1
    }
    print(
        f"\ncaught by one test alone: {len(alone)}",
        *(f"  {test}: {name}" for name, test in alone.items()),
        sep="\n",
    )
    print(
        f"\nnot caught: {len(missed)}", *(f"  {results[name]['file']}: {name}" for name in missed), sep="\n"
    )
    print(f"\n{len(results) - len(missed)} of {len(results)} faults are caught")
    return len(missed)


def compare(old: Results, new: Results) -> int:
    """Print the faults that were caught and are not any more; return their number."""
    lost = [name for name in old if old[name]["caught_by"] and not new.get(name, {}).get("caught_by")]
    for name in lost:
        tests = old[name]["caught_by"]
        others = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
        print(f"not caught any more: {old[name]['file']}: {name} (was by {tests[0]}{others})")
    print(f"{len(lost)} faults are not caught any more")
    return len(lost)


def main(words: Sequence[str] | None = None) -> int:
    """Plant the faults, or do what an option says instead, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Plant faults in the package, and tell which tests catch them."
    )
    add = parser.add_argument
    add("--only", metavar="PATTERN", help="faults whose name or file matches, such as 'storage/*'")
    add("--uncaught", action="store_true", help="faults that are not caught in the results, or not in them")
    add(
        "--jobs",
        type=whole_number,
        default=available_cpus(),
        help="processes (default: as many as processors)",
    )
    add("--seconds", type=whole_number, default=45, help="time of a fault's tests (default: %(default)s)")
    add("--marks", "-m", default="not slow and not tooling", help="as pytest's -m (default: %(default)s)")
    add("--results", type=Path, default=FOLDER / "results.json", help="their file (default: %(default)s)")
    add("--learn", action="store_true", help="first learn again how long the tests take and what they reach")
    add("--check", action="store_true", help="only check that the text of each fault stands in its file once")
    add("--against", type=Path, metavar="OLD", help="only compare the results with those in another file")
    options = parser.parse_args(words)
    try:
        if options.against:
            return 1 if compare(read_results(options.against), read_results(options.results)) else 0
        table = read_table()
        if options.check:
            print(f"{len(table)} faults")
            return 0
        results = read_results(options.results) if options.uncaught else {}
        faults = [
            fault
            for fault in table
            if any(fnmatch(text, options.only or "*") for text in (fault.name, fault.file))
            and not results.get(fault.name, {}).get("caught_by")
        ]
        if options.learn or not (FOLDER / "seconds.json").exists():
            learn(options.marks, options.jobs)
        plant_all(faults, options)
        return 1 if summarize(read_results(options.results)) else 0
    except FaultsError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
