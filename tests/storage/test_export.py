"""Exported files give in ONNX Runtime and PyTorch what the network gives in its native arithmetic."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import xpnet
from xpnet.errors import ConfigError
from xpnet.nn.columns import Columns
from xpnet.storage import export
from xpnet.storage.export import ACTIVATION_FORMS, encode_onnx, encode_torch, is_of_pixels

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
ROWS, FEATURES, CLASSES = 400, 20, 5
NETWORKS = {
    "no hidden layer": {"hidden": [], "normalize": "standardize"},
    "not normalised": {"hidden": [16, 8], "normalize": "none", "learning_rate": 1e-4},
    "batch norm": {"hidden": [16, 12], "batch_norm": True, "batch_size": 50},
    "in float32": {"arithmetic": "native", "batch_norm": True, "normalize": "standardize", "batch_size": 50},
}


@pytest.fixture(params=["pixels", "floats"])
def data(request):
    """Raw rows, and labels that depend on them."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, FEATURES), np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(FEATURES, CLASSES)), axis=1)
    far = x * generator.uniform(0.01, 10.0, FEATURES) + generator.uniform(-500.0, 500.0, FEATURES)
    return (x if request.param == "pixels" else far), y


@pytest.fixture
def networks(request, data, tmp_path):
    """A trained network, and the native one that its file gives."""
    model = xpnet.fit(*data, epochs=5, device="cpu", **{"normalize": "scale", **request.param})
    model.save(tmp_path / "model.safetensors")
    return model, xpnet.load(tmp_path / "model.safetensors", device="cpu", arithmetic="native")


def every_network(activations):
    """Networks of every kind, and with each activation that the format has."""
    kinds = NETWORKS | {name: {"activation": name, "normalize": "standardize"} for name in activations}
    return pytest.mark.parametrize("networks", kinds.values(), ids=kinds, indirect=True)


def assert_same(actual, expected):
    """The same up to rounding, in the same dtype."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    tolerance = 1e-5 if expected.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.needs("onnx")
@every_network(ACTIVATION_FORMS)
def test_onnx_runtime_gives_the_same_logits_probabilities_and_classes(networks, data):
    import onnx
    import onnxruntime

    model, native = networks
    pixels = is_of_pixels(model.network.normalization)
    assert pixels == (data[0].dtype == np.uint8 and model.network.normalization.kind != "none")
    content = encode_onnx(model.network, pixels=pixels)
    onnx.checker.check_model(content, full_check=True)
    expected = native.logits(data[0])
    rows = data[0] if pixels else data[0].astype(expected.dtype)
    session = onnxruntime.InferenceSession(content)
    logits, probabilities, class_index = session.run(
        ["logits", "probabilities", "class_index"], {"rows": rows}
    )
    assert logits.std() > 0.01
    assert_same(logits, expected)
    assert_same(probabilities, native.predict_proba(data[0]))
    assert np.array_equal(class_index, logits.argmax(axis=1))
    assert len(session.run(None, {"rows": rows[:1]})[2]) == 1


@pytest.fixture(scope="module")
def load_network():
    """The function of docs/python.md that builds the modules."""
    (code,) = re.findall(r"^```python\n((?:(?!```).)*?)\n\nnetwork = ", PAGE.read_text(), re.M | re.S)
    names = {}
    exec(code, names)  # noqa: S102
    return names["load_network"]


@pytest.mark.needs("torch")
@every_network(ACTIVATION_FORMS)
def test_pytorch_gives_the_same_logits(networks, data, load_network, tmp_path):
    import torch

    model, native = networks
    path = tmp_path / "torch.safetensors"
    path.write_bytes(encode_torch(model.network))
    with torch.no_grad():
        logits = load_network(path)(torch.from_numpy(data[0])).numpy()
    assert logits.std() > 0.01
    assert_same(logits, native.logits(data[0]))


@pytest.fixture
def named():
    """A network whose features and classes have names."""
    model = xpnet.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=1, device="cpu")
    columns = Columns(("a", "b"), "kind", 2, ("é", "z"), (0.5, 0.25))
    return model, replace(model.network, columns=columns)


def is_named(metadata, model, **more):
    """Assert that the metadata of a file name the network, and more."""
    assert metadata.pop("fingerprint") == model.fingerprint
    assert metadata.pop("xpnet_version") == xpnet.__version__
    names = {"class_names": ["é", "z"], "feature_names": ["a", "b"], "feature_means": [0.5, 0.25]}
    assert {name: json.loads(text) for name, text in metadata.items()} == {**names, **more}


@pytest.mark.needs("onnx")
def test_the_metadata_of_onnx_name_the_network(named):
    import onnx

    model, network = named
    content = onnx.load_model_from_string(encode_onnx(network, pixels=False))
    is_named({entry.key: entry.value for entry in content.metadata_props}, model)
    assert content.producer_version == xpnet.__version__


def test_the_metadata_of_the_pytorch_file_name_the_network_and_its_modules(named, tmp_path):
    model, network = named
    (tmp_path / "a").write_bytes(encode_torch(network))
    with safe_open(tmp_path / "a", "numpy") as file:
        is_named(
            file.metadata(), model, modules=[["Normalize", 2], ["Linear", 2, 10], ["ReLU"], ["Linear", 10, 2]]
        )


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("tool", ["ONNX", "PyTorch"])
def test_an_activation_that_the_format_lacks_is_refused(named, tool):
    network = replace(named[1], activation="swish")
    with pytest.raises(ConfigError, match=f"^export: no {tool} form of swish: expected one of relu, leaky-r"):
        encode_onnx(network, pixels=False) if tool == "ONNX" else encode_torch(network)


@pytest.mark.needs("onnx")
def test_a_network_too_large_for_onnx_is_refused(named, monkeypatch):
    monkeypatch.setattr(export, "ONNX_LIMIT", 100)
    with pytest.raises(ConfigError, match=r"holds up to 100 bytes of parameters, got \d+: use --to torch"):
        encode_onnx(named[1], pixels=False)
