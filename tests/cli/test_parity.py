"""The command: its table, its record, and that it can say no."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backend_enum import BackendCase

from xpnet.__main__ import main
from xpnet.arithmetic import ARITHMETICS, Native, Reproducible
from xpnet.backends.base import PRECISION_VARIABLES, check_environment
from xpnet.backends.probing import Probe
from xpnet.cli import parity
from xpnet.cli.tables import make_console
from xpnet.parity import devices, runs
from xpnet.parity.devices import NUMPY, BackendDevice

STRICT = BackendDevice("array-api-strict", "device1")
CUPY = BackendDevice("cupy", "cuda:0")
USABLE = Probe(usable=True, version="1.0", devices=())
GONE = Probe(False, None, (), "cupy is not installed", 'pip install "cupy-cuda12x[ctk]"')


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 60 + 20 samples, 6 features, 3 classes."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(80, 6), dtype=np.uint8)
    y = np.argmax(x[:, :3], axis=1)
    np.savez(tmp_path / "small.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    monkeypatch.chdir(tmp_path)
    for name in PRECISION_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def two_places(monkeypatch):
    """NumPy and array-api-strict, and no CuPy."""
    probes = [(NUMPY, USABLE), (STRICT, USABLE), (CUPY, GONE)]
    monkeypatch.setattr(devices, "probe_all", lambda: probes)


def run(*words):
    return main(["parity", "--data", "small.npz", "--epochs", "3", "--hidden", "5", *words])


def record():
    return json.loads(Path("parity.json").read_text())


def break_arithmetic(monkeypatch, base, **methods):
    """Let array-api-strict compute with an arithmetic in which some methods are replaced."""
    broken = type("Broken", (base,), methods)

    def choose(xp, device, dtype):
        return (broken if "strict" in xp.__name__ else base)(xp, device, dtype)

    monkeypatch.setitem(ARITHMETICS, base.name, choose)


def test_every_backend_that_works_here_agrees(capsys):
    assert run("--epochs", "1", "--json", "parity.json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "parity holds" in out
    results = {(row["backend"], row["device"]) for row in record()["rows"]}
    here = [case for case in BackendCase if case.probe().usable]
    assert results == {(case.backend_name, case.device) for case in here}
    assert len(record()["rows"]) == 3 * len(here)
    assert len({row["fingerprint"] for row in record()["rows"] if not row["tolerance"]}) == 1


@pytest.mark.usefixtures("two_places")
def test_the_table_and_the_summary(capsys):
    assert run() == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "small, 60 samples, network 6-5-3, epochs 3, batch size full, seed 0"
    assert lines[2].split() == ["differs", "from"]
    assert re.sub(" +", " ", lines[3]) == (
        "backend version device fingerprint epoch layer max ulp max rel time verdict"
    )
    assert lines[4] == "reproducible float64: bit for bit as NumPy"
    assert re.fullmatch(r"numpy +\S+ +cpu +[0-9a-f]{12} +- +- +0 +0 +\d+\.\d s  same", lines[5])
    strict = r"array-api-strict +\S+ +device1 +[0-9a-f]{12} +- +- +0 +0 +\d+\.\d s  same"
    assert re.fullmatch(strict, lines[6])
    assert lines[8] == ("native float32: within 1e-4 of NumPy, relative to each tensor's largest")
    assert lines[12].startswith("native float64: within 1e-7 of NumPy")
    assert lines[16:] == [
        "absent (xpnet doctor says how to fix it):",
        "  cupy on cuda:0: cupy is not installed",
        "",
        (
            "parity holds: 2 reproducible runs with one fingerprint and history, "
            "4 native runs within tolerance"
        ),
    ]
    assert max(map(len, lines[:15])) <= 100


@pytest.mark.usefixtures("two_places")
def test_the_record_has_settings_rows_and_what_is_absent():
    assert run("--seed", "7", "--batch-size", "16", "--json", "parity.json") == 0
    report = record()
    assert report["passed"] is True
    assert (report["seed"], report["batch_size"], report["epochs"], report["hidden"]) == (7, 16, 3, [5])
    assert re.fullmatch("[0-9a-f]{64}", report["data"]["sha256"])
    assert report["absent"] == [
        {
            "backend": "cupy",
            "device": "cuda:0",
            "version": None,
            "reason": "cupy is not installed",
            "fix": 'pip install "cupy-cuda12x[ctk]"',
        }
    ]
    first = report["rows"][0]
    assert (first["arithmetic"], first["dtype"], first["tolerance"]) == ("reproducible", "float64", None)
    assert re.fullmatch("[0-9a-f]{64}", first["fingerprint"])


@pytest.mark.usefixtures("two_places")
def test_the_run_is_the_one_that_train_makes(tmp_path):
    from xpnet import train
    from xpnet.storage.record import read_run

    assert run("--json", "parity.json") == 0
    words = ["--data", "small.npz", "--epochs", "3", "--hidden", "5", "--device", "cpu"]
    assert train.main([*words, "--name", "run", "--quiet", "--no-report"]) == 0
    trained = read_run(tmp_path / "runs" / "run")
    assert record()["rows"][0]["fingerprint"] == trained["fingerprint"]


@pytest.mark.usefixtures("two_places")
@pytest.mark.parametrize("words", [("--hidden",), ("--hidden", "4", "3"), ("--batch-size", "7")])
def test_other_networks_and_batches(words, capsys):
    assert run(*words) == 0
    assert "parity holds" in capsys.readouterr().out


@pytest.mark.usefixtures("two_places")
def test_a_broken_reproducible_operation_fails(monkeypatch, capsys):
    def weight_and_bias_gradients(self, dz, a):
        dw, db = Reproducible.weight_and_bias_gradients(self, dz, a)
        return (dw + 2.0**-20, db) if dw.shape[-2] == 3 else (dw, db)  # of layer 1, 3 x 5

    break_arithmetic(monkeypatch, Reproducible, weight_and_bias_gradients=weight_and_bias_gradients)
    assert run("--json", "parity.json") == 1
    out = capsys.readouterr().out
    assert re.search(r"array-api-strict .* 1 +1 +\S+ +\S+ +\S+ s  FAIL\n", out)
    assert (
        "array-api-strict on device1, reproducible float64: epoch 1, step 0, block 0: "
        "weight_and_bias_gradients in linear_backward, call 0, differs first, at (0, 0): "
    ) in out
    assert "parity does not hold: 1 of 6 runs fail" in out
    (failed,) = (row for row in record()["rows"] if row["verdict"] == "FAIL")
    assert (failed["epoch"], failed["layer"], failed["problem"]) == (1, 1, "not the bits of NumPy")
    assert record()["passed"] is False


@pytest.mark.usefixtures("two_places")
def test_a_difference_in_the_losses_alone_fails(monkeypatch, capsys):
    break_arithmetic(
        monkeypatch, Reproducible, log=lambda self, x, **known: Reproducible.log(self, x, **known) + 0.5
    )
    assert run("--json", "parity.json") == 1
    (failed,) = (row for row in record()["rows"] if row["verdict"] == "FAIL")
    assert (failed["epoch"], failed["layer"], failed["max_ulp"]) == (0, None, 0)
    assert "epoch 0, block 0: log in cross_entropy, call 0, differs first" in capsys.readouterr().out


@pytest.mark.usefixtures("two_places")
def test_a_difference_in_the_test_figures_alone_fails(monkeypatch, capsys):
    def log(self, x, **known):
        y = Reproducible.log(self, x, **known)
        return y + 0.5 if x.shape[-1] == 20 else y

    break_arithmetic(monkeypatch, Reproducible, log=log)
    assert run() == 1
    assert "reproducible float64: only the test metrics differ" in capsys.readouterr().out


@pytest.mark.usefixtures("two_places")
@pytest.mark.parametrize(
    ("error", "failures"), [(1e-9, 0), (1e-6, 1), (1e-3, 2)], ids=["none", "float64", "both"]
)
def test_the_native_tolerances_decide(monkeypatch, capsys, error, failures):
    """A relative error of the gradients moves the parameters by about as much."""

    def weight_and_bias_gradients(self, dz, a):
        dw, db = Native.weight_and_bias_gradients(self, dz, a)
        return dw * (1.0 + 60 * error), db

    break_arithmetic(monkeypatch, Native, weight_and_bias_gradients=weight_and_bias_gradients)
    assert run() == (1 if failures else 0)
    out = capsys.readouterr().out
    assert out.count("FAIL") == failures
    if failures:
        assert re.search(r"native float64: \d\.\de-\d\d from NumPy, more than 1e-7", out)


@pytest.mark.usefixtures("two_places")
def test_a_backend_that_breaks_down_fails_with_its_reason(monkeypatch, capsys):
    def exp(self, x):
        msg = "out of\nmemory."
        raise RuntimeError(msg)

    break_arithmetic(monkeypatch, Native, exp=exp)
    assert run("--json", "parity.json") == 1
    out = capsys.readouterr().out
    assert out.count("FAIL") == 2
    assert "array-api-strict on device1, native float32: out of memory" in out
    (first, _) = (row for row in record()["rows"] if row["verdict"] == "FAIL")
    assert (first["fingerprint"], first["problem"]) == (None, "out of memory")


@pytest.mark.usefixtures("two_places")
def test_a_training_that_diverges_elsewhere_fails(monkeypatch, capsys):
    break_arithmetic(monkeypatch, Native, log=lambda self, x, **_: x * float("nan"))
    assert run() == 1
    assert "native float32: training diverged" in capsys.readouterr().out


def test_infinities_are_text_in_the_record():
    assert parity._replace_infinity({"max_ulp": float("inf"), "epoch": 1}) == {
        "max_ulp": "infinite",
        "epoch": 1,
    }


@pytest.mark.usefixtures("two_places")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epochs", "-1"), "--epochs: expected a whole number, 0 or more, got -1"),
        (("--epochs", "ten"), '--epochs: expected a whole number, 0 or more, got "ten"'),
        (("--batch-size", "x"), '--batch-size: expected full or a whole number, 1 or more, got "x"'),
        (("--hidden", "0"), "--hidden: expected whole numbers, each 1 or more, got [0]"),
        (("--batch-size", "61"), "--batch-size: expected at most the 60 training samples, got 61"),
        (("--data", "none.npz"), "none.npz: "),
        (("--test-data", "b.csv"), "small.npz"),
        (("--json", "none/parity.json"), "--json: the folder of none/parity.json does not exist"),
        (("--require", "numpy,keras"), "unknown backend 'keras': expected numpy, cupy, torch, jax"),
        (("--require", "numpy:cuda"), "unknown backend or device 'numpy:cuda': numpy never runs on cuda"),
        (("--require", "torch:tpu"), "unknown backend or device 'torch:tpu': torch never runs on tpu"),
        (("--require", "cupy"), "--require: cupy on cuda:0: cupy is not installed; to fix it: pip install"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys):
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xpnet: ")
    assert message in err
    assert err.count("\n") == 1


def test_an_unknown_flag_is_exit_code_2(capsys):
    assert run("--epoch-number", "3") == 2
    err = capsys.readouterr().err
    assert err.endswith(" (xpnet parity --help)\n")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("two_places")
def test_what_is_required_and_there_is_no_error():
    assert run("--epochs", "0", "--require", "numpy,array-api-strict") == 0


@pytest.mark.usefixtures("two_places")
def test_a_required_place_has_a_row():
    words = ("--epochs", "0", "--require", "array-api-strict:cpu", "--json", "parity.json")
    assert run(*words) == 0
    results = [(row["backend"], row["device"]) for row in record()["rows"]]
    assert results.count(("array-api-strict", "cpu")) == 3


@pytest.mark.parametrize("name", PRECISION_VARIABLES)
def test_variables_that_change_precision_are_refused(monkeypatch, capsys, name):
    monkeypatch.setenv(name, "1")
    assert run() == 2
    err = capsys.readouterr().err
    assert err.startswith(f"xpnet: {name}=1: ")
    assert err.endswith(f"unset {name}\n")
    monkeypatch.setenv(name, "0")
    check_environment()


@pytest.mark.usefixtures("two_places")
def test_a_training_that_diverges_with_numpy_is_exit_code_3(monkeypatch, capsys):
    broken = type("Broken", (Native,), {"log": lambda self, x, **_: x * float("nan")})
    monkeypatch.setitem(ARITHMETICS, "native", broken)
    assert run() == 3
    assert capsys.readouterr().err.startswith("xpnet: training diverged")


@pytest.mark.usefixtures("two_places")
def test_ctrl_c_ends_the_command(monkeypatch):
    def interrupt(self, x):
        raise KeyboardInterrupt

    break_arithmetic(monkeypatch, Native, exp=interrupt)
    assert run() == 130


def row(**changes):
    made = runs.ParityResult(
        *("array-api-strict", "2.13.0+cu126", "cuda:0", "native", "float32", 1e-4),
        fingerprint="0123456789abcdef",
        epoch=10,
        layer=0,
        max_ulp=3.2e12,
        max_relative=1.5e-3,
        seconds=123.4,
        problem="far",
    )
    return replace(made, **changes)


@pytest.mark.parametrize(("width", "missing"), [(100, set()), (80, {"time", "version"})])
def test_the_table_fits_a_terminal(width, missing, capsys):
    parity.print_rows(make_console(width=width, force_terminal=True, no_color=True), [row()])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    names = set(re.split("  +", lines[1].strip()))
    assert {"time", "version"} - names == missing
    assert {"backend", "device", "fingerprint", "epoch", "layer", "max ulp", "verdict"} <= names
    assert lines[-1].split()[-1] == "FAIL"


def test_the_table_is_whole_where_there_is_no_terminal(capsys):
    parity.print_rows(make_console(width=40), [row(), row(fingerprint=None, seconds=None, max_ulp=None)])
    lines = capsys.readouterr().out.splitlines()
    assert re.sub(" +", " ", lines[-2]) == (
        "array-api-strict 2.13.0 cuda:0 0123456789ab 10 0 3.2e+12 1.5e-03 123.4 s FAIL"
    )
    assert re.sub(" +", " ", lines[-1]).endswith("cuda:0 - 10 0 - 1.5e-03 - FAIL")


def in_terminal(*words):
    """Run the command on a terminal; return its exit code and what the terminal shows."""
    controller, side = pty.openpty()
    code = (
        "import sys; from xpnet.__main__ import main; from xpnet.parity import devices;"
        "keep = devices.probe_all; devices.probe_all = lambda: keep(['numpy', 'array-api-strict']);"
        "sys.exit(main(['parity', *sys.argv[1:]]))"
    )
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=side, stderr=side, env=environ)
    os.close(side)
    output = b""
    with contextlib.suppress(OSError):  # the terminal closes with its last user
        while chunk := os.read(controller, 65536):
            output += chunk
    os.close(controller)
    return process.wait(), output.decode()


def test_a_terminal_shows_progress_and_colours():
    code, output = in_terminal("--data", "small.npz", "--epochs", "3", "--hidden", "5")
    assert code == 0
    assert "run 1 of 6, numpy on cpu, reproducible float64: epoch" in output
    assert "run 6 of 6, array-api-strict on device1, native float64: epoch" in output
    assert "\x1b[32msame" in output
    assert "parity holds" in output


@pytest.mark.parametrize(
    ("name", "backend", "device", "short"),
    [
        ("torch", "torch", "cpu", "torch"),
        ("torch:cpu", "torch", "cpu", "torch"),
        ("torch:cuda", "torch", "cuda:0", "torch:cuda"),
        (" jax:cuda:1", "jax", "cuda:1", "jax:cuda:1"),
        ("cupy", "cupy", "cuda:0", "cupy"),
        ("array-api-strict", "array-api-strict", "device1", "array-api-strict"),
        ("array-api-strict:cpu", "array-api-strict", "cpu", "array-api-strict:cpu"),
    ],
)
def test_names_of_places(name, backend, device, short):
    place = devices.parse(name)
    assert place == BackendDevice(backend, device)
    assert str(place) == short
    assert devices.parse(short) == place


def test_every_gpu_is_surveyed(monkeypatch):
    def probe(backend, device):
        gpus = () if backend == "numpy" else ("cuda:0", "cuda:1")
        devices = gpus if backend == "cupy" else ("cpu", *gpus)
        return Probe(device in devices, "1.0", devices, None, None)

    monkeypatch.setattr(devices, "probe", probe)
    assert list(map(str, devices.find_usable(["numpy", "cupy", "torch"]))) == [
        *("numpy", "cupy", "cupy:cuda:1"),
        *("torch", "torch:cuda", "torch:cuda:1"),
    ]


def test_a_library_that_is_missing_is_surveyed_once(monkeypatch):
    monkeypatch.setattr(devices, "probe", lambda *_: GONE)
    assert devices.probe_all(["torch"]) == [(BackendDevice("torch", "cpu"), GONE)]
    assert devices.find_usable() == []
