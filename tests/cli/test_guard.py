"""Whatever ends a command, the user sees one line at most and an exit code that says why."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from ctrl_c import sigint
from folders import fail_with

from xpnet.__main__ import main
from xpnet.storage.run import Run

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
TRAIN = ["train", "--data", "data.npz", "--epochs", "3", "--name", "run", "--no-report"]
REMEDY = "a smaller network, batch or data set needs less"


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    x, y = np.arange(40, dtype=np.uint8).reshape(10, 4), np.arange(10) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), f"the memory does not suffice (no details): {REMEDY}"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            f"the memory does not suffice (Unable to allocate 9 TiB): {REMEDY}",
        ),
        (
            PermissionError(13, "Permission denied", "secret.npz"),
            "secret.npz: cannot be used (Permission denied): check its permissions, or name another",
        ),
    ],
    ids=["memory", "array", "permission"],
)
def test_errors_of_the_system_are_told_in_one_line(capsys, monkeypatch, error, line):
    monkeypatch.setattr("xpnet.data.sharing.datasets.load", fail_with(error))
    assert complaint(capsys, *TRAIN) == line


STARTED = """
import runpy, sys

class Interrupted:
    def find_spec(name, *_):
        if name == target:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted)
target, module, sys.argv = sys.argv[1], sys.argv[2], sys.argv[2:]
runpy.run_module(module, run_name="__main__")
"""


@pytest.mark.parametrize("module", ["xpnet.cli.guard", "xpnet.config", "numpy"])
@pytest.mark.parametrize("command", [["xpnet.train"], ["xpnet", "train"]], ids=" ".join)
def test_ctrl_c_while_modules_are_loaded_is_quiet(module, command):
    words = [sys.executable, "-c", STARTED, module, *command, *TRAIN[1:]]
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@not_on_windows
@pytest.mark.parametrize(
    "handler", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "background"]
)
@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_training_that_is_terminated_is_saved_and_goes_on(monkeypatch, number, code, handler):
    log = Run.log

    def log_and_terminate(run, values):
        log(run, values)
        if values["epoch"] == 1:
            signal.raise_signal(getattr(signal, number))

    with sigint(handler), monkeypatch.context() as patch:
        patch.setattr(Run, "log", log_and_terminate)
        assert main([*TRAIN, "--log-every", "1"]) == code
    record = json.loads(Path("runs/run/run.json").read_text())
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 1)
    assert main(["train", "--resume", "runs/run", "--quiet"]) == 0
    assert signal.getsignal(getattr(signal, number)) is signal.SIG_DFL
