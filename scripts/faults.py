"""Plant faults in copies of the package, one at a time, and tell which test catches each of them.

``python scripts/faults.py`` needs the extra ``test``. A fault of ``planted/faults.toml`` stands in a copy of
the checkout, never in the checkout itself, while tests run there until one fails: first those of the fault's
file, then those of its folder, then all. A test has caught the fault if it fails twice with it. A run that
takes longer than ``--minutes`` is ended, and has caught the fault too.

The result is written to ``--results`` after each fault. With ``--only`` or ``--uncaught`` it replaces that of
these faults alone. Exit code 1 if a fault is not caught, 2 if the text of one is not in its file once.

``python scripts/faults.py --against OLD`` runs nothing: it compares the results with those of an earlier
run, and exits with code 1 if a fault is not caught any more.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue

from checkout import ROOT, need
from shared import whole_number

from xpnet._lib.files import write_atomic
from xpnet._lib.machine import available_cpus

TABLE = Path(__file__).parent / "planted" / "faults.toml"
FOLDER = ROOT / "build" / "faults"
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=no", "-rfE", "--maxfail=1")
NOT_COPIED = {".git", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__"}
NOT_COPIED |= {"build", "dist", "runs", "site"}
NO_TESTS = 5  # exit code of pytest
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
"""A line of pytest's summary: a test, or a file that cannot be imported."""

Results = dict[str, dict[str, list[str]]]
"""For each fault the test that catches it, in a list, or none."""


@dataclass(frozen=True)
class Fault:
    """A programmer's mistake: a text of a file of xpnet/, and the text in its place."""

    file: str
    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def count(self) -> int:
        """Return how often the text stands in its file."""
        path = ROOT / "xpnet" / self.file
        return path.read_text(encoding="utf-8").count(self.old) if path.is_file() else 0


class Checkout:
    """A copy of the checkout, in which tests run."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.copy, self._options, top = folder / "copy", options, str(ROOT)
        shutil.copytree(ROOT, self.copy, ignore=lambda at, _: NOT_COPIED if at == top else {"__pycache__"})
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        path = os.pathsep.join((str(self.copy), str(self.copy / "scripts")))
        # Compiled files would be taken for those of a changed one of the same size.
        self._environment = own | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def catch(self, fault: Fault) -> list[str]:
        """Return the test that catches a fault, or none."""
        path, own = self.copy / "xpnet" / fault.file, Path("tests", fault.file)
        topics = own.with_name(f"test_{own.stem}.py"), Path(*own.parts[:2]), Path("tests")
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        try:
            for topic in (str(topic) for topic in topics if (self.copy / topic).exists()):
                failed_once: list[str] = []
                while test := self._find_failure(topic, failed_once):
                    if self._find_failure(test):
                        return [test]
                    failed_once.append(test)
        finally:
            path.write_text(text, encoding="utf-8")
        return []

    def _find_failure(self, tests: str, unwanted: Sequence[str] = ()) -> str | None:
        """Run tests, but for unwanted ones, and return the first that fails."""
        words = ["-m", self._options.marks, *(f"--deselect={test}" for test in unwanted), tests]
        process = subprocess.Popen(
            [*PYTEST, *words],
            cwd=self.copy,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=60 * self._options.minutes)
        except subprocess.TimeoutExpired:
            return f"{tests}, after {self._options.minutes} minutes"
        finally:
            with suppress(ProcessLookupError):  # its session, unless all processes have ended
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode in {0, NO_TESTS}:
            return None
        failed = FAILED.search(output)
        return failed[1] if failed else f"{tests}, as pytest ends with code {process.returncode}"


def read_table() -> list[Fault]:
    """Return the faults of the table, in its order."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [Fault(file, name, *texts) for file, lines in table.items() for name, texts in lines.items()]


def plant_all(faults: Sequence[Fault], results: Results, options: argparse.Namespace) -> None:
    """Plant faults, print which test catches each, and write that among the results of others."""
    checkouts = SimpleQueue[Checkout]()

    def plant(fault: Fault) -> list[str]:
        checkout = checkouts.get()
        try:
            return checkout.catch(fault)
        finally:
            checkouts.put(checkout)

    options.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as executor:
        for job in range(options.jobs):
            checkouts.put(Checkout(Path(folder, str(job)), options))
        for fault, tests in zip(faults, executor.map(plant, faults), strict=True):
            results[str(fault)] = {"caught_by": tests}
            write_atomic(options.results, json.dumps(results, indent=1).encode())
            print(f"{fault}: {'caught by ' + tests[0] if tests else 'NOT caught'}", flush=True)


def read_results(path: Path) -> Results:
    """Return the results in a file; none if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def compare(old: Results, new: Results) -> int:
    """Print the faults that were caught and are not any more; return their number."""
    lost = [fault for fault in old if old[fault]["caught_by"] and not new.get(fault, {}).get("caught_by")]
    for fault in lost:
        print(f"not caught any more: {fault} (was by {old[fault]['caught_by'][0]})")
    print(f"{len(lost)} faults are not caught any more")
    return len(lost)


def main(words: Sequence[str] | None = None) -> int:
    """Plant the faults, or do what an option says instead, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Plant faults in the package, and tell which test catches each."
    )
    add, jobs = parser.add_argument, available_cpus()
    add("--only", metavar="PATTERN", default="*", help="faults that match, as in 'storage/*' or '*Adam*'")
    add("--uncaught", action="store_true", help="faults that are not caught in the results, or not in them")
    add("--jobs", type=whole_number, default=jobs, help="processes (default: as many as processors)")
    add("--minutes", type=whole_number, default=10, help="the longest run of tests (default: %(default)s)")
    add("--marks", "-m", default="not slow and not tooling", help="as -m of pytest (default: %(default)s)")
    add("--results", type=Path, default=FOLDER / "results.json", help="their file (default: %(default)s)")
    add("--check", action="store_true", help="only check that the text of each fault stands in its file once")
    add("--against", type=Path, metavar="OLD", help="only compare the results with those in another file")
    options = parser.parse_args(words)
    results = read_results(options.results)
    if options.against:
        return int(compare(read_results(options.against), results) > 0)
    table = read_table()
    for fault in table:
        if (count := fault.count()) != 1 or fault.old == fault.new:
            print(f"faults: {fault}: expected the text once, got {count}: {fault.old!r}", file=sys.stderr)
            return 2
    if options.check:
        print(f"{len(table)} faults")
        return 0
    need("pytest", fix='pip install -e ".[test]"')
    results = {str(fault): results[str(fault)] for fault in table if str(fault) in results}
    known = {fault for fault, result in results.items() if result["caught_by"] and options.uncaught}
    plant_all([f for f in table if fnmatch(str(f), options.only) and str(f) not in known], results, options)
    missed = [f"  {fault}" for fault, result in results.items() if not result["caught_by"]]
    print(f"\nnot caught: {len(missed)} of {len(results)}", *missed, sep="\n")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
