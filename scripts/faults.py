"""Plant faults in copies of the package, one at a time, and tell which tests catch each of them.

``python scripts/faults.py`` needs pytest, pytest-xdist and coverage. It first runs the tests once, to learn
how long each takes and which lines it reaches, in subprocesses too, and keeps both in ``build/faults`` for
the next times; ``--learn`` learns anew, after changes of the package or the tests. A fault of
``planted/faults.toml`` then stands in a copy of the checkout, never in the checkout itself, while the tests
run that reach its line:

- A line that runs at import, such as a constant, or once for all calls of a cached function, is reached by
  the tests that run any function of its file; a template or a recipe, by those that run a function of its
  folder or of the one above. A line that a fixture runs is reached by all tests of the file.
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
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from checkout import ROOT, need
from planted.checkout import Checkout, Tests
from shared import whole_number

from xpnet._lib.files import write_atomic
from xpnet._lib.machine import available_cpus

TABLE = Path(__file__).parent / "planted" / "faults.toml"
FOLDER = ROOT / "build" / "faults"
COVERAGE = """\
[run]
source_pkgs = xpnet
parallel = True
data_file = {data}
context = ${{PYTEST_CURRENT_TEST-}}
disable_warnings = no-data-collected, module-not-measured, module-not-imported
"""
Results = dict[str, dict[str, Any]]
"""For each fault the number of tests that reach it and of those that ran, and the tests that catch it."""

PHASE = re.compile(r" \(call\)$|::.* \((setup|teardown)\)$")
"""The part of the variable of the current test after the name of the test, or of its file for fixtures."""


class FaultsError(Exception):
    """A table or a result that cannot be used."""


@dataclass(frozen=True)
class Fault:
    """A programmer's mistake: a text of a file of xpnet/, and the text in its place."""

    file: str
    name: str
    old: str
    new: str

    def find_lines(self) -> set[int]:
        """Return the lines of the text and of its statements; empty if they run once: at import, or cached.

        FaultsError unless the text stands in its file exactly once.
        """
        path = ROOT / "xpnet" / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (number := text.count(self.old)) != 1 or self.old == self.new:
            msg = f"{self}: expected the text once, got {number}: {self.old!r}"
            raise FaultsError(msg)
        first = text.count("\n", 0, text.index(self.old)) + 1
        lines = {*range(first, first + self.old.count("\n") + 1)}
        functions, cached = set[int](), set[int]()
        for node in ast.walk(ast.parse(text if path.suffix == ".py" else "")):
            if isinstance(node, ast.FunctionDef):
                if any("cache" in ast.unparse(decorator) for decorator in node.decorator_list):
                    cached.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
                functions.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
            elif isinstance(node, ast.stmt) and not isinstance(node, ast.ClassDef):
                block = getattr(node, "body", None)
                end = block[0].lineno - 1 if block else node.end_lineno or 0
                if not lines.isdisjoint(statement := range(node.lineno, end + 1)):
                    lines.update(statement)
        return lines if first in functions - cached else set()

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def read_table() -> list[Fault]:
    """Return the faults of the table, in its order."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [Fault(file, name, *texts) for file, lines in table.items() for name, texts in lines.items()]


class Reach:
    """The seconds of the tests that pass, and the lines that each of them reaches."""

    def __init__(self) -> None:
        from coverage import CoverageData

        self.seconds: dict[str, float] = json.loads((FOLDER / "seconds.json").read_text(encoding="utf-8"))
        self._data = CoverageData(str(FOLDER / "coverage"))
        self._data.read()

    def tests(self, fault: Fault) -> list[str]:
        """Return the tests that reach a fault: those of its topic first, and then the quickest."""
        lines, place, names = fault.find_lines(), Path("xpnet", fault.file), set[str]()
        near = {place.parent, place.parent.parent} if place.suffix != ".py" else set[Path]()
        for path in self._data.measured_files():
            if Path(path) == place or Path(path).parent in near:
                for line, contexts in self._data.contexts_by_lineno(path).items():
                    if line in lines or not lines:
                        names.update(PHASE.sub("", context) for context in contexts)
        own = f"tests/{Path(fault.file).with_name(f'test_{place.stem}.py').as_posix()}::"
        topics = own, f"tests/{Path(fault.file).parts[0]}/"
        known = [name for name in self.seconds if name in names or name.partition("::")[0] in names]
        return sorted(
            known,
            key=lambda name: (*(not name.startswith(topic) for topic in topics), self.seconds[name], name),
        )

    def choose(self, names: Sequence[str], limit: float) -> list[str]:
        """Return the first of some tests that together take no longer than a limit; one at least."""
        chosen = list[str]()
        for name in names:
            if not chosen or self.seconds[name] <= limit:
                chosen.append(name)
                limit -= self.seconds[name]
        return chosen


def learn(marks: str, jobs: int) -> None:
    """Run all tests once, and write the seconds of those that pass and the lines that each reaches."""
    from coverage import CoverageData
    from coverage.exceptions import CoverageException

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        checkout = Checkout(ROOT, work, marks)
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


def plant_all(faults: Sequence[Fault], results: Results, options: argparse.Namespace) -> None:
    """Plant faults, print which tests catch each, and write that among the results of others."""
    reach, checkouts = Reach(), SimpleQueue[Checkout]()
    limit = options.seconds

    def plant(fault: Fault, names: Sequence[str]) -> tuple[Tests, float]:
        checkout = checkouts.get()
        begin, chosen = time.monotonic(), reach.choose(names, limit)
        tests = (
            checkout.plant(fault.file, fault.old, fault.new, chosen, 3 * limit + 60)
            if chosen
            else Tests({}, set())
        )
        checkouts.put(checkout)
        return tests, time.monotonic() - begin

    options.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as executor:
        for job in range(options.jobs):
            checkouts.put(Checkout(ROOT, Path(folder, str(job)), options.marks))
        reaching = list(map(reach.tests, faults))
        planted = executor.map(plant, faults, reaching)
        for fault, names, (tests, seconds) in zip(faults, reaching, planted, strict=True):
            ran, failed = len(tests.seconds), sorted(tests.failed)
            results[str(fault)] = {"reached_by": len(names), "ran": ran, "caught_by": failed}
            write_atomic(options.results, json.dumps(results, indent=1).encode())
            caught = f"{len(failed):4}" if failed else " NOT"
            print(f"{caught} of {ran:4} that ran of {len(names):4}, {seconds:4.0f} s  {fault}", flush=True)


def read_results(path: Path) -> Results:
    """Return the results in a file; none if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def summarize(results: Results) -> int:
    """Print the faults that one test alone catches and those that none does; return the number of these."""
    caught = {fault: result["caught_by"] for fault, result in results.items()}
    alone = [f"  {tests[0]}: {fault}" for fault, tests in caught.items() if len(tests) == 1]
    missed = [f"  {fault}" for fault, tests in caught.items() if not tests]
    print(f"\ncaught by one test alone: {len(alone)}", *sorted(alone), sep="\n")
    print(f"\nnot caught: {len(missed)} of {len(caught)}", *missed, sep="\n")
    return len(missed)


def compare(old: Results, new: Results) -> int:
    """Print the faults that were caught and are not any more; return their number."""
    lost = [fault for fault in old if old[fault]["caught_by"] and not new.get(fault, {}).get("caught_by")]
    for fault in lost:
        first, *others = old[fault]["caught_by"]
        print(f"not caught any more: {fault} (was by {first}{f' and {len(others)} more' * bool(others)})")
    print(f"{len(lost)} faults are not caught any more")
    return len(lost)


def main(words: Sequence[str] | None = None) -> int:
    """Plant the faults, or do what an option says instead, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Plant faults in the package, and tell which tests catch them."
    )
    add = parser.add_argument
    add("--only", metavar="PATTERN", default="*", help="faults that match, as in 'storage/*' or '*Adam*'")
    add("--uncaught", action="store_true", help="faults that are not caught in the results, or not in them")
    add(
        "--jobs",
        type=whole_number,
        default=available_cpus(),
        help="processes (default: as many as processors)",
    )
    add("--seconds", type=whole_number, default=30, help="time of a fault's tests (default: %(default)s)")
    add("--marks", "-m", default="not slow and not tooling", help="as -m of pytest (default: %(default)s)")
    add("--results", type=Path, default=FOLDER / "results.json", help="their file (default: %(default)s)")
    add("--learn", action="store_true", help="first learn again how long the tests take and what they reach")
    add("--check", action="store_true", help="only check that the text of each fault stands in its file once")
    add("--against", type=Path, metavar="OLD", help="only compare the results with those in another file")
    options = parser.parse_args(words)
    results = read_results(options.results)
    if options.against:
        return int(compare(read_results(options.against), results) > 0)
    try:
        table = read_table()
        for fault in table:
            fault.find_lines()
    except FaultsError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    if options.check:
        print(f"{len(table)} faults")
        return 0
    need("pytest", "xdist", "coverage", fix='pip install -e ".[test-all,dev]"')
    if options.learn or not (FOLDER / "seconds.json").exists():
        learn(options.marks, options.jobs)
    results = {str(fault): results[str(fault)] for fault in table if str(fault) in results}
    known = {fault for fault, result in results.items() if result["caught_by"] and options.uncaught}
    plant_all([f for f in table if fnmatch(str(f), options.only) and str(f) not in known], results, options)
    return int(summarize(results) > 0)


if __name__ == "__main__":
    sys.exit(main())
