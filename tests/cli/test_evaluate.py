"""xpnet evaluate: the metrics of the training again, those on other data, and every wrong input."""

import csv
import json
import re
import shutil
from pathlib import Path

import commands
import numpy as np
import pytest
from folders import change_record, tree
from networks import pixels
from saved_models import saved_model

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.storage.model_file import save_model
from xpnet.storage.record import read_run

FEATURES, CLASSES = 16, 4
RUNS = {
    "native": ("--arithmetic", "native", "--batch-size", "32"),
    "reproducible": (),
    "batch-norm": ("--batch-norm", "--batch-size", "64"),
    "squared": ("--loss", "squared-error", "--lr", "1"),
    "smoothed": ("--label-smoothing", "0.1", "--arithmetic", "native", "--dtype", "float64", "--lr", "1"),
}
RUN = "runs/native"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data.npz and a run for each of RUNS on it."""
    folder = tmp_path_factory.mktemp("work")
    x, y = pixels(1700, FEATURES, CLASSES)
    np.savez(folder / "data.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    data = f"--data {folder}/data.npz --out {folder}/runs --epochs 30 --no-report".split()
    for name, flags in RUNS.items():
        assert train.main([*data, *flags, "--name", name, "--device", "cpu", "--quiet"]) == 0
    return folder


@pytest.fixture
def copied(work, tmp_path):
    """A copy of the native run, to be damaged."""
    return shutil.copytree(work / RUN, tmp_path / "copy")


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def printed(capsys, *words):
    return commands.printed(capsys, "evaluate", "--device", "cpu", *words)


def metrics_of(capsys, *words):
    return json.loads(printed(capsys, *words, "--json"))


def complaint(capsys, *words):
    return commands.complaint(capsys, "evaluate", "--device", "cpu", *words)


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
    monkeypatch.setattr("xpnet.backends.resolve.cuda_driver_version", lambda: None)
    newest = max(RUNS, key=lambda name: read_run(Path("runs", name))["started"])
    assert main(["evaluate", "--json", "--device", "cuda"]) == 0
    out, err = capsys.readouterr()
    note, warning = err.splitlines()
    assert note == f"xpnet: note: no RUN given: using the newest, runs/{newest}"
    assert warning.startswith("xpnet: warning: --device cuda is not usable: ")
    assert json.loads(out) == metrics_of(capsys, f"runs/{newest}")


def test_a_run_at_chance_is_noted_again(capsys, tmp_path):
    words = f"--data data.npz --out {tmp_path} --name a --no-report --quiet --epochs".split()
    assert train.main([*words, "1", "--lr", "1e-9"]) == 0
    for command in (["evaluate"], ["predict"]):
        assert main([*command, f"{tmp_path}/a", *["data.npz"] * (command == ["predict"])]) == 0
        note = capsys.readouterr().err
        assert re.fullmatch(
            rf"xpnet: note: {tmp_path}/a: training accuracy 0\.\d+ is at chance \(.*help\n", note
        )


@pytest.mark.needs("array-api-strict")
def test_backend_and_arithmetic_are_those_that_the_flags_name(capsys):
    expected = read_run(Path("runs/reproducible"))["metrics"]["test_loss"]
    result = metrics_of(capsys, "runs/reproducible", "--backend", "array-api-strict")
    assert (result["loss"], result["backend"]) == (expected, "array-api-strict")
    assert metrics_of(capsys, RUN, "--arithmetic", "reproducible")["arithmetic"] == "reproducible"
    assert metrics_of(capsys, RUN)["arithmetic"] == "native"


def test_a_model_file_is_evaluated_by_its_cross_entropy(capsys):
    path, test = Path("runs/squared/model.safetensors"), np.load("data.npz")
    result = metrics_of(capsys, path, "--data", "data.npz")
    probabilities = xpnet.load(path, device="cpu").predict_proba(test["x_test"])
    right = probabilities[np.arange(len(probabilities)), test["y_test"]]
    assert result["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-9)
    assert result["loss_name"] == "cross-entropy"
    assert result["accuracy"] == np.mean(probabilities.argmax(axis=1) == test["y_test"])


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
    np.savez(tmp_path / "one.npz", x=data["x_test"][:3], y=[0, 0, 0])
    assert printed(capsys, RUN, "--data", tmp_path / "one.npz").splitlines()[7].split()[2] == "-"  # no recall
    for path in ("data.npz", tmp_path / "test.csv", tmp_path / "test.npz"):
        assert metrics_of(capsys, RUN, "--data", path) == {**expected, "data": str(path)}
    words = ("--data", tmp_path / "train.csv", "--test-data", tmp_path / "test.csv")
    assert metrics_of(capsys, RUN, *words) == {**expected, "data": str(tmp_path / "test.csv")}


def test_the_tables_are_printed_in_plain_text(capsys, copied):
    data = shutil.copy("data.npz", copied.parent / "data\x1b]0;owned\x07.npz")
    run = copied.rename(copied.parent / "run\x1b[2J[bold]")
    out, result = printed(capsys, run, "--data", data), metrics_of(capsys, RUN)
    lines = out.splitlines()
    assert r"run\x1b[2J[bold]: 16-10-4, native, numpy " in lines[0]
    assert lines[1].endswith(r"data\x1b]0;owned\x07.npz: 1500 test samples")
    assert lines[2] == f"accuracy   {result['accuracy']:.4f}"
    assert lines[3] == f"loss       {result['loss']:.4f} (mean cross-entropy)"
    for row, metrics in zip(lines[6:10], result["classes"], strict=True):
        shares = [f"{metrics[key]:.4f}" for key in ("precision", "recall", "f1")]
        assert row.split() == [str(metrics["class"]), *shares, str(metrics["support"])]
    matrix = [list(map(int, line.split())) for line in lines[13:]]
    assert matrix == [[label, *row] for label, row in enumerate(result["confusion"])]
    assert not re.search(r"[^ -~\n]", out)
    out = printed(capsys, "runs/smoothed", "--split", "train")
    assert "data: 200 training samples\n" in out
    assert "(mean cross-entropy, label smoothing 0.1)" in out


def test_many_classes_have_their_matrix_in_the_json_alone_or_none(capsys, tmp_path):
    for classes, shape in ((31, (31, 31)), (1001, ())):
        layers = [{"weight": np.zeros((classes, FEATURES)), "bias": np.zeros(classes)}]
        words = (tmp_path / f"{classes}.safetensors", "--data", "data.npz")
        save_model(words[0], saved_model(layers))
        assert np.shape(metrics_of(capsys, *words)["confusion"]) == shape
        note = "The confusion matrix is in --json, for up to 1,000 classes."
        assert printed(capsys, *words).endswith(f"\n{note}\n")


def test_the_predictions_of_each_sample_are_written_exactly(capsys, tmp_path):
    path, test = tmp_path / "predictions.csv", np.load("data.npz")
    printed(capsys, RUN, "--predictions", path)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["index", "label", "predicted", "probability", "p0", "p1", "p2", "p3"]
    expected = xpnet.load(RUN, device="cpu").predict_proba(test["x_test"])
    labels = zip(range(1500), test["y_test"], expected.argmax(axis=1), strict=True)
    assert [tuple(map(int, row[:3])) for row in rows] == list(labels)
    np.testing.assert_array_equal(np.array([row[4:] for row in rows], np.float32), expected, strict=True)
    assert all(row[3] == row[4 + int(row[2])] for row in rows)


OTHER_MODEL, OTHER_DATA = "runs/smoothed/model.safetensors", {"name": "x", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "model.safetensors").write_bytes(b"\x80"), "not a complete .saf"),
        (lambda run: change_record(run, status="running"), "is still running, or was killed: wait"),
        (lambda run: change_record(run, status="failed"), "holds no trained network, as the training"),
        (lambda run: shutil.copy(OTHER_MODEL, run), "its model has the fingerprint"),
        (lambda run: change_record(run, fingerprint=None), "run.json says none"),
        (lambda run: change_record(run, data=OTHER_DATA), "is no longer what"),
    ],
)
def test_a_damaged_run_is_one_line_and_nothing_changes(capsys, copied, tmp_path, damage, message):
    damage(copied)
    before = tree(tmp_path)
    assert message in complaint(capsys, copied, "--predictions", tmp_path / "predictions.csv")
    assert tree(tmp_path) == before


X = np.zeros((3, FEATURES), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": [0, 4, 9]}, "row 2: label 4: the network tells 4 classes, 0 to 3"),
        ({"x": X[:, 1:], "y": [0, 4, 9]}, f"the network takes rows of {FEATURES} features, got an array of"),
        ({"x": X}, "has no labels to compare with"),
        ({"x": X, "y": [0]}, "they must be as many"),
        ({"a": X, "b": [0]}, "expected x_test, or x, or a single array (found: a, b)"),
    ],
)
def test_data_that_do_not_fit_are_one_line(capsys, tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert message in complaint(capsys, RUN, "--data", tmp_path / "wrong.npz")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runs/absent",), "runs/absent: no such file or folder: expected the folder of a run"),
        ((RUN, "--data", "absent"), "absent: no such file or folder"),
        ((RUN, "--test-data", "a.csv"), "--test-data a.csv: goes with --data TRAIN.csv"),
        ((RUN, "--device", "tpu"), "unknown device 'tpu'"),
        ((RUN, "--predictions", f"{RUN}/run.json"), "--predictions: expected a file name that ends in .csv"),
        ((RUN, "--predictions", "absent/a.csv"), "absent/a.csv: cannot be written"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_nothing_changes(capsys, work, words, message):
    before = tree(work)
    assert message in complaint(capsys, *words)
    assert tree(work) == before
