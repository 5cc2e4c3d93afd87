"""The page about Python prints what it says, and its few lines read a model file into PyTorch."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

import xpnet

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
ROWS, FEATURES, CLASSES = 400, 20, 5


def blocks():
    """The Python of the page, a block each, with the output that follows it, if any."""
    blocks_found = re.findall(
        r"^```python\n(.*?)^```\n(?:\n^```\n(.*?)^```\n)?",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert len(blocks_found) == PAGE.read_text().count("```python")
    return blocks_found


@pytest.fixture(scope="module")
def as_torch():
    """The function of the page."""
    (code,) = (code for code, _ in blocks() if "def as_torch" in code)
    names = {}
    exec(code, names)  # noqa: S102
    return names["as_torch"]


@pytest.mark.needs("torch")
def test_the_page_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code, expected in blocks():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)  # noqa: S102
        assert printed.getvalue() == expected, code


NETWORKS = {
    "as by default": {},
    "no hidden layer": {"hidden": []},
    "several": {"hidden": [16, 12, 8], "init": "he"},
    "leaky ReLU": {"activation": "leaky-relu"},
    "tanh": {"activation": "tanh"},
    "sigmoid": {"activation": "sigmoid"},
    "batch norm": {"hidden": [16, 12], "batch_norm": True, "batch_size": 50},
    "standardised": {"normalize": "standardize"},
    "raw": {"normalize": "none", "learning_rate": 1e-4},
    "batch norm and standardised": {
        "hidden": [16, 12],
        "activation": "leaky-relu",
        "batch_norm": True,
        "batch_size": 50,
        "normalize": "standardize",
    },
}


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "floats"])
@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_pytorch_gives_the_same_logits(as_torch, tmp_path, settings, pixels):
    import torch

    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, FEATURES), np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(FEATURES, CLASSES)), axis=1)
    if not pixels:
        x = x * generator.uniform(0.01, 10.0, FEATURES)
    path = tmp_path / "model.safetensors"
    model = xpnet.fit(x, y, epochs=5, device="cpu", **settings)
    model.save(path)
    network, inputs = as_torch(path)
    with torch.no_grad():
        logits = network(inputs(torch.from_numpy(x))).numpy()
    native = xpnet.load(path, device="cpu", arithmetic="native")
    assert logits.dtype == np.float64
    assert logits.std() > 0.01
    np.testing.assert_allclose(logits, native.logits(x), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(logits, model.logits(x), rtol=0, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("batch_norm", [True, False])
def test_in_float32_too(as_torch, tmp_path, batch_norm):
    import torch

    generator = np.random.default_rng(1)
    x = generator.normal(size=(ROWS, FEATURES))
    settings = {"batch_norm": batch_norm, "normalize": "standardize", "batch_size": 50, "epochs": 5}
    model = xpnet.fit(x, generator.integers(0, 3, ROWS), arithmetic="native", device="cpu", **settings)
    model.save(tmp_path / "model.safetensors")
    network, inputs = as_torch(tmp_path / "model.safetensors")
    with torch.no_grad():
        logits = network(inputs(torch.from_numpy(x))).numpy()
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, model.logits(x), rtol=1e-4, atol=1e-4)
