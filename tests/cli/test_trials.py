"""Several seeds or learning rates: a run each, and a summary."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

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
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(450, 12), dtype=np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(12, 4)), axis=1)
    np.savez(tmp_path / "small.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    monkeypatch.chdir(tmp_path)


def run(*words):
    """Train without reports; return the exit code."""
    return run_with_reports("--no-report", *words)


def run_with_reports(*words):
    return train.main(["--data", "small.npz", "--batch-size", "20", "--epochs", "5", *words])


def summary(name):
    return json.loads(Path("runs", name, "summary.json").read_text())


def test_seeds_are_trained_one_after_the_other(capsys):
    assert run("--repeats", "3", "--seed", "4", "--name", "three") == 0
    runs = [read_run(Path("runs/three") / f"seed-{seed}") for seed in (4, 5, 6)]
    assert [record["seed"] for record in runs] == [4, 5, 6]
    accuracies = [record["metrics"]["test_accuracy"] for record in runs]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    content = summary("three")
    assert content["figures"]["test_accuracy"] == {"mean": mean, "standard_deviation": deviation}
    assert [trial["fingerprint"] for trial in content["trials"]] == [r["fingerprint"] for r in runs]
    out = capsys.readouterr().out
    assert f"test accuracy       {mean:.4f} ± {deviation:.4f}\n" in out
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
    assert run("--repeats", "2", "--name", "two", "--quiet") == 0
    before = Path("runs/two/summary.json").read_bytes()
    assert run("--repeats", "2", "--name", "two") == 2
    assert "runs/two: exists already" in capsys.readouterr().err
    assert Path("runs/two/summary.json").read_bytes() == before
    assert run("--repeats", "2", "--name", "two", "--overwrite", "--quiet") == 0


def test_each_run_has_its_report(capsys):
    assert run_with_reports("--repeats", "2", "--name", "two", "--epochs", "1") == 0
    out = capsys.readouterr().out
    for seed in (0, 1):
        report = Path("runs/two", f"seed-{seed}", "report.html")
        assert report.exists()
        assert f"report        {report}\n" in out


def test_rates_and_repeats_exclude_each_other(capsys):
    assert run("--repeats", "2", "--lr", "0.1", "0.2", "--validation", "100") == 2
    assert "choose one rate first" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_with_patience_the_best_parameters_are_kept(capsys):
    """A learning rate that is too large soon spoils what was learned."""
    words = ["--validation", "100", "--patience", "4", "--optimizer", "adam", "--lr", "0.3"]
    assert run(*words, "--epochs", "50", "--name", "early", "--log-every", "1") == 0
    record = read_run(Path("runs/early"))
    rows = read_metrics(Path("runs/early/metrics.jsonl"))
    accuracies = [row["validation_accuracy"] for row in rows]
    best = record["metrics"]["best_epoch"]
    assert accuracies[best] == max(accuracies) == record["metrics"]["validation_accuracy"]
    assert record["metrics"]["epochs"] == best + 4 < 50
    assert record["status"] == "completed"
    assert f"stopped after {best + 4} epochs, the best was {best}" in capsys.readouterr().out
    assert run(*words, "--epochs", str(best), "--name", "short", "--quiet") == 0
    assert read_run(Path("runs/short"))["fingerprint"] == record["fingerprint"]


def end_epoch(stopping, epoch, accuracy, loss):
    """Call the hook after an epoch whose parameters are its number."""
    state = TrainState(Variables([Linear(np.array(epoch), np.array(0))], [], None), epoch)
    stopping.on_epoch_end(EpochLog(state, None, Evaluation(loss, accuracy, None)))
    return state


def chosen(stopping, state):
    """The number of the epoch whose parameters are chosen at the end."""
    result = FitResult(state, state)
    stopping.on_train_end(result)
    return int(result.best.variables.parameters[0].weight)


def test_the_first_epoch_of_the_highest_accuracy_and_then_the_lowest_loss_is_kept():
    stopping = EarlyStopping(patience=2)
    metrics = [(0.5, 1.0), (0.6, 1.0), (0.6, 0.9), (0.6, 0.9), (0.5, 0.1)]
    for epoch, (accuracy, loss) in enumerate(metrics):
        state = end_epoch(stopping, epoch, accuracy, loss)
        assert (stopping.stop is not None) == (epoch == 4)
    assert stopping.best_epoch == 2
    assert chosen(stopping, state) == 2


def test_without_patience_nothing_is_kept():
    stopping = EarlyStopping(patience=None)
    end_epoch(stopping, 1, 0.9, 0.1)
    state = end_epoch(stopping, 1000, 0.1, 0.9)
    assert stopping.stop is None
    assert chosen(stopping, state) == 1000
