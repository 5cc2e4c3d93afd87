"""The parameters of the trained network: the mean of the last epochs."""

from pathlib import Path

import numpy as np
import pytest
from commands import complaint, printed
from ctrl_c import interrupted
from networks import pixels

import xpnet
from xpnet import train
from xpnet.storage.model_file import load_model, name_tensors
from xpnet.storage.record import read_run
from xpnet.training import callbacks

X, Y = pixels(360, 12, 4)
WORDS = ["--data", "small.npz", "--hidden", "6", "5", "--batch-norm", "--batch-size", "64", "--lr", "0.5"]
WORDS += ["--out", "runs", "--quiet", "--no-report"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=X[:300], y_train=Y[:300], x_test=X[300:], y_test=Y[300:])


def trained(name, *words):
    """Train, and return the record."""
    assert train.main([*map(str, (*WORDS, "--name", name, *words))]) == 0
    return read_run(Path("runs", name))


def arrays(run):
    """The parameters and running statistics of a run's network."""
    tensors = name_tensors(load_model(Path("runs", run, "model.safetensors")))
    return {name: array for name, array in tensors.items() if name.startswith(("layers.", "norms."))}


@pytest.mark.parametrize("arithmetic", ["reproducible", "native"])
def test_the_network_has_the_mean_of_parameters_and_statistics_after_each_of_the_last_epochs(arithmetic):
    epochs = []
    for count in (3, 4, 5):
        trained(f"{count}", "--epochs", count, "--arithmetic", arithmetic)
        epochs.append(arrays(f"{count}"))
    trained("mean", "--epochs", 5, "--average-epochs", 3, "--arithmetic", arithmetic)
    for name, mean in arrays("mean").items():
        first, second, third = (epoch[name] for epoch in epochs)
        assert np.array_equal(((first + second) + third) * mean.dtype.type(1 / 3), mean)
        assert not np.array_equal(third, mean)


def test_the_history_has_each_epoch_and_the_record_the_metrics_of_the_mean():
    last, mean = (trained(f"{count}", "--epochs", 4, "--average-epochs", count) for count in (1, 4))
    rows = [Path("runs", run, "metrics.jsonl").read_text().splitlines() for run in ("1", "4")]
    assert [row.split('"seconds"')[0] for row in rows[0]] == [row.split('"seconds"')[0] for row in rows[1]]
    assert last["fingerprint"] != mean["fingerprint"] == xpnet.load("runs/4").fingerprint
    assert last["metrics"]["train_loss"] != mean["metrics"]["train_loss"]
    assert "best_epoch" not in mean["metrics"]


def test_verify_confirms_a_mean_and_a_part_of_its_training(capsys):
    trained("mean", "--epochs", 6, "--average-epochs", 3, "--keep-checkpoint-every", 2)
    assert "the same bits" in printed(capsys, "verify", "runs/mean")
    assert "the same bits" in printed(capsys, "verify", "runs/mean", "--between", "4:6")


def test_after_ctrl_c_within_the_averaged_epochs_it_goes_on_to_the_same_mean():
    whole = trained("whole", "--epochs", 5, "--average-epochs", 4)
    interrupted(3, [*WORDS, "--epochs", "5", "--average-epochs", "4", "--name", "stopped"])
    stopped = read_run(Path("runs/stopped"))
    assert (stopped["status"], stopped["metrics"]["epochs"]) == ("interrupted", 3)
    # Epochs 2 and 3 are complete: the network has their mean.
    assert stopped["fingerprint"] == trained("two", "--epochs", 3, "--average-epochs", 2)["fingerprint"]
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert read_run(Path("runs/stopped"))["fingerprint"] == whole["fingerprint"]


def test_an_epoch_whose_evaluation_is_interrupted_counts(monkeypatch):
    whole = trained("whole", "--epochs", 5, "--average-epochs", 4)
    evaluate = callbacks.Evaluate.on_epoch_end

    def interrupt(self, trainer, log):
        if log.epoch == 3:
            raise KeyboardInterrupt
        evaluate(self, trainer, log)

    words = [*WORDS, "--epochs", "5", "--average-epochs", "4", "--name", "stopped"]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Evaluate, "on_epoch_end", interrupt)
        assert train.main(words) == 130
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert read_run(Path("runs/stopped"))["fingerprint"] == whole["fingerprint"]


def test_an_extension_averages_its_own_last_epochs(capsys):
    whole = trained("whole", "--epochs", 6, "--average-epochs", 3)
    trained("parent", "--epochs", 3, "--average-epochs", 3)
    more = ["--out", "runs", "--quiet", "--no-report", "--name", "more"]
    assert train.main(["--extend", "runs/parent", "--epochs", "3", *more]) == 0
    assert read_run(Path("runs/more"))["fingerprint"] == whole["fingerprint"]
    assert "the same bits" in printed(capsys, "verify", "runs/more")
    line = complaint(capsys, "train", "--extend", "runs/parent", "--epochs", "2")
    assert line == "--average-epochs: expected at most the 2 epochs to add, got 3"


def test_partial_fit_averages_nothing():
    fingerprints = set()
    for averaged in (1, 3):
        estimator = xpnet.XPNetClassifier(hidden=(5,), epochs=4, average_epochs=averaged, backend="numpy")
        for _ in range(2):
            estimator.partial_fit(X[:300], Y[:300], classes=np.unique(Y))
        fingerprints.add(estimator.model_.fingerprint)
    assert len(fingerprints) == 1


def test_fit_and_the_estimator_average_as_the_command_does():
    settings = {"hidden": (6, 5), "batch_norm": True, "batch_size": 64, "learning_rate": 0.5, "epochs": 4}
    settings |= {"average_epochs": 3, "backend": "numpy"}
    record = trained("mean", "--epochs", 4, "--average-epochs", 3)
    assert xpnet.fit(X[:300], Y[:300], **settings).fingerprint == record["fingerprint"]
    estimator = xpnet.XPNetClassifier(**settings, normalize="scale", init="uniform", optimizer="sgd")
    estimator.set_params(schedule="constant", weight_decay=None)
    assert estimator.fit(X[:300], Y[:300]).model_.fingerprint == record["fingerprint"]
