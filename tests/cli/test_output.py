"""Standard output that is closed, full or broken ends no training and no other command."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet.__main__ import COMMANDS
from xpnet.cli.guard import GuardedOutput, handle_errors
from xpnet.storage.record import read_metrics, read_run

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="has no /dev/full and no POSIX shell"
)

FULL = "xpnet: standard output cannot be written (No space left on device): nothing more is printed\n"
TRAIN = "train --data small.npz --name run --overwrite --batch-size 1 --epochs 40 --log-every 1 --no-report"


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    x, y = np.arange(40, dtype=np.uint8).reshape(10, 4), np.arange(10) % 2
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(tmp_path)


def shell(command):
    """Exit code and standard error of ``xpnet``, in a shell command with {xpnet} in it."""
    line = command.format(xpnet=f"{sys.executable} -m xpnet")
    done = subprocess.run(["bash", "-c", line], stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


def check_complete():
    assert read_run(Path("runs/run"))["status"] == "completed"
    rows = read_metrics(Path("runs/run/metrics.jsonl"))
    assert [row["epoch"] for row in rows] == list(range(41))
    assert Path("runs/run/model.safetensors").exists()


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        (f"{{xpnet}} {TRAIN} >&-", 0, ""),
        (f"{{xpnet}} {TRAIN} <&- >&-", 0, ""),
        (f"{{xpnet}} {TRAIN} > /dev/full", 1, FULL),
        (f"{{xpnet}} {TRAIN} | head -1 > /dev/null; exit ${{{{PIPESTATUS[0]}}}}", 0, ""),
        (f"{{xpnet}} {TRAIN} --device cuda > /dev/null 2>&-", 0, ""),
        (f"{{xpnet}} {TRAIN} --device cuda > /dev/null 2> /dev/full", 0, ""),
    ],
    ids=["closed", "input closed too", "full", "broken", "errors closed", "errors full"],
)
def test_a_training_goes_on_to_its_end(command, code, error):
    assert shell(command) == (code, error)
    check_complete()


@pytest.mark.parametrize("words", ["--help", "--version", "runs list --json", "runs --help", "doctor"])
def test_every_other_command_says_it_in_one_line_too(words):
    Path("runs").mkdir()
    code, error = shell(f"{{xpnet}} {words} > /dev/full 2> errors; cat errors >&2")
    assert (code, error.replace("xpnet: note: no run in runs\n", "")) == (0, FULL)
    assert shell(f"{{xpnet}} {words} >&-")[0] == 0
    assert shell(f"{{xpnet}} {words} | true; exit ${{{{PIPESTATUS[0]}}}}")[0] == 0


def test_settings_that_cannot_be_printed_are_a_failure():
    assert shell("{xpnet} train --print-config > /dev/full") == (1, FULL)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_into_a_full_device_is_no_traceback(command):
    assert shell(f"{{xpnet}} {command} --help > /dev/full")[1] == FULL


class Broken(io.StringIO):
    """A stream without a file descriptor that cannot be written."""

    def write(self, _text):
        raise OSError(5, os.strerror(5))


def test_a_stream_without_a_descriptor_fails_once(capsys):
    output = GuardedOutput(Broken())
    assert [output.write(line) for line in ("a\n", "b\n", "c\n")] == [2, 2, 2]
    output.flush()
    assert output.failed
    assert capsys.readouterr().err == (
        "xpnet: standard output cannot be written (Input/output error): nothing more is printed\n"
    )


def test_an_exit_code_of_its_own_wins(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())

    for code, expected in ((3, 3), (0, 1)):
        with handle_errors(debug=False) as output:
            print("lost")
            output.code = code
        assert output.code == expected
