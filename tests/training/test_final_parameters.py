"""The mean of the last epochs, which docs/vectors has, in runs that are extended or go on after Ctrl-C."""

from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from networks import pixels
from recorded_runs import train_and_press

import xpnet
from xpnet import train
from xpnet.storage.record import read_run

X, Y = pixels(360, 12, 4)
SETTINGS = {"hidden": (6, 5), "batch_norm": True, "batch_size": 64, "learning_rate": 0.5, "backend": "numpy"}
WORDS = ["--data", "small.npz", "--hidden", "6", "5", "--batch-norm", "--batch-size", "64", "--lr", "0.5"]
OUTPUT = ["--out", "runs", "--quiet", "--no-report"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=X[:300], y_train=Y[:300], x_test=X[300:], y_test=Y[300:])


def trained(epochs, averaged):
    return xpnet.fit(X[:300], Y[:300], **SETTINGS, epochs=epochs, average_epochs=averaged)


def fingerprint(name):
    return read_run(Path("runs", name))["fingerprint"]


def test_the_record_of_the_mean_is_verified_and_extended(capsys):
    lengths = ["--epochs", "4", "--average-epochs", "3"]
    assert train.main([*WORDS, *OUTPUT, "--name", "mean", *lengths]) == 0
    assert fingerprint("mean") == trained(4, 3).fingerprint
    assert train.main(["--extend", "runs/mean", "--epochs", "3", *OUTPUT, "--name", "more"]) == 0
    assert fingerprint("more") == trained(7, 3).fingerprint
    assert xpnet.verify("runs/more")
    line = complaint(capsys, "train", "--extend", "runs/mean", "--epochs", "2")
    assert line == "--average-epochs: expected at most the 2 epochs to add, got 3"


def test_after_ctrl_c_within_the_averaged_epochs_it_goes_on_to_the_same_mean():
    train_and_press([*WORDS, "--epochs", "5", "--average-epochs", "4", "--name", "stopped"], 3, 2)
    assert fingerprint("stopped") == trained(3, 2).fingerprint  # 2 and 3 are complete
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert fingerprint("stopped") == trained(5, 4).fingerprint
