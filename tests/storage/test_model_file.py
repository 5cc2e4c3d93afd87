"""Model files: their layout, their fingerprint, and every way in which a file can be wrong."""

import hashlib
import itertools
import json
import re
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_models import saved_model

from xpnet.arithmetic import Native
from xpnet.backends.numpy import make
from xpnet.errors import ConfigError, DataError
from xpnet.nn.architecture import Network
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.network import forward
from xpnet.storage.model_file import encode_model, fingerprint, load_model, save_model

NORM = ("weight", "bias", "running_mean", "running_var")

Tensors = dict[str, np.ndarray]


def model(sizes=(4, 3, 2), dtype=np.float32, *, norm=False, **options):
    rng = np.random.default_rng(7)
    layers = [
        {
            "weight": rng.normal(size=(units, inputs)).astype(dtype),
            "bias": rng.normal(size=units).astype(dtype),
        }
        for inputs, units in itertools.pairwise(sizes)
    ]
    norms = [{name: rng.uniform(0.5, 2.0, units).astype(dtype) for name in NORM} for units in sizes[1:-1]]
    return saved_model(layers, norms=norms if norm else (), **options)


STANDARDIZED = {
    "normalize": "standardize",
    "normalization": {"shift": np.arange(4.0), "scale": np.array(0.25)},
}


def assert_same(actual, expected):
    assert (actual.network, actual.normalization.kind) == (expected.network, expected.normalization.kind)
    pairs = [(actual.normalization.shift, expected.normalization.shift)]
    pairs += [(actual.normalization.scale, expected.normalization.scale)]
    for left, right in zip(actual.parameters, expected.parameters, strict=True):
        assert type(left) is type(right)
        pairs += zip(left, right, strict=True)
    for left, right in zip(actual.statistics, expected.statistics, strict=True):
        pairs += zip(left, right, strict=True)
    for left, right in pairs:
        np.testing.assert_array_equal(left, right, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((4, 2), STANDARDIZED),
        ((1, 1), {"normalize": "none"}),
        ((2, *[3] * 11, 1), {}),
        *(((4, 3, 2), {"activation": name}) for name in ACTIVATIONS),
    ],
)
def test_a_saved_model_loads_bit_for_bit(tmp_path, sizes, dtype, norm, options):
    expected = model(sizes, dtype, norm=norm, **options)
    save_model(tmp_path / "m", expected)
    loaded = load_model(tmp_path / "m")
    assert_same(loaded, expected)
    activation = options.get("activation", "relu")
    assert loaded.network == Network(sizes, activation, batch_norm=norm and len(sizes) > 2)
    assert loaded.classes == sizes[-1]


def test_loaded_arrays_can_be_changed_and_outlive_the_file(tmp_path):
    save_model(tmp_path / "m", model())
    weight = load_model(tmp_path / "m").layers[0]["weight"]
    (tmp_path / "m").unlink()
    weight[:] = 1.0
    assert weight.flags.c_contiguous
    assert weight.sum() == 12.0


def test_other_tools_find_pytorchs_names_and_shapes_and_the_metadata(tmp_path):
    expected = model((784, 10, 10), norm=True)
    save_model(tmp_path / "m", expected)
    with safetensors.safe_open(tmp_path / "m", "numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
        weight = file.get_tensor("layers.0.weight")
    assert shapes == {
        "layers.0.weight": (10, 784),
        "layers.0.bias": (10,),
        "layers.1.weight": (10, 10),
        "layers.1.bias": (10,),
        **{f"norms.0.{name}": (10,) for name in NORM},
        **{f"normalization.{name}": () for name in ("shift", "scale")},
    }
    assert metadata == {
        "format_version": "1",
        "sizes": "[784, 10, 10]",
        "classes": "10",
        "activation": "relu",
        "normalize": "scale",
    }
    np.testing.assert_array_equal(weight, expected.layers[0]["weight"], strict=True)


def test_the_numbers_are_aligned_for_readers_that_map_the_file():
    data = encode_model(model((2, 5, 1)))
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    assert (8 + length) % 8 == 0
    for entry in header.values():
        assert entry["data_offsets"][0] % {"F32": 4, "F64": 8}[entry["dtype"]] == 0


def test_the_same_model_gives_the_same_bytes_in_any_layout():
    plain = model()
    turned = saved_model(
        [
            {"weight": np.asfortranarray(layer["weight"]).astype(">f4"), "bias": layer["bias"].astype(">f4")}
            for layer in plain.layers
        ]
    )
    assert encode_model(plain) == encode_model(turned)
    assert fingerprint(plain.layers) == fingerprint(turned.layers)


def test_the_fingerprint_is_sha256_of_weight_and_bias_layer_by_layer_in_any_order():
    layers = [
        {"bias": np.array([5, 6], np.float32), "weight": np.array([[1, 2], [3, 4]], np.float32)},
        {"weight": np.array([[7.0, 8.0]], np.float64), "bias": np.array([9.0], np.float64)},
    ]
    expected = struct.pack("<6f3d", 1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert fingerprint(layers) == hashlib.sha256(expected).hexdigest()


def test_with_batch_normalisation_each_norm_follows_its_layer_in_the_fingerprint():
    numbers = iter(range(1, 15))

    def tensors(*names):
        return {name: np.array([float(next(numbers))]) for name in names}

    layers, norms = [], []
    for _ in range(2):
        layers.append(tensors("weight", "bias"))
        norms.append(tensors(*NORM))
    layers.append(tensors("weight", "bias"))
    expected = struct.pack("<14d", *range(1, 15))
    assert fingerprint(layers, norms) == hashlib.sha256(expected).hexdigest()
    assert fingerprint(layers, norms[::-1]) != fingerprint(layers, norms)


def test_parameters_that_are_not_finite_can_be_saved_but_not_loaded(tmp_path):
    broken = model()
    broken.layers[1]["weight"][0, :2] = [np.nan, np.inf]
    save_model(tmp_path / "m", broken)
    with pytest.raises(DataError, match=r"m: layers\.1\.weight: 2 of its 6 numbers are NaN or infinite$"):
        load_model(tmp_path / "m")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"absent/m: cannot be written \([^\n]*$"):
        save_model(tmp_path / "absent" / "m", model())


# Files of other tools, and wrong ones


def ones(*shape, dtype="f4"):
    return np.ones(shape, dtype)


def good():
    first = {"layers.0.weight": ones(3, 4), "layers.0.bias": ones(3)}
    return {**first, "layers.1.weight": ones(2, 3), "layers.1.bias": ones(2)}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"sizes": "[4,3,2]"}])
def test_a_file_of_another_tool_is_taken_as_scaled(tmp_path, metadata):
    safetensors.numpy.save_file(good(), tmp_path / "m", metadata)
    loaded = load_model(tmp_path / "m")
    assert (loaded.sizes, loaded.activation, loaded.norms) == ((4, 3, 2), "relu", [])
    assert (loaded.normalization.kind, loaded.normalization.scale) == ("scale", 1 / 255)
    assert loaded.normalization.shift == 0


def changed(**tensors):
    """Good tensors, some of them changed, or (None) left out; _ in the names stands for a dot."""
    names = {name.replace("_", "."): array for name, array in tensors.items()}
    return {name: array for name, array in (good() | names).items() if array is not None}


def renamed(old, new):
    return {name.replace(old, new): array for name, array in good().items()}


def with_norm(**norm):
    """Good tensors with batch normalisation, some of it changed, or (None) left out."""
    whole = {name: ones(3) for name in NORM} | norm
    return good() | {f"norms.0.{name}": array for name, array in whole.items() if array is not None}


def with_statistics(shift, scale):
    return {**good(), "normalization.shift": shift, "normalization.scale": scale}


WRONG = [
    ({}, "layers.0.weight: missing: expected layers.0.weight (outputs, inputs), "),
    (
        renamed("layers.0.bias", "0.bias"),
        "layers.0.bias: missing: expected layers.0.weight (outputs, inputs), ",
    ),
    ({**good(), "a\nb": ones(3)}, 'unknown tensor "a\\nb": expected layers.0.weight (outputs, inputs)'),
    ({**good(), "layers.00.bias": ones(3)}, 'unknown tensor "layers.00.bias": expected'),
    ({**good(), "layers.0.gain": ones(3)}, 'unknown tensor "layers.0.gain": expected'),
    (changed(layers_1_bias=None), "layers.1.bias: missing: expected layers.0.weight (outputs, inputs), "),
    (renamed(".1.", ".2."), "layers.1.weight: missing: expected layers.0.weight (outputs, inputs), "),
    (renamed(".1.", ".999999."), "layers.1.weight: missing: expected layers.0.weight (outputs, inputs), "),
    (changed(layers_0_weight=ones(12)), "layers.0.weight: expected shape (outputs, inputs), got (12,)"),
    (changed(layers_0_weight=ones(3, 0)), "layers.0.weight: expected shape (outputs, inputs), got"),
    (
        changed(layers_0_bias=ones(3, 1)),
        "layers.0.bias: expected float32 of shape (3,), got float32 of shape (3, 1)",
    ),
    (
        changed(layers_1_weight=ones(2, 4)),
        "layers.1.weight: expected float32 of shape (2, 3), got float32 of",
    ),
    (changed(layers_0_weight=ones(3, 4, dtype="f2")), "layers.0.weight: expected float32 or float64"),
    (changed(layers_0_bias=ones(3, dtype="i4")), "layers.0.bias: expected float32 of shape (3,), got int32"),
    (changed(layers_0_weight=np.ones((3, 4))), "layers.0.bias: expected float64 of shape (3,), got float32"),
    (changed(layers_0_weight=np.full((3, 4), np.nan, "f4")), "layers.0.weight: 12 of its 12 numbers are NaN"),
    (changed(normalization_shift=np.zeros(())), "normalization.scale: missing, though needed to n"),
    (with_statistics(np.zeros(4), ones(4)), "normalization.scale: expected float64 of shape () or (4,)"),
    (with_statistics(np.zeros(5), np.ones(4)), "normalization.shift: expected float64 of shape () or (4,)"),
    (with_statistics(np.zeros(4), np.full(4, np.inf)), "normalization.scale: 4 of its 4 numbers are NaN"),
    *(
        (with_norm(**{name: None}), f"norms.0.{name}: missing: expected layers.0.weight (outputs, inputs), ")
        for name in NORM
    ),
    (changed(norms_1_bias=ones(3)), "norms.0.weight: missing: expected layers.0.weight (outputs, inputs), "),
    ({**with_norm(), "norms.1.bias": ones(2)}, 'unknown tensor "norms.1.bias": expected layers.0.weight (o'),
    ({**with_norm(), "norms.999999.bias": ones(2)}, 'unknown tensor "norms.999999.bias": expected layers.'),
    (with_norm(gain=ones(3)), 'unknown tensor "norms.0.gain": expected layers.0.'),
    (
        with_norm(running_mean=ones(3, 1)),
        "norms.0.running_mean: expected float32 of shape (3,), got float32 of shape (3, 1)",
    ),
    (with_norm(bias=np.ones(3)), "norms.0.bias: expected float32 of shape (3,), got float64"),
    (with_norm(weight=ones(3, dtype="i8")), "norms.0.weight: expected float32 of shape (3,), got int64"),
    (with_norm(running_mean=np.float32([1, np.inf, np.nan])), "norms.0.running_mean: 2 of its 3 numb"),
    (with_norm(running_var=np.float32([1, -1e-30, 0])), "norms.0.running_var: 1 of its 3 variances"),
]
MISFITS = [
    ({"sizes": "[4, 3, 3]"}, "sizes in the metadata: expected [4, 3, 2], got "),
    ({"sizes": "["}, "sizes in the metadata: expected [4, 3, 2], got "),
    ({"sizes": "[" * 100_000}, "sizes in the metadata: expected [4, 3, 2], got "),
    ({"classes": "3"}, "classes in the metadata: expected 2, got "),
    ({"normalize": "x\ny"}, "normalize: expected one of scale, standardize, none, got "),
    ({"activation": "Relu"}, "activation: expected one of relu, leaky-relu, tanh, sigmoid, got"),
    ({"activation": "x\ny"}, "activation: expected one of relu, leaky-relu, tanh, sigmoid, got"),
    ({"normalize": "standardize"}, "normalization.shift: missing, though needed to "),
    ({"format_version": "2"}, 'format_version in the metadata: expected 1, got "2"'),
]


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [(tensors, None, message) for tensors, message in WRONG]
    + [(good(), metadata, message) for metadata, message in MISFITS],
)
def test_what_makes_no_network_is_refused_in_one_line(tmp_path, tensors, metadata, message):
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {message}')}[^\n]*$"):
        load_model(path)


def with_header(header):
    return struct.pack("<Q", len(header)) + header


DAMAGED = {
    "empty": b"",
    "short": b"\x01\x02",
    "truncated": encode_model(model())[:-1],
    "longer": encode_model(model()) + b"\0",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07pickled\x94.",
    "header beyond the file": struct.pack("<Q", 90_000_000) + b"{}",
    "header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}",
    "not JSON": with_header(b"{nonsense"),
    "not an object": with_header(b"[]"),
    "deeply nested": with_header(b'{"a":' * 50_000),
    "offsets beyond the file": with_header(
        b'{"layers.0.weight":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    ),
    "shape that overflows": with_header(
        b'{"layers.0.weight":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'
    ),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_in_one_line_and_little_memory(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"^[^\n]*m\.safetensors: not a complete [^\n]*$"):
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


WHOLE = encode_model(model(norm=True))


@settings(max_examples=60)
@given(position=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_any_changed_byte_gives_a_model_or_a_data_error(tmp_path_factory, position, value):
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    path.write_bytes(WHOLE[:position] + bytes([value]) + WHOLE[position + 1 :])
    try:
        outcome = str(load_model(path).sizes)
    except DataError as error:
        outcome = f"refused: {error}"
    assert re.fullmatch(r"\(4, 3, 2\)|refused: [^\n]+", outcome)


# PyTorch, whose names these are


def torch_network(sizes):
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            pairs = list(itertools.pairwise(sizes))
            self.layers = torch.nn.ModuleList([torch.nn.Linear(*pair) for pair in pairs])
            self.norms = torch.nn.ModuleList([torch.nn.BatchNorm1d(n) for n in sizes[1:-1]])

        def forward(self, x):
            for layer, norm in zip(self.layers, self.norms, strict=False):
                x = torch.relu(norm(layer(x)))
            return self.layers[-1](x)

    return Net().double()


@pytest.mark.needs("torch")
@pytest.mark.parametrize("writer", ["xpnet", "torch"])
def test_pytorch_and_xpnet_read_the_same_network_from_a_file(tmp_path, writer):
    import torch
    from safetensors.torch import load_file, save_file

    sizes, x = (6, 5, 4, 3), np.random.default_rng(0).normal(size=(7, 6))
    net = torch_network(sizes)
    if writer == "xpnet":
        save_model(tmp_path / "m", model(sizes, np.float64, norm=True))
        assert net.load_state_dict(load_file(tmp_path / "m"), strict=False).missing_keys == []
    else:
        with torch.no_grad():
            net(torch.tensor(x))  # updates the running statistics and counts the batch
        save_file(net.state_dict(), tmp_path / "m")
    expected = net.eval()(torch.tensor(x)).detach().numpy()
    loaded, backend = load_model(tmp_path / "m"), make("cpu")
    ops = Native(backend.xp, backend.device, backend.xp.float64)
    logits, _ = forward(ops, loaded.parameters, x.T, loaded.network, running=loaded.statistics)
    np.testing.assert_allclose(logits.T, expected, rtol=1e-12, atol=1e-12)
