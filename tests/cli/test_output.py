"""Standard output that is closed, full or broken ends no training and no other command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xpnet.__main__ import main
from xpnet.cli.guard import handle_errors
from xpnet.storage.record import read_metrics, read_run

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="has no /dev/full and no POSIX shell"
)

FULL = "xpnet: standard output cannot be written (No space left on device): nothing more is printed\n"
TRAIN = "train --data small.npz --name run --epochs 40 --log-every 1 --no-report"


@pytest.fixture(autouse=True)
def small_data(recorded, tmp_path, monkeypatch):
    shutil.copy(recorded / "small.npz", tmp_path)
    monkeypatch.chdir(tmp_path)


def broken():
    """A stream into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


STREAMS = {
    "closed": lambda: None,
    "full": lambda: os.fdopen(os.open("/dev/full", os.O_WRONLY), "w"),
    "broken": broken,
}


@pytest.mark.parametrize(
    ("stream", "state", "code", "error"),
    [
        ("stdout", "closed", 0, ""),
        ("stdout", "full", 1, FULL),
        ("stdout", "broken", 0, ""),
        ("stderr", "closed", 0, ""),
        ("stderr", "full", 0, ""),
    ],
    ids=["closed", "full", "broken", "errors closed", "errors full"],
)
def test_a_training_goes_on_to_its_end(capsys, monkeypatch, stream, state, code, error):
    monkeypatch.setattr(sys, stream, STREAMS[state]())
    words = ["--device", "cuda"] if stream == "stderr" else []  # of which a line says that there is none
    assert main([*TRAIN.split(), *words]) == code
    getattr(sys, stream).close()  # which writes the rest, as the end of a process does
    assert capsys.readouterr().err == error
    assert read_run(Path("runs/run"))["status"] == "completed"
    assert [row["epoch"] for row in read_metrics(Path("runs/run/metrics.jsonl"))] == list(range(41))
    assert Path("runs/run/model.safetensors").exists()


def test_every_other_command_says_it_in_one_line_too(capsys, monkeypatch):
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "xpnet", "runs", "--help"]
        assert (
            subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False).stderr == FULL
        )
    for words, state in (["--help"], "closed"), (["train", "--print-config"], "broken"):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", STREAMS[state]())
            assert main(words) == 0
            sys.stdout.close()
        assert capsys.readouterr().err == ""


def test_no_file_takes_the_descriptor_of_a_closed_stream():
    guarded = "from xpnet.cli.guard import handle_errors as guard\nwith guard(debug=False): pass\n"
    code = f"{guarded}import os; raise SystemExit(os.open('.', os.O_RDONLY) <= 2)"
    command = ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(("code", "expected"), [(3, 3), (0, 1)])
def test_an_exit_code_of_its_own_wins(capsys, monkeypatch, code, expected):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with handle_errors(debug=False) as output:
            print("lost")
            output.code = code
    assert output.code == expected
    assert capsys.readouterr().err == FULL
