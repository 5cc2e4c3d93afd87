"""The scripts in examples/ are short, have equal bits and right gradients, or show what training sees."""

import ast
import re
import runpy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from backend_enum import JAX_AT_NIGHT
from checkout import ROOT
from fingerprints import real_data
from PIL import Image
from script_processes import run

import xpnet
import xpnet.reproducible as rp
from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config.settings import AugmentationSettings
from xpnet.data.augment import build_augmenter
from xpnet.storage.model_file import fingerprint

pytestmark = pytest.mark.tooling

FROM_SCRATCH, NUMPY_ONLY, PREVIEW, LENET, GPT, ALGORITHMS = (
    ROOT / "examples" / f"{name}.py"
    for name in ("from_scratch", "numpy_only", "augment_preview", "lenet", "gpt", "algorithms")
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
    assert max(len(file.read_text(encoding="utf-8").splitlines()) for file in (LENET, GPT)) <= 110
    text = NUMPY_ONLY.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45
    nodes = list(ast.walk(ast.parse(text)))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    assert modules - set(sys.stdlib_module_names) == {"numpy"}


def functions_of(script):
    """The functions of an example, with products of more slices: as exact as float64's."""
    functions = runpy.run_path(str(script))
    functions["forward_prop"].__globals__["dot"] = partial(rp.matmul, slices=4)
    return functions


def assert_gradients(parameters, gradients, loss):
    """The gradients are those of PyTorch, of a loss that is computed from its parameters."""
    import torch

    values = [torch.tensor(p, requires_grad=True) for p in parameters]
    expected = torch.autograd.grad(loss(*values), values)
    for gradient, one in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, one.numpy(), rtol=1e-9, atol=1e-13)
        assert np.abs(gradient).max() > 1e-6


@pytest.mark.needs("torch")
def test_the_gradients_of_lenet_are_pytorchs():
    import torch
    from torch.nn.functional import conv2d, cross_entropy, max_pool2d, pad, relu

    lenet, data, generator = functions_of(LENET), real_data(6, 6), np.random.default_rng(0)
    draw = partial(generator.normal, scale=0.2)
    p = [(draw(size=shape), draw(size=(shape[0], 1))) for shape in lenet["SHAPES"]]

    def loss(W1, b1, W2, b2, W3, b3, W4, b4, W5, b5):
        x = pad(torch.tensor(data.x_train.reshape(6, 1, 28, 28) / 255.0), (2, 2, 2, 2))
        for W, b, channels in ((W1, b1, 1), (W2, b2, 6)):
            x = max_pool2d(relu(conv2d(x, W.reshape(-1, channels, 5, 5), b[:, 0])), 2)
        x = relu(W4 @ relu(W3 @ x.reshape(6, 400).T + b3) + b4)
        return cross_entropy((W5 @ x + b5).T, torch.tensor(data.y_train).long())

    layers = lenet["forward_prop"](np, p, data.x_train)
    gradients = lenet["back_prop"](np, p, layers, rp.one_hot(data.y_train, 10, axis=0))
    assert_gradients([part for pair in p for part in pair], [d for pair in gradients for d in pair], loss)


@pytest.mark.needs("torch")
def test_the_gradients_of_gpt_are_pytorchs():
    import torch
    from torch.nn.functional import cross_entropy, relu, rms_norm, scaled_dot_product_attention

    gpt, m, generator = functions_of(GPT), 3, np.random.default_rng(0)
    length, width, heads = gpt["LENGTH"], gpt["WIDTH"], gpt["HEADS"]
    p, mask = gpt["init_params"](make("numpy", "cpu"), 50), np.triu(np.ones((length, length), dtype=bool))
    tokens, following = (generator.integers(0, 50, m * length) for _ in range(2))
    names = ["E", "P", "Wa", "Wo", "Wu", "Wd", "Wz"]

    def loss(E, P, Wa, Wo, Wu, Wd, Wz):
        norm = partial(rms_norm, normalized_shape=(width,), eps=1e-5)
        x = E.T[torch.tensor(tokens).reshape(m, length)] + P.T
        q, k, v = (norm(x) @ Wa.T).reshape(m, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + attended.transpose(1, 2).reshape(m, length, width) @ Wo.T
        x = x + relu(norm(x) @ Wu.T) @ Wd.T
        return cross_entropy((norm(x) @ Wz.T).reshape(-1, 50), torch.tensor(following))

    layers = gpt["forward_prop"](np, p, tokens, mask)
    gradients = gpt["back_prop"](np, p, tokens, layers, rp.one_hot(following, 50, axis=0))
    assert_gradients([p[name] for name in names], [gradients[name] for name in names], loss)


@pytest.mark.parametrize("backend", JAX_AT_NIGHT, indirect=True, ids=lambda case: case.value)
def test_lenet_and_gpt_have_the_bits_and_losses_of_numpy_on_every_library(backend, capsys):
    data = real_data(30, 30)

    def trained(backend):
        lenet, gpt = (runpy.run_path(str(script))["gradient_descent"] for script in (LENET, GPT))
        layers = lenet(backend, data.x_train, data.y_train, steps=3, alpha=0.2, m=10)
        p = gpt(backend, steps=3, alpha=1.0, m=4)
        arrays = [*(part for layer in layers for part in layer), *(p[name] for name in sorted(p))]
        return [backend.to_host(each).tobytes() for each in arrays], capsys.readouterr().out

    assert trained(backend) == trained(make("numpy", "cpu"))


@pytest.mark.parametrize("backend", JAX_AT_NIGHT, indirect=True, ids=lambda case: case.value)
def test_the_algorithms_have_the_digests_of_their_page_on_every_library(backend):
    functions, page = runpy.run_path(str(ALGORITHMS)), (ROOT / "docs" / "arithmetic.md").read_text("utf-8")
    assert functions["digests"](backend) == re.findall(r"^[0-9a-f]{64}$", page, re.MULTILINE)
    a, b = functions["waves"](np.ones(1))
    expected = np.linalg.lstsq(a, b)[0]
    np.testing.assert_allclose(functions["least_squares"](a, b), expected, rtol=0, atol=1e-12)


def test_the_last_line_of_a_script_is_the_fingerprint_and_a_wrong_backend_one_line():
    lines = run(GPT, "--steps", "1", "--backend", "numpy")
    assert re.fullmatch(r"step +0   loss \d\.\d{4}", lines[0])
    assert re.fullmatch(r"fingerprint  [0-9a-f]{64}", lines[-1])
    words = [sys.executable, GPT, "--backend", "numbers"]
    failed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert re.fullmatch(r"xpnet: unknown backend 'numbers': .*\n", failed.stderr)


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
    augmented = build_augmenter(ops, settings, SIDE, 5, numpy.from_host)
    for column in range(10):
        rows = augmented(x, np.arange(SAMPLES), column) if column else x
        left = 4 + column * CELL + (8 if column else 0)
        for row in range(8):
            cell = pixels[4 + row * CELL :, left : left + SIDE * 2][: SIDE * 2]
            expected = rows[row].reshape(SIDE, SIDE).repeat(2, 0).repeat(2, 1)
            assert np.array_equal(cell, expected), (row, column)
