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
def pretend(monkeypatch):
    """A function that makes this a machine with a driver or none, NumPy, and a PyTorch that sees devices."""

    def probe(backend, device):
        if backend not in ("numpy", "torch"):
            return Probe(False, None, (), f"{backend} is not installed", f"pip install {backend}")
        usable = backend == "numpy" or device in names
        return Probe(usable, "2.1", tuple(names), *(None, None) if usable else ("is built without", FIX))

    def machine(*devices, driver=None):
        names[:] = devices
        monkeypatch.setattr(doctor, "cuda_driver_version", lambda: driver)
        monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: driver)

    names = []
    for name in "xpnet.parity.devices.probe", "xpnet.backends.resolve.probe":
        monkeypatch.setattr(name, probe)
    return machine


def test_report_lists_every_backend_with_its_version_and_devices(pretend, capsys, monkeypatch):
    pretend("cpu", "cuda:0", driver=12080)
    monkeypatch.setattr("xpnet.backends.resolve.make", lambda *_: None)
    assert main(["doctor", "--require-device"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1].endswith("NVIDIA driver: CUDA 12.8")
    rows = [line.split(maxsplit=2) for line in lines[4:10]]
    assert [name for name, *_ in rows] == list(BACKENDS)
    assert rows[1:3] == [["cupy", "-", "nothing here"], ["torch", "2.1", "cpu, cuda:0"]]


@pytest.mark.parametrize(("words", "variable"), [(["--require-device"], "0"), ([], "True")])
def test_a_missing_gpu_is_an_error_if_it_is_required(pretend, capsys, monkeypatch, words, variable):
    pretend("cpu")
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", variable)
    assert main(["doctor", *words]) == 2
    out, err = capsys.readouterr()
    troubles = re.findall(r"^(.*): .*\n  to fix it: ", out, re.MULTILINE)
    assert troubles == ["NVIDIA GPUs", "jax on cpu", "dpnp on cpu", "array-api-strict on cpu"]
    assert err.startswith("xpnet: a GPU is required: no backend can run on cuda:0: there is no NVIDIA d")


def test_json_says_the_same(pretend, capsys):
    pretend("cpu")
    torch = printed_json(capsys, "doctor")["backends"][2]
    trouble = {"device": "cuda:0", "reason": "is built without", "fix": FIX}
    assert (torch["name"], torch["usable"], torch["troubles"]) == ("torch", ["cpu"], [trouble])
