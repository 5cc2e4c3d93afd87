"""xpnet predict: images and tables in, classes and probabilities out."""

import csv
import gzip
import json
import shutil
import struct
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
from xpnet.storage.model_file import save_model

RUN = Path("runs/small")
SIDE, CLASSES, ROWS = 4, 4, 3
STROKES = {
    "one.png": [(150, 40), (140, 260)],
    "seven.png": [(70, 60), (210, 60), (120, 260)],
    "four.png": [(90, 40), (70, 160), (200, 150), (185, 60), (170, 270)],
}
"""Digits by the file that shows them, as lines of a pen."""
X, Y = pixels(40, SIDE * SIDE, CLASSES)
TABLE, LABELS = X[:ROWS], Y[:ROWS]


def draw(path):
    image = Image.new("L", (320, 300), 250)
    ImageDraw.Draw(image).line(STROKES[path.name], fill=20, width=26, joint="curve")
    image.save(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run on images of 4 × 4 pixels, three pictures, and the same three rows as tables."""
    folder = tmp_path_factory.mktemp("work")
    np.savez(folder / "set.npz", x_train=X, y_train=Y, x_test=TABLE, y_test=LABELS)
    words = ("--data", str(folder / "set.npz"), "--epochs", "30", "--arithmetic", "native", "--device", "cpu")
    assert train.main([*words, "--name", RUN.name, "--out", str(folder / "runs"), "--quiet"]) == 0
    for name in STROKES:
        draw(folder / name)
    images, rows = TABLE.reshape(-1, SIDE, SIDE), pd.DataFrame(TABLE).add_prefix("pixel")
    np.save(folder / "rows.npy", TABLE)
    np.save(folder / "images.npy", images)
    np.savez_compressed(folder / "labelled.npz", x=TABLE, y=LABELS)
    np.savez(folder / "single.npz", TABLE)
    rows.to_csv(folder / "rows.csv.gz", index=False, header=False)
    rows.to_csv(folder / "counted.csv", index=False, header=list(map(str, range(SIDE * SIDE))))
    rows.assign(label=LABELS)[["label", *rows]].to_csv(folder / "labelled.csv", index=False)
    (folder / "named.csv").write_text(rows.to_csv(index=False) + "\n\n")
    idx = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
    (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx, mtime=0))
    shutil.copy(folder / "seven.png", folder / "-seven.png")
    shutil.copy(folder / RUN / "model.safetensors", folder / "model.bin")
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def printed(capsys, *words):
    return commands.printed(capsys, "predict", "--device", "cpu", *words)


def predictions(capsys, *words):
    return json.loads(printed(capsys, *words, "--json"))["predictions"]


def probabilities_of(model, x):
    return xpnet.load(model, device="cpu").predict_proba(x).tolist()


def test_without_a_run_it_is_the_newest_if_there_is_one(capsys, tmp_path, monkeypatch):
    assert main(["predict", "seven.png", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert err == f"xpnet: note: no RUN given: using the newest, {RUN}\n"
    assert out == printed(capsys, RUN, "seven.png")
    draw(tmp_path / "seven.png")
    monkeypatch.chdir(tmp_path)
    message = "no trained run in runs: xpnet train makes one; or give RUN, the folder of a run"
    assert commands.complaint(capsys, "predict", "seven.png") == message


def test_a_model_file_is_a_network_by_any_name_and_flags_may_stand_anywhere(capsys):
    expected = printed(capsys, RUN, "seven.png", "--all")
    for model in (RUN / "model.safetensors", "model.bin"):
        assert printed(capsys, model, "--all", "seven.png") == expected
    for words in (("--all", RUN), (RUN, "--all", "--"), ("--all", "--", RUN)):
        assert printed(capsys, *words, "seven.png") == expected
    for words in ((RUN, "--"), ("--", RUN)):
        assert printed(capsys, *words, "-seven.png").startswith("-seven.png   ")


def test_each_image_and_row_is_a_line_with_its_class_and_probability_or_all_of_them(capsys):
    files = ("one.png", "seven.png", "rows.npy")
    results, lines = predictions(capsys, RUN, *files), printed(capsys, RUN, *files).splitlines()
    heading, *all_lines = printed(capsys, RUN, *files, "--all").splitlines()
    assert heading.split() == ["class", "probability", "p0", "p1", "p2", "p3"]
    assert len({len(line) for line in (heading, *all_lines)}) == 1  # the columns end below each other
    names = ["one.png   ", "seven.png ", "rows.npy:1", "rows.npy:2", "rows.npy:3"]
    for name, line, all_line, result in zip(names, lines, all_lines, results, strict=True):
        assert line == f"{name}   {result['predicted']}   {result['probability']:.4f}"
        shares = [f"{share:.4f}" for share in result["probabilities"]]
        assert all_line.split() == [name.strip(), str(result["predicted"]), max(shares), *shares]


def make_model(path, features, **settings):
    """Save a network without hidden layers and with two classes: the second if there is much ink."""
    layers = [{"weight": np.array([[0.0] * features, [1.0] * features]), "bias": np.array([1.0, 0.0])}]
    save_model(path, saved_model(layers, **settings))


def test_the_network_sees_the_digit_in_its_own_size_and_range(capsys, tmp_path):
    path = tmp_path / "tiny.safetensors"
    make_model(path, 64)
    (expected,) = probabilities_of(path, read_digit(Path("seven.png"), 8).reshape(1, -1))
    (result,) = predictions(capsys, path, "seven.png")
    best = {"predicted": int(np.argmax(expected)), "probability": max(expected)}
    assert result == {"file": "seven.png", "row": None, "label": None, **best, "probabilities": expected}
    make_model(path, 784, normalization={"shift": np.array(0.0), "scale": np.array(1.0)})
    (result,) = predictions(capsys, path, "seven.png")
    (expected,) = probabilities_of(path, read_digit(Path("seven.png")).reshape(1, -1) / 255.0)
    assert result["probabilities"] == pytest.approx(expected, rel=1e-12)
    assert 0 < expected[0] < 1
    with Image.open("seven.png") as seven:
        both = np.hstack([np.asarray(seven.convert("L"))] * 3)
    Image.fromarray(both).save("three.png")
    assert main(["predict", str(path), "three.png"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("three.png   ")
    assert err == "xpnet: note: three.png: shows 3 separate shapes, expected one digit\n"


@pytest.mark.slow
def test_digits_of_a_pen_are_recognised(capsys, tmp_path):
    words = ["--recipe", "quick", "--epochs", "5", "--device", "cpu", "--out", str(tmp_path), "--quiet"]
    assert train.main([*words, "--name", "mnist", "--no-report"]) == 0
    results = predictions(capsys, tmp_path / "mnist", *STROKES)
    assert [result["predicted"] for result in results] == [1, 7, 4]


def test_every_form_of_table_gives_the_same_classes_and_probabilities(capsys):
    tables = ["named.csv", "counted.csv", "rows.csv.gz", "rows.npy", "images.npy", "single.npz"]
    tables += ["images-idx3-ubyte.gz"]
    labelled = ["labelled.csv", "labelled.npz", "set.npz"]
    results, expected = predictions(capsys, RUN, *tables, *labelled), probabilities_of(RUN, TABLE)
    columns = [[result[key] for result in results] for key in ("file", "row", "label", "probabilities")]
    assert columns == [
        [name for name in (*tables, *labelled) for _ in range(ROWS)],
        [1, 2, 3] * 10,
        [None] * ROWS * 7 + LABELS.tolist() * 3,
        expected * 10,
    ]


def test_out_writes_a_row_for_each_sample_and_prints_nothing(capsys, tmp_path):
    out, columns = tmp_path / "out.csv", ["p0", "p1", "p2", "p3"]
    assert printed(capsys, RUN, "seven.png", "labelled.csv", "--out", out) == ""
    results, text = predictions(capsys, RUN, "seven.png", "labelled.csv"), out.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["file", "row", "label", "predicted", "probability", *columns]
    for row, result in zip(rows, results, strict=True):
        for key in ("file", "row", "label", "predicted"):
            assert row[key] == ("" if result[key] is None else str(result[key]))
        assert [float(np.float32(row[name])) for name in columns] == result["probabilities"]
        assert row["probability"] == row[f"p{row['predicted']}"]
    assert main(["predict", str(RUN), "seven.png", "absent.png", "--out", str(out)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"xpnet: {out}: is not written, as a file could not be read"
    assert out.read_text() == text


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_of_several_files_the_good_ones_are_printed_and_each_bad_one_is_named(capsys, tmp_path, form):
    np.save(tmp_path / "divided.npy", TABLE[:1] / 255)
    words = ["seven.png", f"{tmp_path}/divided.npy", "absent.png", "model.bin", *form]
    assert main(["predict", str(RUN), *words]) == 2
    out, err = capsys.readouterr()
    assert len(json.loads(out)["predictions"] if form else out.splitlines()) == 2
    warning, first, second = err.splitlines()
    assert warning.startswith(f"xpnet: warning: {tmp_path}/divided.npy: its values are from 0 to 1")
    assert first == "xpnet: absent.png: no such file"
    assert second.startswith("xpnet: model.bin: is no image that can be read")
