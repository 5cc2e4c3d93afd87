"""Plant faults in copies of the package, one at a time, and tell which tests catch each of them.

``python scripts/faults.py`` needs pytest-xdist and coverage. It first runs the tests once, to learn how
long each takes and which lines it reaches, in subprocesses too, and keeps both in ``build/faults`` for the
next times; ``--learn`` learns anew, after changes of the package or the tests. A fault of
``planted/faults.toml`` then stands in a copy of the checkout, never in the checkout itself, while the tests
run that reach its line:

- A line that runs at import, such as a constant, or once for all calls of a cached function, is reached by
  the tests that run any function of its file; a template or a recipe, by those that run a function of its
  folder or of the one above. A line that a fixture runs is reached by all tests of the file.
- The tests of the file's topic come first, then the quickest, until they take half a minute together, as
  they took when learnt. After two minutes more the run is ended: its last test has caught the fault.
- If three tests or fewer catch a fault, only those count that pass again without it.

``--first`` ends the run of each fault at the first test that catches it: enough to know whether one does.

The result, a list of tests for each fault, is written to ``build/faults/results.json``. With ``--only`` or
``--uncaught`` it replaces that of these faults alone. Exit code 1 if a fault is not caught, 2 if one is not
found once.

``python scripts/faults.py --against OLD`` runs nothing: it compares the results with a copy of those of an
earlier run, and exits with code 1 if a fault is not caught any more.

``python scripts/faults.py --which xpnet/api.py:120`` runs nothing either, once the tests are learnt: it
prints the default tests that run the statement at that line, in the order in which a fault there would be
given them, each with its seconds, and marks those that have caught a fault of the table there. A line means
what it meant when the tests were learnt, and a note says so if the file has changed since.
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
import tomllib
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatch
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from checkout import ROOT, need
from shared import whole_number

from xpnet._lib.files import write_atomic
from xpnet._lib.machine import available_cpus
from xpnet.errors import ConfigError

TABLE = Path(__file__).parent / "planted" / "faults.toml"
FOLDER = ROOT / "build" / "faults"
COVERAGE = """\
[run]
source_pkgs = xpnet
core = ctrace
parallel = True
data_file = {folder}/lines
context = ${{PYTEST_CURRENT_TEST-}}
disable_warnings = no-data-collected, module-not-measured, module-not-imported
"""
PHASE = re.compile(r" \(call\)$|::.* \((setup|teardown)\)$")
"""The part of the variable of the current test after the name of the test, or of its file for fixtures."""
NOT_COPIED = (".*cache", ".git", ".venv", ".hypothesis", "__pycache__")
NOT_COPIED_OF_ROOT = ("build", "dist", "runs", "site")
PYTEST = (sys.executable, "-m", "pytest", "-p", "planted.observer", "-p", "no:cacheprovider", "-q", "--tb=no")
PYTEST += ("--continue-on-collection-errors", "-m", "not slow and not tooling")
OF_THIS_RUN = ("PYTEST_CURRENT", "PYTEST_XDIST", "COVERAGE_")
"""Beginnings of environment variables of a run of pytest that runs this script."""
SECONDS, LIMIT = 30, 150
"""Of the tests of a fault: as learnt, and until their run is ended."""
Results = dict[str, dict[str, Any]]
"""For each fault the number of tests that reach it, and the tests that catch it."""


class Fault(NamedTuple):
    """A programmer's mistake: a text of a file of xpnet/, and the text in its place."""

    file: str
    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def find_lines(fault: Fault) -> set[int]:
    """Return the lines of a fault and of its statement; empty if they run once: at import, or cached.

    ConfigError unless the text stands in its file exactly once.
    """
    path = ROOT / "xpnet" / fault.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if (number := text.count(fault.old)) != 1 or fault.old == fault.new:
        msg = f"{fault}: expected the text once, got {number}: {fault.old!r}"
        raise ConfigError(msg)
    first = text.count("\n", 0, text.index(fault.old)) + 1
    lines = find_statement(text if path.suffix == ".py" else "", first)
    return lines | {*range(first, first + fault.old.count("\n") + 1)} if lines else lines


def find_statement(text: str, first: int) -> set[int]:
    """Return the lines of the statement at a line of a module; empty if it runs at import, or cached."""
    tree = ast.parse(text)
    statements = [x for x in ast.walk(tree) if isinstance(x, ast.stmt)]
    around = [x for x in statements if x.lineno <= first <= (x.end_lineno or 0)]  # the innermost is the last
    functions = [x for x in around[:-1] if isinstance(x, ast.FunctionDef)]
    if not functions or any("cache" in ast.unparse(x) for f in functions for x in f.decorator_list):
        return set()
    block = getattr(around[-1], "body", None)
    end = block[0].lineno - 1 if block else around[-1].end_lineno or 0
    return {*range(around[-1].lineno, end + 1)}


def _leave_out(folder: str, names: list[str]) -> set[str]:
    patterns = NOT_COPIED + NOT_COPIED_OF_ROOT * (Path(folder) == ROOT)
    return shutil.ignore_patterns(*patterns)(folder, names)


class Checkout:
    """A copy of the checkout, in which tests run."""

    def __init__(self, folder: Path) -> None:
        self.copy = folder / "copy"
        self._outcomes, self._chosen = folder / "outcomes", folder / "chosen"
        shutil.copytree(ROOT, self.copy, ignore=_leave_out)
        own = {name: value for name, value in os.environ.items() if not name.startswith(OF_THIS_RUN)}
        self.environment = own | {
            "PYTHONPATH": os.pathsep.join((str(self.copy), str(self.copy / "scripts"))),
            "OMP_NUM_THREADS": "1",  # as of the tests in one of several processes
            "XPNET_OUTCOMES": str(self._outcomes),
            "XPNET_CHOSEN_TESTS": str(self._chosen),
        }

    def run(self, names: Collection[str], *words: str) -> tuple[dict[str, float], set[str]]:
        """Run the tests of these names, or all; return the seconds of each, and those that failed.

        Among these are the test that runs when the time is over, and files that cannot be imported.
        """
        self._outcomes.write_text("")
        self._chosen.write_text("\n".join(names), encoding="utf-8")
        files = list(dict.fromkeys(name.partition("::")[0] for name in names))
        process = subprocess.Popen(
            [*PYTEST, *words, *files],
            cwd=self.copy,
            env=self.environment,
            stdout=subprocess.DEVNULL if names else None,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT if names else None)
        finally:
            with suppress(ProcessLookupError):  # its session, unless all processes have ended
                os.killpg(process.pid, signal.SIGKILL)
        seconds, failed, ended = Counter[str](), set[str](), set[str]()
        for line in self._outcomes.read_text(encoding="utf-8").split("\n")[:-1]:
            phase, outcome, duration, name = line.split("\t", 3)
            seconds[name] += float(duration)
            if outcome == "failed":
                failed.add(name)
            if phase == "teardown":
                ended.add(name)
        if not seconds and process.wait() not in {0, 5}:  # the fault keeps pytest from starting
            return dict.fromkeys(names, 0.0), set(names)
        return seconds, failed | seconds.keys() - ended

    def plant(self, fault: Fault, names: Collection[str], *words: str) -> list[str]:
        """Return those of some tests that fail with a fault."""
        path = self.copy / "xpnet" / fault.file
        text = path.read_text(encoding="utf-8")
        try:
            _write(path, text.replace(fault.old, fault.new))
            _, failed = self.run(names, *words)
        finally:
            _write(path, text)
        if 0 < len(failed) <= 3:  # perhaps for another reason, such as a busy machine
            failed -= self.run(failed)[1]
        return sorted(failed)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    Path(cache_from_source(str(path))).unlink(missing_ok=True)  # valid for a text of the same size and second


def learn(jobs: int) -> None:
    """Run all tests once, and write the seconds of those that pass and the lines that each reaches."""
    from coverage import CoverageData
    from coverage.exceptions import CoverageException

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work, settings = Path(folder), Path(folder, "coverage.ini")
        settings.write_text(COVERAGE.format(folder=folder), encoding="utf-8")
        checkout = Checkout(work)
        checkout.environment["COVERAGE_PROCESS_START"] = str(settings)
        seconds, failed = checkout.run((), "-n", str(jobs))
        (FOLDER / "coverage").unlink(missing_ok=True)
        combined = CoverageData(str(FOLDER / "coverage"))
        for path in work.glob("lines.*"):
            data = CoverageData(str(path))
            with suppress(CoverageException):  # of a process that was killed
                data.read()
                combined.update(data, map_path=lambda name: str(Path(name).relative_to(checkout.copy)))
    passed = {name: round(seconds[name], 3) for name in seconds if name not in failed}
    (FOLDER / "seconds.json").write_text(json.dumps(passed, indent=0), encoding="utf-8")
    print(f"learnt {len(passed)} tests; not used, because they fail: {', '.join(sorted(failed)) or 'none'}")


def find_tests(file: str, lines: Collection[int], seconds: dict[str, float], data: Any) -> list[str]:
    """Return the tests that reach lines of a file: those of its topic first, and then the quickest."""
    place, names = Path("xpnet", file), set[str]()
    near = {place.parent, place.parent.parent} if place.suffix != ".py" else set[Path]()
    for path in data.measured_files():
        if Path(path) == place or Path(path).parent in near:
            for line, contexts in data.contexts_by_lineno(path).items():
                if line in lines or not lines:
                    names.update(PHASE.sub("", context) for context in contexts)
    own = f"tests/{Path(file).with_name(f'test_{place.stem}.py').as_posix()}::"
    topic = f"tests/{Path(file).parts[0]}/"
    known = [name for name in seconds if name in names or name.partition("::")[0] in names]
    return sorted(known, key=lambda x: (not x.startswith(own), not x.startswith(topic), seconds[x], x))


def read_learnt() -> tuple[dict[str, float], Any]:
    """Return the seconds of the tests, and the lines that each reaches."""
    from coverage import CoverageData

    data = CoverageData(str(FOLDER / "coverage"))
    data.read()
    return json.loads((FOLDER / "seconds.json").read_text(encoding="utf-8")), data


def find_place(text: str) -> tuple[str, set[int]]:
    """Return the file of a place such as xpnet/api.py:120, as in the table, and the lines of its statement.

    ConfigError if there is no such line.
    """
    name, _, number = text.rpartition(":")
    folder, _, file = name.partition("/")
    path = ROOT / name
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    if folder != "xpnet" or not (number.isdecimal() and 1 <= int(number) <= content.count("\n")):
        msg = f"--which: expected a line of the package, as in xpnet/api.py:120, got {text!r}"
        raise ConfigError(msg)
    return file, find_statement(content if path.suffix == ".py" else "", int(number))


def print_tests(file: str, lines: set[int], faults: Sequence[Fault], results: Results) -> None:
    """Print the tests that reach lines of a file, and which of them have caught a fault there."""
    catching = Counter(
        test
        for fault in faults
        if fault.file == file and (find_lines(fault) & lines or not lines)
        for test in results.get(str(fault), {}).get("caught_by", ())
    )
    seconds, data = read_learnt()
    tests = find_tests(file, lines, seconds, data)
    for test in tests:
        print(f"{seconds[test]:7.2f} s  {'caught a fault' if catching[test] else '':14}  {test}")
    what = f"lines {min(lines)} to {max(lines)} of" if lines else "functions, as the line runs once, of"
    print(f"{len(tests)} of {len(seconds)} default tests run {what} {file}, as learnt")
    if (ROOT / "xpnet" / file).stat().st_mtime > (FOLDER / "seconds.json").stat().st_mtime:
        print("the file has changed since: --learn learns anew what the tests run")


def plant_all(faults: Sequence[Fault], results: Results, jobs: int, *words: str) -> None:
    """Plant faults, print which tests catch each, and write that among the results of others."""
    (seconds, data), checkouts = read_learnt(), SimpleQueue[Checkout]()

    def plant(fault: Fault, names: Sequence[str]) -> list[str]:
        chosen, left = list[str](), float(SECONDS)
        for name in names:
            if not chosen or seconds[name] <= left:
                chosen.append(name)
                left -= seconds[name]
        checkout = checkouts.get()
        caught_by = checkout.plant(fault, chosen, *words) if chosen else []
        checkouts.put(checkout)
        return caught_by

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as executor:
        for job in range(jobs):
            checkouts.put(Checkout(Path(folder, str(job))))
        reaching = [find_tests(fault.file, find_lines(fault), seconds, data) for fault in faults]
        for fault, names, tests in zip(faults, reaching, executor.map(plant, faults, reaching), strict=True):
            results[str(fault)] = {"reached_by": len(names), "caught_by": tests}
            write_atomic(FOLDER / "results.json", json.dumps(results, indent=1).encode())
            print(f"{len(tests) or 'NOT':>4} of {len(names):4}  {fault}", flush=True)


def read_results(path: Path) -> Results:
    """Return the results in a file; none if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main(words: Sequence[str] | None = None) -> int:
    """Plant the faults, or do what an option says instead, and return the exit code."""
    parser = argparse.ArgumentParser(description="Plant faults in the package: which tests catch them?")
    add = parser.add_argument
    add("--only", metavar="PATTERN", default="*", help="faults that match, as in 'storage/*' or '*Adam*'")
    add("--uncaught", action="store_true", help="faults that are not caught in the results, or not in them")
    add("--first", action="store_true", help="end the run of a fault at the first test that catches it")
    add("--jobs", type=whole_number, default=available_cpus(), help="processes (default: %(default)s)")
    add("--learn", action="store_true", help="first learn again how long the tests take and what they reach")
    add("--check", action="store_true", help="only check that the text of each fault stands in its file once")
    add("--which", metavar="FILE:LINE", help="only print the tests that run a line, as in xpnet/api.py:120")
    add("--against", type=Path, metavar="OLD", help="only compare the results with those in another file")
    options = parser.parse_args(words)
    results = read_results(FOLDER / "results.json")
    if options.against:
        caught, still = (
            {fault: result["caught_by"] for fault, result in each.items() if result["caught_by"]}
            for each in (read_results(options.against), results)
        )
        lost = [
            f"not caught any more: {fault}, by {', '.join(caught[fault])}"
            for fault in caught
            if fault not in still
        ]
        print(*lost, f"{len(lost)} faults are not caught any more", sep="\n")
        return int(bool(lost))
    faults = [
        Fault(file, name, *texts)
        for file, lines in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()
        for name, texts in lines.items()
    ]
    try:
        for fault in faults:
            find_lines(fault)
        options.which = options.which and find_place(options.which)
    except ConfigError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    if options.check:
        print(f"{len(faults)} faults")
        return 0
    need("pytest", "xdist", "coverage", fix='pip install -e ".[test-all,dev]"')
    if options.learn or not (FOLDER / "seconds.json").exists():
        learn(options.jobs)
    if options.which:
        print_tests(*options.which, faults, results)
        return 0
    results = {str(fault): results[str(fault)] for fault in faults if str(fault) in results}
    known = {fault for fault, result in results.items() if result["caught_by"] and options.uncaught}
    chosen = [x for x in faults if fnmatch(str(x), options.only) and str(x) not in known]
    plant_all(chosen, results, options.jobs, *["-x"] * options.first)
    missed = [f"  {fault}" for fault, result in results.items() if not result["caught_by"]]
    print(f"\nnot caught: {len(missed)} of {len(results)}", *missed, sep="\n")
    return int(len(missed) > 0)


if __name__ == "__main__":
    sys.exit(main())
