"""Checks xpnet on an NVIDIA GPU in stages and writes what it finds to docs/evidence/cuda-<card>.json and .md.

  fingerprints  of the default run after 0, 1, 10 and 100 epochs with CuPy, PyTorch and JAX, compared with
                docs/reproducibility.md; on a second GPU, after 0, 1 and 10
  parity        python -m xpnet parity, with the GPU required
  speed         the time of a training step, beside hand-written PyTorch and JAX and the memory's bandwidth
  suite         the tests that have a case on the GPU

The files are written after each finding, so that a check that is cut off leaves what it has found; in them, a
stage that is not run stays as it was. Each library has processes of its own. One that is missing or does
not work is recorded with its reason; that is no failure as long as another one works. What runs over a
stage's time is stopped and is a failure.

Exit codes: 0 all agree; 1 something differs, fails or takes too long; 2 no library can use a GPU, or the
files cannot be written; 130 interrupted.
"""

import argparse
import contextlib
import ctypes
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu.page import page
from gpu.runs import command, work
from shared import ROOT, make_folder

from xpnet._lib.files import save
from xpnet._lib.machine import available_cpus
from xpnet.backends.probing import call_driver, cuda_driver_version, float64_ratio
from xpnet.backends.resolve import KINDS
from xpnet.errors import BackendError, XPNetError
from xpnet.parity.devices import BackendDevice
from xpnet.storage.environment import collect_environment

GOLDEN = ROOT / "docs/reproducibility.md"
FIRST, SECOND = "cuda:0", "cuda:1"
MARKS = {FIRST: (0, 1, 10, 100), SECOND: (0, 1, 10)}
"""By device, the numbers of epochs after which fingerprints are compared."""
PEERS = ("torch", "jax")
PLUGIN = "xpnet.parity.plugin"
MINUTES = 8.0
PROBE_SECONDS = 180.0


def main(argv: list[str] | None = None) -> int:
    """Run the stages and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}")
    add("--minutes", type=float, default=MINUTES, help="the most that a stage takes (default: 8)")
    add("--out", type=Path, default=ROOT / "docs/evidence", help="folder of the files")
    options = parser.parse_args(argv)
    try:
        check = start_check(options.out, 60 * options.minutes)
        failures = [line for name in options.only or STAGES for line in check.run(name)]
    except XPNetError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    verdict = "NOT all agree" if failures else "all agree"
    print(f"\n{verdict}; written to {check.file} and {check.file.with_suffix('.md').name}")
    return 1 if failures else 0


def start_check(out: Path, seconds: float) -> "Check":
    """Ask which libraries work and return the check, with what earlier ones found on this card.

    Raises
    ------
    XPNetError
        None works, the page of the fingerprints cannot be read, or the folder cannot be made.
    """
    expected = golden(GOLDEN)
    libraries = {name: probe_library(name) for name in KINDS["cuda"]}
    if not any(probe["usable"] for probe in libraries.values()):
        reasons = (f"{x}: {y['reason']}; to fix it: {y['fix']}" for x, y in libraries.items())
        msg = f"CUDA is not usable here: {' | '.join(reasons)}"
        raise BackendError(msg)
    about = card()
    file = out / f"cuda-{slug(about['name'])}.json"
    make_folder(out)
    print(f"{about['name']}, driver {about['driver']}")
    for name, probe in libraries.items():
        print(f"{name}: {probe['version'] if probe['usable'] else probe['reason']}")
    evidence = {
        "card": about,
        "libraries": libraries,
        "environment": collect_environment(),
        "stages": read_stages(file),
    }
    return Check(file, expected, evidence, seconds)


def golden(path: Path) -> dict[int, str]:
    """Return the fingerprint of the default run after each number of epochs, as the page has them.

    Raises
    ------
    XPNetError
        The page cannot be read or lacks one of the fingerprints.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}): run the check from a checkout"
        raise XPNetError(msg) from error
    rows = re.findall(r"^\| (initial|after \d+ epochs?) \| `([0-9a-f]{64})` \|$", text, re.MULTILINE)
    digests = {0 if name == "initial" else int(name.split()[1]): digest for name, digest in rows}
    if absent := {*MARKS[FIRST]} - digests.keys():
        after = ", ".join(str(epochs) for epochs in sorted(absent))
        msg = f"{path}: lacks the fingerprint of the default run after {after} epochs"
        raise XPNetError(msg)
    return digests


def probe_library(name: str) -> dict[str, Any]:
    """Return whether a library can use the GPU, its version and devices, or the reason and a remedy."""
    probe: dict[str, Any] = {"usable": False, "version": None, "devices": [], "fix": "see the reason"}
    problem = work(["probe", name, FIRST], PROBE_SECONDS, probe.update)
    return probe if problem is None else {**probe, "usable": False, "reason": problem}


def card() -> dict[str, Any]:
    """Return the first GPU's name and properties as its driver tells them.

    ``float32_to_float64`` is the driver's own figure for how much faster float32 is.
    """
    name, memory, device = ctypes.create_string_buffer(256), ctypes.c_size_t(), ctypes.c_int()
    call_driver("cuInit", 0)
    call_driver("cuDeviceGet", ctypes.byref(device), 0)
    call_driver("cuDeviceGetName", name, len(name), device)
    call_driver("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    version = cuda_driver_version() or 0
    return {
        "name": name.value.decode(errors="replace") or "unknown",
        "memory_gib": round(memory.value / 2**30, 1),
        "float32_to_float64": float64_ratio(0),
        "driver": _driver(),
        "cuda": f"{version // 1000}.{version % 1000 // 10}",
    }


def slug(name: str) -> str:
    """Return a card's name as part of a file's name: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def read_stages(file: Path) -> dict[str, Any]:
    """Return the stages in the file of an earlier check; none if there is no such file."""
    try:
        stages = json.loads(file.read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return {name: stages[name] for name in STAGES if name in stages}


@dataclass
class Check:
    """What has been found, and the file that it is written to."""

    file: Path
    expected: dict[int, str]
    evidence: dict[str, Any]
    seconds: float  # the most that a stage takes

    @property
    def usable(self) -> list[str]:
        """The libraries that can use the GPU."""
        return [name for name, probe in self.evidence["libraries"].items() if probe["usable"]]

    def save(self) -> None:
        """Write the evidence and its page; ConfigError when they cannot be written."""
        save(self.file, (json.dumps(self.evidence, indent=1) + "\n").encode())
        text = page(self.evidence, self.expected, self.file.name)
        save(self.file.with_suffix(".md"), text.encode())

    def run(self, name: str) -> list[str]:
        """Run a stage and return what differed or failed in it."""
        print(f"== {name}", flush=True)
        record: dict[str, Any] = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "git": self.evidence["environment"]["xpnet_commit"],
            "complete": False,
            "failures": [],
            "parts": {},
        }
        self.evidence["stages"][name] = record
        self.save()
        STAGES[name](self, Stage(self, record))
        record["complete"] = True
        self.save()
        failures: list[str] = record["failures"]
        return failures


class Stage:
    """A stage under way."""

    def __init__(self, check: Check, record: dict[str, Any]) -> None:
        self.record, self.save = record, check.save
        self.end = time.monotonic() + check.seconds

    def parts(self, titles: Collection[str]) -> Iterator[tuple[str, dict[str, Any], float]]:
        """Yield the title of each part, what it finds, to be filled in, and the seconds that it may take.

        That is an equal share of what is left for this part and those that come after it.
        """
        for at, title in enumerate(titles):
            print(f"-- {title}", flush=True)
            begin = time.monotonic()
            part = self.record["parts"][title] = {}
            yield title, part, max(1.0, (self.end - begin) / (len(titles) - at))
            part["part_seconds"] = round(time.monotonic() - begin, 1)
            self.save()

    def fail(self, title: str, problem: str | None) -> None:
        """Take note of a problem, if there is one."""
        if problem is not None:
            print(f"gpu_check: {title}: {problem}", file=sys.stderr, flush=True)
            self.record["failures"].append(f"{title}: {problem}")


def fingerprints(check: Check, stage: Stage) -> None:
    """Train the default run with each library, on a second GPU too, and compare its fingerprints."""
    targets = {
        f"{name} on {device}": (name, device)
        for device in MARKS
        for name in check.usable
        if device in check.evidence["libraries"][name]["devices"]
    }
    for title, part, seconds in stage.parts(targets):
        name, device = targets[title]

        def store(answer: dict[str, Any], part: dict[str, Any] = part) -> None:
            part[str(answer.pop("epochs"))] = answer
            stage.save()

        words = ["fingerprints", name, device, *map(str, MARKS[device])]
        stage.fail(title, work(words, seconds, store))
        stage.fail(title, _difference(part, check.expected))


def parity(check: Check, stage: Stage) -> None:
    """Run the parity table; its report is under "report", None if it gave none."""
    required = ",".join(["numpy", *(_case(name) for name in check.usable)])
    for title, part, seconds in stage.parts(["table"]):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "parity.json")
            words = ["-m", "xpnet", "parity", "--require", required, "--json", str(file)]
            part.update(command(words, seconds, COLUMNS="160"))
            with contextlib.suppress(OSError, ValueError):
                part["report"] = json.loads(file.read_text(encoding="utf-8"))
        stage.fail(title, part["problem"])


def speed(check: Check, stage: Stage) -> None:
    """Measure each library, and what its users write by hand."""
    kinds = dict.fromkeys(check.usable, "speed")
    kinds |= {f"hand-written {name}": "peer" for name in PEERS if name in check.usable}
    for title, part, seconds in stage.parts(kinds):
        part["steps"] = []

        def store(answer: dict[str, Any], part: dict[str, Any] = part) -> None:
            if "step" in answer:
                part["steps"].append(answer["step"])
            else:
                part.update(answer)
            stage.save()

        words = [kinds[title], title.removeprefix("hand-written "), FIRST]
        stage.fail(title, work(words, seconds, store))


def suite(check: Check, stage: Stage) -> None:
    """Run the tests' cases of each library on the GPU."""
    words = ["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "-m", "cuda"]
    if find_spec("xdist"):
        words += ["-n", str(min(8, available_cpus()))]
    if not any(point.value == PLUGIN for point in metadata.entry_points(group="pytest11")):
        words += ["-p", PLUGIN]
    for name, part, seconds in stage.parts(check.usable):
        case = _case(name)
        part.update(command([*words, "-k", case], seconds, XPNET_REQUIRE_BACKENDS=case))
        stage.fail(name, part["problem"])


STAGES: dict[str, Callable[[Check, Stage], None]] = {
    "fingerprints": fingerprints,
    "parity": parity,
    "speed": speed,
    "suite": suite,
}


def _case(name: str) -> str:
    """Return a library's name on the GPU, as tests and parity know it."""
    return str(BackendDevice(name, FIRST))


def _difference(part: dict[str, Any], expected: dict[int, str]) -> str | None:
    """Return a line about the first fingerprint that differs, if one does: the later ones follow."""
    for epochs, right in sorted(expected.items()):
        fingerprint = part.get(str(epochs), {}).get("fingerprint", right)
        if fingerprint != right:
            return f"after {epochs} epochs the fingerprint is {fingerprint}, not {right}"
    return None


def _driver() -> str:
    """Return the version of the NVIDIA driver, as nvidia-smi gives it."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]  # a line a GPU
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.partition("\n")[0].strip() or "unknown"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the process that runs, too
    sys.exit(main())
