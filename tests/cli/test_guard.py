"""Whatever ends a command, the user sees one line at most and an exit code that says why.

Standard output that is closed, full or broken ends no training and no other command.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from commands import complaint
from ctrl_c import handled_by
from folders import fail_with

from xpnet.__main__ import main
from xpnet.cli.guard import handle_errors
from xpnet.storage.record import read_metrics, read_run
from xpnet.storage.run import Run
from xpnet.training import trainer

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="has no /dev/full and no POSIX shell"
)
TRAIN = ["train", "--data", "small.npz", "--epochs", "3", "--log-every", "1", "--name", "run", "--no-report"]


@pytest.fixture(autouse=True)
def small_data(recorded, tmp_path, monkeypatch):
    shutil.copy(recorded / "small.npz", tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            MemoryError("no 9 TiB"),
            "the memory does not suffice (no 9 TiB): a smaller network, batch or data set needs less",
        ),
        (
            PermissionError(13, "Permission denied", "secret.npz"),
            "secret.npz: cannot be used (Permission denied): check its permissions, or name another",
        ),
    ],
)
def test_errors_of_the_system_are_told_in_one_line(capsys, monkeypatch, error, line):
    monkeypatch.setattr("xpnet.data.datasets.load", fail_with(error))
    assert complaint(capsys, *TRAIN) == line


def test_a_traceback_is_shown_with_debug_only(capsys, monkeypatch):
    monkeypatch.setattr(trainer, "check_memory", Mock(side_effect=RuntimeError("out of\nluck")))
    assert main(TRAIN) == 1
    expected = "xpnet: unexpected RuntimeError: out of luck (--debug shows where)\n"
    assert capsys.readouterr().err == expected
    assert main([*TRAIN, "--debug", "--overwrite"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith(expected)


def test_ctrl_c_before_training_leaves_nothing(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.data.datasets.digest", Mock(side_effect=KeyboardInterrupt))
    assert main(TRAIN) == 130
    assert capsys.readouterr() == ("", "")
    assert not Path("runs").exists()


@not_on_windows
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_the_exit_code_of_a_command_that_is_terminated_names_the_signal(name, code):
    number = getattr(signal, name)
    with handled_by(signal.SIG_DFL, number), handle_errors(debug=False) as output:
        signal.raise_signal(number)
    assert output.code == code


@not_on_windows
def test_a_training_that_is_terminated_is_saved_and_goes_on(monkeypatch):
    log = Run.log

    def log_and_terminate(run, values):
        log(run, values)
        if values["epoch"] == 1:
            signal.raise_signal(signal.SIGTERM)

    with handled_by(signal.SIG_IGN), handled_by(signal.SIG_DFL, signal.SIGTERM):  # as in the background
        with monkeypatch.context() as patch:
            patch.setattr(Run, "log", log_and_terminate)
            assert main(TRAIN) == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    record = json.loads(Path("runs/run/run.json").read_text())
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 1)
    assert main(["train", "--resume", "runs/run", "--quiet"]) == 0


FULL = "xpnet: standard output cannot be written (No space left on device): nothing more is printed\n"


def broken():
    """A stream into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full():
    return os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")


@on_linux
@pytest.mark.parametrize(
    ("stream", "opened", "code", "error"),
    [
        ("stdout", lambda: None, 0, ""),
        ("stdout", full, 1, FULL),
        ("stdout", broken, 0, ""),
        ("stderr", lambda: None, 0, ""),
        ("stderr", full, 0, ""),
    ],
    ids=["closed", "full", "broken", "errors closed", "errors full"],
)
def test_a_training_goes_on_to_its_end_without_a_stream(capsys, monkeypatch, stream, opened, code, error):
    monkeypatch.setattr(sys, stream, opened())
    words = ["--device", "cuda"] if stream == "stderr" else []  # of which a line says that there is none
    assert main([*TRAIN, *words]) == code
    getattr(sys, stream).close()  # which writes the rest, as the end of a process does
    assert capsys.readouterr().err == error
    assert read_run(Path("runs/run"))["status"] == "completed"
    assert [row["epoch"] for row in read_metrics(Path("runs/run/metrics.jsonl"))] == [0, 1, 2, 3]


@on_linux
def test_help_into_a_full_disk_is_one_line_and_an_exit_code_of_its_own_wins(capsys, monkeypatch):
    with Path("/dev/full").open("w") as stream:
        words = [sys.executable, "-m", "xpnet", "runs", "--help"]
        process = subprocess.run(words, stdout=stream, stderr=subprocess.PIPE, text=True, check=False)
    assert process.stderr == FULL
    monkeypatch.setattr(sys, "stdout", full())
    assert main([*TRAIN, "--lr", "1e300"]) == 3
    sys.stdout.close()
    assert FULL in capsys.readouterr().err
