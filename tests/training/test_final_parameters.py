"""The parameters of the trained network: the mean of the last epochs."""

from pathlib import Path

import numpy as np
import pytest
from commands import complaint, printed
from networks import pixels

import xpnet
from xpnet import train
from xpnet._lib.tree import leaves
from xpnet.storage.record import read_run
from xpnet.training import callbacks

X, Y = pixels(360, 12, 4)
WORDS = ["--data", "small.npz", "--hidden", "6", "5", "--batch-norm", "--batch-size", "64", "--lr", "0.5"]
OUTPUT = ["--out", "runs", "--quiet", "--no-report"]
SETTINGS = {"hidden": (6, 5), "batch_norm": True, "batch_size": 64, "learning_rate": 0.5, "backend": "numpy"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=X[:300], y_train=Y[:300], x_test=X[300:], y_test=Y[300:])


def trained(epochs, averaged, **settings):
    return xpnet.fit(X[:300], Y[:300], **SETTINGS, epochs=epochs, average_epochs=averaged, **settings)


def recorded(name, epochs, averaged, *words, code=0):
    """Train by the command, and return the record."""
    lengths = map(str, ["--epochs", epochs, "--average-epochs", averaged, *words])
    assert train.main([*WORDS, *OUTPUT, "--name", name, *lengths]) == code
    return read_run(Path("runs", name))


@pytest.mark.parametrize("arithmetic", ["reproducible", "native"])
def test_the_network_has_the_mean_of_parameters_and_statistics_after_each_of_the_last_epochs(arithmetic):
    models = [trained(epochs, 1, arithmetic=arithmetic) for epochs in (3, 4, 5)]
    models.append(trained(5, 3, arithmetic=arithmetic))
    arrays = (leaves([model.network.parameters, model.network.statistics]) for model in models)
    for first, second, third, mean in zip(*arrays, strict=True):
        assert np.array_equal(((first + second) + third) * mean.dtype.type(1 / 3), mean)
        assert not np.array_equal(third, mean)


def test_the_record_has_the_metrics_of_the_mean_and_is_verified(capsys):
    last, mean = recorded("last", 4, 1), recorded("mean", 4, 3, "--keep-checkpoint-every", 2)
    rows = [Path("runs", run, "metrics.jsonl").read_text().splitlines() for run in ("last", "mean")]
    assert [row.split('"seconds"')[0] for row in rows[0]] == [row.split('"seconds"')[0] for row in rows[1]]
    assert last["metrics"]["train_loss"] != mean["metrics"]["train_loss"]
    assert "best_epoch" not in mean["metrics"]
    assert mean["fingerprint"] == xpnet.load("runs/mean").fingerprint == trained(4, 3).fingerprint
    assert "the same bits" in printed(capsys, "verify", "runs/mean")
    assert "the same bits" in printed(capsys, "verify", "runs/mean", "--between", "2:4")


def test_after_ctrl_c_within_the_averaged_epochs_it_goes_on_to_the_same_mean(monkeypatch):
    evaluate = callbacks.Evaluate.on_epoch_end

    def interrupt(self, trainer, log):
        if log.epoch == 3:
            raise KeyboardInterrupt
        evaluate(self, trainer, log)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Evaluate, "on_epoch_end", interrupt)
        stopped = recorded("stopped", 5, 4, code=130)
    assert (stopped["status"], stopped["metrics"]["epochs"]) == ("interrupted", 3)
    assert stopped["fingerprint"] == trained(3, 2).fingerprint  # epochs 2 and 3 are complete
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert read_run(Path("runs/stopped"))["fingerprint"] == trained(5, 4).fingerprint


def test_an_extension_averages_its_own_last_epochs(capsys):
    recorded("parent", 3, 3)
    assert train.main(["--extend", "runs/parent", "--epochs", "3", *OUTPUT, "--name", "more"]) == 0
    assert read_run(Path("runs/more"))["fingerprint"] == trained(6, 3).fingerprint
    assert "the same bits" in printed(capsys, "verify", "runs/more")
    line = complaint(capsys, "train", "--extend", "runs/parent", "--epochs", "2")
    assert line == "--average-epochs: expected at most the 2 epochs to add, got 3"


def test_the_estimator_averages_in_fit_alone():
    kept = {"normalize": "scale", "init": "uniform", "optimizer": "sgd", "schedule": "constant"}
    estimator = xpnet.XPNetClassifier(**SETTINGS, **kept, epochs=4, average_epochs=3, weight_decay=None)
    assert estimator.fit(X[:300], Y[:300]).model_.fingerprint == trained(4, 3).fingerprint
    fingerprints = set()
    for averaged in (1, 3):
        estimator = xpnet.XPNetClassifier(**SETTINGS, epochs=4, average_epochs=averaged)
        for _ in range(2):
            estimator.partial_fit(X[:300], Y[:300], classes=np.unique(Y))
        fingerprints.add(estimator.model_.fingerprint)
    assert len(fingerprints) == 1
