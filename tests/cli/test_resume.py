"""A training that is stopped and goes on ends as one that was never stopped."""

import re
import shutil
from pathlib import Path

import pytest
from commands import complaint
from ctrl_c import pressed
from recorded_runs import SETTINGS, train_and_press

import xpnet
from xpnet import train
from xpnet.storage.record import read_metrics, read_run

COMMAND = [*SETTINGS, "--epochs", "6", "--log-every", "2", "--keep-checkpoint-every", "2", "--no-report"]


@pytest.fixture(autouse=True)
def work(recorded, tmp_path, monkeypatch):
    """Work in a folder with the data and runs/mine, the run of COMMAND."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(recorded / "small.npz", ".")
    shutil.copytree(recorded / "runs/mine", "runs/mine")


def outcome(name):
    """What must not depend on interruptions."""
    folder = Path("runs") / name
    record = read_run(folder)
    assert record["status"] == "completed"
    rows = [{**row, "seconds": None} for row in read_metrics(folder / "metrics.jsonl")]
    return record["fingerprint"], rows, {**record["metrics"], "seconds": None}


def test_after_ctrl_c_it_goes_on():
    process = pressed(2, [*COMMAND, "--name", "stopped"])
    assert re.search(r"^interrupted after 2 epochs; .* --resume runs/stopped goes on$", process.stdout, re.M)
    assert process.returncode == 130
    stopped = read_run(Path("runs/stopped"))
    assert (stopped["status"], stopped["metrics"]["epochs"]) == ("interrupted", 2)
    assert stopped["fingerprint"] == xpnet.load("runs/stopped").fingerprint
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("stopped") == outcome("mine")


def test_a_command_that_is_repeated_starts_goes_on_and_then_says_that_the_run_is_complete(capsys):
    words = [*COMMAND, "--name", "again", "--resume-or-start"]
    train_and_press(words, 1, 3)
    assert train.main([*words, "--no-quiet"]) == 0
    assert "\ngoes on after epoch 1 and 3 steps\n" in capsys.readouterr().out
    assert outcome("again") == outcome("mine")
    assert train.main([*words, "--no-quiet"]) == 0
    assert capsys.readouterr().out == "run           runs/again is complete\n"
    message = "--epochs: runs/again was started with 6, got 7: leave it out, or start a new run"
    assert complaint(capsys, "train", *words, "--epochs", "7") == message


@pytest.mark.needs("array-api-strict")
def test_what_only_says_where_to_compute_and_what_to_write_may_change():
    train_and_press([*COMMAND, "--name", "run"], 3, 2)
    words = ["--resume", "runs/run", "--backend", "array-api-strict", "--report", "--quiet"]
    assert train.main([*words, "--tag", "first", "--tag", "again"]) == 0
    assert read_run(Path("runs/run"))["config"]["tags"] == ["first", "again"]
    assert outcome("run") == outcome("mine")
    assert Path("runs/run/report.html").exists()


def test_without_its_checkpoint_it_starts_from_the_first_epoch():
    train_and_press([*COMMAND, "--name", "run"], 1, 3)
    Path("runs/run/checkpoint.safetensors").unlink()
    assert train.main(["--resume", "runs/run", "--quiet"]) == 0
    assert outcome("run") == outcome("mine")
