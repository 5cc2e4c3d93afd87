"""The doctor's report: what can run, what cannot, why, and the command that fixes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from xpnet.__main__ import main
from xpnet.backends.probing import Probe
from xpnet.backends.resolve import BACKENDS
from xpnet.cli import doctor
from xpnet.parity import devices

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_FIX = "pip install --force-reinstall torch" + " --and-a-long-option" * 4


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with NumPy, a PyTorch that sees two GPUs or none, and nothing else."""

    def pretend(*, gpus: int, numpy_works: bool = True) -> None:
        names = tuple(f"cuda:{index}" for index in range(gpus))

        def probe(backend: str, device: str) -> Probe:
            if backend == "numpy":
                return Probe(numpy_works, "2.4.6", ("cpu",), None if numpy_works else "broken", "x")
            if backend != "torch":
                return Probe(
                    usable=False,
                    version=None,
                    devices=(),
                    reason=f"{backend} is not installed",
                    fix=f"pip install {backend}",
                )
            usable = device in ("cpu", *names)
            reason, fix = (None, None) if usable else ("torch was built without CUDA", LONG_FIX)
            return Probe(usable, "2.13.0", ("cpu", *names), reason, fix)

        monkeypatch.setattr(devices, "probe", probe)
        monkeypatch.setattr(doctor, "cuda_driver_version", lambda: 12080 if gpus else None)

    return pretend


def test_report_lists_every_backend_with_its_version_and_devices(
    machine: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    machine(gpus=2)
    assert main(["doctor"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1].endswith("NVIDIA driver: CUDA 12.8")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines[4:9]}
    assert rows == {
        "numpy": ["2.4.6", "cpu"],
        "cupy": ["-", "nothing here"],
        "torch": ["2.13.0", "cpu, cuda:0, cuda:1"],
        "jax": ["-", "nothing here"],
        "array-api-strict": ["-", "nothing here"],
    }


def test_report_gives_each_reason_and_its_command_on_one_line(
    machine: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    machine(gpus=0)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "NVIDIA driver: none" in text
    assert f"torch on cuda:0: torch was built without CUDA\n  to fix it: {LONG_FIX}\n" in text
    assert "jax on cpu: jax is not installed\n  to fix it: pip install jax\n" in text
    assert "\x1b" not in text
    table = text.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 80


def test_json_says_the_same(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    machine(gpus=0)
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report["cpus"] >= 1
    assert report["nvidia_driver"] is None
    assert report["platform"]
    assert report["xpnet"]
    by_name = {entry.pop("name"): entry for entry in report["backends"]}
    assert list(by_name) == list(BACKENDS)
    assert by_name["cupy"] == {
        "installed": False,
        "version": None,
        "devices": [],
        "usable": [],
        "troubles": [{"device": "cuda:0", "reason": "cupy is not installed", "fix": "pip install cupy"}],
    }
    assert by_name["torch"] == {
        "installed": True,
        "version": "2.13.0",
        "devices": ["cpu"],
        "usable": ["cpu"],
        "troubles": [{"device": "cuda:0", "reason": "torch was built without CUDA", "fix": LONG_FIX}],
    }


def test_exit_code_is_2_when_numpy_does_not_work(machine: Callable[..., None]) -> None:
    machine(gpus=0, numpy_works=False)
    assert main(["doctor", "--json"]) == 2


def test_real_report_is_json_alone() -> None:
    program = "import sys; from xpnet.__main__ import main; sys.exit(main(['doctor', '--json']))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert run.returncode == 0, run.stderr
    numpy = json.loads(run.stdout)["backends"][0]
    assert (numpy["name"], numpy["usable"], numpy["troubles"]) == ("numpy", ["cpu"], [])
