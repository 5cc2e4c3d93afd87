"""Training from Python: the same network as from the command line, without files and output."""

import copy
import pickle
import re
from dataclasses import fields
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from networks import pixels

import xpnet
from xpnet import train
from xpnet.config import TrainConfig, list_recipes
from xpnet.config.keywords import COMMAND_LINE_ONLY
from xpnet.storage.record import read_run

pytestmark = pytest.mark.usefixtures("empty_folder")

ROWS = 300
X_ALL, Y_ALL = pixels(ROWS + 50, 12, 4)
X, Y, X_TEST, Y_TEST = X_ALL[:ROWS], Y_ALL[:ROWS], X_ALL[ROWS:], Y_ALL[ROWS:]


SAME = {
    "native": {"arithmetic": "native", "normalize": "standardize", "epochs": 3, "seed": 7},
    "a recipe": {"recipe": "quick", "epochs": 2, "validation": 0.1},
    "a dropout that falls": {"recipe": "dropout-1024", "hidden": [], "label_smoothing": 0, "epochs": 1},
    "early stopping": {"validation": 60, "patience": 3, "batch_size": 8, "learning_rate": 2.0, "epochs": 60},
}


@pytest.mark.parametrize("settings", SAME.values(), ids=SAME)
def test_the_command_gives_the_same_network_and_history_and_a_folder_to_load(settings):
    np.savez("small.npz", x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    words = ["--data", "small.npz", "--name", "run", "--quiet", "--no-report"]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    assert train.main(words) == 0
    record = read_run(Path("runs/run"))
    assert record["config"]["validation"] == settings.get("validation", 0)
    model, loaded = xpnet.fit(X, Y, **settings), xpnet.load("runs/run")
    assert model.fingerprint == loaded.fingerprint == record["fingerprint"]
    assert model.history == [{key: row[key] for key in row if key != "seconds"} for row in loaded.history]
    evaluation, metrics = model.evaluate(X_TEST, Y_TEST), record["metrics"]
    assert evaluation.accuracy == metrics["test_accuracy"]
    precision = 0 if record["config"]["arithmetic"] == "reproducible" else 1e-6
    assert evaluation.loss == pytest.approx(metrics["test_loss"], rel=precision, abs=0)
    assert [each.recall for each in evaluation.classes] == metrics["test_accuracy_per_class"]
    assert evaluation.confusion[1, 2] == np.sum((Y_TEST == 1) & (model.predict(X_TEST) == 2))


def test_a_file_of_settings_is_a_recipe_of_which_those_of_files_and_output_are_ignored():
    Path("mine.toml").write_text("seed = 3\nepochs = 2\npatience = 1\nvalidation = 9\njobs = 2")
    expected = xpnet.fit(X, Y, seed=3, epochs=2, patience=1, validation=9).fingerprint
    assert xpnet.fit(X, Y, recipe=Path("mine.toml")).fingerprint == expected
    again = xpnet.fit(X, Y, recipe="mine.toml", patience=None, validation=0)
    assert again.fingerprint == xpnet.fit(X, Y, seed=3, epochs=2).fingerprint
    assert list(Path().iterdir()) == [Path("mine.toml")]


@pytest.mark.parametrize(
    "form",
    [
        lambda array: array.tolist(),
        lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
        lambda array: pd.DataFrame(array) if array.ndim == 2 else pd.Series(array),
    ],
    ids=["lists", "read-only", "pandas"],
)
def test_arrays_come_in_many_forms(form):
    """As floats, for lists do not tell pixels from other numbers."""
    x, x_test = X.astype(np.float64), X_TEST.astype(np.float64)
    expected = xpnet.fit(x, Y, epochs=1, device="cpu")
    model = xpnet.fit(form(x), form(Y), epochs=1, device="cpu")
    assert model.fingerprint == expected.fingerprint
    predicted = model.predict(form(x_test))
    np.testing.assert_array_equal(predicted, expected.predict(x_test), strict=True)
    assert model.evaluate(form(x_test), form(Y_TEST)).accuracy == np.mean(predicted == Y_TEST)


def test_every_setting_of_the_command_that_is_not_about_files_is_taken_and_classes_and_numpy_numbers():
    settings = {field.name: field.default for field in fields(TrainConfig)}
    settings = {name: value for name, value in settings.items() if name not in COMMAND_LINE_ONLY}
    numbers = {"epochs": np.int64(1), "hidden": np.array([5]), "learning_rate": np.float32(0.5)}
    model = xpnet.fit(X.astype(np.int64), Y, classes=6, **{**settings, **numbers})  # pixels, too
    expected = xpnet.fit(X, Y, classes=6, epochs=1, hidden=np.int64(5), learning_rate=0.5)
    assert (model.fingerprint, model.sizes) == (expected.fingerprint, (12, 5, 6))


UNLIKE = np.tile([[2.5, 3, -197], [3.5, 3, 203]], (20, 1)), np.arange(40) % 3
ADVICE = "the features differ in scale (standard deviations from 0.5 to 200): use "
ADVICE += 'normalize="standardize", or recipe="tabular"'
QUANTITIES = np.ones((303, 2), np.uint8), np.arange(303) % 101
FROM_1 = np.ones((3, 2), np.uint8), [1, 2, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (UNLIKE, ADVICE),
        (QUANTITIES, "the labels have 101 values, most of them with"),
        (FROM_1, "no training samples of class 0"),
    ],
)
def test_a_warning_about_the_data_is_in_the_line_of_the_caller(data, message):
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}") as caught:
        xpnet.fit(*data, epochs=0)
    assert [warning.filename for warning in caught] == [__file__]


def test_missing_values_become_the_mean_of_the_training_rows():
    rows, labels = pd.DataFrame({"a": [1.5, None, 2.5, None], "b": [np.nan, 7, 9, 8]}), [0, 1, 0, 0]
    settings = {"epochs": 2, "recipe": "tabular", "validation_data": (rows, labels)}
    model = xpnet.fit(rows, labels, missing="mean", **settings)
    assert model.network.columns.means == (2, 8)
    later = model.predict_proba([[np.nan, 9.0], [1, np.nan]])
    assert later.tolist() == model.predict_proba([[2, 9.0], [1, 8]]).tolist()
    assert model.evaluate(rows, labels).accuracy == model.history[-1]["validation_accuracy"]
    assert rows.isna().sum().tolist() == [2, 1]


def test_validation_data_are_evaluated_and_not_trained_on_and_verbose_prints_it(capsys):
    model = xpnet.fit(X, Y, validation_data=(X_TEST, Y_TEST), epochs=4, log_every=2, verbose=True)
    form = r"^epoch +(\d)   loss \d\.\d{4}   accuracy 0\.\d{4}   validation 0\.\d{4}$"
    assert re.findall(form, capsys.readouterr().out, re.MULTILINE) == ["0", "2", "4"]
    assert model.fingerprint == xpnet.fit(X, Y, epochs=4).fingerprint
    assert [row["epoch"] for row in model.history] == [0, 1, 2, 3, 4]
    evaluation, last = model.evaluate(X_TEST, Y_TEST), model.history[-1]
    assert (last["validation_accuracy"], last["validation_loss"]) == (evaluation.accuracy, evaluation.loss)
    assert "train_loss" not in model.history[1]


def test_validation_data_tell_when_to_stop_and_the_best_epoch_is_kept_and_recorded():
    settings = {"batch_size": 8, "learning_rate": 2.0, "validation_data": (X_TEST, Y_TEST)}
    model = xpnet.fit(X, Y, patience=2, epochs=60, run="run", report=False, **settings)
    best = max(model.history, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    assert model.history[-1]["epoch"] == best["epoch"] + 2 < 60
    assert model.fingerprint == xpnet.fit(X, Y, epochs=best["epoch"], **settings).fingerprint
    assert model.best_epoch == xpnet.load("run").best_epoch == best["epoch"]
    with pytest.warns(UserWarning, match="best epoch 0: none had a better validation accuracy than the in"):
        assert (
            xpnet.fit(X, Y, patience=2, validation=60, learning_rate=5e-324).best_epoch == 0
        )  # of equal ones


def test_the_callback_sees_every_epoch_and_nothing_is_written_or_printed(capsys):
    seen = []
    model = xpnet.fit(X, Y, epochs=4, log_every=2, callback=seen.append)
    assert [epoch.epoch for epoch in seen] == [0, 1, 2, 3, 4]
    names = [set(epoch.metrics) for epoch in seen]
    assert names == [{"train_loss", "train_accuracy"}, set()] * 2 + [{"train_loss", "train_accuracy"}]
    assert [{"epoch": epoch.epoch, **epoch.metrics} for epoch in seen[::2]] == model.history
    assert (list(Path().iterdir()), capsys.readouterr()) == ([], ("", ""))


@pytest.mark.parametrize(("answer", "last"), [(np.True_, 1), (1, 2)])
def test_training_ends_if_the_callback_returns_true_and_nothing_else(answer, last):
    model = xpnet.fit(X, Y, epochs=2, log_every=1, callback=lambda epoch: answer if epoch.epoch else None)
    assert model.history[-1]["epoch"] == last
    assert model.fingerprint == xpnet.fit(X, Y, epochs=last).fingerprint


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_the_callback_raises_ends_the_training(error):
    with pytest.raises(error):
        xpnet.fit(X, Y, callback=Mock(side_effect=[None, None, error]))


@pytest.fixture(scope="module")
def model():
    return xpnet.fit(X, Y, epochs=5, batch_norm=True, batch_size=50)


def test_a_model_comes_back_from_a_file_a_copy_and_a_pickle(model):
    expected = model.logits(X_TEST)
    model.save("model.safetensors")
    loaded, copied = xpnet.load("model.safetensors"), copy.deepcopy(model)
    pickled = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert (loaded.history, copied.history, pickled.history) == ([], model.history, model.history)
    for again in (loaded, copied, pickled):
        assert np.array_equal(again.logits(X_TEST), expected)
        assert repr(again) == f"<xpnet.Model 12-10-4, fingerprint {model.fingerprint[:16]}>"


UNKNOWN, RECIPES = "fit: unknown setting ", ", ".join(list_recipes())
PATH = f"recipe: expected one of {RECIPES}, or the path of a .toml file, got "
SETTINGS = [
    ({"hiden": [5]}, f"{UNKNOWN}'hiden': did you mean hidden?"),
    ({"C": 5}, f"{UNKNOWN}'C': did you mean weight_decay (1 / (C times the number of samples))?"),
    ({"xyz": 1}, f"{UNKNOWN}'xyz': expected one of those of xpnet train"),
    ({"out": "here"}, "fit: out: belongs to xpnet train"),
    ({"learning_rate": [0.1, 0.2]}, "fit: learning_rate: expected one number, got [0.1, 0.2]"),
    ({"hidden": True}, "fit: hidden: expected whole numbers, each 1 or more, got [true]"),
    ({"validation": 9, "validation_data": (X, Y)}, "fit: validation: takes rows out of X, but there are"),
    ({"recipe": "tabluar"}, f'{PATH}"tabluar": '),
    ({"recipe": "wrong.toml"}, 'wrong.toml: unknown key "hiden": did you mean hidden? Keys are the flags of'),
    ({"patience": 3}, "patience: needs validation, the samples that tell when to stop"),
    ({"momentum": 0.9}, 'momentum: needs optimizer="momentum" or nesterov, got sgd'),
    ({"augment_shift": 1}, "augment_*: needs square images; 12 features"),
    ({"learning_rate": 1e300}, "training diverged: the loss is not finite in epoch"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_settings_that_cannot_be_are_one_line_with_keywords_in_place_of_flags(settings, message):
    Path("wrong.toml").write_text("hiden = 3")
    with pytest.raises(xpnet.XPNetError, match=f"^{re.escape(message)}[^\n]*$") as caught:
        xpnet.fit(X, Y, **settings)
    assert "--" not in str(caught.value)
    assert isinstance(caught.value, xpnet.DivergedError) == message.startswith("training diverged")


def test_the_user_s_own_words_and_commands_stay_as_they_are_in_a_message():
    with pytest.raises(xpnet.DataError, match=r"^here --epochs 3: no such file or folder"):
        xpnet.load("here --epochs 3")
    xpnet.fit(X, Y, epochs=0, run="runs/old")
    record = Path("runs/old/run.json")
    record.write_text(record.read_text().replace('"completed"', '"interrupted"'))
    with pytest.raises(xpnet.ConfigError, match=r"xpnet train --resume runs/old goes on with it$"):
        xpnet.fit(X, Y, epochs=1, run="runs/new", extend="runs/old")


GOOD, TWO = np.zeros((4, 3), np.uint8), [0, 1] * 2
MASK, MASKED = "expected values without a mask, got a MaskedArray: ", np.ma.array(GOOD, mask=GOOD == 0)
HOLES = pd.DataFrame({"a": pd.array([1, None])})
MEAN = ' number; missing="mean" puts the mean of the column in its place'
DATA = [
    (([[1, 2], [3]], [0, 1]), {}, "X: expected an array of numbers, got a list: "),
    ((HOLES, [0, 1]), {}, f"X, row 2, column 'a': nan is not a finite{MEAN}"),
    (([[1.5, np.inf]], [0]), {"missing": "mean"}, "X, row 1, column 2: inf is not a finite"),
    (([[np.nan, 1]], [0]), {"missing": "mean"}, "X: feature 1 has no value in the training rows"),
    ((pd.DataFrame({"a": [1], "b": ["x"]}), [0]), {}, "X: columns that are no numbers: b (1 value, as "),
    ((GOOD, [0, 1]), {}, "X holds 4 samples, y holds 2 labels"),
    ((GOOD, TWO), {"validation_data": (X, Y)}, "X in validation_data: has 12 features a sample, X has 3"),
    ((GOOD, TWO), {"validation_data": (GOOD, [9] * 4), "classes": 4}, "y in validation_data: expected lab"),
    ((MASKED, TWO), {}, f"X: {MASK}"),
    ((GOOD, MASKED[:, 0]), {}, f"y: {MASK}"),
]


@pytest.mark.parametrize(("arrays", "settings", "message"), DATA)
def test_data_that_cannot_be(arrays, settings, message):
    with pytest.raises(xpnet.DataError, match=f"^{re.escape(message)}[^\n]*$"):
        xpnet.fit(*arrays, **settings)


FOLDER = r": cannot be written \(Is a directory\): "
CALLS = [
    (lambda model: model.predict(GOOD), "takes rows of 12 features"),
    (lambda model: model.evaluate(X, Y + 1), "label 4: the network tells 4 classes"),
    (lambda model: model.predict(np.ma.array(X)), f"^X: {MASK}"),
    (lambda model: model.save(""), FOLDER),
    (lambda model: model.report("/"), FOLDER),
    (lambda _: xpnet.load("absent"), "^absent: no such file or folder"),
    (lambda model: xpnet.Model(model.network, backend="cupy", device="cpu").predict(X), "^the cupy backend"),
]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_calls_of_a_model_that_cannot_be(model, call, message):
    with pytest.raises(xpnet.XPNetError, match=message) as caught:
        call(model)
    assert re.fullmatch("(?!.*--).+", str(caught.value))


def test_the_cpu_takes_the_place_of_a_gpu_with_a_warning_in_the_line_of_the_caller(monkeypatch):
    monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: None)
    with pytest.warns(UserWarning, match='^device="cuda" is not usable.*running on the CPU') as caught:
        model = xpnet.fit(X, Y, epochs=0, device="cuda")
    assert caught[0].filename == __file__
    assert model.predict(X_TEST).shape == (50,)
    with pytest.raises(xpnet.BackendError, match="cuda:0"):
        xpnet.fit(X, Y, device="cuda", require_device=True)


def test_rows_divided_by_255_bring_a_warning_from_a_network_of_pixels():
    model = xpnet.fit(X, Y, normalize="standardize", epochs=0)
    message = "from 0 to 1, but the network was trained on pixels from 0 to 255"
    for call in (model.predict, model.predict_proba, lambda rows: model.evaluate(rows, Y)):
        with pytest.warns(UserWarning, match=message):
            call(X / 255)
    model.predict(X / 2)  # any warning fails a test
    xpnet.fit(X / 255, Y, epochs=0).predict(X / 255)


def test_many_classes_are_refused_before_training_where_memory_is_short(monkeypatch):
    monkeypatch.setattr("xpnet.training.memory.available_memory", lambda: 2**29)
    needed = "a 12-21000 network has 273000 parameters and needs about 0.9 GiB, this machine has 0.5"
    expected = f'hidden: {needed}: use fewer units, classes or workers, or arithmetic="native"'
    epochs = []
    with pytest.raises(xpnet.ConfigError, match=f"^{re.escape(expected)}$"):
        xpnet.fit(X, Y, classes=21000, hidden=[], callback=epochs.append)
    assert epochs == []
