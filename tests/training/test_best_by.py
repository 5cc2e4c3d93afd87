"""By what an epoch is the best: what is chosen by the score, and where it is shown."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from commands import complaint, printed
from folders import change_record
from recorded_runs import seal, train_and_press

import xpnet
from xpnet import train
from xpnet.storage.record import read_run

DRAW = np.random.default_rng(0)
Y = (DRAW.random(500) < 0.08).astype(np.int32)
Y[:400:57] = 2  # of which there are no validation samples
X = DRAW.normal(size=(500, 4)) + 1.2 * Y[:, None] * np.array([1.0, -1.0, 1.0, 0.0])
HELD, WEIGHTS, MAPPING = (X[400:], Y[400:]), DRAW.random(400), {0: 0.5, 1: 4.0, 2: 3.0}
SMALL = {"hidden": (5,), "batch_size": 32, "learning_rate": 0.05, "device": "cpu", "normalize": "none"}
WORDS = "--data rare.npz --hidden 5 --batch-size 32 --lr 0.05 --normalize none --validation 100".split()  # noqa: SIM905 - as typed
WORDS += ["--no-report", "--class-weight", "balanced", "--seed", "8"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("rare.npz", x_train=X[:400], y_train=Y[:400], x_test=X[400:], y_test=Y[400:])


def fitted(**settings):
    return xpnet.fit(X[:400], Y[:400], **SMALL | settings)


def share(right, weights):
    return math.fsum(weights[right]) / math.fsum(weights)


def test_samples_of_their_own_are_judged_by_the_weights_of_classes():
    model = fitted(class_weight=MAPPING, sample_weight=WEIGHTS, epochs=7, validation_data=HELD)
    right, weights = model.predict(X[400:]) == Y[400:], np.array([0.5, 4.0, 3.0])[Y[400:]] / 4.0
    assert model.history[-1]["validation_score"] == share(right, weights)


def test_held_out_samples_have_weights_of_their_own(folder):
    model = fitted(sample_weight=WEIGHTS, epochs=5, validation=100, run="runs/held", report=False)
    _, held = xpnet.arithmetic.random.split(0, 400, 100)
    right, weights = model.predict(X[held]) == Y[held], WEIGHTS[held] / WEIGHTS.max()
    assert model.history[-1]["validation_score"] == share(right, weights)
    assert xpnet.verify("runs/held", X[:400], Y[:400], sample_weight=WEIGHTS)


def test_with_weights_the_trained_network_is_returned_not_the_initial_one():
    settings = {"class_weight": "balanced", "patience": 8, "epochs": 60, "seed": 8, "validation_data": HELD}
    with pytest.warns(UserWarning, match="best epoch 0: none had a better validation accuracy than the init"):
        assert fitted(**settings, best_by="accuracy").best_epoch == 0
    trained = fitted(**settings)
    right = trained.predict(X[400:]) == Y[400:]
    assert trained.best_epoch > 0
    assert min(right[Y[400:] == label].mean() for label in range(2)) > 0.7


def test_the_command_prints_records_and_verifies_what_is_best_by_what(folder, capsys):
    out = printed(capsys, "train", *WORDS, "--patience", "4", "--epochs", "30", "--name", "weighted")
    path, record = Path("runs/weighted"), read_run(Path("runs/weighted"))
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    scores, best = [row["validation_score"] for row in rows], record["metrics"]["best_epoch"]
    highest = f"{max(scores):.4f}"
    assert best == scores.index(max(scores))
    assert f"\nbest epoch {best}, by weighted validation accuracy {highest}\n" in out
    assert f"validation {rows[2]['validation_accuracy']:.4f}   score {scores[2]:.4f}\n" in out
    assert f"validation_score        {highest}" in printed(capsys, "runs", "show", "weighted")
    assert xpnet.verify(path)
    change_record(path, config={**record["config"], "best_by": "balanced-accuracy"})
    seal(path)
    assert not xpnet.verify(path)


def test_a_resumed_run_keeps_it_and_an_extension_by_another_begins_anew(folder, capsys):
    train_and_press([*WORDS, "--patience", "50", "--epochs", "6", "--name", "stopped"], 3, 2)
    line = complaint(capsys, "train", "--resume", "runs/stopped", "--best-by", "loss")
    assert line.startswith("--best-by: runs/stopped was started with 'weighted-accuracy', got 'loss'")
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    words = "--extend runs/stopped --epochs 2 --no-report --best-by loss --name more".split()  # noqa: SIM905
    note = "note: --best-by: the best epoch begins anew: the parent's is by weighted validation accuracy\n"
    assert note in printed(capsys, "train", *words)
    assert read_run(Path("runs/more"))["metrics"]["best_epoch"] >= 6
    assert xpnet.verify("runs/more")
