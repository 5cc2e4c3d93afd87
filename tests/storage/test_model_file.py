"""Model files: their layout, their fingerprint, and every way in which a file can be wrong."""

import hashlib
import itertools
import json
import re
import struct

import numpy as np
import pytest
import safetensors.numpy
from saved_models import saved_model

import xpnet
from xpnet.errors import DataError
from xpnet.nn.functional import ACTIVATIONS
from xpnet.storage.model_file import encode_model, fingerprint, load_model

NORM = ("weight", "bias", "running_mean", "running_var")


def model(sizes=(4, 3, 2), dtype=np.float32, *, norm=False, **options):
    rng = np.random.default_rng(7)
    layers = [
        {"weight": rng.normal(size=(m, n)).astype(dtype), "bias": rng.normal(size=m).astype(dtype)}
        for n, m in itertools.pairwise(sizes)
    ]
    norms = [{name: rng.uniform(0.5, 2.0, units).astype(dtype) for name in NORM} for units in sizes[1:-1]]
    return saved_model(layers, norms=norms if norm else (), **options)


def saved_bytes(path, model):
    path.write_bytes(encode_model(model))
    return path.read_bytes()


def test_the_same_model_gives_the_same_bytes_in_any_layout_and_aligned_for_readers_that_map_it(tmp_path):
    plain = model((2, 5, 1))
    layers = [
        {name: np.asfortranarray(layer[name]).astype(">f4") for name in layer} for layer in plain.layers
    ]
    turned = saved_model(layers)
    data = saved_bytes(tmp_path / "m", plain)
    assert saved_bytes(tmp_path / "turned", turned) == data
    assert fingerprint(plain.layers) == fingerprint(turned.layers)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    assert (8 + length) % 8 == 0
    assert not any(entry["data_offsets"][0] % (int(entry["dtype"][1:]) // 8) for entry in header.values())


def test_the_fingerprint_is_sha256_of_the_tensors_layer_by_layer_each_with_its_norm():
    first = {"bias": np.array([5, 6], np.float32), "weight": np.array([[1, 2], [3, 4]], np.float32)}
    layers = [first, {"weight": np.array([[11.0, 12.0]]), "bias": np.array([13.0])}]
    norm = {name: np.array([float(number)]) for number, name in enumerate(NORM, start=7)}
    expected = struct.pack("<6f7d", *range(1, 14))
    assert fingerprint(layers, [norm]) == hashlib.sha256(expected).hexdigest()


def ones(*shape, dtype="f4"):
    return np.ones(shape, dtype)


W0, W1, B0, B1 = "layers.0.weight", "layers.1.weight", "layers.0.bias", "layers.1.bias"
GOOD = {W0: ones(3, 4), W1: ones(2, 3), B0: ones(3), B1: ones(2)}


def norm(**changes):
    """The tensors of a batch normalisation, some of them changed or (None) left out."""
    return {f"norms.0.{name}": array for name, array in ({name: ones(3) for name in NORM} | changes).items()}


SHAPE = f"{W0}: expected F32 or F64 of shape (outputs, inputs), got"
INFINITE = {"normalization.shift": np.zeros(4), "normalization.scale": np.full(4, np.inf)}
WRONG = [
    ({W0: None}, None, f"{SHAPE} no such tensor: a model file has layers.0.weight (outputs, inputs), "),
    ({W0: ones(12)}, None, f"{SHAPE} F32 of shape (12,): a model file has "),
    ({W0: np.ones((3, 4))}, None, f'"{B0}": expected F64 of shape (3,), got F32 of shape (3,): a model '),
    ({B1: np.float32([np.nan, np.inf])}, None, f"{B1}: 2 of its 2 numbers are NaN, "),
    ({"a\nb": ones(3)}, None, '"a\\nb": expected no such tensor, got F32 of shape (3,): a model file has '),
    (INFINITE, None, "normalization.scale: 4 of its 4 numbers are NaN, infinite"),
    (norm(running_var=None), None, '"norms.0.running_var": expected F32 of shape (3,), got no such tensor'),
    (norm(running_var=np.float32([1, -1e-30, 0])), None, "norms.0.running_var: 1 of its 3 numbers are NaN, "),
    ({}, {"sizes": "[" * 100_000}, "sizes in the metadata: expected [4, 3, 2], got "),
    ({}, {"activation": "x\ny"}, f"activation: expected one of {', '.join(ACTIVATIONS)}, got"),
    ({}, {"format_version": "4"}, "written by a newer xpnet (format version 4, this one reads up to 3): up"),
    ({}, {"specification": "0"}, 'specification in the metadata: expected a whole number, got "0"'),
]


@pytest.mark.parametrize(("changes", "metadata", "message"), WRONG, ids=range(len(WRONG)))
def test_what_makes_no_network_is_refused_in_one_line(tmp_path, changes, metadata, message):
    path, tensors = tmp_path / "m.safetensors", GOOD | changes
    present = {name: array for name, array in tensors.items() if array is not None}
    safetensors.numpy.save_file(present, path, metadata)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {message}')}[^\n]*$"):
        load_model(path)


@pytest.mark.needs("torch")
def test_a_network_that_pytorch_saved_is_read(tmp_path):
    import torch
    from safetensors.torch import save_file

    sizes, x = (6, 5, 4, 3), torch.tensor(np.random.default_rng(0).normal(size=(7, 6)))
    layers = torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in itertools.pairwise(sizes))
    norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(units) for units in sizes[1:-1])
    net = torch.nn.ModuleDict({"layers": layers, "norms": norms}).double()

    def outputs():
        y = x
        for layer, norm in zip(layers, norms, strict=False):
            y = torch.relu(norm(layer(y)))
        return layers[-1](y).detach().numpy()

    outputs()  # updates the running statistics and counts the batch
    save_file(net.state_dict(), tmp_path / "m")
    net.eval()
    logits = xpnet.load(tmp_path / "m", device="cpu", arithmetic="native").logits(x.numpy() * 255)
    np.testing.assert_allclose(logits, outputs(), rtol=1e-12, atol=1e-12)
