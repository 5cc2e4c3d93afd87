"""The doctor's report: what can run, what cannot, why, and the command that fixes it."""

import re

import pytest
from commands import printed_json

from xpnet.__main__ import main
from xpnet.backends.probing import Probe
from xpnet.backends.resolve import BACKENDS
from xpnet.cli import doctor

FIX = "pip install --force-reinstall torch" + " --and-a-long-option" * 4


@pytest.fixture
def machine(monkeypatch):
    """A machine with NumPy, a PyTorch that sees two GPUs or none, and nothing else."""

    def pretend(*, gpus):
        names = ("cpu", *(f"cuda:{index}" for index in range(gpus)))

        def probe(backend, device):
            if backend == "numpy":
                return Probe(True, "2.4.6", ("cpu",), None, None)
            if backend != "torch":
                return Probe(False, None, (), f"{backend} is not installed", f"pip install {backend}")
            if device in names:
                return Probe(True, "2.13.0", names, None, None)
            return Probe(False, "2.13.0", names, "torch was built without CUDA", FIX)

        for name in "xpnet.parity.devices.probe", "xpnet.backends.resolve.probe":
            monkeypatch.setattr(name, probe)
        driver = 12080 if gpus else None
        monkeypatch.setattr(doctor, "cuda_driver_version", lambda: driver)
        monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: driver)

    return pretend


def test_report_lists_every_backend_with_its_version_and_devices(machine, capsys, monkeypatch):
    machine(gpus=2)
    monkeypatch.setattr("xpnet.backends.resolve.make", lambda *_: None)
    assert main(["doctor", "--require-device"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1].endswith("NVIDIA driver: CUDA 12.8")
    rows = [line.split(maxsplit=2) for line in lines[4:10]]
    assert [name for name, *_ in rows] == list(BACKENDS)
    assert rows[:2] == [["numpy", "2.4.6", "cpu"], ["cupy", "-", "nothing here"]]
    assert rows[2] == ["torch", "2.13.0", "cpu, cuda:0, cuda:1"]


def test_with_a_driver_each_library_has_its_reason_and_its_fix_on_one_line(machine, capsys, monkeypatch):
    machine(gpus=0)
    monkeypatch.setattr(doctor, "cuda_driver_version", lambda: 12080)
    assert main(["doctor"]) == 0
    assert f"torch on cuda:0: torch was built without CUDA\n  to fix it: {FIX}\n" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "variable"), [(["--require-device"], "0"), ([], "True")])
def test_a_machine_without_a_gpu_that_is_required_is_an_error_after_the_report(
    machine, capsys, monkeypatch, words, variable
):
    machine(gpus=0)
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", variable)
    assert main(["doctor", *words]) == 2
    out, err = capsys.readouterr()
    troubles = re.findall(r"^(.*): .*\n  to fix it: ", out, re.MULTILINE)
    assert troubles == ["NVIDIA GPUs", "jax on cpu", "dpnp on cpu", "array-api-strict on cpu"]
    assert err.startswith(
        "xpnet: a GPU is required: no backend can run on cuda:0: there is no NVIDIA driver;"
    )


def test_json_says_the_same(machine, capsys):
    machine(gpus=0)
    torch = printed_json(capsys, "doctor")["backends"][list(BACKENDS).index("torch")]
    trouble = {"device": "cuda:0", "reason": "torch was built without CUDA", "fix": FIX}
    assert (torch["version"], torch["usable"], torch["troubles"]) == ("2.13.0", ["cpu"], [trouble])
