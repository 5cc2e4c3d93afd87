"""An extension is a new run that goes on from the end of a complete one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import complaint, printed
from ctrl_c import interrupted
from folders import change_record
from networks import pixels

import xpnet
from xpnet import train
from xpnet.storage.folder import digest_file
from xpnet.storage.record import read_metrics, read_run

X, Y = pixels(360, 12, 4)
ADAM = ["--optimizer", "adam", "--lr", "0.01", "--batch-norm", "--dropout", "0.2", "--batch-size", "64"]
PARENT = Path("runs/parent")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=X[:300], y_train=Y[:300], x_test=X[300:], y_test=Y[300:])


def trained(name, *words):
    """Train, and return the record and the rows of metrics without the times."""
    words = [*words, "--name", name, "--out", "runs", "--quiet", "--no-report"]
    assert train.main([*map(str, words)]) == 0
    run = Path("runs", name)
    return read_run(run), [{**row, "seconds": 0} for row in read_metrics(run / "metrics.jsonl")]


SCHEDULES = {
    "constant": [],
    "step": ["--schedule", "step", "--schedule-step-epochs", "2"],
    "exponential": ["--schedule", "exponential"],
    "warm-up": ["--warmup-epochs", "2"],
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_an_extension_ends_as_if_all_epochs_had_been_trained_at_once(schedule):
    settings = ["--data", "small.npz", *ADAM, *schedule]
    whole, rows = trained("whole", *settings, "--epochs", 7)
    first, _ = trained("parent", *settings, "--epochs", 3)
    record, added = trained("more", "--extend", PARENT, "--epochs", 4)
    assert record["fingerprint"] == whole["fingerprint"] != first["fingerprint"]
    assert added == rows[3:]
    assert {**record["metrics"], "seconds": 0} == {**whole["metrics"], "seconds": 0}
    assert record["parent"] == {
        "run": str(PARENT),
        "started": first["started"],
        "epochs": 3,
        "fingerprint": first["fingerprint"],
        "checkpoint_sha256": digest_file(PARENT / "checkpoint.safetensors"),
    }
    names = {"extend", "name", "epochs"}
    assert {n for n, value in record["config"].items() if value != first["config"][n]} == names
    again, _ = trained("again", "--extend", "runs/more", "--epochs", 1)
    assert (again["parent"]["epochs"], again["config"]["epochs"], again["metrics"]["epochs"]) == (7, 8, 8)


def test_flags_win_over_the_settings_of_the_parent_and_a_schedule_counts_all_epochs():
    trained("parent", "--data", "small.npz", "--epochs", 3, "--lr", 0.2)
    cosine, rows = trained("more", "--extend", PARENT, "--epochs", 3, "--schedule", "cosine", "--lr", 0.4)
    # Half of the steps are over, so that the rate is half of the full one: lr cos²(π/4) = 0.2.
    same, expected = trained("same", "--extend", PARENT, "--epochs", 3)
    assert (cosine["config"]["schedule"], cosine["config"]["data"]) == ("cosine", "small.npz")
    assert rows[0] == expected[0]
    assert rows[1]["train_loss"] == pytest.approx(expected[1]["train_loss"], rel=1e-12)
    assert cosine["fingerprint"] != same["fingerprint"]


def test_a_checkpoint_of_another_epoch_than_that_of_the_record_is_not_extended(capsys):
    trained("parent", "--data", "small.npz", "--epochs", 2)
    change_record(PARENT, metrics={"epochs": 3})
    line = complaint(capsys, "train", "--extend", PARENT, "--epochs", 1)
    checkpoint = PARENT / "checkpoint.safetensors"
    assert line == f"{checkpoint}: was saved after 2 epochs, run.json says 3: restore its files"


def test_an_interrupted_extension_goes_on_even_without_its_parent():
    settings = ["--data", "small.npz", *ADAM, "--no-report"]
    whole, rows = trained("whole", *settings, "--epochs", 6)
    trained("parent", *settings, "--epochs", 2)
    words = ["--extend", PARENT, "--epochs", 4, "--name", "more", "--out", "runs", "--quiet"]
    interrupted(3, words)
    shutil.rmtree(PARENT)
    assert train.main(["--resume", "runs/more", "--quiet"]) == 0
    record = read_run(Path("runs/more"))
    assert (record["status"], record["fingerprint"]) == ("completed", whole["fingerprint"])
    assert [{**row, "seconds": 0} for row in read_metrics(Path("runs/more/metrics.jsonl"))] == rows[2:]


def test_patience_counts_from_the_start_of_the_extension_and_the_best_epoch_of_both_is_kept():
    rates = ["--lr", 2, "--batch-size", 8, "--validation", 60]
    parent, _ = trained("parent", "--data", "small.npz", *rates, "--patience", 3, "--epochs", 60)
    best, last = parent["metrics"]["best_epoch"], parent["metrics"]["epochs"]
    assert last == best + 3 < 60
    words = ["--extend", PARENT, "--epochs", 40, "--lr", 1e-9]  # which makes no epoch better
    record, rows = trained("more", *words)
    assert [row["epoch"] for row in rows if "validation_loss" in row] == [*range(last, last + 4)]
    assert (record["metrics"]["best_epoch"], record["fingerprint"]) == (best, parent["fingerprint"])


def test_it_says_which_epochs_it_adds(capsys):
    trained("parent", "--data", "small.npz", "--epochs", 2)
    out = printed(capsys, "train", "--extend", PARENT, "--epochs", 1, "--no-report")
    assert "\nepochs 3 to 3, after those of runs/parent\nepoch     2 " in out
    shown = printed(capsys, "runs", "show", "parent")
    assert "xpnet train --extend runs/parent --epochs N" in shown


def test_what_cannot_be_extended_is_refused_and_nothing_is_written(capsys):
    trained("parent", "--data", "small.npz", "--epochs", 2)
    shutil.copytree(PARENT, "runs/old")
    Path("runs/old/checkpoint.safetensors").unlink()
    shutil.copytree(PARENT, "runs/stopped")
    record = Path("runs/stopped/run.json")
    record.write_text(record.read_text().replace('"completed"', '"interrupted"'))
    before = sorted(Path("runs").rglob("*"))
    more = ["--epochs", "2"]
    for message, *words in (
        ("--extend: expected --epochs N beside it, the epochs to add to the 2 of runs/parent", PARENT),
        ("--extend: expected --epochs N beside it", PARENT, "--epochs", "0"),
        ("--extend: there is --resume runs/old already", PARENT, *more, "--resume", "runs/old"),
        (
            "--hidden: runs/parent was trained with [10], got [3]: leave it out, or st",
            PARENT,
            *more,
            "--hidden=3",
        ),
        ("--seed: runs/parent was trained with 0, got 1: ", PARENT, *more, "--seed", "1"),
        ("--loss: runs/parent was trained with", PARENT, *more, "--loss", "squared-error"),
        ("--momentum: needs --optimizer momentum or nesterov", PARENT, *more, "--momentum", "0.5"),
        ("--extend: runs/parent: expected another folder", PARENT, *more, "--name=parent", "--overwrite"),
        (
            "runs/old: has no checkpoint.safetensors, the state of its optimiser: --init-from",
            "runs/old",
            *more,
        ),
        ("runs/stopped: is not completed but interrupted: xpnet train --resume", "runs/stopped", *more),
        ("runs/none: no such file or folder: expected the folder", "runs/none", *more),
    ):
        assert complaint(capsys, "train", "--extend", *words).startswith(message)
    np.savez("small.npz", x_train=X[:299], y_train=Y[:299], x_test=X[300:], y_test=Y[300:])
    line = complaint(capsys, "train", "--extend", PARENT, *more)
    assert line.startswith("--extend: runs/parent was trained on other data: small with SHA-256 ")
    assert sorted(Path("runs").rglob("*")) == before


def test_a_run_from_python_is_extended_there(capsys):
    data = {"X": X[:300], "y": Y[:300], "validation_data": (X[300:], Y[300:])}
    whole = xpnet.fit(**data, epochs=5, batch_size=32)
    xpnet.fit(**data, epochs=2, batch_size=32, run=PARENT)
    model = xpnet.fit(**data, epochs=3, extend=PARENT, run="runs/more")
    assert (model.fingerprint, model.history) == (whole.fingerprint, whole.history[2:])
    assert read_run(Path("runs/more"))["parent"]["fingerprint"] == xpnet.load(PARENT).fingerprint
    xpnet.fit(**data, epochs=3, warmup_epochs=4, extend=PARENT, run="runs/warm")  # 4 of the 5 in total
    with pytest.raises(xpnet.ConfigError, match=r"^extend: runs/parent was trained on other data: arrays w"):
        xpnet.fit(X, Y, epochs=3, extend=PARENT, run="runs/other")
    with pytest.raises(xpnet.ConfigError, match=r"^fit: extend: expected run too, the folder of the record$"):
        xpnet.fit(X, Y, epochs=3, extend=PARENT)
    line = complaint(capsys, "train", "--extend", PARENT, "--epochs", "2")
    assert line == "runs/parent: was trained on arrays in Python, which are in no file: xpnet.fit extends it"
