"""Commands on tables with names: what is learned of a CSV file in training holds in all that follows."""

import csv
import json
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import complaint, printed
from folders import change_record
from safetensors.numpy import load_file, save_file

import xpnet
from xpnet.__main__ import main
from xpnet.storage.model_file import load_model
from xpnet.storage.record import read_run

ROWS = 60
SETTINGS = ("--device", "cpu", "--hidden", "4", "--epochs", "20", "--lr", "0.5", "--normalize", "standardize")
TRAIN = ("train", "--label", "kind", "--test-split", "0.25", "--missing", "mean", *SETTINGS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run on a table of two kinds, apart in petal, of which one value is missing."""
    folder = tmp_path_factory.mktemp("flowers")
    kind = np.arange(ROWS) % 2
    petal, sepal = kind + np.linspace(0.0, 0.5, ROWS), np.linspace(3.0, 4.0, ROWS)
    sepal[7] = np.nan
    frame = pd.DataFrame({"petal": petal, "kind": np.array(["iris", "rose"])[kind], "sepal": sepal})
    with chdir(folder):
        frame.to_csv("flowers.csv", sep=";", index=False)
        assert main([*TRAIN, "--data", "flowers.csv", "--out", ".", "--name", "run"]) == 0
    return folder


@pytest.fixture(autouse=True)
def flowers(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(trained, tmp_path / "copy"))


def test_training_says_what_it_reads_and_model_and_record_keep_the_names(capsys):
    output = printed(capsys, *TRAIN, "--data", "flowers.csv", "--out", ".", "--name", "next")
    assert "flowers.csv: 2 feature columns, label column 'kind', 2 classes\n" in output
    for name in ("iris", "rose"):
        assert f"  class {name}                accuracy 1.0000\n" in output
    columns, data = load_model(Path("next/model.safetensors")).columns, read_run(Path("next"))["data"]
    assert (columns.features, columns.classes) == (("petal", "sepal"), ("iris", "rose"))
    assert columns.means is not None
    assert (data["feature_names"], data["class_names"]) == (["petal", "sepal"], ["iris", "rose"])
    assert (data["training_samples"], data["test_samples"]) == (45, 15)


def test_evaluate_names_the_classes(capsys):
    output = printed(capsys, "evaluate", "run", "--predictions", "out.csv")
    for line in ("run: 2-4-2", " iris     1.0000", "class  iris  rose", " rose     0     8"):
        assert line in output
    with Path("out.csv").open() as file:
        row = next(csv.DictReader(file))
    assert list(row) == ["index", "label", "predicted", "probability", "p_iris", "p_rose"]
    assert row["label"] == row["predicted"] in ("iris", "rose")
    result = json.loads(printed(capsys, "evaluate", "run", "--data", "flowers.csv", "--json"))
    assert ([row["class"] for row in result["classes"]], result["samples"]) == (["iris", "rose"], ROWS)


def test_predict_finds_the_columns_by_name_and_names_the_classes(capsys):
    Path("rows.csv").write_text("sepal,petal\n3.5,0.1\n,1.4\n")
    assert printed(capsys, "predict", "run", "rows.csv").split()[1::3] == ["iris", "rose"]
    heads = printed(capsys, "predict", "run", "rows.csv", "--all").splitlines()[0].split()
    assert heads == ["class", "probability", "p_iris", "p_rose"]
    result = json.loads(printed(capsys, "predict", "run", "flowers.csv", "--json"))
    assert (result["classes"], result["predictions"][1]["label"]) == (["iris", "rose"], "rose")
    Path("rows.csv").write_text("sepal,stem\n3.5,0.1\n")
    problem = "its columns are not those of the training: without petal, with stem"
    assert complaint(capsys, "predict", "run", "rows.csv").startswith(f"rows.csv: {problem}")


def test_python_finds_the_columns_of_data_frames_by_name_and_keeps_their_names():
    model = xpnet.load("run", device="cpu")
    frame = pd.DataFrame({"sepal": [3.5, 3.6], "petal": [0.1, 1.4]})
    assert model.predict(frame).tolist() == ["iris", "rose"]
    assert model.predict(frame[["petal", "sepal"]].to_numpy()).tolist() == ["iris", "rose"]
    assert model.evaluate(frame, ["iris", "rose"]).accuracy == 1.0
    with pytest.raises(xpnet.DataError, match=r"^X: its columns are not those of the training: with stem$"):
        model.predict(frame.assign(stem=1.0))
    with pytest.raises(xpnet.DataError, match=r"^y: label 'lily': the classes are iris, rose$"):
        model.evaluate(frame, ["iris", "lily"])
    model = xpnet.fit(frame, ["yes", "no"], normalize="standardize", epochs=0)
    assert (model.feature_names, model.class_names) == (("sepal", "petal"), ("no", "yes"))
    model.save("model.safetensors")
    again = xpnet.load("model.safetensors", device="cpu")
    assert np.array_equal(again.predict(frame[["petal", "sepal"]]), model.predict(frame))


def test_a_run_of_0_1_0_is_read_by_the_rule_it_was_made_with(capsys):
    for name in ("train", "test"):
        Path(f"{name}.csv").write_text("species,a,b\n" + "1,2,3\n0,255,7\n" * 8)
    words = ("train", "--data", "train.csv", "--test-data", "test.csv", *SETTINGS, "--no-report")
    printed(capsys, *words, "--columns", "0.1.0", "--out", ".", "--name", "old")
    config = read_run(Path("old"))["config"]
    newer = {"label", "test_split", "missing", "columns"}
    change_record(Path("old"), config={name: config[name] for name in config.keys() - newer})
    assert "accuracy   1.0000" in printed(capsys, "evaluate", "old")
    assert "train.csv: has no column named label, target or class" in complaint(capsys, *words)


@pytest.mark.parametrize("columns", ["{", '{"features": ["a"]}', '{"classes": ["a", 1]}'])
def test_a_model_with_damaged_names_is_refused(columns):
    path = Path("run/model.safetensors")
    save_file(load_file(path), path, {"columns": columns})
    message = "columns in the metadata: expected the names of 2 features and 2"
    with pytest.raises(xpnet.DataError, match=message):
        load_model(path)
