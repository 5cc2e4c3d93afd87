"""Run xpnet on an NVIDIA GPU in stages, and write the output to docs/evidence/cuda-CARD-STAGE.md.

  train   the default run with each library on each GPU, whose fingerprint must be that of README.md
  parity  the parity table, with the GPU required
  suite   the tests that have a case on the GPU, library by library
  speed   training steps of each library, beside hand-written ones, and the card's state (gpu_steps.py)

A page is written after each command, so that a check that is cut off leaves what it found; that of a stage
that is not run stays as it was. A library that is missing or does not work is named with its reason; that is
no failure as long as another one works. A command that takes longer than --minutes is stopped, and fails.

Exit codes: 0 all agree; 1 a command fails; 2 no library can use a GPU, or the pages cannot be written; 130
interrupted.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from threading import Timer
from typing import Any

from checkout import ROOT, SCRIPTS
from shared import make_folder, python_path

from xpnet._lib.files import save
from xpnet.backends.resolve import DEVICE_KINDS
from xpnet.errors import BackendError, XPNetError
from xpnet.parity.devices import BackendDevice
from xpnet.storage.environment import collect_environment

STAGES = ("train", "parity", "suite", "speed")
FIRST = "cuda:0"
PLUGIN = "xpnet.parity.plugin"
LINES = 100
"""Lines of a command's output that the page shows: the last ones."""


@dataclass
class Command:
    """The words that follow ``python``, and a text that must be in the output."""

    title: str
    words: list[str]
    expected: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, seconds: float) -> tuple[str, str]:
        """Run the command, show its output, and return how it ended and the end of the output."""
        variables = {"PYTHONPATH": python_path(), "COLUMNS": "160", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        begin, lines = time.monotonic(), []
        with subprocess.Popen(
            [sys.executable, *self.words],
            cwd=ROOT,
            env={**os.environ, **variables, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            process_group=0,  # with the processes that it starts
        ) as process:
            timer = Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
            timer.start()
            try:
                for line in process.stdout or ():
                    print(line, end="", flush=True)
                    lines.append(line)
                process.wait()
            finally:
                timer.cancel()
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        took, output = time.monotonic() - begin, "".join(lines)
        if took >= seconds:
            ending = f"FAILED: stopped after {seconds:.0f} s"
        elif process.returncode:
            ending = f"FAILED: exit code {process.returncode}"
        elif self.expected not in output:
            ending = f"FAILED: does not print {self.expected}"
        else:
            ending = f"agrees, {took:.0f} s"
        return ending, "".join(lines[-LINES:])


def main(argv: list[str] | None = None) -> int:
    """Run the stages and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}")
    add("--minutes", type=float, default=8.0, help="the most that a command takes (default: 8)")
    add("--out", type=Path, default=ROOT / "docs/evidence", help="folder of the pages")
    options = parser.parse_args(argv)
    try:
        libraries = describe_libraries()
        devices = {each["name"]: each["devices"] for each in libraries if FIRST in each["usable"]}
        make_folder(options.out)
        with tempfile.TemporaryDirectory() as runs:
            stages = list_commands(devices, runs)
            failures = [run_stage(x, stages[x], libraries, options) for x in options.only or STAGES]
    except XPNetError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print("NOT all agree" if any(failures) else "all agree")
    return int(any(failures))


def describe_libraries() -> list[dict[str, Any]]:
    """Return what ``xpnet doctor`` says of the libraries for GPUs; BackendError if none can use one."""
    words = [sys.executable, "-m", "xpnet", "doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    doctor = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    libraries = json.loads(doctor.stdout)["backends"] if doctor.stdout else []
    libraries = [each for each in libraries if each["name"] in DEVICE_KINDS["cuda"]]
    if not any(FIRST in each["usable"] for each in libraries):
        reasons = " | ".join(map(describe, libraries)) or f"xpnet doctor ended with code {doctor.returncode}"
        msg = f"CUDA is not usable here: {reasons}"
        raise BackendError(msg)
    return libraries


def describe(library: dict[str, Any]) -> str:
    """Return the devices that a library can use, or why it cannot use the first GPU, and the fix."""
    for trouble in library["troubles"]:
        if trouble["device"] == FIRST:
            return f"{library['name']}: {trouble['reason']}; to fix it: {trouble['fix']}"
    return f"{library['name']} {library['version']} on {', '.join(library['usable'])}"


def describe_card() -> str:
    """Return name, driver and memory of the first GPU as nvidia-smi gives them."""
    words = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown GPU"
    return answer.stdout.partition("\n")[0].strip() or "unknown GPU"


def run_stage(
    name: str, commands: list[Command], libraries: list[dict[str, Any]], options: argparse.Namespace
) -> int:
    """Run the commands of a stage, write its page after each, and return how many failed."""
    card, git = describe_card(), collect_environment()["xpnet_commit"]
    commit = f", commit {git['commit']}{' with changes' * git['dirty']}" if git else ""
    slug = re.sub(r"[^a-z0-9]+", "-", card.partition(",")[0].lower())
    file = options.out / f"cuda-{slug}-{name}.md"
    about = [f"`python scripts/gpu_check.py`, {datetime.now(UTC):%Y-%m-%d}{commit}", "", f"- {card}"]
    about += [f"- {describe(library)}" for library in libraries]
    endings, sections = list[str](), list[str]()
    for command in commands:
        print(f"== {name}: {command.title}", flush=True)
        ending, output = command.run(60 * options.minutes)
        print(f"-- {ending}", flush=True)
        endings.append(ending)
        sections += ["", f"## {command.title}: {ending}", "", "```", output.strip("\n"), "```"]
        failed = sum(each.startswith("FAILED") for each in endings)
        state = "NOT all agree" if failed else "all agree"
        if len(endings) < len(commands):
            state += f" so far, {len(endings)} of {len(commands)} commands"
        save(file, "\n".join([f"# {name}: {state}", "", *about, *sections, ""]).encode())
    print(f"written to {file}")
    return sum(ending.startswith("FAILED") for ending in endings)


def list_commands(devices: dict[str, list[str]], runs: str) -> dict[str, list[Command]]:
    """Return the commands of each stage, of the libraries that can use the first GPU, with their devices."""
    page = (ROOT / "docs/reproducibility.md").read_text(encoding="utf-8")
    golden = re.findall(r"^\| after 100 epochs \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)[0]
    train = ["-m", "xpnet", "train", "--epochs", "100", "--no-report", "--out", runs]
    cases = {name: str(BackendDevice(name, FIRST)) for name in devices}  # as tests and parity know them
    suite = ["-m", "pytest", "-q", "-n", "auto", "--maxprocesses", "8", "-m", "cuda"]
    if not any(point.value == PLUGIN for point in metadata.entry_points(group="pytest11")):
        suite += ["-p", PLUGIN]
    return {
        "train": [
            Command(f"{name} on {device}", [*train, "--backend", name, "--device", device], golden)
            for name, usable in devices.items()
            for device in usable
            if device.startswith("cuda")
        ],
        "parity": [
            Command("table", ["-m", "xpnet", "parity", "--require", ",".join(["numpy", *cases.values()])])
        ],
        "suite": [
            Command(name, [*suite, "-k", case], variables={"XPNET_REQUIRE_BACKENDS": case})
            for name, case in cases.items()
        ],
        "speed": [Command(name, [str(SCRIPTS / "gpu_steps.py"), name, FIRST]) for name in devices],
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the command that runs, too
    sys.exit(main())
