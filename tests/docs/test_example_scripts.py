"""The scripts in examples/ are short, and train the network of ``fit`` or show what training sees."""

import ast
import re
import runpy
import subprocess
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
from xpnet.nn.init import initialize
from xpnet.storage.model_file import fingerprint

pytestmark = pytest.mark.tooling

ROOT = Path(__file__).resolve().parents[2]
FROM_SCRATCH, NUMPY_ONLY, PREVIEW = (
    ROOT / "examples" / f"{name}.py" for name in ("from_scratch", "numpy_only", "augment_preview")
)


def trained(data, epochs):
    """The model of ``fit``, and its accuracies after epochs 0 and 10, and with the test images."""
    model = xpnet.fit(data.x_train, data.y_train, epochs=epochs, log_every=10)
    rows = [row for row in model.history if row["epoch"] in (0, 10)]
    tested = np.mean(model.predict(data.x_test) == data.y_test)
    return model, [f"{value:.4f}" for value in (*(row["train_accuracy"] for row in rows), tested)]


def test_from_scratch_trains_to_the_bits_of_fit_and_prints_shapes_and_accuracies(backend, capsys):
    data = real_data(2048, 1024)  # blocks of one shape, for which JAX compiles once
    with backend.workers(1):
        layers = runpy.run_path(str(FROM_SCRATCH))["gradient_descent"](backend, data, epochs=11)
    model, expected = trained(data, 11)
    assert fingerprint(layers) == model.fingerprint
    shapes, accuracies = capsys.readouterr().out.split("epoch", 1)
    assert re.findall(r"^(X|b2|Z2|dW1) +(\d+ x \d+)$", shapes, re.MULTILINE) == [
        ("X", "784 x 1024"), ("b2", "10 x 1"), ("Z2", "10 x 1024"), ("dW1", "10 x 784")
    ]  # fmt: skip
    assert re.findall(r"accuracy (\S+)", accuracies) == expected


def test_from_scratch_is_a_command_of_at_most_60_lines():
    assert len(FROM_SCRATCH.read_text(encoding="utf-8").splitlines()) <= 60
    command = [sys.executable, str(FROM_SCRATCH), "--backend", "nompy"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert re.fullmatch("xpnet: unknown backend 'nompy': expected auto, numpy.*\n", result.stderr)


@pytest.fixture(scope="module")
def numpy_only():
    return runpy.run_path(str(NUMPY_ONLY))


def test_numpy_only_starts_from_the_specified_parameters_and_has_the_accuracies_of_fit(numpy_only, capsys):
    expected = [array for layer in initialize((784, 10, 10), seed=0) for array in layer]
    for array, expected_array in zip(numpy_only["init_params"](), expected, strict=True):
        assert np.array_equal(array, expected_array)
    data = real_data(2000, 500)
    x, x_test = data.x_train.T / 255, data.x_test.T / 255
    numpy_only["gradient_descent"](x, data.y_train, x_test, data.y_test, 10)
    assert re.findall(r"accuracy (\S+)", capsys.readouterr().out) == trained(data, 10)[1]


@pytest.mark.slow
def test_numpy_only_has_the_accuracies_that_readme_shows_of_xpnet_train(capsys):
    """Those of the first ten of its hundred epochs."""
    code = NUMPY_ONLY.read_text(encoding="utf-8").replace("iterations=100", "iterations=10")
    exec(compile(code, NUMPY_ONLY, "exec"), {"__name__": "__main__", "__file__": str(NUMPY_ONLY)})  # noqa: S102
    printed = re.findall(r"accuracy (\S+)", capsys.readouterr().out)
    shown = re.findall(r"^epoch +(?:0|10) .*accuracy (\S+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert (len(printed), printed[:2]) == (3, shown[:2])


def test_numpy_only_has_at_most_45_lines_and_imports_numpy_alone():
    text = NUMPY_ONLY.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    assert modules - set(sys.stdlib_module_names) == {"numpy"}
    assert len(text.splitlines()) <= 45


SIDE, SAMPLES = 6, 11
CELL = SIDE * 2 + 4


@pytest.fixture
def preview(tmp_path, monkeypatch):
    """Preview 11 images of 6 x 6 pixels in an empty folder; return the exit code and the images."""
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, SIDE**2), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x_train=x, y_train=x[:, 0] % 2, x_test=x, y_test=x[:, 0] % 2)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        command = [str(PREVIEW), "--data", "small.npz", "--preview", "picture.png", *words]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(PREVIEW), run_name="__main__")
        return ended.value.code, x

    return run


def test_each_row_of_a_preview_is_an_image_and_its_variants_in_the_epochs_of_training(preview, capsys):
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
            expected = rows[row].reshape(SIDE, SIDE).repeat(2, 0).repeat(2, 1)
            assert np.array_equal(cell, expected), (row, column)


def test_an_error_of_a_preview_is_one_line_and_writes_nothing(preview, capsys):
    assert preview("--augment-rotate", "200")[0] == 2
    message = "xpnet: --augment-rotate: expected a number from 0 to 180 (degrees), got 200.0\n"
    assert capsys.readouterr() == ("", message)
    assert not Path("picture.png").exists()
