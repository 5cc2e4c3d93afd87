"""examples/augment_preview.py draws what training sees, and its errors are one line."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config.settings import AugmentationSettings
from xpnet.data.augment import build_augmenter

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "augment_preview.py"
SIDE, SAMPLES = 6, 11
CELL = SIDE * 2 + 4
FLAGS = ("--augment-rotate", "20", "--augment-elastic-alpha", "3", "--augment-elastic-sigma", "2")
SETTINGS = AugmentationSettings(augment_rotate=20, augment_elastic_alpha=3, augment_elastic_sigma=2)
pytestmark = pytest.mark.tooling


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz with 11 images of 6 x 6 pixels."""
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, SIDE**2), dtype=np.uint8)
    y = np.arange(SAMPLES) % 2
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(tmp_path)
    return x


def exit_code(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--data", "small.npz", "--preview", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def shown(pixels, row, column):
    """The image in a cell of the picture, at its original size."""
    top, left = 4 + row * CELL, 4 + column * CELL + (8 if column else 0)
    cell = pixels[top : top + SIDE * 2, left : left + SIDE * 2]
    image = cell[::2, ::2]
    assert np.array_equal(image.repeat(2, 0).repeat(2, 1), cell)
    return image.reshape(-1)


def test_each_row_is_an_image_and_its_variants_in_the_epochs_of_training(small_data, monkeypatch, capsys):
    assert exit_code(monkeypatch, "picture.png", *FLAGS, "--seed", "5") == 0
    assert capsys.readouterr() == ("picture.png\n", "")
    with Image.open("picture.png") as image:
        assert image.mode == "L"
        pixels = np.asarray(image)
    numpy = make("numpy", "cpu")
    ops = Reproducible(numpy.xp, numpy.device, numpy.xp.float64)
    augmented = build_augmenter(ops, SETTINGS, SIDE, SIDE, 5, numpy.from_host)
    columns = [small_data] + [augmented(small_data, np.arange(SAMPLES), epoch) for epoch in range(1, 10)]
    for column, rows in enumerate(columns):
        for row in range(8):
            assert np.array_equal(shown(pixels, row, column), rows[row]), (row, column)
    assert pixels.shape == (4 + 8 * CELL, 4 + 10 * CELL + 8)
    assert np.all(pixels[:, CELL : CELL + 4 + 8] == 96)


def test_an_error_is_one_line_and_writes_nothing(small_data, monkeypatch, capsys):
    assert exit_code(monkeypatch, "picture.png", "--augment-rotate", "200") == 2
    message = "xpnet: --augment-rotate: expected a number from 0 to 180 (degrees), got 200.0\n"
    assert capsys.readouterr() == ("", message)
    assert not Path("picture.png").exists()
