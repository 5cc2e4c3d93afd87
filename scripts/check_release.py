"""Build the sdist and the wheel and check both as their users get them, in fresh environments.

``python scripts/check_release.py`` needs the extra ``release``. It writes the two files to ``dist``, where
``--out`` names no other folder, and checks that their metadata are valid and that every committed file is in
the sdist. The wheel then trains the default network outside the checkout; its fingerprint must be that of
README.md. The unpacked sdist is installed, and its own tests run against that installation: those that
``--tests`` names, with the extra ``test``, or with ``test-all`` all of them.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from checkout import ROOT, need

from xpnet import __version__

SCRIPTS = "Scripts" if os.name == "nt" else "bin"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def call(*words: object, folder: Path | None = None) -> None:
    """Run a program, whose output is shown; if it fails, so does the check."""
    texts = list(map(str, words))
    print(f"$ {shlex.join(texts)}", flush=True)
    if code := subprocess.run(texts, cwd=folder, env=ENVIRONMENT, check=False).returncode:
        sys.exit(f"check_release: {texts[0]} ended with exit code {code}")


def check_files(sdist: Path, wheel: Path) -> None:
    """Check the metadata, and that the sdist has every committed file."""
    call(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    call(sys.executable, "-m", "check_wheel_contents", wheel)
    words = ["git", "ls-files", "-z"]
    listed = subprocess.check_output(words, cwd=ROOT, text=True)
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive}
    if missing := sorted({*listed.rstrip("\0").split("\0")} - packed):
        sys.exit(f"check_release: the sdist lacks committed files: {', '.join(missing)}")


def make_environment(folder: Path, package: str) -> Path:
    """Install a package into a fresh environment; return the folder of its programs."""
    call(sys.executable, "-m", "venv", folder)
    programs = folder / SCRIPTS
    call(programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", package)
    return programs


def check_wheel(wheel: Path, work: Path) -> None:
    """Train the default network with the installed wheel, outside the checkout."""
    programs = make_environment(work / "wheel", str(wheel))
    call(programs / "python", "-m", "xpnet.train", "--device", "cuda", "--name", "main", folder=work)
    fingerprint = json.loads((work / "runs/main/run.json").read_text())["fingerprint"]
    if fingerprint not in (ROOT / "README.md").read_text(encoding="utf-8"):
        sys.exit(f"check_release: the default run's fingerprint is not that of README.md: {fingerprint}")


def check_sdist(sdist: Path, work: Path, tests: Sequence[str]) -> None:
    """Install the unpacked sdist with what its tests need, and run them."""
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    folder = work / sdist.name.removesuffix(".tar.gz")
    programs = make_environment(work / "sdist", f"{folder}[{'test' if tests else 'test-all'}]")
    # The program pytest, unlike python -m pytest, imports the package that is installed.
    call(programs / "pytest", "-n", "auto", "-m", "", *tests, folder=folder)


def main() -> None:
    """Build and check the release."""
    parser = argparse.ArgumentParser(description="Build the sdist and the wheel, and check both.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="their folder (default: dist)")
    parser.add_argument("--tests", nargs="+", default=[], help="tests of the sdist to run (default: all)")
    arguments = parser.parse_args()
    need("build", "twine", "check_wheel_contents", fix='pip install -e ".[release]"')
    out = arguments.out.resolve()
    sdist, wheel = out / f"xpnet-{__version__}.tar.gz", out / f"xpnet-{__version__}-py3-none-any.whl"
    call(sys.executable, "-m", "build", "--outdir", out, ROOT)
    check_files(sdist, wheel)
    with tempfile.TemporaryDirectory() as work:
        check_wheel(wheel, Path(work))
        check_sdist(sdist, Path(work), arguments.tests)
    print(f"{sdist}\n{wheel}")


if __name__ == "__main__":
    main()
