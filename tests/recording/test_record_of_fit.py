"""A training from Python leaves the record that the command leaves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from folders import fail_with
from networks import pixels
from report_pages import checked

import xpnet
from xpnet import train
from xpnet.storage.record import read_run

pytestmark = pytest.mark.usefixtures("empty_folder")

X_ALL, Y_ALL = pixels(350, 64, 4)
X, Y, X_TEST, Y_TEST = X_ALL[:300], Y_ALL[:300], X_ALL[300:], Y_ALL[300:]


def test_it_is_the_record_of_the_command_but_for_what_the_data_are(capsys):
    np.savez("small.npz", x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    words = ["--validation", "60", "--patience", "9", "--epochs", "3", "--quiet"]
    assert train.main([*words, "--data", "small.npz", "--name", "command"]) == 0
    model = xpnet.fit(X, Y, validation=60, patience=9, epochs=3, run="runs/mine")
    assert capsys.readouterr().out == ""
    ours, theirs = read_run(model.run), read_run(Path("runs/command"))
    differing = {name for name in ours["config"] if ours["config"][name] != theirs["config"][name]}
    assert differing == {"data", "name", "quiet"}
    same = "status fingerprint seed backend device_used working_folder_commit versions"
    assert all(ours[name] == theirs[name] for name in same.split())


@pytest.mark.parametrize("settings", [{"tags": ["a"]}, {"run": "runs/.hidden"}])
def test_what_cannot_be_recorded_is_refused_before_any_file_is_written(settings):
    with pytest.raises(xpnet.ConfigError, match=r"^fit: (tags: expected run|run: expected a folder name)"):
        xpnet.fit(X, Y, epochs=0, **settings)
    assert list(Path().iterdir()) == []


class Watcher(xpnet.Callback):
    def note(self, _):
        self.seen.append(self.model.fingerprint)

    on_step_end = on_train_end = note

    def on_train_begin(self, start):
        self.seen = []
        self.note(start)

    def on_epoch_end(self, log):
        self.note(log)
        self.stop = "enough" if log.epoch == 2 else False


@pytest.mark.parametrize("options", [{}, {"run": "runs/mine", "overwrite": True, "report": False}])
def test_hooks_see_the_model_and_stop_the_training_and_may_be_used_again(options):
    watcher = Watcher()
    for _ in range(2):
        model = xpnet.fit(X, Y, epochs=5, batch_size=150, callbacks=[watcher], **options)
    begin, first, *rest = watcher.seen  # of two steps and the end of each epoch
    assert begin == first
    assert (rest[1], rest[4]) == (rest[2], rest[5])
    assert (rest[5:], len(set(watcher.seen))) == ([model.fingerprint] * 2, 5)
    with pytest.raises(xpnet.ConfigError, match="expected `model` to be read during training"):
        _ = watcher.model
    assert not model.run or read_run(model.run)["status"] == "completed"


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")]
)
def test_the_record_says_how_a_training_has_failed(error, status):
    with pytest.raises(error):
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


def test_a_model_without_its_data_says_so_in_place_of_a_report(recorded, capsys):
    shutil.copytree(recorded, ".", dirs_exist_ok=True)
    xpnet.load("runs/plain").report("page.html")
    with pytest.raises(xpnet.ConfigError, match=r"^report: expected a model that xpnet.fit has returned "):
        xpnet.load("start.safetensors").report("page.html")
    message = "runs/weighted: was trained on arrays in Python, which are in no file: its report is in its "
    with pytest.raises(xpnet.DataError, match=f"^{message}"):
        xpnet.load("runs/weighted").report("page.html")
    assert complaint(capsys, "report", "runs/weighted").startswith(message)
