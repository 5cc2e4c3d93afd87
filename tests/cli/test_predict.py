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
X, Y = pixels(40, SIDE * SIDE, CLASSES)
TABLE, LABELS = X[:ROWS], Y[:ROWS]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run on images of 4 × 4 pixels, a picture, and the same three rows as tables."""
    folder = tmp_path_factory.mktemp("work")
    np.savez(folder / "set.npz", x_train=X, y_train=Y, x_test=TABLE, y_test=LABELS)
    words = ("--data", str(folder / "set.npz"), "--epochs", "30", "--arithmetic", "native", "--device", "cpu")
    assert train.main([*words, "--name", RUN.name, "--out", str(folder / "runs"), "--quiet"]) == 0
    image = Image.new("L", (320, 300), 250)
    ImageDraw.Draw(image).line([(70, 60), (210, 60), (120, 260)], fill=20, width=26, joint="curve")
    image.save(folder / "seven.png")
    rows = pd.DataFrame(TABLE).add_prefix("pixel")
    np.save(folder / "rows.npy", TABLE)
    np.savez_compressed(folder / "labelled.npz", x=TABLE, y=LABELS)
    rows.to_csv(folder / "rows.csv.gz", index=False, header=False)
    rows.assign(label=LABELS)[["label", *rows]].to_csv(folder / "labelled.csv", index=False)
    (folder / "named.csv").write_text(rows.to_csv(index=False) + "\n\n")
    idx = struct.pack(">4B3I", 0, 0, 8, 3, ROWS, SIDE, SIDE) + TABLE.tobytes()
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


def test_a_model_file_is_a_network_by_any_name_and_flags_may_stand_anywhere(capsys):
    assert main(["predict", "seven.png", "--all", "--device", "cpu"]) == 0  # with the newest run
    expected = capsys.readouterr().out
    for model in (RUN / "model.safetensors", "model.bin"):
        assert printed(capsys, model, "--all", "seven.png") == expected
    for words in (("--all", RUN), (RUN, "--all", "--"), ("--all", "--", RUN)):
        assert printed(capsys, *words, "seven.png") == expected
    for words in ((RUN, "--"), ("--", RUN)):
        assert printed(capsys, *words, "-seven.png").startswith("-seven.png   ")


def test_each_image_and_row_is_a_line_with_its_class_and_probability_or_all_of_them(capsys):
    files = ("seven.png", "rows.npy")
    results, lines = predictions(capsys, RUN, *files), printed(capsys, RUN, *files).splitlines()
    heading, *all_lines = printed(capsys, RUN, *files, "--all").splitlines()
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
    save_model(path, saved_model(layers))
    (expected,) = probabilities_of(path, read_digit(Path("seven.png"), 8).reshape(1, -1))
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
    tables = ["named.csv", "rows.csv.gz", "rows.npy", "images-idx3-ubyte.gz"]
    labelled = ["labelled.csv", "labelled.npz", "set.npz"]
    results, expected = predictions(capsys, RUN, *tables, *labelled), probabilities_of(RUN, TABLE)
    columns = [[result[key] for result in results] for key in ("file", "row", "label", "probabilities")]
    assert columns == [
        [name for name in (*tables, *labelled) for _ in range(ROWS)],
        [1, 2, 3] * 7,
        [None] * ROWS * 4 + LABELS.tolist() * 3,
        expected * 7,
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
