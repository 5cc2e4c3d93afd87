"""xpnet evaluate: the figures of the training again, those on other data, and every wrong input."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
from networks import pixels
from saved_models import saved_model

from xpnet import train
from xpnet.__main__ import main
from xpnet.backends.resolve import resolve
from xpnet.inference.predictor import Predictor
from xpnet.storage.model_file import save_model

FEATURES, CLASSES = 16, 4
RUNS = {
    "native": ("--arithmetic", "native", "--batch-size", "32"),
    "reproducible": (),
    "batch-norm": ("--batch-norm", "--batch-size", "64"),
    "squared": ("--loss", "squared-error"),
    "smoothed": ("--label-smoothing", "0.1", "--arithmetic", "native", "--dtype", "float64"),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data.npz and a run for each of RUNS on it."""
    folder = tmp_path_factory.mktemp("work")
    x, y = pixels(1700, FEATURES, CLASSES)
    np.savez(folder / "data.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    for name, flags in RUNS.items():
        data = ("--data", str(folder / "data.npz"), "--out", str(folder / "runs"), "--name", name)
        assert train.main([*data, *flags, "--epochs", "30", "--device", "cpu", "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


@pytest.fixture
def copied(work, tmp_path):
    """A copy of the native run, to be damaged."""
    return shutil.copytree(work / "runs" / "native", tmp_path / "copy")


def printed(capsys, *words):
    return commands.printed(capsys, "evaluate", *words, "--device", "cpu")


def figures(capsys, *words):
    return json.loads(printed(capsys, *words, "--json"))


def record(name):
    return json.loads(Path("runs", name, "run.json").read_text())


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# The figures of the training


@pytest.mark.parametrize("name", RUNS)
def test_on_its_own_test_data_a_run_has_the_figures_of_its_record(capsys, name):
    result, expected = figures(capsys, f"runs/{name}"), record(name)["metrics"]
    assert result["accuracy"] == expected["test_accuracy"]
    assert result["loss"] == pytest.approx(expected["test_loss"], rel=1e-6)
    assert [class_metrics["recall"] for class_metrics in result["classes"]] == expected[
        "test_accuracy_per_class"
    ]


@pytest.mark.parametrize("name", ["reproducible", "batch-norm", "squared"])
def test_in_the_reproducible_arithmetic_the_loss_is_that_of_the_record_to_the_last_bit(capsys, name):
    assert figures(capsys, f"runs/{name}")["loss"] == record(name)["metrics"]["test_loss"]


@pytest.mark.parametrize("backend", ["numpy", "array-api-strict"])
def test_so_it_is_with_every_backend(capsys, backend):
    result = figures(capsys, "runs/reproducible", "--backend", backend)
    assert result["loss"] == record("reproducible")["metrics"]["test_loss"]
    assert result["backend"] == backend


@pytest.mark.parametrize(
    ("name", "loss", "smoothing"),
    [("native", "cross-entropy", 0.0), ("squared", "squared-error", 0.0), ("smoothed", "cross-entropy", 0.1)],
)
def test_the_loss_is_what_the_training_minimised_and_is_named(capsys, name, loss, smoothing):
    result = figures(capsys, f"runs/{name}")
    assert (result["loss_name"], result["label_smoothing"]) == (loss, smoothing)


def test_the_arithmetic_is_that_of_the_training_unless_it_is_named(capsys):
    assert figures(capsys, "runs/smoothed")["arithmetic"] == "native"
    assert figures(capsys, "runs/smoothed", "--arithmetic", "reproducible")["arithmetic"] == ("reproducible")


def test_the_training_half_has_the_training_figures(capsys):
    result = figures(capsys, "runs/native", "--split", "train")
    assert result["samples"] == 200
    assert result["accuracy"] == record("native")["metrics"]["train_accuracy"]


def test_without_a_run_it_is_the_newest(capsys):
    newest = max(RUNS, key=lambda name: record(name)["started"])
    assert main(["evaluate", "--json", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert err == f"xpnet: note: no RUN given: using the newest, runs/{newest}\n"
    assert json.loads(out) == figures(capsys, f"runs/{newest}")


def test_a_run_that_was_interrupted_is_evaluated_too(capsys, copied):
    changed = {**record("native"), "status": "interrupted"}
    (copied / "run.json").write_text(json.dumps(changed))
    assert figures(capsys, str(copied))["accuracy"] == changed["metrics"]["test_accuracy"]


# Other data


def test_a_model_file_is_evaluated_by_its_cross_entropy(capsys):
    path = Path("runs/squared/model.safetensors")
    result = figures(capsys, str(path), "--data", "data.npz")
    test = np.load("data.npz")
    probabilities = Predictor.load(path, device="cpu").probabilities(test["x_test"])
    right = probabilities[np.arange(len(probabilities)), test["y_test"]]
    assert result["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-9)
    assert result["loss_name"] == "cross-entropy"
    assert result["accuracy"] == np.mean(probabilities.argmax(axis=1) == test["y_test"])


def test_a_model_file_alone_is_evaluated_on_the_bundled_mnist(capsys, tmp_path):
    weight, bias = np.zeros((10, 784)), np.arange(10) == 7
    layers = [{"weight": weight, "bias": bias.astype(float)}]
    save_model(tmp_path / "sevens.safetensors", saved_model(layers))
    result = figures(capsys, str(tmp_path / "sevens.safetensors"))
    assert (result["data"], result["split"], result["samples"]) == ("mnist", "test", 10000)
    assert result["accuracy"] == 0.1028  # the share of sevens


def write_csv(path, x, y=None):
    columns = x if y is None else np.column_stack([y, x])
    np.savetxt(path, columns, fmt="%d", delimiter=",")


def test_every_form_of_the_same_data_gives_the_same_figures(capsys, tmp_path):
    expected = figures(capsys, "runs/native")
    data = np.load("data.npz")
    for key in data.files:
        np.save(tmp_path / f"{key}.npy", data[key])
    write_csv(tmp_path / "train.csv", data["x_train"], data["y_train"])
    write_csv(tmp_path / "test.csv", data["x_test"], data["y_test"])
    np.savez(tmp_path / "test.npz", x=data["x_test"], y=data["y_test"])
    for words in (
        ["data.npz"],
        [tmp_path],
        [tmp_path / "test.csv"],
        [tmp_path / "test.npz"],
        [tmp_path / "train.csv", "--test-data", tmp_path / "test.csv"],
    ):
        result = figures(capsys, "runs/native", "--data", *map(str, words))
        assert {**result, "data": expected["data"]} == expected


# What is printed and written


def test_the_tables_are_printed_in_plain_text(capsys):
    out = printed(capsys, "runs/native")
    result = figures(capsys, "runs/native")
    lines = out.splitlines()
    assert lines[0].startswith("runs/native: 16-10-4, native, numpy ")
    assert lines[1] == "data: 1500 test samples"
    assert lines[2] == f"accuracy   {result['accuracy']:.4f}"
    assert lines[3] == f"loss       {result['loss']:.4f} (mean cross-entropy)"
    table = [line.split() for line in lines[6:10]]
    for label, (row, class_metrics) in enumerate(zip(table, result["classes"], strict=True)):
        shares = [f"{class_metrics[key]:.4f}" for key in ("precision", "recall", "f1")]
        assert row == [str(label), *shares, str(class_metrics["support"])]
    matrix = [list(map(int, line.split())) for line in lines[13:17]]
    assert matrix == [[label, *row] for label, row in enumerate(result["confusion"])]
    assert len(lines) == 17
    assert not re.search(r"[^ -~\n]", out)


@pytest.mark.skipif(sys.platform == "win32", reason="allows no such names")
def test_names_of_files_can_do_no_harm_in_a_terminal(capsys, work, tmp_path):
    hostile = shutil.copytree(work / "runs" / "native", tmp_path / "run\x1b[2J[bold]")
    data = shutil.copy("data.npz", tmp_path / "data\x1b]0;owned\x07.npz")
    out = printed(capsys, hostile, "--data", data)
    assert all(line.isprintable() for line in out.split("\n"))
    assert r"run\x1b[2J[bold]: 16-10-4" in out
    assert r"data\x1b]0;owned\x07.npz: 1500 test samples" in out


def test_label_smoothing_is_named(capsys):
    assert "(mean cross-entropy, label smoothing 0.1)" in printed(capsys, "runs/smoothed")


def test_the_json_is_one_object_whose_figures_agree(capsys):
    result = figures(capsys, "runs/native")
    confusion = np.array(result["confusion"])
    assert confusion.sum() == result["samples"] == 1500
    assert np.trace(confusion) / 1500 == result["accuracy"]
    for class_metrics in result["classes"]:
        label = class_metrics["class"]
        assert class_metrics["support"] == confusion[label].sum()
        assert class_metrics["recall"] == confusion[label, label] / class_metrics["support"]


def test_a_class_without_samples_has_no_recall(capsys, tmp_path):
    np.savez(tmp_path / "one.npz", x=np.zeros((3, FEATURES), np.uint8), y=[0, 0, 0])
    words = ("runs/native", "--data", str(tmp_path / "one.npz"))
    assert figures(capsys, *words)["classes"][1]["recall"] is None
    assert printed(capsys, *words).splitlines()[7].split()[2] == "-"


@pytest.mark.parametrize(
    ("classes", "line", "shape"),
    [
        (40, "The confusion matrix of 40 classes is in --json.", (40, 40)),
        (1001, "There is no confusion matrix of 1001 classes: 1,000 are the most.", ()),
    ],
)
def test_many_classes_have_their_matrix_in_the_json_alone_or_none(capsys, tmp_path, classes, line, shape):
    layers = [{"weight": np.zeros((classes, FEATURES)), "bias": np.zeros(classes)}]
    path = tmp_path / "wide.safetensors"
    save_model(path, saved_model(layers))
    words = (str(path), "--data", "data.npz")
    assert printed(capsys, *words).endswith(f"\n{line}\n")
    result = figures(capsys, *words)
    assert np.shape(result["confusion"]) == shape
    assert len(result["classes"]) == classes
    assert result["classes"][0]["recall"] == 1.0


def test_the_predictions_of_each_sample_are_written_exactly(capsys, tmp_path):
    path = tmp_path / "predictions.csv"
    printed(capsys, "runs/native", "--predictions", str(path))
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    probabilities = ["p0", "p1", "p2", "p3"]
    assert header == ["index", "label", "predicted", "probability", *probabilities]
    test = np.load("data.npz")
    expected = Predictor.load(Path("runs/native"), device="cpu").probabilities(test["x_test"])
    assert [row[0] for row in rows] == list(map(str, range(1500)))
    assert [int(row[1]) for row in rows] == test["y_test"].tolist()
    assert [int(row[2]) for row in rows] == expected.argmax(axis=1).tolist()
    result = np.array([row[4:] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(result, expected, strict=True)
    assert all(row[3] == row[4 + int(row[2])] for row in rows)


# What is wrong


def complaint(capsys, *words):
    return commands.complaint(capsys, "evaluate", *words, "--device", "cpu")


def changed_record(folder, **changes):
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncated(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-10])


DAMAGE = {
    "no record": (lambda run: (run / "run.json").unlink(), "run.json"),
    "no model": (
        lambda run: (run / "model.safetensors").unlink(),
        "holds no model.safetensors: expected the folder of a run that has ended",
    ),
    "truncated record": (lambda run: truncated(run, "run.json"), "not a run record"),
    "truncated model": (lambda run: truncated(run, "model.safetensors"), "not a complete .saf"),
    "nested record": (lambda run: (run / "run.json").write_text("[" * 100_000), "not a run record"),
    "running": (
        lambda run: changed_record(run, status="running"),
        "is still running, or was killed: wait until it has ended, or go on with xpnet train",
    ),
    "failed": (
        lambda run: changed_record(run, status="failed"),
        "holds no trained network, as the training has failed",
    ),
    "another status": (lambda run: changed_record(run, status=[{}]), "status: expected one of runnin"),
    "another model": (
        lambda run: shutil.copy("runs/smoothed/model.safetensors", run),
        "its model has the fingerprint",
    ),
    "no settings": (lambda run: changed_record(run, config=[]), "config: expected an object of"),
    "hostile settings": (
        lambda run: changed_record(run, config={"loss": "a"}),
        "loss: expected one of cross-entropy, squared-error",
    ),
    "no digest": (lambda run: changed_record(run, data={}), "data.name: expected a string, got"),
    "no fingerprint": (
        lambda run: changed_record(run, fingerprint=None),
        "run.json says none",
    ),
    "other data": (
        lambda run: changed_record(run, data={"name": "x", "sha256": "0" * 64}),
        "is no longer what",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_run_is_one_line_and_nothing_changes(capsys, copied, tmp_path, damage, message):
    damage(copied)
    before = files(tmp_path)
    assert message in complaint(capsys, copied, "--predictions", tmp_path / "predictions.csv")
    assert files(tmp_path) == before


def numbers(rows, features):
    return np.zeros((rows, features), np.uint8)


WRONG_DATA = {
    "other features": ({"x": numbers(3, 9), "y": [0, 1, 2]}, "has 9 features a sample, the network takes 16"),
    "more classes": (
        {"x": numbers(3, FEATURES), "y": [0, 4, 9]},
        "row 2: label 4: the network tells 4 classes, 0 to 3",
    ),
    "no labels": ({"x": numbers(3, FEATURES)}, "has no labels to compare with"),
    "fewer labels": ({"x": numbers(3, FEATURES), "y": [0]}, "they must be as many"),
    "other names": (
        {"a": numbers(3, FEATURES), "b": [0]},
        "expected x_test, or x, or a single array (found: a, b)",
    ),
    "objects": ({"x": np.array([[{}]], object), "y": [0]}, "Python objects, which are never loaded"),
    "far too large": (
        {"x": np.full((2, FEATURES), 1e300), "y": [0, 1]},
        "the network's outputs are not all finite",
    ),
}


@pytest.mark.parametrize(("arrays", "message"), WRONG_DATA.values(), ids=WRONG_DATA)
def test_data_that_do_not_fit_are_one_line(capsys, tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert message in complaint(capsys, "runs/native", "--data", tmp_path / "wrong.npz")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runs/native", "--bogus"), "unrecognized arguments: --bogus"),
        (("runs/native", "--split", "both"), "argument --split: invalid choice: 'both'"),
        (("runs/absent",), "runs/absent: no such file or folder: expected the folder of a run"),
        (("data.npz",), "data.npz: not a complete .safetensors file"),
        (("runs/native", "--data", "absent"), "absent: no such file or folder"),
        (("runs/native", "--data", "runs/native/run.json"), "begins with 0x7b0a2020, the magic"),
        (("runs/native", "--test-data", "a.csv"), "--test-data a.csv: goes with --data TRAIN.csv"),
        (("runs/native", "--device", "tpu"), "unknown device 'tpu'"),
        (("runs/native", "--backend", "nvidia"), "unknown backend 'nvidia'"),
        (
            ("runs/native", "--predictions", "runs/native/model.safetensors"),
            "--predictions: expected a file name that ends in .csv, got runs/native/model",
        ),
        (("runs/native", "--predictions", "absent/a.csv"), "absent/a.csv: cannot be written"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_nothing_changes(capsys, work, words, message):
    before = files(work)
    arguments = words if "--device" in words else (*words, "--device", "cpu")
    assert message in commands.complaint(capsys, "evaluate", *arguments)
    assert files(work) == before


def test_a_gpu_that_is_not_there_is_replaced_with_a_warning(capsys):
    if resolve("cuda").device_used != "cpu":
        pytest.skip("this machine has a GPU")
    assert main(["evaluate", "runs/native", "--device", "cuda", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("xpnet: warning: --device cuda is not usable: ")
    assert json.loads(out)["device"] == "cpu"


def test_help_loads_no_array_library():
    code = (
        "import sys\nfrom xpnet.__main__ import main\n"
        "for command in ('evaluate', 'predict'):\n"
        "    try:\n        main([command, '--help'])\n"
        "    except SystemExit as ended:\n        assert ended.code == 0\n"
        "assert not {'numpy', 'PIL', 'pandas', 'torch'} & set(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for flag in ("--split", "--predictions", "--arithmetic", "--all", "--out"):
        assert flag in ended.stdout
