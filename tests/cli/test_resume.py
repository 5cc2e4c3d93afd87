"""A training that is stopped and goes on ends as one that was never stopped."""

import itertools
import re
import shutil
from contextlib import chdir, nullcontext
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from ctrl_c import pressed
from networks import pixels

import xpnet
from xpnet import train
from xpnet.storage.record import read_metrics, read_run
from xpnet.training import callbacks

STEPS = 6  # in an epoch
SETTINGS = [
    *("--data", "small.npz", "--hidden", "8", "--epochs", "4", "--batch-size", "16"),
    *("--optimizer", "adam", "--lr", "0.01", "--dropout", "0.2", "--batch-norm"),
    *("--augment-rotate", "5", "--validation", "20", "--patience", "4", "--log-every", "1"),
    *("--schedule", "cosine", "--no-report"),
]
RUN = "runs/run"


def stop_before(step, *words):
    """Train as if Ctrl-C was pressed just before a step."""
    steps = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        stop = nullcontext(lambda: next(steps) >= step)
        patch.setattr(callbacks, "defer_interrupts", lambda _: stop)
        assert train.main([*SETTINGS, *words]) == 130


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with small.npz, a complete run, and one that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("made")
    x, y = pixels(150, 36, 4)
    with chdir(folder):
        np.savez("small.npz", x_train=x[:116], y_train=y[:116], x_test=x[116:], y_test=y[116:])
        assert train.main([*SETTINGS, "--name", "whole", "--quiet"]) == 0
        stop_before(STEPS + 3, "--name", "run", "--quiet")
    return folder


@pytest.fixture(autouse=True)
def copied(made, tmp_path, monkeypatch):
    """Work in a copy of that folder."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


def outcome(name):
    """What must not depend on interruptions."""
    folder = Path("runs") / name
    record = read_run(folder)
    assert record["status"] == "completed"
    rows = [{**row, "seconds": None} for row in read_metrics(folder / "metrics.jsonl")]
    return record["fingerprint"], rows, {**record["metrics"], "seconds": None}


def test_after_ctrl_c_it_goes_on():
    process = pressed(2, [*SETTINGS, "--name", "stopped", "--report"])
    assert re.search(r"^interrupted after 2 epochs; .* --resume runs/stopped goes on$", process.stdout, re.M)
    assert process.returncode == 130
    stopped = read_run(Path("runs/stopped"))
    assert (stopped["status"], stopped["metrics"]["epochs"]) == ("interrupted", 2)
    assert stopped["fingerprint"] == xpnet.load("runs/stopped").fingerprint
    assert Path("runs/stopped/report.html").exists()
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("stopped") == outcome("whole")


def test_after_ctrl_c_between_epoch_0_and_the_first_step_no_row_stands_twice():
    stop_before(0, "--name", "stopped", "--quiet")
    assert Path("runs/stopped/checkpoint.safetensors").exists()
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("stopped") == outcome("whole")


def test_a_command_that_is_repeated_starts_goes_on_and_then_says_that_the_run_is_complete(capsys):
    words = ["--name", "again", "--resume-or-start", "--out", "./runs"]
    stop_before(STEPS + 3, *words)
    assert "goes on after" not in capsys.readouterr().out
    assert train.main([*SETTINGS, *words]) == 0
    assert "\ngoes on after epoch 1 and 3 steps\n" in capsys.readouterr().out
    assert outcome("again") == outcome("whole")
    for quiet, out in ([], "run           runs/again is complete\n"), (["--quiet"], ""):
        assert train.main([*SETTINGS, *words, *quiet]) == 0
        assert capsys.readouterr().out == out
    message = "--epochs: runs/again was started with 4, got 6: leave it out, or start a new run"
    assert complaint(capsys, "train", *SETTINGS, *words, "--epochs", "6") == message


@pytest.mark.needs("array-api-strict")
def test_what_only_says_where_to_compute_and_what_to_write_may_change():
    assert not Path(RUN, "report.html").exists()
    words = ["--resume", RUN, "--backend", "array-api-strict", "--report", "--quiet"]
    assert train.main([*words, "--tag", "first", "--tag", "again"]) == 0
    assert read_run(Path(RUN))["config"]["tags"] == ["first", "again"]
    assert outcome("run") == outcome("whole")
    assert Path(RUN, "report.html").exists()


def test_without_its_checkpoint_it_starts_from_the_first_epoch():
    Path(RUN, "checkpoint.safetensors").unlink()
    assert train.main(["--resume", RUN, "--quiet"]) == 0
    assert outcome("run") == outcome("whole")
