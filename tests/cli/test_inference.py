"""xpnet evaluate and xpnet predict: metrics, and classes and probabilities, of images and of tables."""

import csv
import gzip
import json
import shutil
import struct
from contextlib import chdir
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest
from networks import pixels
from PIL import Image, ImageDraw
from saved_models import saved_model

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.data.pictures import read_digit
from xpnet.storage.model_file import encode_model, load_model
from xpnet.storage.record import read_run

SIDE, CLASSES, TRAINED = 4, 4, 200
X, Y = pixels(TRAINED + 1500, SIDE * SIDE, CLASSES)
X_TEST, Y_TEST = X[TRAINED:], Y[TRAINED:]
RUNS = {
    "native": ("--arithmetic", "native", "--batch-size", "32"),
    "squared": ("--loss", "squared-error", "--lr", "1"),
    "smoothed": ("--label-smoothing", "0.1", "--arithmetic", "native", "--dtype", "float64", "--lr", "1"),
}
RUN = "runs/native"
ROWS, LABELS = X_TEST[:3], Y_TEST[:3]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data.npz and a run for each of RUNS on it, a picture, and three rows as tables."""
    folder = tmp_path_factory.mktemp("work")
    np.savez(folder / "data.npz", x_train=X[:TRAINED], y_train=Y[:TRAINED], x_test=X_TEST, y_test=Y_TEST)
    words = ("--data", f"{folder}/data.npz", "--out", f"{folder}/runs", "--epochs", "30", "--device", "cpu")
    for name, flags in RUNS.items():
        assert train.main([*words, *flags, "--name", name, "--no-report", "--quiet"]) == 0
    image = Image.new("L", (320, 300), 250)
    ImageDraw.Draw(image).line([(70, 60), (210, 60), (120, 260)], fill=20, width=26, joint="curve")
    image.save(folder / "seven.png")
    rows = pd.DataFrame(ROWS).add_prefix("pixel")
    np.save(folder / "rows.npy", ROWS)
    np.savez_compressed(folder / "labelled.npz", x=ROWS, y=LABELS)
    rows.to_csv(folder / "rows.csv.gz", index=False, header=False)
    rows.assign(label=LABELS)[["label", *rows]].to_csv(folder / "labelled.csv", index=False)
    (folder / "named.csv").write_text(rows.to_csv(index=False) + "\n\n")
    idx = struct.pack(">4B3I", 0, 0, 8, 3, len(ROWS), SIDE, SIDE) + ROWS.tobytes()
    (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx, mtime=0))
    shutil.copy(folder / "seven.png", folder / "-seven.png")
    shutil.copy(folder / RUN / "model.safetensors", folder / "model.bin")
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def printed(capsys, command, *words):
    return commands.printed(capsys, command, "--device", "cpu", *words)


def metrics_of(capsys, *words):
    return commands.printed_json(capsys, "evaluate", *words, "--device", "cpu")


def predictions(capsys, *words):
    return commands.printed_json(capsys, "predict", *words, "--device", "cpu")["predictions"]


def probabilities_of(model, x):
    return xpnet.load(model, device="cpu").predict_proba(x)


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
    assert (result["samples"], result["accuracy"]) == (TRAINED, expected["train_accuracy"])


def test_without_a_run_it_is_the_newest_and_without_the_gpu_the_cpu(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: None)
    assert main(["evaluate", "--json", "--device", "cuda"]) == 0
    out, err = capsys.readouterr()
    note, warning = err.splitlines()
    assert note == "xpnet: note: no RUN given: using the newest, runs/smoothed"
    assert warning.startswith("xpnet: warning: --device cuda is not usable: ")
    assert json.loads(out) == metrics_of(capsys, "runs/smoothed")


def test_a_data_set_and_a_single_file_of_its_test_samples_give_the_same(capsys, tmp_path):
    expected = metrics_of(capsys, RUN)
    for name, rows in ("train", slice(TRAINED)), ("test", slice(TRAINED, None)):
        columns = np.column_stack([Y[rows], X[rows]])
        np.savetxt(tmp_path / f"{name}.csv", columns, fmt="%d", delimiter=",")
    np.savez(tmp_path / "test.npz", x=X_TEST, y=Y_TEST)
    for path in ("data.npz", tmp_path / "test.csv", tmp_path / "test.npz"):
        assert metrics_of(capsys, RUN, "--data", path) == {**expected, "data": str(path)}
    words = ("--data", tmp_path / "train.csv", "--test-data", tmp_path / "test.csv")
    assert metrics_of(capsys, RUN, *words) == {**expected, "data": str(tmp_path / "test.csv")}


def test_the_tables_are_printed_in_plain_text(capsys):
    out, result = printed(capsys, "evaluate", RUN, "--data", "data.npz"), metrics_of(capsys, RUN)
    lines = out.splitlines()
    assert lines[0].startswith(f"{RUN}: 16-10-4, native, numpy ")
    assert lines[1] == f"data.npz: {len(X_TEST)} test samples"
    largest = max(metrics["support"] for metrics in result["classes"]) / len(X_TEST)
    assert lines[2] == f"accuracy   {result['accuracy']:.4f} (largest class {largest:.4f})"
    for line, name, metric in ((lines[3], "balanced", "recall"), (lines[4], "macro F1", "f1")):
        assert line == f"{name:<11}{np.mean([metrics[metric] for metrics in result['classes']]):.4f}"
    assert lines[5] == f"loss       {result['loss']:.4f} (mean cross-entropy)"
    for row, metrics in zip(lines[8:12], result["classes"], strict=True):
        shares = [f"{metrics[key]:.4f}" for key in ("precision", "recall", "f1")]
        assert row.split() == [str(metrics["class"]), *shares, str(metrics["support"])]
    matrix = [list(map(int, line.split())) for line in lines[15:]]
    assert matrix == [[label, *row] for label, row in enumerate(result["confusion"])]
    out = printed(capsys, "evaluate", "runs/smoothed", "--split", "train")
    assert "data: 200 training samples\naccuracy " in out


def test_the_predictions_of_each_sample_are_written_exactly(capsys, tmp_path):
    path, expected = tmp_path / "predictions.csv", probabilities_of(RUN, X_TEST)
    printed(capsys, "evaluate", RUN, "--predictions", path)
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ["index", "label", "predicted", "probability", "p0", "p1", "p2", "p3"]
    labels = zip(range(len(Y_TEST)), Y_TEST, expected.argmax(axis=1), strict=True)
    assert [tuple(map(int, row[:3])) for row in rows] == list(labels)
    np.testing.assert_array_equal(np.array([row[4:] for row in rows], np.float32), expected, strict=True)
    assert all(row[3] == row[4 + int(row[2])] for row in rows)


def test_a_model_file_is_a_network_by_any_name_and_flags_may_stand_anywhere(capsys):
    expected = printed(capsys, "predict", RUN, "seven.png", "--all")
    for model in (f"{RUN}/model.safetensors", "model.bin"):
        assert printed(capsys, "predict", model, "--all", "seven.png") == expected
    for words in (("--all", RUN), (RUN, "--all", "--"), ("--all", "--", RUN)):
        assert printed(capsys, "predict", *words, "seven.png") == expected
    for words in ((RUN, "--"), ("--", RUN)):
        assert printed(capsys, "predict", *words, "-seven.png").startswith("-seven.png   ")


def test_each_image_and_row_is_a_line_with_its_class_and_probability_or_all_of_them(capsys):
    files = ("seven.png", "rows.npy")
    results, lines = predictions(capsys, RUN, *files), printed(capsys, "predict", RUN, *files).splitlines()
    heading, *all_lines = printed(capsys, "predict", RUN, *files, "--all").splitlines()
    assert heading.split() == ["class", "probability", "p0", "p1", "p2", "p3"]
    assert len({len(line) for line in (heading, *all_lines)}) == 1  # the columns end below each other
    names = ["seven.png ", "rows.npy:1", "rows.npy:2", "rows.npy:3"]
    for name, line, all_line, result in zip(names, lines, all_lines, results, strict=True):
        assert line == f"{name}   {result['predicted']}   {result['probability']:.4f}"
        shares = [f"{share:.4f}" for share in result["probabilities"]]
        assert all_line.split() == [name.strip(), str(result["predicted"]), max(shares), *shares]


def test_the_network_sees_the_digit_in_its_own_size_and_several_shapes_are_noted(capsys, tmp_path):
    path = tmp_path / "tiny.safetensors"
    layers = [{"weight": np.array([[0.0] * 64, [1.0] * 64]), "bias": np.array([1.0, 0.0])}]
    path.write_bytes(encode_model(saved_model(layers)))
    (expected,) = probabilities_of(path, read_digit(Path("seven.png"), 8).reshape(1, -1)).tolist()
    (result,) = predictions(capsys, path, "seven.png")
    best = {"predicted": int(np.argmax(expected)), "probability": max(expected)}
    assert result == {"file": "seven.png", "row": None, "label": None, **best, "probabilities": expected}
    with Image.open("seven.png") as seven:
        three = np.hstack([np.asarray(seven)] * 3)
    Image.fromarray(three).save("three.png")
    assert main(["predict", str(path), "three.png"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("three.png   ")
    assert err == "xpnet: note: three.png: shows 3 separate shapes, expected one digit\n"


def test_every_form_of_table_gives_the_same_classes_and_probabilities(capsys):
    tables = ["named.csv", "rows.csv.gz", "rows.npy", "images-idx3-ubyte.gz", "labelled.csv", "labelled.npz"]
    results = predictions(capsys, RUN, *tables)
    columns = [[result[key] for result in results] for key in ("file", "row", "label", "probabilities")]
    assert columns == [
        [name for name in tables for _ in ROWS],
        [1, 2, 3] * 6,
        [None] * 12 + LABELS.tolist() * 2,
        probabilities_of(RUN, ROWS).tolist() * 6,
    ]


def test_out_writes_a_row_for_each_sample_and_prints_nothing(capsys, tmp_path):
    out, columns = tmp_path / "out.csv", ["p0", "p1", "p2", "p3"]
    assert printed(capsys, "predict", RUN, "seven.png", "labelled.csv", "--out", out) == ""
    results, text = predictions(capsys, RUN, "seven.png", "labelled.csv"), out.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["file", "row", "label", "predicted", "probability", *columns]
    for row, result in zip(rows, results, strict=True):
        for key in ("file", "row", "label", "predicted"):
            assert row[key] == ("" if result[key] is None else str(result[key]))
        assert [float(np.float32(row[name])) for name in columns] == result["probabilities"]
        assert row["probability"] == row[f"p{row['predicted']}"]
    assert main(["predict", RUN, "seven.png", "absent.png", "--out", str(out)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"xpnet: {out}: is not written, as a file could not be read"
    assert out.read_text() == text


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_of_several_files_the_good_ones_are_printed_and_each_bad_one_is_named(capsys, tmp_path, form):
    np.save(tmp_path / "divided.npy", ROWS[:1] / 255)
    words = ["seven.png", f"{tmp_path}/divided.npy", "absent.png", "model.bin", *form]
    assert main(["predict", RUN, *words]) == 2
    out, err = capsys.readouterr()
    assert len(json.loads(out)["predictions"] if form else out.splitlines()) == 2
    warning, first, second = err.splitlines()
    assert warning.startswith(f"xpnet: warning: {tmp_path}/divided.npy: its values are from 0 to 1")
    assert first == "xpnet: absent.png: no such file"
    assert second.startswith("xpnet: model.bin: is no image that can be read")


TRAIN = ["train", "--data", "flowers.csv", "--label", "kind", "--test-split", "0.25", "--missing", "mean"]
TRAIN += ["--hidden", "4", "--epochs", "20", "--lr", "0.5", "--normalize", "standardize", "--out", "."]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run on a table of two kinds, apart in petal, of which one value is missing."""
    folder = tmp_path_factory.mktemp("flowers")
    kind = np.arange(60) % 2
    petal, sepal = kind + np.linspace(0.0, 0.5, 60), np.linspace(3.0, 4.0, 60)
    sepal[7] = np.nan
    frame = pd.DataFrame({"petal": petal, "kind": np.array(["iris", "rose"])[kind], "sepal": sepal})
    with chdir(folder):
        frame.to_csv("flowers.csv", sep=";", index=False)
        assert main([*TRAIN, "--name", "run"]) == 0
    return folder


@pytest.fixture
def flowers(trained, tmp_path, monkeypatch):
    """Work in a copy of that folder."""
    monkeypatch.chdir(shutil.copytree(trained, tmp_path / "copy"))


@pytest.mark.usefixtures("flowers")
def test_training_says_what_it_reads_and_model_and_record_keep_the_names(capsys):
    output = commands.printed(capsys, *TRAIN, "--name", "next")
    assert "flowers.csv: 2 feature columns, label column 'kind', 2 classes\n" in output
    for name in ("iris", "rose"):
        assert f"  class {name}                accuracy 1.0000\n" in output
    columns, data = load_model(Path("next/model.safetensors")).columns, read_run(Path("next"))["data"]
    assert (columns.features, columns.classes) == (("petal", "sepal"), ("iris", "rose"))
    assert columns.means is not None
    assert (data["feature_names"], data["class_names"]) == (["petal", "sepal"], ["iris", "rose"])
    assert (data["training_samples"], data["test_samples"]) == (45, 15)


@pytest.mark.usefixtures("flowers")
def test_evaluate_names_the_classes(capsys):
    output = commands.printed(capsys, "evaluate", "run", "--predictions", "out.csv")
    for line in ("run: 2-4-2", " iris     1.0000", "class  iris  rose", " rose     0     8"):
        assert line in output
    row = next(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert list(row) == ["index", "label", "predicted", "probability", "p_iris", "p_rose"]
    assert row["label"] == row["predicted"] in ("iris", "rose")
    result = commands.printed_json(capsys, "evaluate", "run", "--data", "flowers.csv")
    assert ([row["class"] for row in result["classes"]], result["samples"]) == (["iris", "rose"], 60)


@pytest.mark.usefixtures("flowers")
def test_names_that_a_spreadsheet_would_compute_are_quoted_in_a_csv_file(capsys):
    frame = pd.DataFrame({"a": [0.1, 1.4], "label": ["=1+1", "@sum"]})
    frame.to_csv("=rows.csv", index=False)
    xpnet.fit(frame[["a"]], frame["label"], normalize="none", epochs=0).save("model.safetensors")
    assert commands.printed(capsys, "predict", "model.safetensors", "=rows.csv", "--out", "out.csv") == ""
    row = next(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert (row["file"], row["label"], row["predicted"][0]) == ("'=rows.csv", "'=1+1", "'")
    assert float(row["probability"]) == max(float(row["p_=1+1"]), float(row["p_@sum"]))


@pytest.mark.usefixtures("flowers")
def test_predict_finds_the_columns_by_name_and_names_the_classes(capsys):
    Path("rows.csv").write_text("sepal,petal\n3.5,0.1\n,1.4\n")
    assert commands.printed(capsys, "predict", "run", "rows.csv").split()[1::3] == ["iris", "rose"]
    heads = commands.printed(capsys, "predict", "run", "rows.csv", "--all").splitlines()[0].split()
    assert heads == ["class", "probability", "p_iris", "p_rose"]
    result = commands.printed_json(capsys, "predict", "run", "flowers.csv")
    assert (result["classes"], result["predictions"][1]["label"]) == (["iris", "rose"], "rose")
    Path("rows.csv").write_text("sepal,stem\n3.5,0.1\n")
    problem = "its columns are not those of the training: without petal, with stem"
    assert commands.complaint(capsys, "predict", "run", "rows.csv").startswith(f"rows.csv: {problem}")


@pytest.mark.usefixtures("flowers")
def test_python_finds_the_columns_of_data_frames_by_name_and_keeps_their_names():
    model = xpnet.load("run", device="cpu")
    frame = pd.DataFrame({"sepal": [3.5, 3.6], "petal": [0.1, 1.4]})
    assert model.predict(frame).tolist() == ["iris", "rose"]
    assert model.evaluate(frame, ["iris", "rose"]).accuracy == 1.0
    with pytest.raises(xpnet.DataError, match=r"^X: its columns are not those of the training: with stem$"):
        model.predict(frame.assign(stem=1.0))
    with pytest.raises(xpnet.DataError, match=r"^y, row 2: label 'lily': the classes are iris, rose$"):
        model.evaluate(frame, ["iris", "lily"])
    with pytest.raises(xpnet.DataError, match=r"^X: expected rows .*, got shape \(2,\): .* X\.iloc\[\[0\]\]"):
        model.predict(frame.iloc[0])
    with pytest.raises(xpnet.DataError, match=r"^y, row 2: label 'None': a label is text here$"):
        xpnet.fit(frame, ["yes", None], normalize="standardize", epochs=0)
    model = xpnet.fit(frame, ["yes", "no"], normalize="standardize", epochs=0)
    assert (model.feature_names, model.class_names) == (("sepal", "petal"), ("no", "yes"))
    model.save("model.safetensors")
    again = xpnet.load("model.safetensors", device="cpu")
    assert np.array_equal(again.predict(frame[["petal", "sepal"]]), model.predict(frame))


BALANCED, AT = ["--class-weight", "balanced"], "mean recall 0.5000 is at chance (2 classes): "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "is_flat", "is_older", "training", "repeated"),
    [
        (BALANCED, False, False, "", ""),  # more mistakes than by the guess of the majority, and more recall
        (BALANCED, True, False, AT, AT),
        (BALANCED, True, True, AT, ""),  # says nothing of weights
        ([], True, False, "training accuracy 0.8889 is at chance (0.9", "training accuracy 0.8889 is at "),
        ([], True, True, "training accuracy 0.8889 is at chance (0.9", ""),
    ],
)
def test_a_network_at_chance_gets_a_note_by_mean_recall_if_samples_are_weighted(
    tmp_path, monkeypatch, capsys, flags, is_flat, is_older, training, repeated
):
    generator, y = np.random.default_rng(0), np.arange(200) % 10 // 9
    x = np.zeros((200, 2)) if is_flat else generator.normal(y[:, None], 1.0, (200, 2))
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    words = ["--data", "data.npz", "--normalize", "none", "--epochs", "60", "--validation", "20"]
    assert train.main([*words, *flags, "--no-report", "--name", "run"]) == 0
    notes = [line[6:] for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert [note[: len(training)] for note in notes] == [training] * bool(training)
    path = Path("runs/run/run.json")
    record = json.loads(path.read_text())
    assert record["metrics"]["train_accuracy"] <= 0.9
    if is_older:
        del record["config"]["class_weight"]
    path.write_text(json.dumps(record))
    for command in ["predict", "runs/run", "data.npz"], ["evaluate", "runs/run"]:
        assert main(command) == 0
        note = f"xpnet: note: runs/run: {repeated}" if repeated else ""
        assert capsys.readouterr().err[: len(note) or None] == note


def test_the_note_of_a_weighted_training_without_test_samples_goes_by_its_training_samples(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    x, y = np.zeros((40, 2)), np.arange(40) % 4 // 3
    np.savez("data.npz", x=x, y=y)
    xpnet.fit(x, y, sample_weight=1.0 + 2.0 * y, epochs=1, run="run", report=False)
    metrics = json.loads(Path("run/run.json").read_text())["metrics"]
    assert sorted(metrics["train_accuracy_per_class"]) == [0.0, 1.0]
    for command in ["predict", "run", "data.npz"], ["evaluate", "run", "--data", "data.npz"]:
        assert main(command) == 0
        assert capsys.readouterr().err.startswith(f"xpnet: note: run: {AT}")
