"""xpnet evaluate: the metrics of the training again, and those on other data."""

import csv
import json
from pathlib import Path

import commands
import numpy as np
import pytest
from networks import pixels
from saved_models import saved_model

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.storage.model_file import save_model
from xpnet.storage.record import read_run

FEATURES, CLASSES, SAMPLES = 16, 4, 1500
RUNS = {
    "native": ("--arithmetic", "native", "--batch-size", "32"),
    "squared": ("--loss", "squared-error", "--lr", "1"),
    "smoothed": ("--label-smoothing", "0.1", "--arithmetic", "native", "--dtype", "float64", "--lr", "1"),
}
RUN = "runs/native"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data.npz and a run for each of RUNS on it."""
    folder = tmp_path_factory.mktemp("work")
    x, y = pixels(200 + SAMPLES, FEATURES, CLASSES)
    np.savez(folder / "data.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    words = ("--data", f"{folder}/data.npz", "--out", f"{folder}/runs", "--epochs", "30", "--device", "cpu")
    for name, flags in RUNS.items():
        assert train.main([*words, *flags, "--name", name, "--no-report", "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def printed(capsys, *words):
    return commands.printed(capsys, "evaluate", "--device", "cpu", *words)


def metrics_of(capsys, *words):
    return json.loads(printed(capsys, *words, "--json"))


@pytest.mark.parametrize("name", RUNS)
def test_on_its_own_data_a_run_has_the_metrics_of_its_record(capsys, name):
    result, expected = metrics_of(capsys, f"runs/{name}"), read_run(Path("runs", name))["metrics"]
    assert result["accuracy"] == expected["test_accuracy"]
    precision = 0 if result["arithmetic"] == "reproducible" else 1e-6
    assert result["loss"] == pytest.approx(expected["test_loss"], rel=precision, abs=0)
    assert [each["recall"] for each in result["classes"]] == expected["test_accuracy_per_class"]
    assert result["loss_name"] == ("squared-error" if name == "squared" else "cross-entropy")
    assert result["label_smoothing"] == (0.1 if name == "smoothed" else 0)
    result = metrics_of(capsys, f"runs/{name}", "--split", "train")
    assert (result["samples"], result["accuracy"]) == (200, expected["train_accuracy"])


def test_without_a_run_it_is_the_newest_and_without_the_gpu_the_cpu(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: None)
    assert main(["evaluate", "--json", "--device", "cuda"]) == 0
    out, err = capsys.readouterr()
    note, warning = err.splitlines()
    assert note == "xpnet: note: no RUN given: using the newest, runs/smoothed"
    assert warning.startswith("xpnet: warning: --device cuda is not usable: ")
    assert json.loads(out) == metrics_of(capsys, "runs/smoothed")


def test_a_model_file_alone_is_evaluated_on_the_bundled_mnist(capsys, tmp_path):
    layers = [{"weight": np.zeros((10, 784)), "bias": (np.arange(10) == 7).astype(float)}]
    save_model(tmp_path / "sevens.safetensors", saved_model(layers))
    result = metrics_of(capsys, tmp_path / "sevens.safetensors")
    assert (result["data"], result["samples"], result["accuracy"]) == ("mnist", 10000, 0.1028)


def test_a_data_set_and_a_single_file_of_its_test_samples_give_the_same(capsys, tmp_path):
    expected, data = metrics_of(capsys, RUN), np.load("data.npz")
    for part in ("train", "test"):
        columns = np.column_stack([data[f"y_{part}"], data[f"x_{part}"]])
        np.savetxt(tmp_path / f"{part}.csv", columns, fmt="%d", delimiter=",")
    np.savez(tmp_path / "test.npz", x=data["x_test"], y=data["y_test"])
    for path in ("data.npz", tmp_path / "test.csv", tmp_path / "test.npz"):
        assert metrics_of(capsys, RUN, "--data", path) == {**expected, "data": str(path)}
    words = ("--data", tmp_path / "train.csv", "--test-data", tmp_path / "test.csv")
    assert metrics_of(capsys, RUN, *words) == {**expected, "data": str(tmp_path / "test.csv")}


def test_the_tables_are_printed_in_plain_text(capsys):
    out, result = printed(capsys, RUN, "--data", "data.npz"), metrics_of(capsys, RUN)
    lines = out.splitlines()
    assert lines[0].startswith(f"{RUN}: 16-10-4, native, numpy ")
    assert lines[1] == f"data.npz: {SAMPLES} test samples"
    assert lines[2] == f"accuracy   {result['accuracy']:.4f}"
    assert lines[3] == f"loss       {result['loss']:.4f} (mean cross-entropy)"
    for row, metrics in zip(lines[6:10], result["classes"], strict=True):
        shares = [f"{metrics[key]:.4f}" for key in ("precision", "recall", "f1")]
        assert row.split() == [str(metrics["class"]), *shares, str(metrics["support"])]
    matrix = [list(map(int, line.split())) for line in lines[13:]]
    assert matrix == [[label, *row] for label, row in enumerate(result["confusion"])]
    out = printed(capsys, "runs/smoothed", "--split", "train")
    assert "data: 200 training samples\n" in out
    assert "(mean cross-entropy, label smoothing 0.1)" in out


def test_more_than_1000_classes_have_no_confusion_matrix(capsys, tmp_path):
    layers = [{"weight": np.zeros((1001, FEATURES)), "bias": np.zeros(1001)}]
    save_model(tmp_path / "many.safetensors", saved_model(layers))
    np.savez(tmp_path / "one.npz", x=np.zeros((1, FEATURES)), y=[0])
    words = (tmp_path / "many.safetensors", "--data", tmp_path / "one.npz")
    assert metrics_of(capsys, *words)["confusion"] is None
    assert printed(capsys, *words).endswith("\nThe confusion matrix is in --json, for up to 1,000 classes.\n")


def test_the_predictions_of_each_sample_are_written_exactly(capsys, tmp_path):
    path, test = tmp_path / "predictions.csv", np.load("data.npz")
    printed(capsys, RUN, "--predictions", path)
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ["index", "label", "predicted", "probability", "p0", "p1", "p2", "p3"]
    expected = xpnet.load(RUN, device="cpu").predict_proba(test["x_test"])
    labels = zip(range(SAMPLES), test["y_test"], expected.argmax(axis=1), strict=True)
    assert [tuple(map(int, row[:3])) for row in rows] == list(labels)
    np.testing.assert_array_equal(np.array([row[4:] for row in rows], np.float32), expected, strict=True)
    assert all(row[3] == row[4 + int(row[2])] for row in rows)
