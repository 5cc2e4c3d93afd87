"""The preview: its picture holds what training would see, and its errors are one line."""

import numpy as np
import pytest
from commands import complaint, printed
from PIL import Image

from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.cli import augment
from xpnet.config.settings import AugmentationSettings
from xpnet.data import datasets
from xpnet.data.augment import build_augmenter

SIDE, SAMPLES = 6, 11
FLAGS = ("--augment-rotate", "20", "--augment_elastic-alpha", "3", "--augment-elastic-sigma", "2")
SETTINGS = AugmentationSettings(augment_rotate=20, augment_elastic_alpha=3, augment_elastic_sigma=2)


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz with 11 images of 6 x 6 pixels, and two.npz with two."""
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, SIDE**2), dtype=np.uint8)
    y = np.arange(SAMPLES) % 2
    for name, rows in (("small", x), ("two", x[:2]), ("oblong", x[:, :6]), ("floats", x[:, :9] / 2.0)):
        labels = y[: len(rows)]
        np.savez(tmp_path / f"{name}.npz", x_train=rows, y_train=labels, x_test=rows, y_test=labels)
    monkeypatch.chdir(tmp_path)
    return x


def command(*words):
    return ["augment", "--preview", "picture.png", "--data", "small.npz", *words]


def picture():
    with Image.open("picture.png") as image:
        assert image.mode == "L"
        return np.asarray(image)


def shown(pixels, row, column):
    """The image in a cell of the picture, at its original size."""
    step = SIDE * augment.ZOOM + augment.GAP
    top = augment.GAP + row * step
    left = augment.GAP + column * step + (augment.BORDER if column else 0)
    cell = pixels[top : top + SIDE * augment.ZOOM, left : left + SIDE * augment.ZOOM]
    image = cell[:: augment.ZOOM, :: augment.ZOOM]
    assert np.array_equal(image.repeat(augment.ZOOM, 0).repeat(augment.ZOOM, 1), cell)
    return image.reshape(-1)


def test_each_row_is_an_image_and_its_variants_in_the_epochs_of_training(tmp_path, small_data, capsys):
    (tmp_path / "picture.png").write_bytes(b"old")
    assert printed(capsys, *command(*FLAGS, "--seed", "5")) == "picture.png\n"
    assert [file.name for file in tmp_path.glob("*.png")] == ["picture.png"]
    numpy, pixels = make("numpy", "cpu"), picture()
    ops = Reproducible(numpy.xp, numpy.device, numpy.xp.float64)
    augmented = build_augmenter(ops, SETTINGS, SIDE, SIDE, 5, numpy.from_host)
    columns = [small_data] + [augmented(small_data, np.arange(SAMPLES), epoch) for epoch in range(1, 10)]
    for column, rows in enumerate(columns):
        for row in range(8):
            assert np.array_equal(shown(pixels, row, column), rows[row]), (row, column)
    step = SIDE * augment.ZOOM + augment.GAP
    assert pixels.shape == (augment.GAP + 8 * step, augment.GAP + 10 * step + augment.BORDER)
    assert np.all(pixels[:, step : step + augment.GAP + augment.BORDER] == augment.GREY)


def test_the_bundled_digits_are_the_default_and_fewer_images_make_fewer_rows(capsys):
    printed(capsys, "augment", "--preview", "picture.png", "--augment-shift", "2")
    pixels = picture()
    assert pixels.shape == (4 + 8 * 60, 4 + 10 * 60 + 8)
    assert np.array_equal(pixels[4:60:2, 4:60:2].reshape(-1), datasets.load().x_train[0])
    printed(capsys, *command("--augment-shift", "1", "--data", "two.npz"))
    assert len(picture()) == augment.GAP + 2 * (SIDE * augment.ZOOM + augment.GAP)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to show: give a setting of the distortions, such as --augment-rotate 15"),
        (("--augment-rotate", "200"), "--augment-rotate: expected a number from 0 to 180 "),
        ((*FLAGS, "--preview", "picture.jpg"), "argument --preview: expected a file name that ends in .png"),
        ((*FLAGS, "--data", "oblong.npz"), "--augment-*: needs square images; 6 features make no"),
        ((*FLAGS, "--data", "floats.npz"), "--augment-*: needs images of pixels, whole numbers"),
    ],
)
def test_errors_are_one_line_and_write_nothing(tmp_path, capsys, words, message):
    assert complaint(capsys, *command(*words)).startswith(message)
    assert not list(tmp_path.glob("*.png"))
