"""Run tests/emulation with each wheel of CuPy that the emulated CUDA device knows.

``python scripts/emulated_versions.py FOLDER [wheels]`` makes an environment in FOLDER, unless it is there,
with xpnet and what the tests need, and installs one wheel of ``wheels.KNOWN`` after the other. It runs the
tests, and writes its part of docs/evidence/emulated-cupy.md, of all results in FOLDER.

Exit codes: 0 all tests pass with all wheels; 1 not so.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import checkout
from shared import markdown, write_part
from upstream_suites import EVIDENCE, read

from xpnet.emulation import wheels

PACKAGES = ("hypothesis", "pytest", "pytest-xdist", "scipy")


def make_environment(folder: Path) -> Path:
    """Return the Python of the environment."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        words = ["install", "-q", "-e", f"{checkout.ROOT}[train]", *PACKAGES]
        subprocess.run([python, "-m", "pip", *words], check=True)
    return python


def run(python: Path, wheel: str, report: Path) -> None:
    """Install a wheel and run the tests."""
    pip = [python, "-m", "pip", "-q"]
    subprocess.run([*pip, "uninstall", "-y", *wheels.OTHERS], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([*pip, "install", wheel], check=True)
    words = [python, "-m", "pytest", "-q", "-n", "2", "-m", "", f"--junitxml={report}", "tests/emulation"]
    environment = os.environ | {"XPNET_REQUIRE_EMULATED_CUDA": "1"}
    subprocess.run(words, cwd=checkout.ROOT, env=environment, check=False)


def main() -> int:
    """Run the tests with wheels, write the table and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Run the tests of the emulated CUDA device with known wheels."
    )
    parser.add_argument("folder", type=Path, help="of the environment, and of the results")
    known = [f"{name}=={version}" for name, versions in wheels.KNOWN.items() for version in versions]
    parser.add_argument(
        "wheels", nargs="*", metavar="wheel", help=f"some of {', '.join(known)} (default: all)"
    )
    options = parser.parse_args()
    folder = options.folder.resolve()
    python = make_environment(folder)
    reports = {wheel: folder / f"{wheel}.xml" for wheel in known}
    for wheel in options.wheels or known:
        run(python, wheel, reports[wheel])
    results = [read(report, wheel) for wheel, report in reports.items() if report.exists()]
    table = markdown(["wheel", "passed", "skipped", "failed", "share", "time"], [row for row, _ in results])
    failures = [f"- {row[0]}: `{test}`" for row, tests in results for test in tests]
    text = "\n".join([table, *(["", "Failed:", "", *failures] if failures else [])])
    print(text)
    write_part(EVIDENCE, "versions", text)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
