"""xpnet predict: images and tables in, classes and probabilities out, and every wrong input."""

import csv
import gzip
import json
import struct
from pathlib import Path

import commands
import numpy as np
import pytest
from PIL import Image, ImageDraw

from xpnet import train
from xpnet.__main__ import main
from xpnet.data import datasets
from xpnet.data.pictures import read_digit
from xpnet.inference.predictor import Predictor
from xpnet.storage.model_file import SavedModel, load_model, save_model

RUN = Path("runs/quick")
CLASSES = [f"p{label}" for label in range(10)]
ROWS = 30
"""Samples in the tables."""

STROKES = {
    "one.png": [(150, 40), (140, 260)],
    "seven.png": [(70, 60), (210, 60), (120, 260)],
    "four.png": [(90, 40), (70, 160), (200, 150), (185, 60), (170, 270)],
}
"""Digits by the file that shows them, as lines of a pen."""


def drawn(points, paper=250, ink=20, size=(320, 300)):
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).line(points, fill=ink, width=26, joint="curve")
    return image


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run on the bundled MNIST, pictures, and tables of the first test images."""
    folder = tmp_path_factory.mktemp("work")
    words = ("--recipe", "quick", "--epochs", "5", "--device", "cpu", "--name", "quick", "--quiet")
    assert train.main([*words, "--out", str(folder / "runs")]) == 0
    for name, points in STROKES.items():
        drawn(points).save(folder / name)
    x, y = first_images()
    np.save(folder / "rows.npy", x)
    np.save(folder / "images.npy", x.reshape(-1, 28, 28))
    np.savez(folder / "rows.npz", x=x)
    np.savez_compressed(folder / "labelled.npz", x=x, y=y)
    np.savez(folder / "set.npz", x_train=x[:1], y_train=y[:1], x_test=x, y_test=y)
    np.savez(folder / "single.npz", x)
    (folder / "bad.safetensors").write_bytes((folder / "seven.png").read_bytes())
    plain = "\n".join(",".join(map(str, row)) for row in x.tolist())
    labelled = "\n".join(",".join(map(str, row)) for row in np.column_stack([y, x]).tolist())
    names = ",".join(f"pixel{index}" for index in range(784))
    counted = ",".join(map(str, range(784)))
    (folder / "rows.csv").write_text(plain)
    (folder / "named.csv").write_text(f"{names}\n{plain}\n\n")
    (folder / "counted.csv").write_text(f"{counted}\n{plain}\n")
    (folder / "rows.csv.gz").write_bytes(gzip.compress(plain.encode()))
    (folder / "labelled.csv").write_text(f"label,{names}\n{labelled}\n")
    idx = struct.pack(">4B3I", 0, 0, 8, 3, ROWS, 28, 28) + x.tobytes()
    (folder / "images-idx3-ubyte").write_bytes(idx)
    (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def first_images():
    data = datasets.load()
    return data.x_test[:ROWS], data.y_test[:ROWS]


def run(*words):
    return main(["predict", *map(str, words), "--device", "cpu"])


def printed(capsys, *words):
    return commands.printed(capsys, "predict", *words, "--device", "cpu")


def complaint(capsys, *words):
    return commands.complaint(capsys, "predict", *words, "--device", "cpu")


def predictions(capsys, *words):
    return json.loads(printed(capsys, *words, "--json"))["predictions"]


# The network


def as_without_run(capsys, newest, *words):
    """Standard output of the command without RUN, which must note that it used this run."""
    assert run(*words) == 0
    out, err = capsys.readouterr()
    assert err == f"xpnet: note: no RUN given: using the newest, {newest}\n"
    return out


@pytest.mark.parametrize(
    "words",
    [
        ("seven.png",),
        ("seven.png", "one.png", "--all"),
        ("--all", "seven.png", "one.png"),
        ("seven.png", "--all", "one.png"),
        ("rows.csv", "seven.png", "--json"),
        ("images-idx3-ubyte", "seven.png"),
    ],
)
def test_without_a_run_it_is_the_newest(capsys, words):
    assert as_without_run(capsys, RUN, *words) == printed(capsys, RUN, *words)


@pytest.mark.parametrize("name", ["copied.SAFETENSORS", "model.bin"])
def test_a_model_file_is_a_network_whatever_its_name_is(capsys, tmp_path, name):
    path = tmp_path / name
    path.write_bytes((RUN / "model.safetensors").read_bytes())
    assert printed(capsys, path, "seven.png").startswith("seven.png   7 ")


@pytest.mark.parametrize(
    "words",
    [
        (RUN, "--all", "seven.png"),
        ("--all", RUN, "seven.png"),
        (RUN, "--all", "--", "seven.png"),
        ("--all", "--", RUN, "seven.png"),
    ],
)
def test_flags_may_stand_anywhere(capsys, words):
    out = commands.printed(capsys, "predict", "--device", "cpu", *words)
    assert out == printed(capsys, RUN, "seven.png", "--all")


@pytest.mark.parametrize("words", [(RUN, "--"), ("--", RUN)])
def test_behind_two_dashes_files_may_begin_with_one(capsys, words):
    Path("-seven.png").write_bytes(Path("seven.png").read_bytes())
    out = commands.printed(capsys, "predict", "--device", "cpu", *words, "-seven.png")
    assert out.startswith("-seven.png   7 ")


def test_without_any_run_it_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn(STROKES["seven.png"]).save("seven.png")
    message = "no trained run in runs: xpnet train makes one; or give RUN, the folder of a run"
    assert complaint(capsys, "seven.png") == message


# Images


def test_each_image_is_a_line_with_its_digit_and_probability(capsys):
    out = printed(capsys, RUN, "one.png", "seven.png", "four.png")
    results = predictions(capsys, RUN, "one.png", "seven.png", "four.png")
    assert [result["predicted"] for result in results] == [1, 7, 4]
    shares = [f"{result['probability']:.4f}" for result in results]
    assert out.splitlines() == [
        f"one.png     1   {shares[0]}",
        f"seven.png   7   {shares[1]}",
        f"four.png    4   {shares[2]}",
    ]


def test_the_network_sees_the_digit_in_the_form_of_mnist(capsys):
    (result,) = predictions(capsys, RUN, "seven.png")
    digit = read_digit(Path("seven.png")).reshape(1, -1)
    expected = Predictor.load(RUN, device="cpu").probabilities(digit)[0].tolist()
    assert result == {
        "file": "seven.png",
        "row": None,
        "label": None,
        "predicted": 7,
        "probability": max(expected),
        "probabilities": expected,
    }


def test_all_probabilities_stand_under_their_classes(capsys):
    heading, line = printed(capsys, RUN, "seven.png", "--all").splitlines()
    probabilities = predictions(capsys, RUN, "seven.png")[0]["probabilities"]
    assert heading.split() == ["class", "probability", *CLASSES]
    assert line.split() == ["seven.png", "7", f"{probabilities[7]:.4f}", *(f"{p:.4f}" for p in probabilities)]
    for label, share in enumerate(probabilities):
        end = heading.index(f"p{label}") + len(f"p{label}")
        assert line[:end].endswith(f"{share:.4f}")


def test_digits_are_found_as_well_as_plain_test_images(tmp_path):
    x, y = datasets.load().x_test[:100], datasets.load().y_test[:100]
    for index, image in enumerate(x.reshape(-1, 28, 28)):
        sheet = np.zeros((60, 50), np.uint8)
        top, left = index % 32, (7 * index) % 22
        sheet[top : top + 28, left : left + 28] = image
        large = Image.fromarray(255 - sheet).resize((250, 300), Image.Resampling.BILINEAR)
        large.save(tmp_path / f"{index:03}.png")
    files = sorted(map(str, tmp_path.glob("*.png")))
    out = tmp_path / "out.csv"
    assert run(RUN, *files, "--out", out) == 0
    seen = [int(row["predicted"]) for row in rows_of(out)]
    plain = Predictor.load(RUN, device="cpu").predict(x)
    assert np.mean(seen == y) >= np.mean(plain == y) - 0.03


def tiny_model(path, features, **settings):
    """A network without hidden layers and with two classes: the second if there is much ink."""
    layers = [{"weight": np.array([[0.0] * features, [1.0] * features]), "bias": np.array([1.0, 0.0])}]
    save_model(path, SavedModel(layers, (features, 2), **settings))
    return load_model(path)


@pytest.mark.parametrize("side", [8, 16, 28, 40])
def test_a_network_of_another_size_gets_images_of_that_size(capsys, tmp_path, side):
    path = tmp_path / "tiny.safetensors"
    tiny_model(path, side * side)
    (result,) = predictions(capsys, path, "seven.png")
    digit = read_digit(Path("seven.png"), side).reshape(1, -1)
    expected = Predictor.load(path, device="cpu").probabilities(digit)[0].tolist()
    assert result["probabilities"] == expected


def test_a_network_trained_on_numbers_up_to_one_gets_such_numbers(capsys, tmp_path):
    path = tmp_path / "ones.safetensors"
    one = {"shift": np.array(0.0), "scale": np.array(1.0)}
    tiny_model(path, 784, normalization=one)
    (result,) = predictions(capsys, path, "seven.png")
    digit = read_digit(Path("seven.png")).reshape(1, -1) / 255.0
    expected = Predictor.load(path, device="cpu").probabilities(digit)[0].tolist()
    assert result["probabilities"] == pytest.approx(expected, rel=1e-12)
    assert 0 < result["probabilities"][0] < 1


# Tables

TABLES = [
    "rows.csv",
    "named.csv",
    "counted.csv",
    "rows.csv.gz",
    "labelled.csv",
    "rows.npy",
    "images.npy",
    "rows.npz",
    "labelled.npz",
    "set.npz",
    "single.npz",
    "images-idx3-ubyte",
    "images-idx3-ubyte.gz",
]


@pytest.mark.parametrize("name", TABLES)
def test_every_form_of_table_gives_the_same_classes_and_probabilities(capsys, name):
    results = predictions(capsys, RUN, name)
    x, y = first_images()
    expected = Predictor.load(RUN, device="cpu").probabilities(x)
    assert [result["probabilities"] for result in results] == expected.tolist()
    assert [result["row"] for result in results] == list(range(1, ROWS + 1))
    labelled = name in ("labelled.csv", "labelled.npz", "set.npz")
    assert [result["label"] for result in results] == (y.tolist() if labelled else [None] * ROWS)


def test_each_row_of_a_table_is_a_line(capsys):
    lines = printed(capsys, RUN, "rows.npy", "seven.png").splitlines()
    results = predictions(capsys, RUN, "rows.npy", "seven.png")
    assert len(lines) == ROWS + 1
    for number, (line, result) in enumerate(zip(lines, results, strict=True), start=1):
        where = f"rows.npy:{number}" if number <= ROWS else "seven.png"
        assert line.split() == [where, str(result["predicted"]), f"{result['probability']:.4f}"]


def test_features_that_are_decimals_stay_decimals(capsys, tmp_path):
    path = tmp_path / "tiny.safetensors"
    tiny_model(path, 2, normalize="none")
    (tmp_path / "decimals.csv").write_text("0.25, -1e1\n3,4\n")
    results = [result["probabilities"] for result in predictions(capsys, path, tmp_path / "decimals.csv")]
    x = np.array([[0.25, -10.0], [3.0, 4.0]])
    assert results == Predictor.load(path, device="cpu").probabilities(x).tolist()


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_out_writes_a_row_for_each_sample_and_prints_nothing(capsys, tmp_path):
    out = tmp_path / "out.csv"
    assert printed(capsys, RUN, "seven.png", "labelled.csv", "--out", out) == ""
    results = predictions(capsys, RUN, "seven.png", "labelled.csv")
    rows = rows_of(out)
    assert list(rows[0]) == ["file", "row", "label", "predicted", "probability", *CLASSES]
    for row, result in zip(rows, results, strict=True):
        for key in ("file", "row", "label", "predicted"):
            assert row[key] == ("" if result[key] is None else str(result[key]))
        probabilities = np.array([row[name] for name in CLASSES]).astype(np.float32)
        assert probabilities.tolist() == result["probabilities"]
        assert row["probability"] == row[f"p{row['predicted']}"]


# What is wrong


def test_of_several_files_the_good_ones_are_printed_and_each_bad_one_is_named(capsys):
    Path("text.png").write_text("no picture")
    assert run(RUN, "text.png", "seven.png", "absent.png") == 2
    out, err = capsys.readouterr()
    assert out.split()[:2] == ["seven.png", "7"]
    first, second = err.splitlines()
    assert first.startswith("xpnet: text.png: is no image that can be read")
    assert second == "xpnet: absent.png: no such file"


def test_json_holds_the_good_ones(capsys):
    assert run(RUN, "absent.png", "seven.png", "--json") == 2
    out, err = capsys.readouterr()
    assert [result["file"] for result in json.loads(out)["predictions"]] == ["seven.png"]
    assert err == "xpnet: absent.png: no such file\n"


def test_out_is_not_written_where_a_file_is_bad(capsys, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("as before")
    assert run(RUN, "seven.png", "absent.png", "--out", out) == 2
    assert capsys.readouterr().err.splitlines() == [
        "xpnet: absent.png: no such file",
        f"xpnet: {out}: is not written, as a file could not be read",
    ]
    assert out.read_text() == "as before"


BAD_TABLES = {
    "empty": (b"", "is empty"),
    "other columns": (b"1,2,3,4,5\n", "has 5 columns, the network takes 2 features: expected 2 co"),
    "a short row": (b"1,2\n\n3\n", "line 3: has 1 values, the first line has 2"),
    "text": (b"a,b\n1,2\n1,x\n", "line 3, column 2 (b): 'x' is not a finite number"),
    "an empty cell": (b"1,\n", "line 1, column 2: is empty"),
    "not a number": (b"1,2\n1,nan\n", "line 2, column 2 (2): 'nan' is not a finite number"),
    "an underscore": (b"1,2\n1_0,2\n", "line 2, column 1 (1): '1_0' is not a finite number"),
    "a header alone": (b"a,b\n", "has a header but no rows"),
    "a bad label": (b"1.5,2,3\n", "line 1, column 1: label '1.5': a label is a whole number"),
    "bytes": (b"1,2\n\xff\xfe\0,1\n", "is not a CSV file, nor any text in UTF-8"),
    "huge numbers": (b"1e300,1e300\n", "the network's outputs are not all finite"),
}


@pytest.mark.parametrize(("content", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_csv_file_is_one_line_that_says_where(capsys, tmp_path, content, message):
    model, path = tmp_path / "tiny.safetensors", tmp_path / "table.csv"
    save_model(
        model, SavedModel([{"weight": np.full((2, 2), 1e9), "bias": np.zeros(2)}], (2, 2), normalize="none")
    )
    path.write_bytes(content)
    line = complaint(capsys, model, path, "--arithmetic", "native")
    assert line.startswith(str(path))
    assert message in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"\x93NUMPY\x01\0\x10\0garbage", "its .npy header is damaged"),
        ("a.npz", b"PK\x03\x04 and no more", "is not an intact .npz archive"),
        ("a.npz", b"", "is not an intact .npz archive"),
        ("a", b"\0\0\x08\x03\0\0", "ends inside its header"),
        ("a", b"\x1f\x8b\x08 and no more", "the gzip data"),
        ("a.csv", None, "a.csv: no such file"),
        ("a.csv.gz", b"\x1f\x8b\x08 and no more", "the gzip data"),
    ],
)
def test_a_damaged_table_is_one_line(capsys, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert message in complaint(capsys, RUN, path)


def test_names_of_files_can_do_no_harm_in_a_terminal(capsys, tmp_path):
    hostile = tmp_path / "se\x1b[2Jven\n.png"
    drawn(STROKES["seven.png"]).save(hostile)
    out = printed(capsys, RUN, hostile)
    assert out.count("\n") == 1
    assert "se\\x1b[2Jven\\n.png" in out
    assert "absent\\x1b[2J.png" in complaint(capsys, RUN, tmp_path / "absent\x1b[2J.png")
    assert "absent\\x1b[2J" in complaint(capsys, tmp_path / "absent\x1b[2J", "seven.png")


def test_images_for_a_network_that_takes_none_are_one_line(capsys, tmp_path):
    tiny_model(tmp_path / "tiny.safetensors", 12)
    line = complaint(capsys, tmp_path / "tiny.safetensors", "seven.png")
    assert "seven.png: the network takes 12 features, which make no square image" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: FILE (xpnet predict --help)"),
        ((RUN,), "the following arguments are required: FILE"),
        ((RUN, "seven.png", "--bogus"), "unrecognized arguments: --bogus"),
        (("absent", "seven.png"), "absent: no such file or folder: expected the folder of a run"),
        (("absent.png", "seven.png"), "absent.png: no such file or folder: expected the folder"),
        (("bad.safetensors", "seven.png"), "bad.safetensors: not a complete .safetensors file"),
        (("runs", "seven.png"), "run.json"),
        ((RUN, "seven.png", "--backend", "x"), "unknown backend 'x'"),
        ((RUN, "seven.png", "--out", "seven.png"), "--out: expected a file name that ends in .csv"),
        ((RUN, "seven.png", "--out", "absent/a.csv"), "absent/a.csv: cannot be written"),
    ],
)
def test_a_wrong_command_line_is_one_line(capsys, words, message):
    assert message in complaint(capsys, *words)
