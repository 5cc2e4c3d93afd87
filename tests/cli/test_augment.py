"""The preview: its picture holds what training would see, and its errors are one line."""

import io

import numpy as np
import pytest
from commands import complaint
from PIL import Image

from xpnet.__main__ import main
from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.cli import augment
from xpnet.config.augmentation import Augmentation
from xpnet.data import datasets
from xpnet.data.augment import build_augmenter

SIDE, SAMPLES = 6, 11
FLAGS = ("--augment-rotate", "20", "--augment-elastic-alpha", "3", "--augment-elastic-sigma", "2")
SETTINGS = Augmentation(rotate=20, elastic_alpha=3, elastic_sigma=2)


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz with 11 images of 6 x 6 pixels."""
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, SIDE**2), dtype=np.uint8)
    y = np.arange(SAMPLES) % 2
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(tmp_path)
    return x


def command(*words, data="small.npz"):
    return ["augment", "--preview", "picture.png", "--data", data, *words]


def run(*words, data="small.npz"):
    return main(command(*words, data=data))


def shown(picture, row, column):
    """The image in a cell of the picture, at its original size."""
    step = SIDE * augment.ZOOM + augment.GAP
    top = augment.GAP + row * step
    left = augment.GAP + column * step + (augment.BORDER if column else 0)
    cell = picture[top : top + SIDE * augment.ZOOM, left : left + SIDE * augment.ZOOM]
    image = cell[:: augment.ZOOM, :: augment.ZOOM]
    assert np.array_equal(image.repeat(augment.ZOOM, 0).repeat(augment.ZOOM, 1), cell)
    return image.reshape(-1)


def test_each_row_is_an_image_and_its_variants_in_the_epochs_of_training(tmp_path, small_data, capsys):
    assert run(*FLAGS, "--seed", "5") == 0
    assert capsys.readouterr().out == "picture.png\n"
    assert [file.name for file in tmp_path.glob("*.png")] == ["picture.png"]
    with Image.open("picture.png") as image:
        assert image.mode == "L"
        picture = np.asarray(image)
    numpy = make("numpy", "cpu")
    ops = Reproducible(numpy.xp, numpy.device, numpy.xp.float64)
    augmented = build_augmenter(ops, SETTINGS, SIDE, SIDE, 5, numpy.from_host)
    columns = [small_data] + [augmented(small_data, np.arange(SAMPLES), epoch) for epoch in range(1, 10)]
    for column, rows in enumerate(columns):
        for row in range(8):
            assert np.array_equal(shown(picture, row, column), rows[row]), (row, column)
    step = SIDE * augment.ZOOM + augment.GAP
    assert picture.shape == (augment.GAP + 8 * step, augment.GAP + 10 * step + augment.BORDER)
    seam = augment.GAP + step
    assert np.all(picture[:, seam - augment.GAP : seam + augment.BORDER] == augment.GREY)


def test_the_bundled_digits_are_the_default(tmp_path):
    assert main(["augment", "--preview", "picture.png", "--augment_shift", "2"]) == 0
    with Image.open("picture.png") as image:
        assert image.size == (4 + 10 * 60 + 8, 4 + 8 * 60)
        digit = np.asarray(image)[4:60:2, 4:60:2]
    assert np.array_equal(digit.reshape(-1), datasets.load().x_train[0])


def test_a_picture_is_replaced_and_the_same_flags_give_the_same_file(tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"old")
    assert run(*FLAGS) == 0
    first = picture.read_bytes()
    assert run(*FLAGS) == 0
    assert picture.read_bytes() == first
    assert run(*FLAGS, "--seed", "1") == 0
    with Image.open(io.BytesIO(first)) as one, Image.open(picture) as second:
        assert not np.array_equal(np.asarray(one), np.asarray(second))


def test_fewer_images_make_fewer_rows(tmp_path):
    x = np.zeros((2, SIDE**2), dtype=np.uint8)
    np.savez("two.npz", x_train=x, y_train=[0, 1], x_test=x, y_test=[0, 1])
    assert run("--augment-shift", "1", data="two.npz") == 0
    with Image.open("picture.png") as image:
        assert image.height == augment.GAP + 2 * (SIDE * augment.ZOOM + augment.GAP)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to show: give one or more of --augment-shift, --augment-rotate, "),
        (("--augment-elastic-sigma", "3"), "nothing to show: "),
        (("--augment-rotate", "200"), "--augment-rotate: expected a number from 0 to 180 "),
        (("--augment-shift", "nan"), "--augment-shift: expected a number from 0 to 1000 "),
        ((*FLAGS, "--seed", "-1"), "--seed: expected a whole number from 0 to 2^64 - 1 "),
        ((*FLAGS, "--preview", "picture.jpg"), "argument --preview: expected a file name that ends in .png"),
        ((*FLAGS, "--preview", "none/picture.png"), "none/picture.png: cannot be written (No such"),
        ((*FLAGS, "--data", "absent.npz"), "absent.npz: no such file or folder"),
        ((*FLAGS, "--data", "oblong.npz"), "--augment-*: needs square images; 6 features make no"),
        ((*FLAGS, "--data", "floats.npz"), "--augment-*: needs images of pixels, whole numbers"),
    ],
)
def test_errors_are_one_line_and_write_nothing(tmp_path, capsys, words, message):
    y = np.array([0, 1])
    for name, x in [("oblong", np.zeros((2, 6), np.uint8)), ("floats", np.ones((2, 9)) / 2)]:
        np.savez(f"{name}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert complaint(capsys, *command(*words)).startswith(message)
    assert not list(tmp_path.glob("*.png"))


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["augment", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "usage: xpnet augment" in out
    for name in ("shift", "rotate", "scale", "shear", "elastic-alpha", "elastic-sigma"):
        assert f"--augment-{name} " in out
