"""Build the sdist and the wheel and check both as their users get them, in fresh environments.

``python scripts/check_release.py`` needs the extra ``release``. It writes the two files to ``dist``, where
``--out`` names no other folder, and checks that their metadata are valid, that the long description has no
dead links, and that every committed file is in the sdist. The wheel then trains the default network outside
the checkout; its fingerprint must be that of README.md. The unpacked sdist is installed, and its own tests
run against that installation: those that ``--tests`` names, with the extra ``test``, or with ``test-all`` all
of them, which takes as long as in a checkout.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from email.parser import BytesParser
from pathlib import Path

from checkout import ROOT, need

SCRIPTS = "Scripts" if os.name == "nt" else "bin"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


class ReleaseError(Exception):
    """A release that is not as it must be."""


def call(*words: object, folder: Path | None = None) -> None:
    """Run a program, whose output is shown."""
    texts = list(map(str, words))
    print(f"$ {shlex.join(texts)}", flush=True)
    subprocess.run(texts, cwd=folder, env=ENVIRONMENT, check=True)


def build(out: Path) -> tuple[Path, Path]:
    """Build the sdist and, from it, the wheel; return their paths."""
    call(sys.executable, "-m", "build", "--outdir", out, ROOT)
    version = re.findall(r'^__version__ = "(.+)"', (ROOT / "xpnet/__init__.py").read_text(), re.MULTILINE)[0]
    return out / f"xpnet-{version}.tar.gz", out / f"xpnet-{version}-py3-none-any.whl"


def find_dead_links(text: str) -> list[str]:
    """Return the links and images of a Markdown text that lead nowhere from outside of the repository."""
    return re.findall(r"\]\((?!https:|#)([^)]*)\)", text)


def check_files(sdist: Path, wheel: Path) -> None:
    """Check metadata, the long description, and that the sdist has every committed file."""
    call(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    call(sys.executable, "-m", "check_wheel_contents", wheel)
    name, version, *_ = wheel.name.split("-")
    with zipfile.ZipFile(wheel) as archive:
        metadata = BytesParser().parsebytes(archive.read(f"{name}-{version}.dist-info/METADATA"))
    if dead := find_dead_links(str(metadata.get_payload())):
        msg = f"the long description has dead links: {', '.join(dead)}"
        raise ReleaseError(msg)
    words = ["git", "ls-files", "-z"]
    listed = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive}
    if missing := sorted({*listed.decode().rstrip("\0").split("\0")} - packed):
        msg = f"the sdist lacks committed files: {', '.join(missing)}"
        raise ReleaseError(msg)


def make_environment(folder: Path, package: str) -> Path:
    """Install a package into a fresh environment; return the folder of its programs."""
    call(sys.executable, "-m", "venv", folder)
    programs = folder / SCRIPTS
    call(programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", package)
    return programs


def check_wheel(wheel: Path, work: Path) -> None:
    """Train the default network with the installed wheel, outside the checkout."""
    programs, outside = make_environment(work / "wheel", str(wheel)), work / "outside"
    outside.mkdir()
    call(programs / "xpnet", "--version", folder=outside)
    call(programs / "python", "-m", "xpnet.train", "--device", "cuda", "--name", "main", folder=outside)
    call(programs / "xpnet", "evaluate", "runs/main", folder=outside)
    fingerprint = json.loads((outside / "runs/main/run.json").read_text())["fingerprint"]
    if fingerprint not in (ROOT / "README.md").read_text(encoding="utf-8"):
        msg = f"the fingerprint of the default run is not that of README.md: {fingerprint}"
        raise ReleaseError(msg)


def check_sdist(sdist: Path, work: Path, tests: Sequence[str]) -> None:
    """Install the unpacked sdist with what its tests need, and run them."""
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    folder = work / sdist.name.removesuffix(".tar.gz")
    programs = make_environment(work / "sdist", f"{folder}[{'test' if tests else 'test-all'}]")
    # The program pytest, unlike python -m pytest, imports the package that is installed.
    call(programs / "pytest", "-n", "auto", "-m", "", *tests, folder=folder)


def main() -> int:
    """Build and check the release, and return the exit code."""
    parser = argparse.ArgumentParser(description="Build the sdist and the wheel, and check both.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="their folder (default: dist)")
    tests = "the tests of the sdist to run (default: all)"
    parser.add_argument("--tests", nargs="+", default=[], metavar="TEST", help=tests)
    arguments = parser.parse_args()
    need("build", "twine", "check_wheel_contents", fix='pip install -e ".[release]"')
    try:
        with tempfile.TemporaryDirectory() as work:
            sdist, wheel = build(arguments.out.resolve())
            check_files(sdist, wheel)
            check_wheel(wheel, Path(work))
            check_sdist(sdist, Path(work), arguments.tests)
    except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
        print(f"check_release: {error}", file=sys.stderr)
        return 1
    print(f"{sdist}\n{wheel}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
