"""Training from Python: the same network as from the command line, without files and output."""

import copy
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from backend_enum import BackendCase

import xpnet
from xpnet import train
from xpnet.api import COMMAND_LINE_ONLY
from xpnet.config import TrainConfig
from xpnet.inference.predictor import Predictor
from xpnet.storage.record import read_metrics, read_run

ROWS, TEST_ROWS = 300, 50


@pytest.fixture(scope="module")
def pixels():
    """Rows and labels to train on and to test on: 12 pixels, 4 classes."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(ROWS + TEST_ROWS, 12), dtype=np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(12, 4)), axis=1)
    return x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPNET_REQUIRE_DEVICE", raising=False)


def command(pixels, *words):
    """What the command writes when it trains on the same data: its record and its metrics."""
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez("small.npz", **dict(zip(names, pixels, strict=True)))
    arguments = ["--data", "small.npz", "--name", "run", "--quiet", "--no-report", *words]
    assert train.main(arguments) == 0
    rows = read_metrics(Path("runs/run/metrics.jsonl"))
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    return read_run(Path("runs/run")), history


SAME = {
    "the defaults": ({"epochs": 12}, "--epochs 12"),
    "small batches": (
        {"hidden": [8, 6], "batch_size": 32, "optimizer": "adam", "epochs": 20},
        "--hidden 8 6 --batch-size 32 --optimizer adam --epochs 20",
    ),
    "batch norm and dropout": (
        {"batch_norm": True, "dropout": 0.2, "batch_size": 50, "epochs": 3, "seed": 7},
        "--batch-norm --dropout 0.2 --batch-size 50 --epochs 3 --seed 7",
    ),
    "native": (
        {"arithmetic": "native", "normalize": "standardize", "epochs": 3, "batch_size": 300},
        "--arithmetic native --normalize standardize --epochs 3 --batch-size 300",
    ),
    "early stopping": (
        {"validation": 60, "patience": 3, "batch_size": 8, "learning_rate": 2.0, "epochs": 60},
        "--validation 60 --patience 3 --batch-size 8 --lr 2.0 --epochs 60",
    ),
}


@pytest.mark.parametrize(("settings", "words"), SAME.values(), ids=SAME)
def test_the_command_gives_the_same_network_and_history(pixels, settings, words):
    record, history = command(pixels, *words.split())
    x, y, x_test, y_test = pixels
    model = xpnet.fit(x, y, **settings)
    assert model.fingerprint == record["fingerprint"]
    assert model.history == history
    found = model.evaluate(x_test, y_test)
    assert found.accuracy == record["metrics"]["test_accuracy"]
    precision = 1e-6 if settings.get("arithmetic") == "native" else 0
    assert found.loss == pytest.approx(record["metrics"]["test_loss"], rel=precision, abs=0)
    assert [each.recall for each in found.classes] == record["metrics"]["test_accuracy_per_class"]


def test_early_stopping_keeps_the_best_epoch(pixels):
    x, y, _, _ = pixels
    settings = {"validation": 60, "batch_size": 8, "learning_rate": 2.0}
    stopped = xpnet.fit(x, y, patience=3, epochs=60, **settings)
    rows = stopped.history
    best = max(rows, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    assert rows[-1]["epoch"] == best["epoch"] + 3 < 60
    again = xpnet.fit(x, y, epochs=best["epoch"], **settings)
    assert again.fingerprint == stopped.fingerprint


def test_nothing_is_written_and_nothing_printed(pixels, capsys):
    xpnet.fit(*pixels[:2], epochs=2)
    assert not list(Path().iterdir())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("case", [BackendCase.NUMPY, BackendCase.TORCH, BackendCase.JAX])
def test_every_library_gives_the_same_network(pixels, case):
    x, y, x_test, _ = pixels
    model = xpnet.fit(x, y, epochs=1, device="cpu", backend=case.backend_name)
    reference = xpnet.fit(x, y, epochs=1, device="cpu", backend="numpy")
    assert model.fingerprint == reference.fingerprint
    assert np.array_equal(model.predict_proba(x_test), reference.predict_proba(x_test))


# What goes in


def arrays_of(case):
    return lambda array: case.make().from_host(array)


FORMS = {
    "lists": (lambda array: array.tolist(), "numpy"),
    "Python objects": (lambda array: array.astype(object), "numpy"),
    "by columns": (np.asfortranarray, "numpy"),
    "read-only": (lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape), "numpy"),
    "pandas": (lambda array: pd.DataFrame(array) if array.ndim == 2 else pd.Series(array), "numpy"),
    "torch": (arrays_of(BackendCase.TORCH), "torch"),
    "torch for another backend": (arrays_of(BackendCase.TORCH), "numpy"),
    "jax": (arrays_of(BackendCase.JAX), "jax"),
    "strict": (arrays_of(BackendCase.STRICT), "array-api-strict"),
}


@pytest.mark.parametrize(("form", "backend"), FORMS.values(), ids=FORMS)
def test_arrays_come_in_many_forms(pixels, form, backend):
    x, y, x_test, y_test = pixels
    device = "device1" if backend == "array-api-strict" else "cpu"
    # As floats, for lists and objects do not tell pixels from other numbers.
    x, x_test = x.astype(np.float64), x_test.astype(np.float64)
    expected = xpnet.fit(x, y, epochs=2, device="cpu")
    model = xpnet.fit(form(x), form(y), epochs=2, device=device, backend=backend)
    assert model.fingerprint == expected.fingerprint
    predicted = model.predict(form(x_test))
    assert type(predicted) is np.ndarray
    assert predicted.dtype == np.int64
    assert np.array_equal(predicted, expected.predict(x_test))
    assert model.evaluate(form(x_test), form(y_test)).accuracy == np.mean(predicted == y_test)


def test_whole_numbers_are_pixels(pixels):
    x, y, x_test, _ = pixels
    model = xpnet.fit(x.astype(np.int64), y, epochs=2)
    expected = xpnet.fit(x, y, epochs=2)
    assert model.fingerprint == expected.fingerprint
    assert np.array_equal(model.logits(x_test.tolist()), expected.logits(x_test))


@pytest.mark.needs("torch")
def test_a_tensor_with_a_gradient_is_taken(pixels):
    import torch

    x, y, _, _ = pixels
    tensor = torch.asarray(x / 255).requires_grad_()
    model = xpnet.fit(tensor, y, epochs=1, device="cpu", backend="torch")
    assert model.fingerprint == xpnet.fit(x / 255, y, epochs=1, device="cpu").fingerprint


def test_settings_may_be_numpy_numbers(pixels):
    x, y, _, _ = pixels
    numbers = {"epochs": np.int64(2), "hidden": np.array([5]), "learning_rate": np.float32(0.5)}
    plain = {"epochs": 2, "hidden": [5], "learning_rate": 0.5}
    assert xpnet.fit(x, y, **numbers).fingerprint == xpnet.fit(x, y, **plain).fingerprint


def test_there_may_be_classes_without_samples(pixels):
    x, y, _, _ = pixels
    model = xpnet.fit(x, y, epochs=1, classes=6)
    assert model.sizes == (12, 10, 6)
    assert model.predict_proba(x).shape == (ROWS, 6)


# Validation data


def test_validation_data_are_evaluated_and_not_trained_on(pixels):
    x, y, x_test, y_test = pixels
    model = xpnet.fit(x, y, validation_data=(x_test, y_test), epochs=4, log_every=2)
    assert model.fingerprint == xpnet.fit(x, y, epochs=4).fingerprint
    assert [row["epoch"] for row in model.history] == [0, 1, 2, 3, 4]
    found = model.evaluate(x_test, y_test)
    assert model.history[-1]["validation_accuracy"] == found.accuracy
    assert model.history[-1]["validation_loss"] == found.loss
    assert "train_loss" not in model.history[1]


def test_validation_data_tell_when_to_stop(pixels):
    x, y, x_test, y_test = pixels
    settings = {"batch_size": 8, "learning_rate": 2.0, "validation_data": (x_test, y_test)}
    model = xpnet.fit(x, y, patience=2, epochs=60, **settings)
    rows = model.history
    best = max(rows, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    assert rows[-1]["epoch"] == best["epoch"] + 2 < 60
    assert model.evaluate(x_test, y_test).accuracy == best["validation_accuracy"]


# The callback


def test_the_callback_sees_every_epoch(pixels):
    seen = []
    model = xpnet.fit(*pixels[:2], epochs=4, log_every=2, callback=seen.append)
    assert [epoch.epoch for epoch in seen] == [0, 1, 2, 3, 4]
    assert [set(epoch.metrics) for epoch in seen] == [
        {"train_loss", "train_accuracy"} if number % 2 == 0 else set() for number in range(5)
    ]
    assert [{"epoch": epoch.epoch, **epoch.metrics} for epoch in seen[::2]] == model.history


def test_the_old_name_of_an_epochs_metrics_is_deprecated():
    epoch = xpnet.Epoch(1, {"train_loss": 0.5})
    with pytest.warns(DeprecationWarning, match=r"Epoch\.metrics"):
        assert epoch.figures == epoch.metrics


@pytest.mark.parametrize("true", [True, np.True_])
def test_the_callback_may_stop_the_training(pixels, true):
    x, y, _, _ = pixels
    settings = {"batch_size": 50, "optimizer": "adam"}
    stopped = xpnet.fit(x, y, callback=lambda each: true if each.epoch == 3 else None, **settings)
    assert stopped.fingerprint == xpnet.fit(x, y, epochs=3, **settings).fingerprint


@pytest.mark.parametrize("answer", [None, False, 1, "done"])
def test_training_goes_on_whatever_else_the_callback_returns(pixels, answer):
    x, y, _, _ = pixels
    model = xpnet.fit(x, y, epochs=2, callback=lambda _: answer)
    assert model.fingerprint == xpnet.fit(x, y, epochs=2).fingerprint


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_the_callback_raises_ends_the_training(pixels, error):
    def fail(epoch):
        if epoch.epoch == 2:
            raise error

    with pytest.raises(error):
        xpnet.fit(*pixels[:2], callback=fail)


# The model


@pytest.fixture(scope="module")
def model(pixels):
    return xpnet.fit(*pixels[:2], epochs=5, batch_norm=True, batch_size=50)


def test_predictions_are_those_of_the_predictor(pixels, model):
    x_test = pixels[2]
    model.save("model.safetensors")
    predictor = Predictor.load(Path("model.safetensors"))
    assert np.array_equal(model.logits(x_test), predictor.logits(x_test))
    assert np.array_equal(model.predict_proba(x_test), predictor.probabilities(x_test))
    assert np.array_equal(model.predict(x_test), predictor.predict(x_test))


def test_an_evaluation_says_it_class_by_class(pixels, model):
    x, y, _, _ = pixels
    found, predicted = model.evaluate(x, y), model.predict(x)
    assert found.accuracy == np.mean(predicted == y)
    assert found.confusion[1, 2] == np.sum((y == 1) & (predicted == 2))
    assert [each.support for each in found.classes] == np.bincount(y).tolist()
    chosen = model.predict_proba(x)[np.arange(ROWS), y]
    assert found.loss == pytest.approx(-np.log(chosen).mean(), rel=1e-12)


@pytest.mark.parametrize("file", ["model.safetensors", Path("model.safetensors")])
def test_a_saved_model_comes_back(pixels, model, file):
    model.save(file)
    loaded = xpnet.load(file)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.history == []
    assert np.array_equal(loaded.predict_proba(pixels[2]), model.predict_proba(pixels[2]))


def test_the_folder_of_a_run_is_a_model_with_a_history(pixels):
    record, history = command(pixels, "--epochs", "3")
    loaded = xpnet.load("runs/run")
    assert loaded.fingerprint == record["fingerprint"]
    assert [row["train_loss"] for row in loaded.history] == [row["train_loss"] for row in history]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_a_model_can_be_copied(pixels, model, copied):
    model.predict(pixels[2])
    other = copied(model)
    assert other.fingerprint == model.fingerprint
    assert other.history == model.history
    assert np.array_equal(other.logits(pixels[2]), model.logits(pixels[2]))


def test_a_model_shows_its_sizes_and_fingerprint(model):
    assert repr(model) == f"<xpnet.Model 12-10-4, fingerprint {model.fingerprint[:16]}>"


@pytest.mark.needs("torch")
def test_a_model_computes_where_it_was_trained(pixels):
    x, y, x_test, _ = pixels
    settings = {"device": "cpu", "backend": "torch", "arithmetic": "native", "dtype": "float64"}
    model = xpnet.fit(x, y, epochs=1, **settings)
    assert model.predictor.backend.name == "torch"
    assert model.predictor.arithmetic == "native"
    assert model.predict_proba(x_test).dtype == np.float64


# What is wrong, in one line

BAD_SETTINGS = {
    "hiden": ({"hiden": [5]}, 'fit: unknown key "hiden": did you mean hidden?'),
    "batch_size": ({"batch_size": 0}, "fit: batch_size: expected full or a whole number, 1 or more"),
    "optimizer": ({"optimizer": "adm"}, "did you mean adam?"),
    "two rates": ({"learning_rate": [0.1, 0.2]}, "fit: learning_rate: expected one number, got [0.1, 0.2]"),
    "contradiction": ({"patience": 3}, "--patience: needs --validation N"),
    "patience": (
        {"patience": 0, "validation_data": ([[1] * 12], [1])},
        "fit: patience: expected a whole number, 1 or more, got 0",
    ),
    "both validations": (
        {"validation": 9, "validation_data": ([[1] * 12], [1])},
        "fit: validation: takes rows out of X, but there are validation_data: give one of the two",
    ),
    "batches": ({"batch_size": 301}, "--batch-size: expected at most the 300 training samples"),
    "classes": ({"classes": 0}, "fit: classes: expected a whole number, 1 or more, got 0"),
    "files": ({"out": "here"}, "fit: out: belongs to xpnet train"),
    "backend": ({"backend": "array-api-strict", "workers": 2}, "--workers: the array-api-strict backend"),
}


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_cannot_be(pixels, settings, message):
    with pytest.raises(xpnet.ConfigError) as caught:
        xpnet.fit(*pixels[:2], **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_other_setting_of_the_command_is_taken(pixels):
    settings = {
        field.name: field.default for field in fields(TrainConfig) if field.name not in COMMAND_LINE_ONLY
    }
    x, y, _, _ = pixels
    model = xpnet.fit(x, y, **{**settings, "epochs": 1})
    assert model.fingerprint == xpnet.fit(x, y, epochs=1).fingerprint


GOOD = np.zeros((4, 3), np.uint8)
BAD_DATA = {
    "text": ([["a", "b"]], [0], "X: expected an array of numbers, got <U1"),
    "no rows": ([], [], "X: 1 dimension"),
    "ragged": ([[1, 2], [3]], [0, 1], "X: expected an array of numbers, got a list: "),
    "missing": (pd.DataFrame({"a": [1.5, None]}), [0, 1], "X, row 2, column 1: nan is not a finite"),
    "complex": (GOOD * 1j, [0] * 4, "X: expected an array of numbers, got complex128"),
    "too large": ([[300, 1]], [0], "X, row 1, column 1: 300 is outside 0 to 255"),
    "labels missing": (GOOD, [0, 1], "X holds 4 samples, y holds 2 labels"),
    "labels of text and numbers": (GOOD, ["a", "b", "1", "a"], "y: label '1': a label is text here"),
    "labels in between": (GOOD, [0, 1, 0.5, 1], "y, row 3: label 0.5: a label is a whole number"),
    "labels below": (GOOD, [0, -1, 0, 1], "y, row 2: label -1"),
    "labels of two columns": (GOOD, GOOD, "y: its shape is 4x3, labels have one dimension"),
}


@pytest.mark.parametrize(("x", "y", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_data_that_cannot_be(x, y, message):
    with pytest.raises(xpnet.DataError) as caught:
        xpnet.fit(x, y)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_VALIDATION = {
    "width": (GOOD[:, :2], [0] * 4, "X in validation_data: has 2 features a sample, X has 3"),
    "kind": (GOOD * 0.5, [0] * 4, "X: holds whole numbers (pixels), X in validation_data decimals"),
    "labels": (GOOD, [0], "X in validation_data holds 4 samples, y in validation_data holds 1"),
}


@pytest.mark.parametrize(("x", "y", "message"), BAD_VALIDATION.values(), ids=BAD_VALIDATION)
def test_validation_data_that_do_not_go_with_the_others(x, y, message):
    with pytest.raises(xpnet.DataError) as caught:
        xpnet.fit(GOOD, [0, 1, 0, 1], validation_data=(x, y))
    assert message in str(caught.value)


def test_labels_without_a_class(pixels, model):
    with pytest.raises(xpnet.DataError, match="y: expected labels from 0 to 0, got 1"):
        xpnet.fit(GOOD, [0, 1, 0, 0], classes=1)
    with pytest.raises(xpnet.DataError, match="label 4: the network tells 4 classes"):
        model.evaluate(pixels[0], pixels[1] + 1)


def test_rows_that_the_model_does_not_take(model):
    with pytest.raises(xpnet.DataError, match="takes rows of 12 features"):
        model.predict(GOOD)


def test_a_model_that_is_not_there():
    with pytest.raises(xpnet.DataError, match="no such file or folder"):
        xpnet.load("nothing.safetensors")


def test_a_model_that_cannot_be_written(model):
    with pytest.raises(xpnet.ConfigError, match="nowhere"):
        model.save("nowhere/model.safetensors")


def test_a_training_that_diverges():
    x = np.linspace(0, 1e6, 40).reshape(20, 2)
    with pytest.raises(xpnet.DivergedError, match="training diverged"):
        xpnet.fit(x, np.arange(20) % 2, normalize="none", learning_rate=1e300, arithmetic="native")


# The device


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("xpnet.backends.resolve.cuda_driver_version", lambda: None)


@pytest.mark.usefixtures("no_gpu")
def test_the_cpu_takes_the_place_of_a_gpu_with_a_warning(pixels):
    x, y, x_test, _ = pixels
    with pytest.warns(UserWarning, match="--device cuda is not usable.*running on the CPU"):
        model = xpnet.fit(x, y, epochs=1, device="cuda")
    assert model.predict(x_test).shape == (TEST_ROWS,)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("by", ["setting", "environment"])
def test_a_gpu_may_be_required(pixels, monkeypatch, by):
    if by == "environment":
        monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "1")
    with pytest.raises(xpnet.BackendError, match="cuda:0"):
        xpnet.fit(*pixels[:2], device="cuda", require_device=by == "setting")


def test_a_warning_names_the_line_of_the_caller(pixels, no_gpu):
    with pytest.warns(UserWarning, match="--device cuda") as caught:
        xpnet.fit(*pixels[:2], epochs=0, device="cuda")
    assert caught[0].filename == __file__
