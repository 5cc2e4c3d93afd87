"""A training from Python leaves the record that the command leaves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from checked_pages import checked
from commands import complaint
from folders import fail_with
from networks import pixels

import xpnet
from xpnet import train
from xpnet.storage.record import read_run

pytestmark = pytest.mark.usefixtures("empty_folder")

X_ALL, Y_ALL = pixels(350, 64, 4)
X, Y, X_TEST, Y_TEST = X_ALL[:300], Y_ALL[:300], X_ALL[300:], Y_ALL[300:]
FILES = {"checkpoint.safetensors", "metrics.jsonl", "model.safetensors", "report.html", "run.json"}


def test_it_is_the_record_of_the_command_but_for_what_the_data_are(capsys):
    np.savez("small.npz", x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    words = ["--validation", "60", "--patience", "9", "--epochs", "3", "--quiet"]
    assert train.main([*words, "--data", "small.npz", "--name", "command"]) == 0
    model = xpnet.fit(X, Y, validation=60, patience=9, epochs=3, run="runs/mine")
    assert capsys.readouterr().out == ""
    assert {path.name for path in model.run.iterdir()} == FILES
    ours, theirs = read_run(model.run), read_run(Path("runs/command"))
    differing = {name for name in ours["config"] if ours["config"][name] != theirs["config"][name]}
    assert differing == {"data", "name", "quiet"}
    same = "status fingerprint seed backend device_used working_folder_commit versions"
    assert all(ours[name] == theirs[name] for name in same.split())
    assert ours["data"] == {**ours["data"], "name": "arrays", "source": "arrays", "training_samples": 300}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tags": ["a"]}, "fit: tags: expected run too"),
        ({"run": "runs/.hidden"}, "fit: run: expected a folder name without / or"),
        ({"run": "runs/a", "callbacks": [print]}, r"fit: callbacks: expected Sequence\[Callback\], got "),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_any_file_is_written(settings, message):
    with pytest.raises(xpnet.ConfigError, match=f"^{message}"):
        xpnet.fit(X, Y, epochs=0, **settings)
    assert list(Path().iterdir()) == []


class Watcher(xpnet.Callback):
    """Notes the calls of its hooks, with the model's fingerprint, and ends training after epoch 2."""

    def __init__(self):
        self.seen = []

    def on_train_begin(self, _):
        self.seen.append(("begin", self.model.fingerprint))

    def on_step_end(self, _):
        self.seen.append(("step", self.model.fingerprint))

    def on_epoch_end(self, log):
        self.seen.append((log.epoch, self.model.fingerprint))
        self.stop = "enough" if log.epoch == 2 else False

    def on_train_end(self, _):
        self.seen.append(("end", self.model.fingerprint))


@pytest.mark.parametrize("run", [None, "runs/mine"])
def test_hooks_see_the_model_and_stop_the_training_and_may_be_used_again(run):
    watcher = Watcher()
    for _ in range(2):
        watcher.seen.clear()
        options = {"run": run, "overwrite": True, "report": False} if run else {}
        model = xpnet.fit(X, Y, epochs=5, batch_size=150, callbacks=[watcher], **options)
    hooks, seen = zip(*watcher.seen, strict=True)
    assert hooks == ("begin", 0, "step", "step", 1, "step", "step", 2, "end")
    assert (seen[0], seen[-1], len(set(seen))) == (seen[1], model.fingerprint, 5)
    with pytest.raises(xpnet.ConfigError, match="expected `model` to be read during training"):
        _ = watcher.model
    assert not run or read_run(Path(run))["status"] == "completed"


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "interrupted"), (ZeroDivisionError("no"), "failed")]
)
def test_the_record_says_how_a_training_has_failed(error, status):
    with pytest.raises(type(error)):
        xpnet.fit(X, Y, callback=fail_with(error), run="runs/mine")
    assert read_run(Path("runs/mine"))["status"] == status


@pytest.mark.needs("sklearn")
def test_the_estimator_takes_callbacks_and_has_a_loss_curve():
    classifier = xpnet.XPNetClassifier(callbacks=[Watcher()], epochs=9).fit(X, Y)
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 2
    assert classifier.loss_curve_ == [row["train_loss"] for row in classifier.model_.history[1:]]


def test_a_model_writes_the_report_of_its_run():
    early = {"epochs": 200, "validation": 40, "patience": 3, "learning_rate": 0.2}
    model = xpnet.fit(X, Y, **early, run="runs/mine")
    model.report("page.html")
    assert Path("page.html").read_text() == Path("runs/mine/report.html").read_text()
    text = checked(Path("page.html")).text
    assert f"{100 * model.history[model.best_epoch]['validation_accuracy']:.2f}\u00a0%" in text
    assert text.count(f"; best: {model.best_epoch}\n") == 2


def test_a_model_writes_a_report_without_a_run():
    model = xpnet.fit(X, Y, epochs=2, validation_data=(X_TEST, Y_TEST))
    model.report("page.html")
    text = checked(Path("page.html")).text
    assert f"{100 * model.evaluate(X_TEST, Y_TEST).accuracy:.2f}\u00a0%" in text
    assert "300 training and 50 validation samples" in text
    assert "test sample" not in text


def test_a_model_without_its_data_says_so_in_place_of_a_report(recorded, capsys):
    shutil.copytree(recorded, ".", dirs_exist_ok=True)
    xpnet.load("runs/plain").report("page.html")
    with pytest.raises(xpnet.ConfigError, match=r"^report: expected a model that xpnet.fit has returned "):
        xpnet.load("start.safetensors").report("page.html")
    message = (
        "runs/weighted: was trained on arrays in Python, which are in no file: its report is in its folder"
    )
    with pytest.raises(xpnet.DataError, match=f"^{message}"):
        xpnet.load("runs/weighted").report("page.html")
    assert complaint(capsys, "report", "runs/weighted").startswith(message)
