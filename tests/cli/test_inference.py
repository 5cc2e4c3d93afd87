"""xpnet evaluate and xpnet predict: metrics, and classes and probabilities, of images and of tables."""

import csv
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import printed, printed_json
from networks import image_data
from PIL import Image, ImageDraw
from recorded_runs import QUIET

import xpnet
from xpnet.__main__ import main
from xpnet.data.pictures import read_digit
from xpnet.storage.record import read_run

RUN = "runs/named"
TRAIN = "train --data small.csv --label label --test-split 0.2 --epochs 30 --batch-size 20 --name named"
DATA = image_data()
ROWS, LABELS = DATA.x_test[:3], [*map("abcd".__getitem__, DATA.y_test[:3])]
HEADINGS = ["predicted", "probability", "p_a", "p_b", "p_c", "p_d"]


@pytest.fixture(scope="module")
def work(recorded, tmp_path_factory):
    folder = Path(shutil.copytree(recorded, tmp_path_factory.mktemp("inference") / "work"))
    with chdir(folder):
        assert main([*TRAIN.split(), *QUIET]) == 0
    seven = Image.new("L", (320, 300), 250)
    ImageDraw.Draw(seven).line([(70, 60), (210, 60), (120, 260)], fill=20, width=26, joint="curve")
    seven.save(folder / "seven.png")
    Image.fromarray(np.hstack([np.asarray(seven)] * 3)).save(folder / "three.png")
    rows = pd.DataFrame(ROWS).add_prefix("x")
    np.save(folder / "rows.npy", ROWS)
    np.savez_compressed(folder / "labelled.npz", x=ROWS, y=DATA.y_test[:3])
    rows.assign(label=LABELS)[["label", *rows]].to_csv(folder / "=rows.csv", index=False)
    rows[rows.columns[::-1]].to_csv(folder / "named.csv", index=False)
    shutil.copy(folder / RUN / "model.safetensors", folder / "model.bin")
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def predictions(capsys, *files):
    return printed_json(capsys, "predict", RUN, *files)["predictions"]


@pytest.mark.parametrize(("name", "smoothing"), [("named", 0), ("mine", 0.1)])
def test_on_its_own_data_a_run_has_the_metrics_of_its_record(capsys, name, smoothing):
    result, expected = printed_json(capsys, "evaluate", name), read_run(Path("runs", name))["metrics"]
    assert (result["accuracy"], result["loss"]) == (expected["test_accuracy"], expected["test_loss"])
    assert [each["recall"] for each in result["classes"]] == expected["test_accuracy_per_class"]
    assert result["label_smoothing"] == smoothing
    native = printed_json(capsys, "evaluate", name, "--arithmetic", "native")
    assert native["loss"] == pytest.approx(result["loss"], rel=1e-6)


def test_the_metrics_are_those_of_the_predictions_which_are_written_with_all_digits(capsys):
    words = ("evaluate", RUN, "--split", "train", "--predictions", "out.csv")
    lines, result = printed(capsys, *words).splitlines(), printed_json(capsys, *words)
    table = pd.read_csv("out.csv")
    assert list(table) == ["index", "label", *HEADINGS]
    confusion = pd.crosstab(table["label"], table["predicted"]).reindex(columns=[*"abcd"], fill_value=0)
    assert result["confusion"] == confusion.to_numpy().tolist()
    assert (table["probability"] == table[HEADINGS[2:]].max(axis=1)).all()
    losses = [-np.log(row[f"p_{row['label']}"]) for _, row in table.iterrows()]
    assert result["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    largest = confusion.sum(axis=1).max() / 144
    shares = pd.DataFrame(result["classes"]).mean(numeric_only=True)
    assert lines[1:6] == [
        "small: 144 training samples",
        f"accuracy   {np.mean(table['label'] == table['predicted']):.4f} (largest class {largest:.4f})",
        f"balanced   {shares['recall']:.4f}",
        f"macro F1   {shares['f1']:.4f}",
        f"loss       {result['loss']:.4f} (mean cross-entropy)",
    ]
    assert lines[15].split() == ["a", *map(str, result["confusion"][0])]


def test_each_image_and_row_is_a_line_with_its_class_and_probability_or_all_of_them(capsys):
    files = ("seven.png", "rows.npy")
    results, lines = predictions(capsys, *files), printed(capsys, "predict", RUN, *files).splitlines()
    words = ("predict", "--all", "model.bin", "--", *files)  # a model file by any name
    heading, *all_lines = printed(capsys, *words).splitlines()
    assert heading.split() == ["class", *HEADINGS[1:]]
    names = ["seven.png", "rows.npy:1", "rows.npy:2", "rows.npy:3"]
    for name, line, all_line, result in zip(names, lines, all_lines, results, strict=True):
        assert line == f"{name:<10}   {result['predicted']}   {result['probability']:.4f}"
        shares = [f"{share:.4f}" for share in result["probabilities"]]
        assert all_line.split() == [name, result["predicted"], max(shares), *shares]


def test_the_network_sees_the_digit_in_its_own_size_and_several_shapes_are_noted(capsys):
    digit = read_digit(Path("seven.png"), 6).reshape(1, -1)
    (result,) = predictions(capsys, "seven.png")
    assert [result["probabilities"]] == xpnet.load(RUN).predict_proba(digit).tolist()
    assert main(["predict", RUN, "three.png"]) == 0
    note = "xpnet: note: three.png: shows 3 separate shapes, expected one digit\n"
    assert capsys.readouterr().err == note


def test_every_form_of_table_gives_the_same_classes_and_probabilities(capsys):
    tables = ["named.csv", "rows.npy", "=rows.csv", "labelled.npz"]
    results, expected = predictions(capsys, *tables), xpnet.load(RUN).predict_proba(ROWS).tolist()
    places = [(name, row) for name in tables for row in (1, 2, 3)]
    assert [(result["file"], result["row"]) for result in results] == places
    assert [result["label"] for result in results] == [None] * 6 + LABELS * 2
    assert [result["probabilities"] for result in results] == expected * 4


def test_out_writes_a_row_for_each_sample_and_prints_nothing(capsys):
    words = ["predict", RUN, "seven.png", "=rows.csv", "--out", "out.csv"]
    assert printed(capsys, *words) == ""
    text = Path("out.csv").read_text()
    heading, *rows = csv.reader(text.splitlines())
    assert heading == ["file", "row", "label", *HEADINGS]
    quoted = "'=rows.csv"  # which a spreadsheet does not compute
    places = [["seven.png", "", ""], *([quoted, f"{i + 1}", LABELS[i]] for i in range(3))]
    assert [row[:3] for row in rows] == places
    assert main([*words, "absent.png"]) == 2
    assert capsys.readouterr().err.endswith("xpnet: out.csv: is not written, as a file could not be read\n")
    assert Path("out.csv").read_text() == text


def test_of_several_files_the_good_ones_are_printed_and_each_bad_one_is_named(capsys):
    np.save("divided.npy", ROWS[:1] / 255)
    assert main(["predict", "mine", "seven.png", "divided.npy", "absent.png", "model.bin"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    warning, first, second = err.splitlines()
    assert warning.startswith("xpnet: warning: divided.npy: its values are from 0 to 1")
    assert first == "xpnet: absent.png: no such file"
    assert second.startswith("xpnet: model.bin: is no image that can be read")


@pytest.mark.parametrize(("weight", "note"), [(2.0, "mean recall 0.5000"), (0.0, "training accuracy 0.7500")])
def test_a_network_at_chance_gets_a_note(tmp_path, monkeypatch, capsys, weight, note):
    monkeypatch.chdir(tmp_path)
    x, y = np.zeros((40, 2)), np.arange(40) % 4 // 3
    np.savez("data.npz", x=x, y=y)
    weights = 1.0 + weight * y if weight else None
    xpnet.fit(x, y, sample_weight=weights, epochs=9, run="run", report=False)
    for command in ["predict", "run", "data.npz"], ["evaluate", "run", "--data", "data.npz"]:
        assert main(command) == 0
        assert capsys.readouterr().err.startswith(f"xpnet: note: run: {note} is at chance (")
