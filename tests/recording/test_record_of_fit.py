"""A training from Python leaves the record that the command leaves."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import complaint
from networks import pixels

import xpnet
from xpnet import train
from xpnet.storage.record import read_metrics, read_run

X_ALL, Y_ALL = pixels(350, 64, 4)
X, Y, X_TEST, Y_TEST = X_ALL[:300], Y_ALL[:300], X_ALL[300:], Y_ALL[300:]
FILES = {"checkpoint.safetensors", "metrics.jsonl", "model.safetensors", "report.html", "run.json"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_is_the_record_of_the_command_but_for_what_the_data_are(capsys):
    np.savez("small.npz", x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    words = ["--validation", "60", "--patience", "9", "--epochs", "3", "--tag", "a", "--tag", "b", "--quiet"]
    assert train.main([*words, "--data", "small.npz", "--name", "command"]) == 0
    settings = {"validation": 60, "patience": 9, "epochs": 3, "tags": ["a", "b"]}
    model = xpnet.fit(X, Y, **settings, run="runs/mine")
    assert capsys.readouterr().out == ""
    assert model.run == Path("runs/mine")
    assert {path.name for path in model.run.iterdir()} == FILES
    ours, theirs = read_run(model.run), read_run(Path("runs/command"))
    assert ours["command"][0] == "xpnet.fit"
    differing = {name for name in ours["config"] if ours["config"][name] != theirs["config"][name]}
    assert differing == {"data", "name", "quiet"}
    same = "status fingerprint seed backend device_used working_folder_commit versions"
    assert all(ours[name] == theirs[name] for name in same.split())
    assert ours["metrics"].keys() == {name for name in theirs["metrics"] if not name.startswith("test_")}
    assert ours["data"] == {**ours["data"], "name": "arrays", "source": "arrays", "training_samples": 300}
    rows = [
        [{**row, "seconds": 0} for row in read_metrics(Path("runs", name, "metrics.jsonl"))]
        for name in ("mine", "command")
    ]
    assert rows[0] == rows[1]
    assert (
        Path("runs/mine/model.safetensors").read_bytes()
        == Path("runs/command/model.safetensors").read_bytes()
    )


def test_validation_data_and_weights_are_in_the_record():
    weights = np.linspace(0.5, 1, 300)
    settings = {"patience": 5, "epochs": 2, "sample_weight": weights, "report": False}
    model = xpnet.fit(X, Y, validation_data=(X_TEST, Y_TEST), run="runs/mine", **settings)
    record = read_run(model.run)
    assert (record["config"]["validation"], record["config"]["patience"]) == (50, 5)
    counts = {name: record["data"][f"{name}_samples"] for name in ("training", "validation", "test")}
    assert counts == {"training": 300, "validation": 50, "test": 0}
    assert record["metrics"]["validation_accuracy"] == model.evaluate(X_TEST, Y_TEST).accuracy
    again = xpnet.fit(X, Y, run="runs/other", epochs=0, sample_weight=2 * weights, report=False)
    assert record["data"]["weights_sha256"] == read_run(again.run)["data"]["weights_sha256"]
    assert not (model.run / "report.html").exists()


def test_the_folder_is_new_or_replaced_on_demand():
    first = xpnet.fit(X, Y, epochs=0, run="runs/mine", report=False)
    with pytest.raises(
        xpnet.ConfigError, match=r"^runs/mine: exists already: choose another name, or replace"
    ):
        xpnet.fit(X, Y, epochs=1, run="runs/mine")
    second = xpnet.fit(X, Y, epochs=1, run="runs/mine", overwrite=True, report=False)
    assert read_run(Path("runs/mine"))["fingerprint"] == second.fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"track": ["mlflow"]}, "fit: track: expected run too, the folder of the record"),
        ({"tags": ["a"]}, "fit: tags: expected run too"),
        ({"overwrite": True}, "fit: overwrite: expected run too"),
        ({"run": "runs/.hidden"}, "fit: run: expected a folder name without / or"),
        ({"run": "runs/a", "tags": ["a b"]}, "fit: tags: expected words of at most 64 letters"),
        (
            {"run": "runs/a", "track": "wand"},
            'fit: track: expected some of wandb, trackio, mlflow, each once, got ["wand"]',
        ),
        (
            {"run": "runs/a", "callbacks": [print]},
            "fit: callbacks: expected instances of xpnet.Callback, got <built",
        ),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_any_file_is_written(settings, message):
    with pytest.raises(xpnet.ConfigError) as caught:
        xpnet.fit(X, Y, epochs=0, **settings)
    assert str(caught.value).startswith(message)
    assert list(Path().iterdir()) == []


def test_a_record_too_large_to_be_read_is_refused_before_training():
    frame, epochs = pd.DataFrame(X, columns=[f"{number:0131072}" for number in range(64)]), []
    expected = (
        r"^runs/mine: would get a record of 84\d{5} bytes, above the limit of 8388608: shorten column and"
    )
    with pytest.raises(xpnet.ConfigError, match=expected):
        xpnet.fit(frame, Y, run="runs/mine", callback=epochs.append)
    assert (epochs, list(Path().iterdir())) == ([], [])


def test_a_callback_may_change_the_working_directory(tmp_path, capsys):
    Path("elsewhere").mkdir()
    leave = {"callback": lambda _: os.chdir(tmp_path / "elsewhere")}
    model = xpnet.fit(X, Y, epochs=2, **leave, run="runs/mine", verbose=True)
    assert (list(Path().iterdir()), model.run) == ([], Path("runs/mine"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["run           runs/mine", "report        runs/mine/report.html"]
    os.chdir(tmp_path)
    assert {path.name for path in model.run.iterdir()} == FILES
    assert xpnet.verify("runs/mine", X, Y)


class Watcher(xpnet.Callback):
    """Notes the calls of its hooks, with the model's fingerprint."""

    def __init__(self, last=None, error=None):
        self.last, self.error, self.seen = last, error, []

    def note(self, hook):
        self.seen.append((hook, self.model.fingerprint))

    def on_train_begin(self, _):
        self.note("begin")

    def on_step_end(self, _):
        self.note("step")

    def on_epoch_end(self, log):
        self.note(f"epoch {log.epoch}")
        if log.epoch == self.last:
            self.stop = "enough"
        if self.error is not None:
            raise self.error

    def on_train_end(self, _):
        self.note("end")


def test_the_hook_of_a_step_is_called_after_each():
    watcher = Watcher()
    xpnet.fit(X, Y, epochs=1, batch_size=2, callbacks=[watcher])
    assert [hook for hook, _ in watcher.seen].count("step") == -(-len(X) // 2)


@pytest.mark.parametrize("run", [None, "runs/mine"])
def test_hooks_see_the_model(run):
    watcher, start = Watcher(), xpnet.fit(X, Y, epochs=0).fingerprint
    model = xpnet.fit(X, Y, epochs=2, batch_size=150, callbacks=[watcher], run=run, report=False)
    steps = ["step", "step", "epoch 1", "step", "step", "epoch 2", "end"]
    assert [hook for hook, _ in watcher.seen] == ["begin", "epoch 0", *steps]
    seen = [fingerprint for _, fingerprint in watcher.seen]
    assert seen[:2] == [start, start]
    assert seen[-2:] == [model.fingerprint] * 2
    assert len(set(seen)) == 5
    with pytest.raises(xpnet.ConfigError, match="expected `model` to be read during training"):
        _ = watcher.model


@pytest.mark.parametrize("run", [None, "runs/mine"])
def test_a_callback_stops_the_training_and_may_be_used_again(run):
    watcher = Watcher(last=1)
    for _ in range(2):
        model = xpnet.fit(
            X, Y, epochs=5, callbacks=[watcher], run=run, overwrite=run is not None, report=False
        )
        assert model.history[-1]["epoch"] == 1
    if run is not None:
        assert (read_run(model.run)["status"], read_run(model.run)["metrics"]["epochs"]) == ("completed", 1)


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "interrupted"), (ZeroDivisionError("no"), "failed")]
)
def test_the_record_says_how_a_training_has_failed(error, status):
    with pytest.raises(type(error)):
        xpnet.fit(X, Y, callbacks=[Watcher(error=error)], run="runs/mine")
    assert read_run(Path("runs/mine"))["status"] == status


@pytest.mark.needs("sklearn")
def test_the_estimator_takes_callbacks_and_has_a_loss_curve():
    watcher = Watcher(last=3)
    classifier = xpnet.XPNetClassifier(callbacks=[watcher], epochs=9).fit(X, Y)
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 3
    assert watcher.seen[-1] == ("end", classifier.model_.fingerprint)
    assert classifier.loss_curve_ == [row["train_loss"] for row in classifier.model_.history[1:]]
    each = xpnet.XPNetClassifier(epochs=9)
    for _ in range(3):
        each.partial_fit(X, Y, classes=range(4))
    assert each.loss_curve_ == classifier.loss_curve_
    with pytest.raises(
        xpnet.ConfigError, match=r"^XPNetClassifier: callbacks: expected instances of xpnet.Cal"
    ):
        xpnet.XPNetClassifier(callbacks=[print]).fit(X, Y)


def report_of(model):
    model.report("page.html")
    return Path("page.html").read_text()


def test_a_model_writes_its_report_with_or_without_a_run():
    model = xpnet.fit(X, Y, epochs=2, validation_data=(X_TEST, Y_TEST))
    page = report_of(model)
    accuracy = f"{100 * model.evaluate(X_TEST, Y_TEST).accuracy:.2f}"
    assert f"<dt>validation accuracy</dt><dd>{accuracy}\u00a0%" in page
    assert "300 training and 50 validation samples" in page
    assert "test sample" not in page
    recorded = xpnet.fit(X, Y, epochs=2, validation_data=(X_TEST, Y_TEST), run="runs/mine")
    assert report_of(recorded) == Path("runs/mine/report.html").read_text()
    alone = report_of(xpnet.fit(X, Y, epochs=2))
    assert (
        f"<dt>training accuracy</dt><dd>{100 * xpnet.fit(X, Y, epochs=2).evaluate(X, Y).accuracy:.2f}"
        in alone
    )
    held_out = xpnet.fit(X, Y, epochs=2, validation=40)
    assert (
        f"<dt>validation accuracy</dt><dd>{100 * held_out.history[-1]['validation_accuracy']:.2f}"
        in report_of(held_out)
    )


def test_a_model_without_its_data_says_so_in_place_of_a_report(capsys):
    np.savez("small.npz", x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    assert train.main(["--data", "small.npz", "--epochs", "1", "--name", "files", "--quiet"]) == 0
    assert report_of(xpnet.load("runs/files")) == Path("runs/files/report.html").read_text()
    model = xpnet.fit(X, Y, epochs=9, batch_size=16, run="runs/mine")
    model.save("alone.safetensors")
    with pytest.raises(
        xpnet.ConfigError, match=r"^report: expected a model that xpnet.fit has returned or th"
    ):
        xpnet.load("alone.safetensors").report("page.html")
    start = "runs/mine: was trained on arrays in Python, which are in no file: "
    with pytest.raises(xpnet.DataError, match=f"^{start}its report is in its folder"):
        xpnet.load("runs/mine").report("page.html")
    assert complaint(capsys, "report", "runs/mine").startswith(f"{start}its report is in its folder")
    assert complaint(capsys, "evaluate", "runs/mine") == f"{start}name labelled samples with --data"
    with pytest.raises(KeyboardInterrupt):
        xpnet.fit(X, Y, callbacks=[Watcher(error=KeyboardInterrupt())], run="runs/stopped")
    assert (
        complaint(capsys, "train", "--resume", "runs/stopped")
        == start.replace("mine", "stopped") + "train again with xpnet.fit"
    )


SUMMARY = """\
layer       output   parameters
input       (m, 64)
linear      (m, 6)          390
batch norm  (m, 6)           12
tanh        (m, 6)
linear      (m, 4)           28
softmax     (m, 4)
total                       430"""


def test_a_model_and_an_evaluation_show_themselves_as_short_text():
    frame, names = pd.DataFrame(X), np.array(["a", "b", "c", "d"])
    model = xpnet.fit(frame, names[Y], epochs=1, hidden=6, batch_norm=True, activation="tanh")
    assert repr(model.summary()) == str(model.summary()) == SUMMARY
    evaluation = model.evaluate(frame, names[Y])
    lines = str(evaluation).splitlines()
    assert len(lines) <= 10
    assert lines[:2] == ["samples         300 of 4 classes", f"accuracy        {evaluation.accuracy:.4f}"]
    recalls = {name: each.recall for name, each in zip("abcd", evaluation.classes, strict=True)}
    worst = min(recalls, key=recalls.get)
    assert (
        f"lowest recall   {worst} {recalls[worst]:.4f} of {evaluation.classes['abcd'.index(worst)].support}, "
        in str(evaluation)
    )
    wrong = evaluation.confusion - np.diag(np.diag(evaluation.confusion))
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    assert f"confused        {'abcd'[row]} as {'abcd'[column]} {wrong.max()} times, " in str(evaluation)
    assert (
        repr(evaluation)
        == f"<xpnet.Evaluation accuracy {evaluation.accuracy:.4f}, loss {evaluation.loss:.4f}, 300 samples>"
    )
