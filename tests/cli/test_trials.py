"""Several seeds or learning rates: a run each, and a summary."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from folders import tree
from networks import pixels

from xpnet import train
from xpnet.nn.layers import Linear
from xpnet.storage.record import read_metrics, read_run
from xpnet.training.callbacks import EarlyStopping, EpochLog
from xpnet.training.evaluation import Evaluation
from xpnet.training.loop import FitResult
from xpnet.training.state import TrainState, Variables


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 400 + 50 samples, 12 features, 4 classes."""
    x, y = pixels(450, 12, 4)
    np.savez(tmp_path / "small.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    monkeypatch.chdir(tmp_path)


def run(*words):
    """Train, by default without reports; return the exit code."""
    settings = ["--data", "small.npz", "--batch-size", "20", "--epochs", "5", "--no-report"]
    return train.main([*settings, *words])


def summary(name):
    return json.loads(Path("runs", name, "summary.json").read_text())


def test_seeds_are_trained_one_after_the_other(capsys):
    assert run("--repeats", "3", "--seed", "4", "--name", "three", "--report") == 0
    runs = [read_run(Path("runs/three") / f"seed-{seed}") for seed in (4, 5, 6)]
    assert [record["seed"] for record in runs] == [4, 5, 6]
    accuracies = [record["metrics"]["test_accuracy"] for record in runs]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    content = summary("three")
    assert content["figures"]["test_accuracy"] == {"mean": mean, "standard_deviation": deviation}
    assert [trial["fingerprint"] for trial in content["trials"]] == [r["fingerprint"] for r in runs]
    out = capsys.readouterr().out
    assert f"test accuracy       {mean:.4f} ± {deviation:.4f}\n" in out
    for seed in (4, 5, 6):
        report = Path("runs/three", f"seed-{seed}", "report.html")
        assert report.exists()
        assert f"report        {report}\n" in out
    assert run("--seed", "5", "--name", "alone", "--quiet") == 0
    assert read_run(Path("runs/alone"))["fingerprint"] == runs[1]["fingerprint"]


def test_the_learning_rate_that_validates_best_is_named(capsys):
    assert run("--lr", "0.0001", "0.3", "0.1", "--validation", "100", "--name", "rates") == 0
    content = summary("rates")
    accuracy = {trial["run"]: trial["metrics"]["validation_accuracy"] for trial in content["trials"]}
    assert list(accuracy) == ["lr-0.0001", "lr-0.3", "lr-0.1"]
    assert accuracy[content["best"]["run"]] == max(accuracy.values()) > accuracy["lr-0.0001"]
    assert f"best          {content['best']['run']}: " in capsys.readouterr().out


def test_an_existing_folder_is_kept(capsys):
    words = ("--repeats", "2", "--name", "two", "--quiet")
    assert run(*words) == 0
    before = tree(Path("runs/two"))
    assert run(*words) == 2
    assert "runs/two: exists already" in capsys.readouterr().err
    assert tree(Path("runs/two")) == before
    assert run(*words, "--overwrite") == 0


def test_with_patience_the_best_parameters_are_kept(capsys):
    """A learning rate that is too large soon spoils what was learned."""
    words = ["--validation", "100", "--patience", "4", "--optimizer", "adam", "--lr", "0.3"]
    assert run(*words, "--epochs", "50", "--name", "early", "--log-every", "1") == 0
    record, rows = read_run(Path("runs/early")), read_metrics(Path("runs/early/metrics.jsonl"))
    metrics, accuracies = record["metrics"], [row["validation_accuracy"] for row in rows]
    best = metrics["best_epoch"]
    assert accuracies[best] == max(accuracies) == metrics["validation_accuracy"]
    assert (record["status"], metrics["epochs"]) == ("completed", best + 4)
    assert f"stopped after {best + 4} epochs, the best was {best}" in capsys.readouterr().out


@pytest.mark.parametrize(("patience", "best", "stops"), [(2, 2, True), (None, 4, False)])
def test_the_first_epoch_of_the_highest_accuracy_and_then_the_lowest_loss_is_kept(patience, best, stops):
    stopping = EarlyStopping(patience)
    for epoch, (accuracy, loss) in enumerate([(0.5, 1.0), (0.6, 1.0), (0.6, 0.9), (0.6, 0.9), (0.5, 0.1)]):
        state = TrainState(Variables([Linear(np.array(epoch), np.array(0))], [], None), epoch)
        stopping.on_epoch_end(EpochLog(state, None, Evaluation(loss, accuracy, None)))
        assert (stopping.stop is not None) == (stops and epoch == 4)
    result = FitResult(state, state)
    stopping.on_train_end(result)
    assert int(result.best.variables.parameters[0].weight) == best
