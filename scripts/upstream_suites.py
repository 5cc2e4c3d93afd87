"""Run the CuPy columns of other projects' tests on the emulated CUDA device.

``python scripts/upstream_suites.py FOLDER [names]`` runs the suites of ``SUITES``, as they are, from sdists
in FOLDER, which pip downloads there if they are missing, and from array-api-tests.tgz; SciPy's tests are part
of its wheel. pytest runs in two processes. Tests that upstream skips with CuPy, and those that its list of
failures on cards names, do not count. Without names it writes docs/evidence/emulated-cupy.md.

Exit codes: 0 of each suite at least 99.5 % pass; 1 not so; 2 something is missing.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import checkout
from shared import markdown

EVIDENCE = checkout.ROOT / "docs" / "evidence" / "emulated-cupy.md"
ENOUGH = 0.995


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


def run(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Run a suite; return its row of the table, and the names of the tests that fail."""
    suite = SUITES[name]
    report = folder / f"{name.split(maxsplit=1)[0]}.xml"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    where = unpack(folder, suite)
    words += [f"--rootdir={where}"] * bool(suite.archive)
    environment = os.environ | {"XPNET_EMULATED_CUDA": "1"} | dict(suite.variables)
    start = time.perf_counter()
    subprocess.run([*words, *suite.words], cwd=where, env=environment, check=False, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    counts = dict.fromkeys(("passed", "skipped", "failed"), 0)
    failed = []
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  of the pytest that ran here
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[kind] += 1
        if kind == "failed":
            failed.append(f"{case.get('classname')}.{case.get('name')}")
    share = counts["passed"] / max(1, counts["passed"] + counts["failed"])
    return [name, *map(str, counts.values()), f"{100 * share:.2f} %", f"{seconds:.0f} s"], failed


def main() -> int:
    """Run suites, write the evidence and return the exit code."""
    parser = argparse.ArgumentParser(description="Run other projects' tests on the emulated CUDA device.")
    parser.add_argument("folder", type=Path, help="of the archives, and of what is unpacked")
    parser.add_argument("names", nargs="*", help="of suites (default: all)")
    arguments = parser.parse_args()
    checkout.need("scipy", "cupy", "xdist", "array_api_compat", fix='pip install -e ".[test,cupy-emulated]"')
    chosen = [name for name in SUITES if not arguments.names or name.split()[0] in arguments.names]
    results = [run(arguments.folder.resolve(), name) for name in chosen]
    columns = ["suite", "passed", "skipped, or listed as failing on cards", "failed", "share", "time"]
    table = markdown(columns, [row for row, _ in results])
    failures = [f"- `{test}`" for _, failed in results for test in failed]
    print(table, *failures, sep="\n")
    if not arguments.names:
        libraries = ("cupy-cuda12x", "numpy", "scipy", "array-api-compat", "array-api-extra", "pytest")
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in libraries)
        page = EVIDENCE.read_text(encoding="utf-8")
        text = "\n".join([f"With {versions}:", "", table, "", "Failed:", "", *failures])
        page = re.sub(
            r"(?<=<!-- suites -->\n).*?(?=<!-- end -->)", lambda _: f"\n{text}\n\n", page, flags=re.DOTALL
        )
        EVIDENCE.write_text(page, encoding="utf-8")
    return int(any(float(row[4].removesuffix(" %")) < 100 * ENOUGH for row, _ in results))


if __name__ == "__main__":
    sys.exit(main())
