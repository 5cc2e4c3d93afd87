"""Checks xpnet on an NVIDIA GPU and writes down what it found: docs/evidence/cuda-<card>.json and .md.

It runs the test suite with CuPy and PyTorch required on the GPU, prints the parity table, trains the default
run with both and compares its fingerprints with docs/reproducibility.md, and measures time.

Exit codes: 0 all agree, 1 something differs or fails, 2 no usable GPU or a library is missing.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xpnet import datasets
from xpnet.backends.base import Backend, cuda_driver_version, float64_ratio, one_line
from xpnet.backends.resolve import make, probe
from xpnet.checkpoint import fingerprint
from xpnet.config import Arithmetic, TrainConfig
from xpnet.datasets import Dataset
from xpnet.errors import XPNetError
from xpnet.experiment import assemble
from xpnet.files import unwritable, write_atomic
from xpnet.tracking import environment

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "docs/reproducibility.md"
DEVICE = "cuda:0"
LIBRARIES = ("cupy", "torch")
"""Those that must work on the GPU."""
REQUIRED = ("numpy", "torch", "cupy", "torch:cuda")
"""What the suite and the parity table must not be without, by the names that both know."""
ARITHMETICS: tuple[Arithmetic, ...] = ("reproducible", "native")

SLOW = 4.0
"""A float64 matrix product that takes so many times as long as one in float32 is slow."""


def main(argv: list[str] | None = None) -> int:
    """Check, write the evidence, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs/evidence", help="folder of the evidence"
    )
    options = parser.parse_args(argv)
    if refusal := unusable():
        return _refuse(refusal)
    try:
        expected = golden(GOLDEN)
        options.out.mkdir(parents=True, exist_ok=True)
    except XPNetError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(str(unwritable(options.out, error)))
    evidence = check(expected)
    path = options.out / f"cuda-{slug(evidence['card']['name'])}.json"
    try:
        write_atomic(path, (json.dumps(evidence, indent=1) + "\n").encode())
        write_atomic(path.with_suffix(".md"), summary(evidence, path.name).encode())
    except OSError as error:
        return _refuse(str(unwritable(path, error)))
    print(f"\n{evidence['verdict']}; written to {path} and {path.with_suffix('.md').name}")
    return 1 if evidence["failures"] else 0


def unusable() -> str | None:
    """Return why the GPU cannot be checked, on one line, or None if it can."""
    found = {name: probe(name, DEVICE) for name in LIBRARIES}
    missing = [
        f"{name}: {result.reason}; to mend it: {result.fix}"
        for name, result in found.items()
        if not result.usable
    ]
    if not missing:
        return None
    what = "CUDA is not usable here" if len(missing) == len(found) else f"{DEVICE} needs both"
    return f"{what}: {' | '.join(missing)}"


def golden(page: Path) -> dict[int, str]:
    """Return the fingerprint of the default run after each number of epochs, as the page has them.

    Raises
    ------
    XPNetError
        The page cannot be read or lacks the initial fingerprint, or that after 1, 10 or 100 epochs.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"{page}: cannot be read ({error.strerror}): run the check from a checkout"
        raise XPNetError(msg) from error
    rows = re.findall(
        r"^\| (initial|after \d+ epochs?) \| `([0-9a-f]{64})` \|$", text, re.MULTILINE
    )
    found = {0 if name == "initial" else int(name.split()[1]): digest for name, digest in rows}
    if absent := {0, 1, 10, 100} - found.keys():
        after = ", ".join(str(epochs) for epochs in sorted(absent))
        msg = f"{page}: lacks the fingerprint of the default run after {after} epochs"
        raise XPNetError(msg)
    return found


def check(expected: dict[int, str]) -> dict[str, Any]:
    """Run everything and return the evidence; a part that fails does not stop the others."""
    about = card()
    print(f"{about['name']}, driver {about['driver']}")
    data = datasets.load()
    failures: list[str] = []
    evidence: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "verdict": "",
        "failures": failures,
        "card": about,
        "suite": suite(),
        "parity": parity(),
        "trainings": {
            name: {kind: _attempt(train, name, kind, expected, data) for kind in ARITHMETICS}
            for name in LIBRARIES
        },
        "products": {name: _attempt(products, name) for name in LIBRARIES},
        "environment": environment(),
    }
    failures += [
        f"{part} ended with code {evidence[part]['exit']}: {evidence[part]['last_line']}"
        for part in ("suite", "parity")
        if evidence[part]["exit"]
    ]
    for name in LIBRARIES:
        parts = {**evidence["trainings"][name], "products": evidence["products"][name]}
        failures += [
            f"{name}, {x}: {part['error']}" for x, part in parts.items() if "error" in part
        ]
        failures += _differences(name, parts["reproducible"].get("fingerprints", {}), expected)
    evidence["verdict"] = "NOT all agree" if failures else "all agree"
    for failure in failures:
        print(f"gpu_check: {failure}", file=sys.stderr)
    return evidence


def card() -> dict[str, Any]:
    """Return the GPU's name and properties, and the versions of driver and CUDA.

    ``float32_to_float64`` is the driver's own figure for how much faster float32 is.
    """
    import cupy
    import torch

    runtime = cupy.cuda.runtime
    found = torch.cuda.get_device_properties(0)
    return {
        "name": str(found.name),
        "compute_capability": f"{found.major}.{found.minor}",
        "float32_to_float64": float64_ratio(0),
        "memory_gib": round(found.total_memory / 2**30, 1),
        "driver": _driver(),
        "cuda": {
            "driver": _dotted(cuda_driver_version() or 0),
            "cupy": _dotted(runtime.runtimeGetVersion()),
            "torch": str(torch.version.cuda),
        },
    }


def suite() -> dict[str, Any]:
    """Run the tests."""
    required = {"XPNET_REQUIRE_BACKENDS": ",".join(REQUIRED)}
    return _run(["pytest", "-q", "--color=no"], "the test suite", required)


def parity() -> dict[str, Any]:
    """Run the parity table; its report is under "report", None if it gave none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "parity.json")
        words = ["xpnet", "parity", "--require", ",".join(REQUIRED), "--json", str(file)]
        found = _run(words, "the parity table", {"COLUMNS": "160"})
        found["command"] = found["command"].replace(str(file), "FILE")
        try:
            report = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = None
    return {**found, "report": report}


def train(
    name: str, arithmetic: Arithmetic, marks: Collection[int], data: Dataset
) -> dict[str, Any]:
    """Train the default run on the GPU; see `training`."""
    print(f"== the default run, {name}, {arithmetic}", flush=True)
    return training(make(name, DEVICE), arithmetic, marks, data)


def training(
    backend: Backend, arithmetic: Arithmetic, marks: Collection[int], data: Dataset
) -> dict[str, Any]:
    """Train the default run for as many epochs as the last of `marks`.

    Returns the fingerprints after the numbers of epochs in `marks`, and the median time of an epoch in
    seconds: without its evaluation, and but for the first, in which libraries load.
    """
    epochs = max(marks)
    config = TrainConfig(epochs=epochs, arithmetic=arithmetic, log_every=epochs)
    fingerprints: dict[int, str] = {}
    times: list[float] = []
    with backend.scope():
        experiment = assemble(config, data, backend)
        begin = time.perf_counter()

        def on_epoch(epoch: int, evaluation: object, state: Any) -> None:
            nonlocal begin
            backend.synchronize()
            if evaluation is None and epoch > 1:
                times.append(time.perf_counter() - begin)
            if epoch in marks:
                fingerprints[epoch] = fingerprint(experiment.on_host(state.parameters))
            begin = time.perf_counter()

        experiment.fit(on_epoch)
    seconds = round(statistics.median(times), 6) if times else None
    return {"fingerprints": fingerprints, "seconds_per_epoch": seconds}


def products(name: str, size: int = 4096) -> dict[str, float]:
    """Measure products of square matrices on the GPU; see `product_seconds`."""
    backend = make(name, DEVICE)
    with backend.scope():
        single, double = (product_seconds(backend, kind, size) for kind in ("float32", "float64"))
    return {"size": size, "float32": single, "float64": double, "ratio": round(double / single, 1)}


def product_seconds(backend: Backend, dtype: str, size: int) -> float:
    """Return the shortest of five times that a product of two size × size matrices takes, in seconds."""
    xp = backend.xp
    a = xp.full((size, size), 0.5, dtype=getattr(xp, dtype), device=backend.device)
    times = []
    for _ in range(6):  # the first loads the library
        backend.synchronize()
        begin = time.perf_counter()
        xp.matmul(a, a)
        backend.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def slug(name: str) -> str:
    """Return a card's name as part of a file's name: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def summary(evidence: dict[str, Any], file: str) -> str:
    """Return the evidence as a page."""
    about, suite_, parity_ = evidence["card"], evidence["suite"], evidence["parity"]
    cuda, versions = about["cuda"], evidence["environment"]["versions"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"# {about['name']}: {evidence['verdict']}",
        "",
        f"{evidence['date']}, `python scripts/gpu_check.py`; all figures are in `{file}`.",
        "",
        f"- card: compute capability {about['compute_capability']}, {about['memory_gib']} GiB",
        f"- driver {about['driver']}; CUDA: {', '.join(f'{v} ({k})' for k, v in cuda.items())}",
        f"- {evidence['environment']['python']}, {libraries}",
        f"- xpnet's commit: {_commit(evidence['environment']['git'])}",
        f"- test suite, with {', '.join(REQUIRED)} required: {suite_['last_line']}",
        f"- parity: code {parity_['exit']}",
        f"- {_float64_note(evidence)}",
        "",
        "| default run | fingerprint after 100 epochs | ms an epoch, reproducible | native |",
        "|---|---|---:|---:|",
    ]
    for name in LIBRARIES:
        both = evidence["trainings"][name]
        digest = both["reproducible"].get("fingerprints", {}).get(100, "none")
        times = " | ".join(_milliseconds(both[kind]) for kind in ARITHMETICS)
        lines.append(f"| {name} {versions.get(name, '')} | `{digest}` | {times} |")
    if evidence["failures"]:
        lines += ["", "What differs or failed:", ""]
        lines += [f"- {failure}" for failure in evidence["failures"]]
    return "\n".join([*lines, "", "```", parity_["output"].strip("\n"), "```", ""])


def _refuse(reason: str) -> int:
    print(f"gpu_check: {reason}", file=sys.stderr)
    return 2


def _run(words: list[str], title: str, variables: dict[str, str]) -> dict[str, Any]:
    """Run a module of this Python, showing its output, and return code, time and last 100 lines."""
    print(f"== {title}", flush=True)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    begin = time.perf_counter()
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        # JAX would take most of the GPU's memory at once, from the libraries beside it.
        env={
            **os.environ,
            "PYTHONPATH": path,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines = [*lines[-99:], line.rstrip("\n")]
    written = [line.strip("= ") for line in lines if line.strip("= ")]
    return {
        "command": f"python -m {' '.join(words)}",
        "exit": process.returncode,
        "seconds": round(time.perf_counter() - begin, 1),
        "last_line": written[-1] if written else "no output",
        "output": "\n".join(lines),
    }


def _attempt(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what the function does, or its error: a GPU that gives up is a result too."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001  each library raises its own errors
        return {"error": f"{type(error).__name__}: {one_line(error)}"}


def _differences(name: str, found: dict[int, str], expected: dict[int, str]) -> list[str]:
    """Return a line about the first fingerprint that differs, if one does: the later ones follow."""
    for epochs, digest in sorted(found.items()):
        if digest != expected[epochs]:
            right = expected[epochs]
            return [f"{name}: after {epochs} epochs the fingerprint is {digest}, not {right}"]
    return []


def _float64_note(evidence: dict[str, Any]) -> str:
    """Return what the card's float64 means for the reproducible arithmetic."""
    ratios = {name: part["ratio"] for name, part in evidence["products"].items() if "ratio" in part}
    if not ratios:
        return "float64: not measured"
    shown = ", ".join(f"{ratio} times ({name})" for name, ratio in ratios.items())
    text = f"a float64 matrix product takes {shown} as long as one in float32"
    if max(ratios.values()) < SLOW:
        return text
    return f"{text}: this card is slow in float64, which the reproducible arithmetic needs"


def _milliseconds(part: dict[str, Any]) -> str:
    seconds = part.get("seconds_per_epoch")
    return "failed" if seconds is None else f"{1000 * seconds:.2f}"


def _commit(git: dict[str, Any] | None) -> str:
    if git is None:
        return "unknown"
    return f"{git['commit']}{' with changes' if git['dirty'] else ''}"


def _driver() -> str:
    """Return the version of the NVIDIA driver, as nvidia-smi gives it."""
    command = [
        "nvidia-smi",
        "--query-gpu=driver_version",
        "--format=csv,noheader",
    ]  # one line a GPU
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.partition("\n")[0].strip() or "unknown"


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


if __name__ == "__main__":
    sys.exit(main())
