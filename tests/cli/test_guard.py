"""Whatever ends a command, the user sees one line at most and an exit code that says why."""

import ctypes
import json
import os
import shutil
import signal
import sys
from bdb import BdbQuit
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
from commands import complaint
from ctrl_c import handled_by
from folders import fail_with

import xpnet
from xpnet.__main__ import main
from xpnet.cli.guard import handle_errors
from xpnet.storage.run import Run

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
TRAIN = ["train", "--data", "small.npz", "--epochs", "3", "--name", "run", "--no-report"]
REMEDY = "a smaller network, batch or data set needs less"
RUN, MODEL, STATE = "runs/plain", "runs/plain/model.safetensors", "runs/plain/checkpoint.safetensors"


@pytest.fixture(autouse=True)
def work(recorded, tmp_path, monkeypatch):
    """Work in a folder with data and a run, which everybody may write."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(recorded / "small.npz", ".")
    shutil.copytree(recorded / RUN, RUN)
    tmp_path.chmod(0o777)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("no 9 TiB"), f"the memory does not suffice (no 9 TiB): {REMEDY}"),
        (
            PermissionError(13, "Permission denied", "secret.npz"),
            "secret.npz: cannot be used (Permission denied): check its permissions, or name another",
        ),
    ],
)
def test_errors_of_the_system_are_told_in_one_line(capsys, monkeypatch, error, line):
    monkeypatch.setattr("xpnet.data.datasets.load", fail_with(error))
    assert complaint(capsys, *TRAIN) == line


@contextmanager
def unprivileged():
    """Be the owner of the package, who can read it in any folder, without root's right to read every file."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root cannot give up its rights here and remain the owner of its files")
    # capabilities(7) of this thread: effective, permitted and inheritable ones, in two words each.
    system, header, words = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert system.capget(header, words) == 0
    effective = words[0]
    try:
        os.seteuid(Path(xpnet.__file__).stat().st_uid)
        words[0] = 0
        assert system.capset(header, words) == 0
        yield
    finally:
        os.seteuid(0)
        words[0] = effective
        assert system.capset(header, words) == 0


@not_on_windows
@pytest.mark.parametrize(
    ("path", "words"),
    [
        (RUN, ["evaluate", RUN]),
        ("runs/plain/run.json", ["report", RUN]),
        (MODEL, ["verify", RUN]),
        ("runs/plain/metrics.jsonl", ["verify", RUN]),
        (STATE, ["train", "--extend", RUN, "--epochs", "1"]),
    ],
)
def test_what_may_not_be_read_is_named_with_that_reason(capsys, path, words):
    assert main(words) in (0, 2)  # so that all modules are loaded
    capsys.readouterr()
    Path(path).chmod(0)
    with unprivileged():
        line = complaint(capsys, *words)
    assert line.startswith(path)
    assert "(Permission denied)" in line


@not_on_windows
def test_a_run_that_may_not_be_read_is_named_in_the_list(capsys):
    Path(RUN).chmod(0)
    with unprivileged():
        assert main(["runs", "list"]) == 0
    problem = f"{RUN}/run.json: cannot be read (Permission denied): expected a folder of a run"
    assert f"xpnet: note: a run is left out: {problem}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "start", "words"),
    [("xpnet.cli.guard", "xpnet.train", TRAIN[1:]), ("numpy", "xpnet.__main__", TRAIN)],
)
def test_ctrl_c_while_modules_are_loaded_is_quiet(capsys, monkeypatch, module, start, words):
    class Interrupted:
        @staticmethod
        def find_spec(name, *_):
            if name == module:
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    with patch.dict(sys.modules):
        for name in [*sys.modules]:  # which a new process has not loaded
            if name.partition(".")[0] == "xpnet" or name == module:
                del sys.modules[name]
        code = None
        with suppress(KeyboardInterrupt):
            code = import_module(start).main(words)
    assert (code, capsys.readouterr()) == (130, ("", ""))


def test_leaving_a_debugger_ends_a_command_as_ctrl_c_does(capsys):
    with handle_errors(debug=True) as output:
        raise BdbQuit
    assert (output.code, capsys.readouterr()) == (130, ("", ""))


@not_on_windows
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_the_exit_code_of_a_command_that_is_terminated_names_the_signal(name, code):
    number = getattr(signal, name)
    with handled_by(signal.SIG_DFL, number), handle_errors(debug=False) as output:
        signal.raise_signal(number)
    assert output.code == code


@not_on_windows
@pytest.mark.parametrize(
    ("handler", "name", "code"),
    [(signal.default_int_handler, "SIGTERM", 143), (signal.SIG_IGN, "SIGHUP", 129)],
    ids=["terminal", "background"],
)
def test_a_training_that_is_terminated_is_saved_and_goes_on(monkeypatch, name, code, handler):
    log, number = Run.log, getattr(signal, name)

    def log_and_terminate(run, values):
        log(run, values)
        if values["epoch"] == 1:
            signal.raise_signal(number)

    with handled_by(handler), handled_by(signal.SIG_DFL, number):
        with monkeypatch.context() as patch:
            patch.setattr(Run, "log", log_and_terminate)
            assert main([*TRAIN, "--log-every", "1"]) == code
        assert signal.getsignal(number) is signal.SIG_DFL
    record = json.loads(Path("runs/run/run.json").read_text())
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 1)
    assert main(["train", "--resume", "runs/run", "--quiet"]) == 0
