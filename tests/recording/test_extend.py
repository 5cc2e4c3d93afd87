"""An extension is a new run that goes on from the end of a complete one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import complaint, printed
from ctrl_c import interrupted
from folders import change_record
from networks import image_data
from recorded_runs import PLAIN, QUIET

import xpnet
from xpnet import train
from xpnet.storage.folder import digest_file
from xpnet.storage.record import read_metrics, read_run

PARENT = Path("runs/plain")


@pytest.fixture(autouse=True)
def folder(recorded, tmp_path, monkeypatch):
    """A copy of the recorded runs, in the current folder."""
    monkeypatch.chdir(shutil.copytree(recorded, tmp_path / "copy"))


def trained(name, *words):
    """Train, and return the record and the rows of metrics without the times."""
    assert train.main([*map(str, words), "--name", name, *QUIET]) == 0
    return outcome(name)


def outcome(name):
    run = Path("runs", name)
    return read_run(run), [{**row, "seconds": 0} for row in read_metrics(run / "metrics.jsonl")]


def test_an_extension_ends_as_if_all_epochs_had_been_trained_at_once():
    settings = [*PLAIN, "--optimizer", "adam", "--batch-norm", "--dropout", 0.2, "--schedule", "exponential"]
    whole, rows = trained("whole", *settings, "--epochs", 5)
    first, _ = trained("parent", *settings, "--epochs", 3)
    record, added = trained("longer", "--extend", "runs/parent", "--epochs", 2)
    assert record["fingerprint"] == whole["fingerprint"]
    assert added == rows[3:]
    assert {**record["metrics"], "seconds": 0} == {**whole["metrics"], "seconds": 0}
    assert record["parent"] == {
        "run": "runs/parent",
        "started": first["started"],
        "epochs": 3,
        "fingerprint": first["fingerprint"],
        "checkpoint_sha256": digest_file(Path("runs/parent/checkpoint.safetensors")),
    }
    names = {"extend", "name", "epochs"}
    assert {n for n, value in record["config"].items() if value != first["config"][n]} == names
    again, _ = trained("again", "--extend", "runs/longer", "--epochs", 1)
    assert (again["parent"]["epochs"], again["config"]["epochs"], again["metrics"]["epochs"]) == (5, 6, 6)


def test_flags_win_over_the_settings_of_the_parent_and_a_schedule_counts_all_epochs():
    trained("parent", *PLAIN, "--batch-size", "full")
    more = ["--extend", "runs/parent", "--epochs", 3]
    cosine, rows = trained("cosine", *more, "--schedule", "cosine", "--lr", 0.2)
    # Half of the steps are over, so that the rate is half of the full one: lr cos²(π/4) = 0.1.
    same, expected = trained("same", *more)
    assert (cosine["config"]["schedule"], cosine["config"]["data"]) == ("cosine", "small.npz")
    assert rows[0] == expected[0]
    assert rows[1]["train_loss"] == pytest.approx(expected[1]["train_loss"], rel=1e-12)
    assert cosine["fingerprint"] != same["fingerprint"]


def test_an_interrupted_extension_goes_on_even_without_its_parent():
    whole, rows = trained("whole", *PLAIN, "--epochs", 6)
    interrupted(4, ["--extend", PARENT, "--epochs", 3, "--name", "longer", *QUIET])
    shutil.rmtree(PARENT)
    assert train.main(["--resume", "runs/longer", "--quiet"]) == 0
    record, history = outcome("longer")
    assert (record["status"], record["fingerprint"]) == ("completed", whole["fingerprint"])
    assert history == rows[3:]


def test_patience_counts_from_the_start_of_the_extension_and_the_best_epoch_of_both_is_kept():
    words = ["--validation", 60, "--patience", 3, "--epochs", 60, "--lr", 2]
    parent, _ = trained("parent", *PLAIN, *words)
    best, last = parent["metrics"]["best_epoch"], parent["metrics"]["epochs"]
    assert last == best + 3 < 60
    words = ["--extend", "runs/parent", "--epochs", 40, "--lr", 1e-9]  # which makes no epoch better
    record, rows = trained("longer", *words)
    assert [row["epoch"] for row in rows if "validation_loss" in row] == [*range(last, last + 4)]
    assert (record["metrics"]["best_epoch"], record["fingerprint"]) == (best, parent["fingerprint"])


def test_it_says_which_epochs_it_adds(capsys):
    out = printed(capsys, "train", "--extend", PARENT, "--epochs", 1, "--no-report")
    assert "\nepochs 4 to 4, after those of runs/plain\nepoch     3 " in out
    assert "xpnet train --extend runs/plain --epochs N" in printed(capsys, "runs", "show", "plain")


MORE = "--epochs 2"
REFUSED = {
    "--extend: expected --epochs N beside it, the epochs to add to the 3 of runs/plain": "runs/plain",
    "--extend: there is --resume runs/mine already": f"runs/plain {MORE} --resume runs/mine",
    "--hidden: runs/plain was trained with [6], got [3]: leave": f"runs/plain {MORE} --hidden=3",
    "--seed: runs/plain was trained with 0, got 1: ": f"runs/plain {MORE} --seed 1",
    "--extend: runs/plain: expected another folder": f"runs/plain {MORE} --name=plain --overwrite",
    "runs/old: has no checkpoint.safetensors, the state of its optimiser: --init-from": f"runs/old {MORE}",
    "runs/stopped: is not completed but interrupted: xpnet train --resume": f"runs/stopped {MORE}",
    "runs/other/checkpoint.safetensors: was saved after 3 epochs, run.json says 4: r": f"runs/other {MORE}",
    "--extend: runs/table was trained on other data: small with SHA-256 ": f"runs/table {MORE}",
}


def test_what_cannot_be_extended_is_refused_and_nothing_is_written(capsys):
    shutil.copytree(PARENT, "runs/old")
    Path("runs/old/checkpoint.safetensors").unlink()
    change_record(Path(shutil.copytree(PARENT, "runs/other")), metrics={"epochs": 4})
    table = Path("small.csv").read_text()
    Path("small.csv").write_text(table.replace("a,", "b,", 1))
    before = sorted(Path("runs").rglob("*"))
    for message, words in REFUSED.items():
        assert complaint(capsys, "train", "--extend", *words.split()).startswith(message)
    assert sorted(Path("runs").rglob("*")) == before


def test_a_run_from_python_is_extended_there():
    images = image_data()
    data = {"X": images.x_train, "y": images.y_train, "hidden": 4, "batch_size": 90}
    whole = xpnet.fit(**data, epochs=5)
    xpnet.fit(**data, epochs=2, run="runs/parent", report=False)
    more = {"extend": "runs/parent", "epochs": 3}
    model = xpnet.fit(images.x_train, images.y_train, **more, run="runs/longer", report=False)
    assert (model.fingerprint, model.history) == (whole.fingerprint, whole.history[2:])
    with pytest.raises(xpnet.ConfigError, match=r"^extend: runs/parent was trained on other data: arrays w"):
        xpnet.fit(np.flip(images.x_train), images.y_train, **more, run="runs/other")
    with pytest.raises(xpnet.ConfigError, match=r"^fit: extend: expected run too, the folder of the record$"):
        xpnet.fit(images.x_train, images.y_train, **more)
