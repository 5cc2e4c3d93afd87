"""Training from Python: the same network as from the command line, without files and output."""

import copy
import pickle
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from networks import pixels

import xpnet
from xpnet import train
from xpnet.storage.record import read_run

pytestmark = pytest.mark.usefixtures("empty_folder")

ROWS = 300
X_ALL, Y_ALL = pixels(ROWS + 50, 12, 4)
X, Y, X_TEST, Y_TEST = X_ALL[:ROWS], Y_ALL[:ROWS], X_ALL[ROWS:], Y_ALL[ROWS:]
SAME = {
    "native": {"arithmetic": "native", "normalize": "standardize", "epochs": 3, "seed": 7},
    "early stopping": {"validation": 60, "patience": 3, "batch_size": 8, "learning_rate": 2.0, "epochs": 60},
}


@pytest.mark.parametrize("settings", SAME.values(), ids=SAME)
def test_the_command_gives_the_same_network_and_history_and_a_folder_to_load(settings):
    np.savez("small.npz", x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    words = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    assert train.main(["--data", "small.npz", "--name", "run", "--quiet", "--no-report", *words]) == 0
    record = read_run(Path("runs/run"))
    model, loaded = xpnet.fit(X, Y, **settings), xpnet.load("runs/run")
    assert model.fingerprint == loaded.fingerprint == record["fingerprint"]
    assert model.history == [{key: row[key] for key in row if key != "seconds"} for row in loaded.history]
    evaluation, metrics = model.evaluate(X_TEST, Y_TEST), record["metrics"]
    assert evaluation.accuracy == metrics["test_accuracy"]
    assert evaluation.loss == pytest.approx(metrics["test_loss"], rel=1e-6)
    assert evaluation.confusion[1, 2] == np.sum((Y_TEST == 1) & (model.predict(X_TEST) == 2))


def test_a_file_of_settings_is_a_recipe_of_which_those_of_files_and_output_are_ignored():
    Path("mine.toml").write_text("seed = 3\nepochs = 2\npatience = 1\nvalidation = 9\njobs = 2")
    expected = xpnet.fit(X, Y, seed=3, epochs=2, patience=1, validation=9).fingerprint
    assert xpnet.fit(X, Y, recipe=Path("mine.toml")).fingerprint == expected
    again = xpnet.fit(X, Y, recipe="mine.toml", patience=None, validation=0)
    assert again.fingerprint == xpnet.fit(X, Y, seed=3, epochs=2).fingerprint
    assert list(Path().iterdir()) == [Path("mine.toml")]


def test_a_warning_about_the_data_is_in_the_line_of_the_caller():
    advice = r"the features differ in scale \(.*\): use normalize=\"standardize\", or recipe=\"tabular\""
    with pytest.warns(UserWarning, match=f"^{advice}") as caught:
        xpnet.fit(np.tile([[2.5, 3, -197], [3.5, 3, 203]], (20, 1)), np.arange(40) % 2, epochs=0)
    assert [warning.filename for warning in caught] == [__file__]


def test_validation_data_are_evaluated_and_not_trained_on_and_verbose_prints_it(capsys):
    model = xpnet.fit(X, Y, validation_data=(X_TEST, Y_TEST), epochs=4, log_every=2, verbose=True)
    form = r"^epoch +(\d)   loss \d\.\d{4}   accuracy 0\.\d{4}   validation 0\.\d{4}$"
    assert re.findall(form, capsys.readouterr().out, re.MULTILINE) == ["0", "2", "4"]
    assert model.fingerprint == xpnet.fit(X, Y, epochs=4).fingerprint
    evaluation, last = model.evaluate(X_TEST, Y_TEST), model.history[-1]
    assert (last["validation_accuracy"], last["validation_loss"]) == (evaluation.accuracy, evaluation.loss)
    assert [row["epoch"] for row in model.history if "train_loss" in row] == [0, 2, 4]


def test_the_callback_sees_every_epoch_and_nothing_is_written_or_printed(capsys):
    seen = []
    model = xpnet.fit(X, Y, epochs=2, log_every=2, callback=seen.append)
    first, last = model.history
    assert [{"epoch": epoch.epoch, **epoch.metrics} for epoch in seen] == [first, {"epoch": 1}, last]
    assert (list(Path().iterdir()), capsys.readouterr()) == ([], ("", ""))


@pytest.mark.parametrize(("answer", "last"), [(np.True_, 1), (1, 2)])
def test_training_ends_if_the_callback_returns_true_and_nothing_else(answer, last):
    model = xpnet.fit(X, Y, epochs=2, log_every=1, callback=lambda epoch: answer if epoch.epoch else None)
    assert model.history[-1]["epoch"] == last
    assert model.fingerprint == xpnet.fit(X, Y, epochs=last).fingerprint


@pytest.fixture(scope="module")
def model():
    return xpnet.fit(X, Y, epochs=5, batch_norm=True, batch_size=50)


def test_a_model_comes_back_from_a_file_a_copy_and_a_pickle(model):
    model.save("model.safetensors")
    loaded, copied = xpnet.load("model.safetensors"), copy.deepcopy(model)
    pickled = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert (loaded.history, copied.history, pickled.history) == ([], model.history, model.history)
    for again in (loaded, copied, pickled):
        assert np.array_equal(again.logits(X_TEST), model.logits(X_TEST))
        assert repr(again) == f"<xpnet.Model 12-10-4, fingerprint {model.fingerprint[:16]}>"


HOLES = pd.DataFrame({"a": [1, np.nan]})
C_OF_OTHERS = r"fit: unknown setting 'C': did you mean weight_decay \(1 / \(C times the number of samples"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: xpnet.fit(X, Y, C=5), C_OF_OTHERS),
        (lambda _: xpnet.fit(X, Y, hidden=True), "fit: hidden: expected whole numbers, each 1 or more, got"),
        (lambda _: xpnet.fit(X * 1e300, Y, normalize="none", epochs=0), "training diverged: the loss is not"),
        (lambda _: xpnet.fit(HOLES, [0, 1]), "X, row 2, column 'a': nan is not a finite number; "),
        (lambda _: xpnet.fit(X, [0, 1]), "X holds 300 samples, y holds 2 labels"),
        (lambda model: model.predict(X[:, :3]), ".*takes rows of 12 features"),
        (lambda model: xpnet.Model(model.network, device="cuda", backend="numpy").predict(X), "the numpy"),
    ],
)
def test_calls_that_cannot_be_are_one_line_with_keywords_in_place_of_flags(model, call, message):
    with pytest.raises(xpnet.XPNetError, match=f"^{message}") as caught:
        call(model)
    assert re.fullmatch("(?!.*--).+", str(caught.value))


def test_the_cpu_takes_the_place_of_a_gpu_with_a_warning_in_the_line_of_the_caller(monkeypatch):
    monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: None)
    with pytest.warns(UserWarning, match='^device="cuda" is not usable.*running on the CPU') as caught:
        xpnet.fit(X, Y, epochs=0, device="cuda").predict(X_TEST)
    assert caught[0].filename == __file__
    with pytest.raises(xpnet.BackendError, match="cuda:0"):
        xpnet.fit(X, Y, device="cuda", require_device=True)


def test_many_classes_are_refused_before_training_where_memory_is_short(monkeypatch):
    monkeypatch.setattr("xpnet.training.memory.available_memory", lambda: 2**29)
    needed = "hidden: a 12-21000 network has 273000 parameters and needs about 0.9 GiB, this machine has 0.5"
    with pytest.raises(xpnet.ConfigError, match=f"^{re.escape(needed)}"):
        xpnet.fit(X, Y, classes=21000, hidden=[], callback=Mock(side_effect=AssertionError))
