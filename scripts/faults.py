"""Plant faults in copies of the checkout, one at a time, and tell which test is the first to catch each.

``python scripts/faults.py`` takes the faults of ``planted/faults.toml``. While one stands in a copy, the
default tests run up to the first that fails: those of the file's topic (``tests/storage/test_run.py`` of
``storage/run.py``), of its folder, and all others. That test must fail a second time. A run that takes longer
than ``--minutes`` is stopped, and has caught the fault. All tests must pass without a fault.

The test that catches each fault is written to ``--results``; with ``--only`` or ``--uncaught``, the results
of other faults stay. Exit code 1 if a fault is not caught, 2 if its text does not stand in its file once.

``python scripts/faults.py --against OLD`` runs nothing: it compares the results with those of an earlier
run, and exits with code 1 if a fault is not caught any more.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from checkout import ROOT, need
from shared import whole_number

from xpnet._lib.files import write_atomic
from xpnet._lib.machine import available_cpus

TABLE = ROOT / "scripts" / "planted" / "faults.toml"
RESULTS = ROOT / "build" / "faults.json"
NOT_COPIED = shutil.ignore_patterns(
    ".*cache", ".git", ".venv", ".hypothesis", "__pycache__", "build", "dist", "runs", "site"
)
PASSED = {0, 5}
"""Exit codes of pytest: all tests passed, or there are none."""
Results = dict[str, str | None]
"""For each fault the test that catches it, or None."""


class FaultsError(Exception):
    """A table that cannot be used."""


@dataclass(frozen=True)
class Fault:
    """A programmer's mistake: a text of a file of xpnet/, and the text in its place."""

    file: str
    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def read(self) -> str:
        """Return the file's text; FaultsError unless that of the fault stands in it exactly once."""
        path = ROOT / "xpnet" / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (number := text.count(self.old)) != 1 or self.old == self.new:
            msg = f"{self}: expected the text once, got {number}: {self.old!r}"
            raise FaultsError(msg)
        return text

    def plant(self, marks: str, seconds: float) -> str | None:
        """Run the tests with the fault in a copy, and return the first that catches it."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "copy")
            shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
            (copy / "xpnet" / self.file).write_text(self.read().replace(self.old, self.new), encoding="utf-8")
            for paths in self.list_tests():
                words = ["-x", "-m", marks, *paths]
                while (code := run_tests(copy, words, seconds)) not in PASSED:
                    if code is None:
                        return f"{paths[0]}: takes longer than {seconds:.0f} s"
                    failed = copy / ".pytest_cache/v/cache/lastfailed"
                    tests = [*json.loads(failed.read_text(encoding="utf-8"))] if failed.exists() else []
                    if run_tests(copy, [*words, "--lf"], seconds) not in PASSED:
                        return tests[0] if tests else f"{paths[0]}: does not start"
        return None

    def list_tests(self) -> Iterator[list[str]]:
        """Yield pytest's arguments for the tests of the file's topic, of its folder, and for all others."""
        topic = Path("tests", self.file).with_name(f"test_{Path(self.file).stem}.py")
        ignored = list[str]()
        for path in (topic, *topic.parents[:-1]):
            if (ROOT / path).exists():
                yield [str(path), *ignored]
                ignored.append(f"--ignore={path}")


def run_tests(copy: Path, words: Sequence[str], seconds: float) -> int | None:
    """Run tests of a copy, and return pytest's exit code, or None if they take too long."""
    of_this_process = ("PYTEST_", "COVERAGE_")  # variables of tests that run this script
    own = {name: value for name, value in os.environ.items() if not name.startswith(of_this_process)}
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *words],
        cwd=copy,
        env=own | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):  # its session, unless all processes have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_table() -> list[Fault]:
    """Return the faults of the table, in its order; FaultsError if the text of one is not there once."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    faults = [Fault(file, name, *texts) for file, lines in table.items() for name, texts in lines.items()]
    for fault in faults:
        fault.read()
    return faults


def read_results(path: Path) -> Results:
    """Return the results in a file; none if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def compare(old: Results, new: Results) -> int:
    """Print the faults that were caught and are not any more; return their number."""
    lost = [fault for fault in old if old[fault] and not new.get(fault)]
    for fault in lost:
        print(f"not caught any more: {fault} (was by {old[fault]})")
    print(f"{len(lost)} faults are not caught any more")
    return len(lost)


def plant_all(faults: Sequence[Fault], results: Results, options: argparse.Namespace) -> int:
    """Plant faults, print and write which test catches each, and return the number of those not caught."""
    options.results.parent.mkdir(parents=True, exist_ok=True)
    missed = 0
    with ThreadPoolExecutor(options.jobs) as executor:
        caught = executor.map(lambda fault: fault.plant(options.marks, 60 * options.minutes), faults)
        for fault, test in zip(faults, caught, strict=True):
            results[str(fault)] = test
            write_atomic(options.results, json.dumps(results, indent=1).encode())
            print(f"{fault}: {test or 'NOT CAUGHT'}", flush=True)
            missed += test is None
    print(f"not caught: {missed} of {len(faults)}")
    return missed


def main(words: Sequence[str] | None = None) -> int:
    """Plant the faults, or do what an option says instead, and return the exit code."""
    parser = argparse.ArgumentParser(description="Plant faults in the package, and tell what catches them.")
    add = parser.add_argument
    add("--only", metavar="PATTERN", default="*", help="faults that match, as in 'storage/*' or '*Adam*'")
    add("--uncaught", action="store_true", help="faults that are not caught in the results, or not in them")
    add("--jobs", type=whole_number, default=available_cpus(), help="processes (default: one a processor)")
    add("--minutes", type=float, default=15, help="the most that a fault's tests take (default: %(default)s)")
    add("--marks", "-m", default="not slow and not tooling", help="as -m of pytest (default: %(default)s)")
    add("--results", type=Path, default=RESULTS, help="their file (default: %(default)s)")
    add("--check", action="store_true", help="only check that the text of each fault stands in its file once")
    add("--against", type=Path, metavar="OLD", help="only compare the results with those in another file")
    options = parser.parse_args(words)
    results = read_results(options.results)
    if options.against:
        return int(compare(read_results(options.against), results) > 0)
    try:
        faults = read_table()
    except FaultsError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    if options.check:
        print(f"{len(faults)} faults")
        return 0
    need("pytest", fix='pip install -e ".[test]"')
    results = {str(fault): results[str(fault)] for fault in faults if str(fault) in results}
    known = {fault for fault, test in results.items() if test and options.uncaught}
    faults = [fault for fault in faults if fnmatch(str(fault), options.only) and str(fault) not in known]
    return int(plant_all(faults, results, options) > 0)


if __name__ == "__main__":
    sys.exit(main())
