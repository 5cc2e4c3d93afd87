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
pytestmark = pytest.mark.tooling


@pytest.fixture
def preview(tmp_path, monkeypatch):
    """Run the script on 11 images of 6 x 6 pixels in an empty folder; return its exit code and the images."""
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, SIDE**2), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x_train=x, y_train=x[:, 0] % 2, x_test=x, y_test=x[:, 0] % 2)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        command = [str(SCRIPT), "--data", "small.npz", "--preview", "picture.png", *words]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, x

    return run


def test_each_row_is_an_image_and_its_variants_in_the_epochs_of_training(preview, capsys):
    code, x = preview("--augment-rotate", "20", "--seed", "5")
    assert (code, capsys.readouterr()) == (0, ("picture.png\n", ""))
    pixels, numpy = np.asarray(Image.open("picture.png")), make("numpy", "cpu")
    assert pixels.shape == (4 + 8 * CELL, 4 + 10 * CELL + 8)
    ops, settings = Reproducible(numpy.xp, "cpu", np.float64), AugmentationSettings(augment_rotate=20)
    augmented = build_augmenter(ops, settings, SIDE, SIDE, 5, numpy.from_host)
    for column in range(10):
        rows = augmented(x, np.arange(SAMPLES), column) if column else x
        left = 4 + column * CELL + (8 if column else 0)
        for row in range(8):
            cell = pixels[4 + row * CELL :, left : left + SIDE * 2][: SIDE * 2]
            assert np.array_equal(cell, rows[row].reshape(SIDE, SIDE).repeat(2, 0).repeat(2, 1)), (
                row,
                column,
            )


def test_an_error_is_one_line_and_writes_nothing(preview, capsys):
    assert preview("--augment-rotate", "200")[0] == 2
    message = "xpnet: --augment-rotate: expected a number from 0 to 180 (degrees), got 200.0\n"
    assert capsys.readouterr() == ("", message)
    assert not Path("picture.png").exists()
