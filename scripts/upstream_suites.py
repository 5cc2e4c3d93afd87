"""Run the CuPy columns of other projects' tests on the emulated CUDA device.

``python scripts/upstream_suites.py FOLDER [names]`` runs the suites of ``SUITES``, as they are, from sdists
in FOLDER, which pip downloads there if they are missing, and from array-api-tests.tgz; SciPy's tests are part
of its wheel. pytest runs in two processes. Tests that upstream skips with CuPy, and those that its list of
failures on cards names, do not count. It writes docs/evidence/emulated-cupy.md, of all results in FOLDER,
where each suite has a cache of its own, which is empty in the first run alone.

Exit codes: 0 of each suite at least 99.5 % pass; 1 not so; 2 something is missing.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import checkout
from shared import markdown, write_part

EVIDENCE = checkout.ROOT / "docs" / "evidence" / "emulated-cupy.md"
ENOUGH = 0.995
TIMES = (".cold.txt", ".warm.txt")
"""How the files of a suite's times end, of runs with an empty cache and with a full one."""


class Suite(NamedTuple):
    """A suite: its archive, the folder in it, the words for pytest, and environment variables."""

    archive: str
    folder: str
    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()


SCIPY = ("scipy.stats", "scipy.special", "scipy.signal", "scipy.cluster")
SUITES = {
    "array-api-compat 1.16.0": Suite(
        "array_api_compat-1.16.0.tar.gz", "array_api_compat-1.16.0", ("-k", "cupy", "tests")
    ),
    "array-api-extra 0.11.5": Suite(
        "array_api_extra-0.11.5.tar.gz", "array_api_extra-0.11.5", ("-k", "cupy", "tests/main")
    ),
    "array-api-tests": Suite(
        "array-api-tests.tgz",
        "aat",
        ("--max-examples=2", "--disable-deadline", "--xfails-file", "cupy-xfails.txt", "array_api_tests/"),
        (("ARRAY_API_TESTS_MODULE", "array_api_compat.cupy"), ("ARRAY_API_TESTS_VERSION", "2024.12")),
    ),
    **{
        f"{module} 1.17.1": Suite(
            "", "", ("-m", "array_api_backends", "--pyargs", module), (("SCIPY_ARRAY_API", '["cupy"]'),)
        )
        for module in SCIPY
    },
}

REASONS = {
    r"TestCov.*[wW]eights": "`cupy.cov` with weights subtracts the unweighted mean",
    r"TestAngle.test_real": "`cupy.angle` of -0.0 is 0",
    r"TestCheby2.test_basic": "a coefficient differs by 1.53e-13, of 1.5e-13 allowed",
    r"test_inverse_repeated_roots": "0 is -7e-16",
    r"TestGetWindow.test_array_as_window": "CuPy 14.2 words an error as SciPy does",
    r"test_devices|test_meshgrid|test_broadcast_arrays": "CuPy returns a tuple, not a list",
}
"""Of tests that fail and are on no list of upstream's."""


def unpack(folder: Path, suite: Suite) -> Path:
    """Return the folder of a suite, downloaded and unpacked if need be."""
    if not suite.archive:
        return folder
    archive = folder / suite.archive
    if not archive.exists():
        name = "==".join(suite.archive.removesuffix(".tar.gz").rsplit("-", 1))
        words = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            ":all:",
            "-d",
            folder,
            name,
        ]
        subprocess.run(words, check=True)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    target = folder / suite.folder
    if "--xfails-file" in suite.words:  # the list that array-api-compat's maintainers made on cards
        listed = unpack(folder, SUITES["array-api-compat 1.16.0"]) / "cupy-xfails.txt"
        (target / listed.name).write_text(listed.read_text(encoding="utf-8"), encoding="utf-8")
    return target


def find_report(folder: Path, name: str) -> Path:
    """Return the file of a suite's results."""
    return folder / f"{name.split(maxsplit=1)[0]}.xml"


def run(folder: Path, name: str) -> None:
    """Run a suite."""
    suite, where = SUITES[name], unpack(folder, SUITES[name])
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
    report = find_report(folder, name)
    words += [f"--junitxml={report}", *[f"--rootdir={where}"] * bool(suite.archive)]
    cache = report.with_suffix(".cache")
    times = report.with_suffix(TIMES[cache.exists()])
    environment = os.environ | {"XPNET_EMULATED_CUDA": "1", "XDG_CACHE_HOME": str(cache)}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([*words, *suite.words], cwd=where, env=environment | dict(suite.variables), check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    text = f"{seconds:.0f} s, in {time.monotonic() - begin:.0f} s at a load of {os.getloadavg()[1]:.0f}"
    times.write_text(text, encoding="utf-8")


def read(report: Path, name: str) -> tuple[list[str], list[str]]:
    """Return the row of a run of pytest in a table, and the names of the tests that fail."""
    root = ET.parse(report).getroot()  # noqa: S314  of the pytest that ran here
    counts, failed = dict.fromkeys(("passed", "skipped", "failed"), 0), []
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[kind] += 1
        if kind == "failed":
            failed.append(f"{case.get('classname')}.{case.get('name')}")
    share = counts["passed"] / max(1, counts["passed"] + counts["failed"])
    seconds = sum(float(each.get("time", 0)) for each in root.iter("testsuite"))
    return [name, *map(str, counts.values()), f"{100 * share:.2f} %", f"{seconds:.0f} s"], failed


def read_time(report: Path, kind: str) -> str:
    """Return the processor time of a suite, one of ``TIMES``."""
    file = report.with_suffix(kind)
    return file.read_text(encoding="utf-8") if file.exists() else "not measured"


def explain(test: str) -> str:
    """Return a line on a test that fails."""
    reasons = [reason for pattern, reason in REASONS.items() if re.search(pattern, test)]
    return f"- `{test}`: {reasons[0] if reasons else 'not explained'}"


def main() -> int:
    """Run suites, write the evidence and return the exit code."""
    parser = argparse.ArgumentParser(description="Run other projects' tests on the emulated CUDA device.")
    parser.add_argument("folder", type=Path, help="of the archives, and of what is unpacked")
    parser.add_argument("names", nargs="*", help="of suites (default: all)")
    arguments = parser.parse_args()
    checkout.need("scipy", "cupy", "xdist", "array_api_compat", fix='pip install -e ".[test,cupy-emulated]"')
    chosen = [name for name in SUITES if not arguments.names or name.split()[0] in arguments.names]
    if "array-api-tests" in chosen:
        fix = "pip install pytest-json-report ndindex"
        checkout.need("pytest_jsonreport", "ndindex", fix=fix)
    folder = arguments.folder.resolve()
    for name in chosen:
        run(folder, name)
    reports = {name: find_report(folder, name) for name in SUITES}
    results = [read(report, name) for name, report in reports.items() if report.exists()]
    columns = [
        "suite",
        "passed",
        "skipped, or listed as failing on cards",
        "failed",
        "share",
        "processor time with an empty cache",
        "with a full cache",
    ]
    times = [[read_time(report, kind) for kind in TIMES] for report in reports.values() if report.exists()]
    rows = [[*row[:-1], *both] for (row, _), both in zip(results, times, strict=True)]
    table = markdown(columns, rows)
    failures = [explain(test) for _, failed in results for test in failed]
    libraries = ("cupy-cuda12x", "numpy", "scipy", "array-api-compat", "array-api-extra", "pytest")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in libraries)
    text = "\n".join([f"With {versions}:", "", table, "", "Failed:", "", *failures])
    print(text)
    write_part(EVIDENCE, "suites", text)
    return int(any(float(row[4].removesuffix(" %")) < 100 * ENOUGH for row, _ in results))


if __name__ == "__main__":
    checkout.need_own()
    sys.exit(main())
