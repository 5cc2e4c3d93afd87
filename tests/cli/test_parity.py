"""The command: its table, its record, and that it can say no."""

import json
import re
from pathlib import Path

import pytest
from commands import complaint

from xpnet import train
from xpnet.__main__ import main
from xpnet.arithmetic import ARITHMETICS, Arithmetic, Reproducible
from xpnet.backends.base import PRECISION_VARIABLES
from xpnet.backends.probing import Probe
from xpnet.parity import devices
from xpnet.parity.devices import NUMPY, BackendDevice
from xpnet.storage.record import read_run

USABLE = Probe(usable=True, version="1.0", devices=())
GONE = Probe(False, None, (), "cupy is not installed", 'pip install "cupy-cuda12x[ctk]"')
pytestmark = pytest.mark.usefixtures("small_data")
FACTORS = [(1.0 + 1e-7, []), (1.0 + 1e-4, ["more than 1e-7"]), (float("nan"), ["diverged"] * 2)]
WORDS = ("--data", "small.npz", "--epochs", "2", "--hidden", "5")


@pytest.fixture
def run(monkeypatch):
    strict, cupy = BackendDevice("array-api-strict", "device1"), BackendDevice("cupy", "cuda:0")
    monkeypatch.setattr(devices, "probe_all", lambda: [(NUMPY, USABLE), (strict, USABLE), (cupy, GONE)])
    return lambda *words: main(["parity", *WORDS, *words])


@pytest.fixture
def broken(monkeypatch):
    """Let array-api-strict compute with an arithmetic in which some methods are replaced."""

    def replace_methods(base, **methods):
        other = type("Broken", (base,), methods)

        def choose(xp, device, dtype, fuses):
            return (other if "strict" in xp.__name__ else base)(xp, device, dtype, fuses)

        monkeypatch.setitem(ARITHMETICS, base.name, choose)

    return replace_methods


def record():
    return json.loads(Path("parity.json").read_text())


def test_the_table_and_the_record_are_of_the_run_that_train_makes(run, capsys):
    words = ("--seed", "7", "--batch-size", "16")
    assert run(*words, "--json", "parity.json", "--require", "array-api-strict:cpu") == 0
    lines = [re.sub(" +", " ", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "small, 180 samples, network 36-5-4, epochs 2, batch size 16, seed 7"
    assert lines[4] == "reproducible float64: bit for bit as NumPy"
    assert re.fullmatch(r"array-api-strict \S+ device1 [0-9a-f]{12} - - 0 0 \d+\.\d s same", lines[6])
    assert lines[-3] == "cupy on cuda:0: cupy is not installed"
    kinds = "3 reproducible runs with one fingerprint and history, 6 native runs within tolerance"
    assert lines[-1] == f"parity holds: {kinds}"
    options = ("--device", "cpu", "--name", "run", "--quiet", "--no-report")
    assert train.main([*WORDS, *words, *options]) == 0
    report, (first, *_) = record(), record()["rows"]
    assert (report["passed"], report["seed"], report["absent"][0]["backend"]) == (True, 7, "cupy")
    assert (first["arithmetic"], first["dtype"], first["tolerance"]) == ("reproducible", "float64", None)
    assert first["fingerprint"] == read_run(Path("runs", "run"))["fingerprint"]
    results = [(row["backend"], row["device"]) for row in report["rows"]]
    assert results.count(("array-api-strict", "cpu")) == 3  # a required device has a row


def off_gradients(self, dz, a):
    dw, db = Reproducible.weight_and_bias_gradients(self, dz, a)
    return (dw + 2.0**-20, db) if dw.shape[-2] == 4 else (dw, db)  # of layer 1, 4 x 5


def test_a_reproducible_difference_fails_and_is_located(run, broken, capsys):
    broken(Reproducible, weight_and_bias_gradients=off_gradients)
    assert run("--json", "parity.json") == 1
    out = capsys.readouterr().out
    place = "epoch 1, step 0, block 0: weight_and_bias_gradients in linear_backward, call"
    assert f"array-api-strict on device1, reproducible float64: {place}" in out
    assert out.endswith("parity does not hold: 1 of 6 runs fail\n")
    (failed,) = (row for row in record()["rows"] if row["verdict"] == "FAIL")
    assert (failed["epoch"], failed["layer"], failed["problem"]) == (1, 1, "not the bits of NumPy")


@pytest.mark.parametrize(("factor", "failures"), FACTORS)
def test_the_native_tolerances_decide(run, broken, capsys, factor, failures):
    """A relative error of the gradients moves the parameters by about a hundredth of it."""

    def weight_and_bias_gradients(self, dz, a):
        dw, db = Arithmetic.weight_and_bias_gradients(self, dz, a)
        return dw * factor, db

    broken(Arithmetic, weight_and_bias_gradients=weight_and_bias_gradients)
    assert run() == bool(failures)
    out = capsys.readouterr().out
    assert out.count("FAIL") == len(failures)
    assert re.findall(r"native float\d\d: .*(diverged|more than 1e-7)", out) == failures


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("name", ["X", *PRECISION_VARIABLES])
@pytest.mark.parametrize("value", ["0", "1"])
def test_missing_devices_and_variables_that_change_precision_are_refused(monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    missing = "--require: cupy on cuda:0: cupy is not installed; to fix it: pip install"
    expected = missing if name == "X" or value == "0" else f"{name}=1: "
    assert complaint(capsys, "parity", *WORDS, "--require", "cupy").startswith(expected)
