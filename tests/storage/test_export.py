"""Exported files give in ONNX Runtime and PyTorch what the network gives in its native arithmetic."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from checkout import ROOT
from safetensors import safe_open

import xpnet
from xpnet.nn.columns import Columns
from xpnet.nn.functional import ACTIVATIONS
from xpnet.storage.export import encode_onnx, encode_torch

PAGE = ROOT / "docs" / "python.md"
ROWS, FEATURES, CLASSES = 400, 20, 5
NETWORKS = {
    "no hidden layer": ("pixels", {"hidden": [], "normalize": "standardize"}),
    "not normalised": ("pixels", {"hidden": [16, 8], "normalize": "none", "learning_rate": 1e-4}),
    "batch norm": ("pixels", {"hidden": [16, 12], "batch_norm": True, "batch_size": 50}),
    "in float32": ("floats", {"arithmetic": "native", "batch_norm": True, "normalize": "standardize"}),
    **{name: ("floats", {"activation": name, "normalize": "standardize"}) for name in ACTIVATIONS},
}
MISSING = {"missing": "mean", "normalize": "standardize"}


def trained(kind, settings):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, FEATURES), np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(FEATURES, CLASSES)), axis=1)
    if kind == "floats":
        x = x * generator.uniform(0.01, 10.0, FEATURES) + generator.uniform(-500.0, 500.0, FEATURES)
    if settings is MISSING:
        x[generator.random(x.shape) < 0.2] = np.nan
    network = xpnet.fit(x, y, epochs=5, device="cpu", **{"normalize": "scale", **settings}).network
    return x, network, xpnet.Model(network, device="cpu", arithmetic="native")


def assert_same(actual, expected):
    assert (actual.dtype, expected.std() > 0.01) == (expected.dtype, True)
    tolerance = 1e-5 if expected.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(("kind", "settings"), [*NETWORKS.values(), ("floats", MISSING)])
def test_onnx_runtime_gives_the_same_logits_probabilities_and_classes(kind, settings):
    import onnxruntime

    x, network, native = trained(kind, settings)
    expected = native.logits(x)
    pixels = network.normalization.is_of_pixels
    assert pixels == (kind == "pixels" and network.normalization.kind != "none")
    rows = x if pixels else x.astype(expected.dtype)
    session = onnxruntime.InferenceSession(encode_onnx(network, pixels=pixels))
    logits, probabilities, class_index = session.run(None, {"rows": rows})
    assert_same(logits, expected)
    assert_same(probabilities, native.predict_proba(x))
    assert np.array_equal(class_index, logits.argmax(axis=1))


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("kind", "settings"), NETWORKS.values(), ids=NETWORKS)
def test_pytorch_gives_the_same_logits(kind, settings, tmp_path):
    """By the function of docs/python.md that builds the modules."""
    import torch

    (code,) = re.findall(r"^```python\n((?:(?!```).)*?)\n\nnetwork = ", PAGE.read_text(), re.M | re.S)
    names = {}
    exec(code, names)  # noqa: S102
    x, network, native = trained(kind, settings)
    (tmp_path / "a.safetensors").write_bytes(encode_torch(network))
    with torch.no_grad():
        logits = names["load_network"](tmp_path / "a.safetensors")(torch.from_numpy(x)).numpy()
    assert_same(logits, native.logits(x))


@pytest.fixture
def named():
    network = xpnet.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=0, device="cpu").network
    return replace(network, columns=Columns(("a", "b"), "kind", 2, ("é", "z"), (0.5, 0.25)))


@pytest.mark.needs("onnx")
def test_the_metadata_name_the_network_and_the_modules_of_pytorch(named, tmp_path):
    import onnx

    content = onnx.load_model_from_string(encode_onnx(named, pixels=False))
    (tmp_path / "a").write_bytes(encode_torch(named))
    with safe_open(tmp_path / "a", "numpy") as file:
        modules, metadata = json.loads(file.metadata()["modules"]), file.metadata()
    assert modules == [["Normalize", 2], ["Linear", 2, 10], ["ReLU"], ["Linear", 10, 2]]
    assert {entry.key: entry.value for entry in content.metadata_props}.items() <= metadata.items()
    assert (metadata["fingerprint"], metadata["class_names"]) == (named.fingerprint, '["\\u00e9", "z"]')
