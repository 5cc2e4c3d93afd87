"""Build the sdist and the wheel and check both as their users get them, in fresh environments.

``python scripts/check_release.py`` needs the extra ``release``. It builds the commit twice, with the packages
of build-requirements.txt, in other folders, with another umask and other times of the files: all bytes must
be equal. The two files, and their SHA-256s in ``SHA256SUMS``, are written to ``dist``, where ``--out`` names
no other folder. Their metadata must be valid, and every committed file in the sdist but RELEASES, which names
the two SHA-256s of each version. The wheel then trains
the default network for 10 epochs outside the checkout; its fingerprint must be that of
docs/reproducibility.md. The unpacked sdist is installed, and its own tests run against that installation:
those that ``--tests`` names, with the extra ``test``, or with ``test-all`` all of them.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from checkout import ROOT, SCRIPTS, need

from xpnet import __version__
from xpnet._lib.files import write_atomic

BIN = "Scripts" if os.name == "nt" else "bin"
REQUIREMENTS = SCRIPTS / "build-requirements.txt"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def call(*words: object, folder: Path | None = None) -> None:
    """Run a program, whose output is shown; if it fails, so does the check."""
    texts = list(map(str, words))
    print(f"$ {shlex.join(texts)}", flush=True)
    if code := subprocess.run(texts, cwd=folder, env=ENVIRONMENT, check=False).returncode:
        sys.exit(f"check_release: {texts[0]} ended with exit code {code}")


def build(python: Path, folder: Path, *, umask: int, time: float | None = None) -> dict[str, bytes]:
    """Build a clone of the commit, with files of that time; return the results by name."""
    call("git", "clone", "--quiet", ROOT, folder)
    os.umask(umask)
    for path in folder.rglob("*"):
        if time is not None and ".git" not in path.parts:
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (time, time))
    call(python, "-m", "build", "--no-isolation", folder)
    return {path.name: path.read_bytes() for path in folder.joinpath("dist").iterdir()}


def build_twice(work: Path, out: Path) -> None:
    """Build twice, compare all bytes, and write the files and SHA256SUMS to `out`."""
    python, mask = make_environment(work / "builder", "-r", str(REQUIREMENTS)) / "python", os.umask(0o022)
    try:
        files = build(python, work / "first", umask=0o022)
        again = build(python, work / "another folder" / "second", umask=0o077, time=1e9)
    finally:
        os.umask(mask)
    if differing := sorted(name for name in files.keys() | again if files.get(name) != again.get(name)):
        sys.exit(f"check_release: two builds of one commit differ: {', '.join(differing)}")
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    out.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, "SHA256SUMS": "".join(sums).encode()}.items():
        write_atomic(out / name, content)
    print("built twice, the same bytes:\n" + "".join(sums), end="")


def check_files(sdist: Path, wheel: Path) -> None:
    """Check the metadata, and that the sdist has every committed file."""
    call(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    call(sys.executable, "-m", "check_wheel_contents", wheel)
    words = ["git", "ls-files", "-z"]
    listed = subprocess.check_output(words, cwd=ROOT, text=True)
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive}
    if missing := sorted({*listed.rstrip("\0").split("\0")} - packed - {"RELEASES"}):
        sys.exit(f"check_release: the sdist lacks committed files: {', '.join(missing)}")


def make_environment(folder: Path, *words: str) -> Path:
    """Install what pip's words name into a fresh environment; return the folder of its programs."""
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    programs = folder / BIN
    pip = sys.executable, "-m", "pip", "--python", programs / "python"
    call(*pip, "install", "--quiet", "--no-compile", *words)
    return programs


def check_wheel(wheel: Path, work: Path) -> None:
    """Train the default network with the installed wheel, outside the checkout."""
    programs = make_environment(work / "wheel", f"{wheel}[train]")
    words = ["xpnet.train", "--device", "cuda", "--name", "main", "--epochs", "10"]
    call(programs / "python", "-m", *words, folder=work)
    fingerprint = json.loads((work / "runs/main/run.json").read_text())["fingerprint"]
    page = (ROOT / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    if f"| after 10 epochs | `{fingerprint}` |" not in page:
        sys.exit(f"check_release: docs/reproducibility.md has another fingerprint: {fingerprint}")


def check_sdist(sdist: Path, work: Path, tests: Sequence[str]) -> None:
    """Install the unpacked sdist with what its tests need, and run them."""
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    folder = work / sdist.name.removesuffix(".tar.gz")
    programs = make_environment(work / "sdist", f"{folder}[{'test' if tests else 'test-all'}]", "pip")
    # The program pytest, unlike python -m pytest, imports the package that is installed.
    call(programs / "pytest", "-n", "auto", "-m", "", *tests, folder=folder)


def main() -> None:
    """Build and check the release."""
    parser = argparse.ArgumentParser(description="Build the sdist and the wheel, and check both.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="their folder (default: dist)")
    parser.add_argument("--tests", nargs="+", default=[], help="tests of the sdist to run (default: all)")
    arguments = parser.parse_args()
    need("twine", "check_wheel_contents", fix='pip install -e ".[release]"')
    out = arguments.out.resolve()
    sdist, wheel = out / f"xpnet-{__version__}.tar.gz", out / f"xpnet-{__version__}-py3-none-any.whl"
    with tempfile.TemporaryDirectory() as work:
        build_twice(Path(work), out)
        check_files(sdist, wheel)
        check_wheel(wheel, Path(work))
        check_sdist(sdist, Path(work), arguments.tests)
    print(f"{sdist}\n{wheel}")


if __name__ == "__main__":
    main()
