"""The scripts in examples/ are short, and train the network of ``fit`` or show what training sees."""

import ast
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from fingerprints import real_data
from PIL import Image

import xpnet
from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config.settings import AugmentationSettings
from xpnet.data.augment import build_augmenter
from xpnet.storage.model_file import fingerprint

pytestmark = pytest.mark.tooling

ROOT = Path(__file__).resolve().parents[2]
FROM_SCRATCH, NUMPY_ONLY, PREVIEW = (
    ROOT / "examples" / f"{name}.py" for name in ("from_scratch", "numpy_only", "augment_preview")
)


def test_from_scratch_trains_to_the_bits_of_fit_and_prints_shapes_and_accuracies(backend, capsys):
    data = real_data(2048, 1024)  # blocks of one shape, for which JAX compiles once
    with backend.workers(1):
        layers = runpy.run_path(str(FROM_SCRATCH))["gradient_descent"](backend, data, epochs=11)
    model = xpnet.fit(data.x_train, data.y_train, epochs=11, log_every=10)
    assert fingerprint(layers) == model.fingerprint
    shapes, accuracies = capsys.readouterr().out.split("epoch", 1)
    assert re.findall(r"^(X|b2|Z2|dW1) +(\d+ x \d+)$", shapes, re.MULTILINE) == [
        ("X", "784 x 1024"), ("b2", "10 x 1"), ("Z2", "10 x 1024"), ("dW1", "10 x 784")
    ]  # fmt: skip
    expected = [row["train_accuracy"] for row in model.history if row["epoch"] in (0, 10)]
    expected += [np.mean(model.predict(data.x_test) == data.y_test)]
    assert re.findall(r"accuracy (\S+)", accuracies) == [f"{value:.4f}" for value in expected]


def test_numpy_only_has_the_accuracies_that_readme_shows_of_xpnet_train(capsys):
    """Those of the first ten of its hundred epochs."""
    code = NUMPY_ONLY.read_text(encoding="utf-8").replace("iterations=100", "iterations=10")
    exec(compile(code, NUMPY_ONLY, "exec"), {"__name__": "__main__", "__file__": str(NUMPY_ONLY)})  # noqa: S102
    printed = re.findall(r"accuracy (\S+)", capsys.readouterr().out)
    shown = re.findall(r"^epoch +(?:0|10) .*accuracy (\S+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert (len(printed), printed[:2]) == (3, shown[:2])


def test_the_scripts_are_short_and_numpy_only_imports_numpy_alone():
    assert len(FROM_SCRATCH.read_text(encoding="utf-8").splitlines()) <= 60
    text = NUMPY_ONLY.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45
    nodes = list(ast.walk(ast.parse(text)))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    assert modules - set(sys.stdlib_module_names) == {"numpy"}


SIDE, SAMPLES = 6, 11
CELL = SIDE * 2 + 4


def test_each_row_of_a_preview_is_an_image_and_its_variants_in_the_epochs_of_training(tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, SIDE**2), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x_train=x, y_train=x[:, 0] % 2, x_test=x, y_test=x[:, 0] % 2)
    monkeypatch.chdir(tmp_path)
    words = ["--data", "small.npz", "--preview", "picture.png", "--augment-rotate", "20", "--seed", "5"]
    monkeypatch.setattr(sys, "argv", [str(PREVIEW), *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PREVIEW), run_name="__main__")
    assert ended.value.code == 0
    pixels, numpy = np.asarray(Image.open("picture.png")), make("numpy", "cpu")
    assert pixels.shape == (4 + 8 * CELL, 4 + 10 * CELL + 8)
    ops, settings = Reproducible(numpy.xp, "cpu", np.float64), AugmentationSettings(augment_rotate=20)
    augmented = build_augmenter(ops, settings, SIDE, SIDE, 5, numpy.from_host)
    for column in range(10):
        rows = augmented(x, np.arange(SAMPLES), column) if column else x
        left = 4 + column * CELL + (8 if column else 0)
        for row in range(8):
            cell = pixels[4 + row * CELL :, left : left + SIDE * 2][: SIDE * 2]
            expected = rows[row].reshape(SIDE, SIDE).repeat(2, 0).repeat(2, 1)
            assert np.array_equal(cell, expected), (row, column)
