"""The page about Python prints what it says, and its few lines read a model file into PyTorch."""

import re
from pathlib import Path

import numpy as np
import pytest

import xpnet

pytestmark = [pytest.mark.tooling, pytest.mark.needs("torch")]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
ROWS, FEATURES, CLASSES = 400, 20, 5


def blocks():
    """The Python of the page, a block each, with the output that follows it, if any."""
    page, pattern = PAGE.read_text(), r"^```python\n(.*?)^```\n(?:\n^```\n(.*?)^```\n)?"
    pairs = re.findall(pattern, page, re.MULTILINE | re.DOTALL)
    assert len(pairs) == page.count("```python")
    return pairs


def test_the_page_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code, expected in blocks():
        exec(code, names)  # noqa: S102
        assert capsys.readouterr().out == expected, code


NETWORKS = {
    "as by default": {},
    "no hidden layer": {"hidden": [], "normalize": "standardize"},
    "several": {"hidden": [16, 12, 8], "init": "he", "activation": "leaky-relu"},
    "tanh": {"activation": "tanh", "normalize": "none", "learning_rate": 1e-4},
    "sigmoid": {"activation": "sigmoid"},
    "batch norm": {"hidden": [16, 12], "batch_norm": True, "batch_size": 50},
    "in float32": {"arithmetic": "native", "batch_norm": True, "normalize": "standardize", "batch_size": 50},
}


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_pytorch_gives_the_same_logits(tmp_path, settings):
    import torch

    names = {}
    exec(*(code for code, _ in blocks() if "def as_torch" in code), names)  # noqa: S102
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, FEATURES), np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(FEATURES, CLASSES)), axis=1)
    path = tmp_path / "model.safetensors"
    for rows in (x, x * generator.uniform(0.01, 10.0, FEATURES)):
        model = xpnet.fit(rows, y, epochs=5, device="cpu", **{"normalize": "scale", **settings})
        model.save(path)
        network, inputs = names["as_torch"](path)
        with torch.no_grad():
            logits = network(inputs(torch.from_numpy(rows))).numpy()
        native = xpnet.load(path, device="cpu", arithmetic="native").logits(rows)
        assert logits.dtype == native.dtype
        assert logits.std() > 0.01
        tolerance = 1e-4 if native.dtype == np.float32 else 1e-10
        np.testing.assert_allclose(logits, native, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(logits, model.logits(rows), rtol=0, atol=1e-4 * np.abs(logits).max())
