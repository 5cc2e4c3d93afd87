"""Model files: their layout, their fingerprint, and every way in which a file can be wrong."""

import hashlib
import itertools
import json
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet.arithmetic import Native
from xpnet.backends.numpy import make
from xpnet.errors import ConfigError, DataError
from xpnet.nn.architecture import Network
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.init import initial_running_statistics, initialize
from xpnet.nn.layers import RunningStatistics
from xpnet.nn.network import forward
from xpnet.storage.model_file import (
    SavedModel,
    encode_model,
    fingerprint,
    join_layers,
    load_model,
    save_model,
    split_layers,
)

NORM = ("weight", "bias", "running_mean", "running_var")

Tensors = dict[str, np.ndarray]


def model(sizes: tuple[int, ...] = (4, 3, 2), dtype: Any = np.float32, **parts: Any) -> SavedModel:
    rng = np.random.default_rng(7)
    layers = [
        {
            "weight": rng.normal(size=(units, inputs)).astype(dtype),
            "bias": rng.normal(size=units).astype(dtype),
        }
        for inputs, units in itertools.pairwise(sizes)
    ]
    return SavedModel(layers=layers, sizes=sizes, **parts)


def normalized(sizes: tuple[int, ...] = (4, 3, 2), dtype: Any = np.float32) -> SavedModel:
    """A model with batch normalisation."""
    rng = np.random.default_rng(8)
    norms = [
        {name: rng.uniform(0.5, 2.0, size=units).astype(dtype) for name in NORM} for units in sizes[1:-1]
    ]
    return model(sizes, dtype, norms=norms, activation="tanh")


def statistics(features: int = 4) -> Tensors:
    return {"shift": np.arange(features, dtype=np.float64), "scale": np.array(0.25)}


def assert_same(actual: SavedModel, expected: SavedModel) -> None:
    for part in ("sizes", "normalize", "activation"):
        assert getattr(actual, part) == getattr(expected, part)
    pairs = list(zip(actual.layers, expected.layers, strict=True))
    pairs += zip(actual.norms, expected.norms, strict=True)
    for left, right in [*pairs, (actual.normalization, expected.normalization)]:
        assert list(left) == list(right)
        for name in right:
            assert left[name].dtype == right[name].dtype
            assert left[name].shape == right[name].shape
            assert left[name].tobytes() == right[name].tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(4, 2), (4, 3, 2), (1, 1), (2, *[3] * 11, 1)])
def test_a_saved_model_loads_bit_for_bit(tmp_path: Path, sizes: tuple[int, ...], dtype: Any) -> None:
    expected = model(sizes, dtype, normalize="standardize", normalization=statistics(sizes[0]))
    save_model(tmp_path / "m.safetensors", expected)
    assert_same(load_model(tmp_path / "m.safetensors"), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(4, 2), (4, 3, 2), (2, *[3] * 11, 1)])
def test_batch_normalisation_loads_bit_for_bit(tmp_path: Path, sizes: tuple[int, ...], dtype: Any) -> None:
    expected = normalized(sizes, dtype)
    save_model(tmp_path / "m.safetensors", expected)
    actual = load_model(tmp_path / "m.safetensors")
    assert_same(actual, expected)
    assert actual.network == Network(sizes, "tanh", batch_norm=len(sizes) > 2)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_is_in_the_file(tmp_path: Path, activation: str) -> None:
    save_model(tmp_path / "m", model(activation=activation))
    loaded = load_model(tmp_path / "m")
    assert loaded.activation == activation
    assert loaded.network == Network((4, 3, 2), activation)


@pytest.mark.parametrize("normalize", ["scale", "none"])
def test_statistics_are_absent_where_the_model_has_none(tmp_path: Path, normalize: str) -> None:
    save_model(tmp_path / "m", model(normalize=normalize))
    assert not [name for name in safetensors.numpy.load_file(tmp_path / "m") if "norm" in name]
    loaded = load_model(tmp_path / "m")
    assert (loaded.normalize, loaded.normalization) == (normalize, {})


def test_loaded_arrays_can_be_changed_and_outlive_the_file(tmp_path: Path) -> None:
    save_model(tmp_path / "m", model())
    loaded = load_model(tmp_path / "m")
    (tmp_path / "m").unlink()
    loaded.layers[0]["weight"][:] = 1.0
    assert loaded.layers[0]["weight"].flags.c_contiguous
    assert loaded.layers[0]["weight"].sum() == 12.0


def test_other_tools_find_pytorchs_names_and_shapes_and_the_metadata(tmp_path: Path) -> None:
    expected = model((784, 10, 10), normalize="scale")
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
    }
    assert metadata == {
        "format_version": "1",
        "sizes": "[784, 10, 10]",
        "classes": "10",
        "activation": "relu",
        "normalize": "scale",
    }
    np.testing.assert_array_equal(weight, expected.layers[0]["weight"], strict=True)


def test_the_numbers_are_aligned_for_readers_that_map_the_file() -> None:
    data = encode_model(model((2, 5, 1), normalize="standardize", normalization=statistics(2)))
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert (8 + length) % 8 == 0
    for name, entry in header.items():
        if name != "__metadata__":
            width = {"F32": 4, "F64": 8}[entry["dtype"]]
            assert entry["data_offsets"][0] % width == 0


def test_the_same_model_gives_the_same_bytes_in_any_layout() -> None:
    plain = model()
    turned = SavedModel(
        [
            {
                "bias": layer["bias"].astype(">f4"),
                "weight": np.asfortranarray(layer["weight"]).astype(">f4"),
            }
            for layer in plain.layers
        ],
        plain.sizes,
    )
    assert encode_model(plain) == encode_model(turned)
    assert fingerprint(plain.layers) == fingerprint(turned.layers)


def test_the_fingerprint_is_sha256_of_weight_and_bias_layer_by_layer() -> None:
    layers: list[Tensors] = [
        {
            "bias": np.array([5.0, 6.0], np.float32),
            "weight": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
        },
        {"weight": np.array([[7.0, 8.0]], np.float64), "bias": np.array([9.0], np.float64)},
    ]
    expected = struct.pack("<6f3d", 1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert fingerprint(layers) == hashlib.sha256(expected).hexdigest()


def test_with_batch_normalisation_each_norm_follows_its_layer_in_the_fingerprint() -> None:
    layers = [
        {"weight": np.array([[1.0]]), "bias": np.array([2.0])},
        {"weight": np.array([[7.0]]), "bias": np.array([8.0])},
        {"weight": np.array([[13.0]]), "bias": np.array([14.0])},
    ]
    norms = [
        {name: np.array([first + index]) for index, name in reversed([*enumerate(NORM)])}
        for first in (3.0, 9.0)
    ]
    expected = struct.pack("<14d", *range(1, 15))
    assert fingerprint(layers, norms) == hashlib.sha256(expected).hexdigest()


@pytest.mark.parametrize("name", NORM)
def test_one_bit_of_a_norm_changes_the_fingerprint(name: str) -> None:
    left, right = normalized(), normalized()
    right.norms[0][name][2] = np.nextafter(right.norms[0][name][2], np.float32(9))
    assert fingerprint(left.layers, left.norms) != fingerprint(right.layers, right.norms)


def test_norms_that_are_not_those_of_the_layers_have_no_fingerprint() -> None:
    whole = normalized((4, 3, 3, 2))
    with pytest.raises(ValueError, match=r"norms\.1\.weight: missing"):
        fingerprint(whole.layers, whole.norms[:1])
    strange = [*whole.norms[:1], {**whole.norms[1], "momentum": np.zeros(3)}]
    with pytest.raises(ValueError, match=r'unknown tensor "norms\.1\.momentum"'):
        fingerprint(whole.layers, strange)


def test_the_fingerprint_ignores_the_statistics_and_survives_the_file(tmp_path: Path) -> None:
    plain = model()
    whole = model(normalize="standardize", normalization=statistics())
    save_model(tmp_path / "m", whole)
    assert fingerprint(load_model(tmp_path / "m").layers) == fingerprint(plain.layers)


def test_one_bit_changes_the_fingerprint() -> None:
    left, right = model(), model()
    right.layers[1]["bias"][0] = np.nextafter(right.layers[1]["bias"][0], np.float32(9))
    assert fingerprint(left.layers) != fingerprint(right.layers)


def test_no_tensor_is_silently_left_out_of_the_fingerprint() -> None:
    layers = [{**model().layers[0], "momentum": np.zeros(3)}]
    with pytest.raises(ValueError, match=r'unknown tensor "layers\.0\.momentum"'):
        fingerprint(layers)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"sizes": (4, 3, 9)}, r"sizes: expected \(4, 3, 2\)"),
        ({"layers": []}, "holds no layers"),
        ({"normalize": "standardize"}, r"normalization\.shift: missing"),
        ({"normalize": "other"}, "normalize: expected one of"),
        ({"normalization": {"shift": np.zeros(4)}}, r"normalization\.scale: missing"),
        ({"normalization": {"shift": np.zeros(3), "scale": np.ones(4)}}, r"shift: .* \(3,\)"),
        ({"normalization": {**statistics(), "mean": np.ones(4)}}, 'unknown tensor "normaliz'),
        ({"activation": "gelu"}, 'activation: expected one of relu, .*, got "gelu"'),
        ({"norms": normalized((4, 3, 3, 2)).norms}, r"norms\.1: expected batch norm"),
        ({"norms": normalized((4, 2, 2)).norms}, r"norms\.0\.bias: expected shape \(3,\), "),
        ({"norms": normalized(dtype=np.float64).norms}, r"norms\.0\.\w+: expected dtype F32 as"),
    ],
)
def test_a_model_whose_parts_do_not_fit_cannot_be_built(parts: dict[str, Any], message: str) -> None:
    good = model()
    with pytest.raises(ValueError, match=message):
        SavedModel(**{"layers": good.layers, "sizes": good.sizes, **parts})


def test_parameters_that_are_not_finite_can_be_saved_but_not_loaded(tmp_path: Path) -> None:
    broken = model()
    broken.layers[1]["weight"][0, :2] = [np.nan, np.inf]
    save_model(tmp_path / "m", broken)
    with pytest.raises(DataError, match=r"m: layers\.1\.weight: 2 of its 6 numbers are NaN or infinite$"):
        load_model(tmp_path / "m")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent/m: cannot be written \([^\n]*$"):
        save_model(tmp_path / "absent" / "m", model())


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_of_another_tool_is_taken_as_scaled(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    safetensors.numpy.save_file(good_tensors(), tmp_path / "m", metadata)
    loaded = load_model(tmp_path / "m")
    assert (loaded.sizes, loaded.normalize, loaded.classes) == ((4, 3, 2), "scale", 2)
    assert (loaded.activation, loaded.norms) == ("relu", [])
    assert list(loaded.layers[0]) == ["weight", "bias"]


def good_tensors() -> Tensors:
    return {
        "layers.0.weight": np.ones((3, 4), np.float32),
        "layers.0.bias": np.ones(3, np.float32),
        "layers.1.weight": np.ones((2, 3), np.float32),
        "layers.1.bias": np.ones(2, np.float32),
    }


def renamed(old: str, new: str) -> Tensors:
    return {new if name == old else name: array for name, array in good_tensors().items()}


def with_norm(**changed: np.ndarray | None) -> Tensors:
    """Good tensors with batch normalisation, some of it changed, or (None) left out."""
    norm = {name: np.ones(3, np.float32) for name in NORM} | changed
    whole = {f"norms.0.{name}": array for name, array in norm.items() if array is not None}
    return good_tensors() | whole


WRONG: list[tuple[Tensors, str]] = [
    ({}, "holds no layers: expected layers.0.weight (outputs, inputs), "),
    (renamed("layers.0.bias", "0.bias"), 'unknown tensor "0.bias": expected layers.0.weight'),
    (renamed("layers.0.bias", "layers.00.bias"), 'unknown tensor "layers.00.bias": expected'),
    (renamed("layers.0.bias", "layers.0.gain"), 'unknown tensor "layers.0.gain": expected'),
    (renamed("layers.0.bias", "a\nb"), 'unknown tensor "a\\nb": expected'),
    ({**good_tensors(), "more": np.ones(1)}, 'unknown tensor "more": expected'),
    (
        {name: array for name, array in good_tensors().items() if name != "layers.1.bias"},
        "layers.1.bias: missing, though the file has layer 1",
    ),
    (
        {name.replace(".1.", ".2."): array for name, array in good_tensors().items()},
        "layers.1.weight: missing, though the file has layer 2",
    ),
    (
        {name.replace(".1.", ".999999."): array for name, array in good_tensors().items()},
        "layers.1.weight: missing, though the file has layer 999999",
    ),
    (
        {**good_tensors(), "layers.0.weight": np.ones(12, np.float32)},
        "layers.0.weight: expected shape (outputs, inputs), got (12,)",
    ),
    (
        {**good_tensors(), "layers.0.weight": np.ones((3, 0), np.float32)},
        "layers.0.weight: expected shape (outputs, inputs), got (3, 0)",
    ),
    (
        {**good_tensors(), "layers.0.bias": np.ones((3, 1), np.float32)},
        "layers.0.bias: expected shape (3,), got (3, 1)",
    ),
    (
        {**good_tensors(), "layers.1.weight": np.ones((2, 4), np.float32)},
        "layers.1.weight: expected 3 inputs, which layer 0 puts out, got 4",
    ),
    (
        {**good_tensors(), "layers.0.weight": np.ones((3, 4), np.float16)},
        "layers.0.weight: expected dtype F32 or F64 (float32, float64), got F16",
    ),
    (
        {name: array.astype(np.int32) for name, array in good_tensors().items()},
        "layers.0.bias: expected dtype F32 or F64 (float32, float64), got I32",
    ),
    (
        {**good_tensors(), "layers.0.weight": np.ones((3, 4), np.float64)},
        "layers.0.weight: expected dtype F32 as in the other tensors, got F64",
    ),
    (
        {**good_tensors(), "layers.0.weight": np.full((3, 4), np.nan, np.float32)},
        "layers.0.weight: 12 of its 12 numbers are NaN or infinite",
    ),
    (
        {**good_tensors(), "normalization.shift": np.zeros(())},
        "normalization.scale: missing, though needed to normalize inputs (scale)",
    ),
    (
        {
            **good_tensors(),
            "normalization.shift": np.zeros(4),
            "normalization.scale": np.ones(4, np.float32),
        },
        "normalization.scale: expected F64 of shape () or (4,), got F32 of shape (4,)",
    ),
    (
        {
            **good_tensors(),
            "normalization.shift": np.zeros(5),
            "normalization.scale": np.ones(4),
        },
        "normalization.shift: expected F64 of shape () or (4,), got F64 of shape (5,)",
    ),
    (
        {
            **good_tensors(),
            "normalization.shift": np.zeros(4),
            "normalization.scale": np.full(4, np.inf),
        },
        "normalization.scale: 4 of its 4 numbers are NaN or infinite",
    ),
    *(
        (with_norm(**{name: None}), f"norms.0.{name}: missing, though the file has layer 1 and batch")
        for name in NORM
    ),
    (
        {name.replace("norms.0", "norms.1"): array for name, array in with_norm().items()},
        "norms.1: expected batch normalisation behind hidden layers alone, of which there are 1,",
    ),
    (
        {**good_tensors(), "norms.999999.bias": np.ones(3, np.float32)},
        "norms.999999: expected batch normalisation behind hidden layers alone, of which there are 1,",
    ),
    (
        {
            "layers.0.weight": np.ones((2, 4)),
            "layers.0.bias": np.ones(2),
            "norms.0.weight": np.ones(2),
        },
        "norms.0: expected batch normalisation behind hidden layers alone, of which there are 0",
    ),
    (with_norm(gain=np.ones(3, np.float32)), 'unknown tensor "norms.0.gain": expected layers.0.'),
    (
        {**good_tensors(), "layers.0.running_mean": np.ones(3, np.float32)},
        'unknown tensor "layers.0.running_mean": expected layers.0.weight (outputs, inputs), ',
    ),
    (
        with_norm(running_mean=np.ones((3, 1), np.float32)),
        "norms.0.running_mean: expected shape (3,), got (3, 1)",
    ),
    (
        with_norm(bias=np.ones(3)),
        "norms.0.bias: expected dtype F32 as in the other tensors, got F64",
    ),
    (
        with_norm(weight=np.ones(3, np.int64)),
        "norms.0.weight: expected dtype F32 or F64 (float32, float64), got I64",
    ),
    (
        with_norm(running_mean=np.array([1, np.inf, np.nan], np.float32)),
        "norms.0.running_mean: 2 of its 3 numbers are NaN or infinite",
    ),
    (
        with_norm(running_var=np.array([1, -1e-30, 0], np.float32)),
        "norms.0.running_var: 1 of its 3 variances are negative",
    ),
]


@pytest.mark.parametrize(("tensors", "message"), WRONG)
def test_tensors_that_make_no_network_are_refused_in_one_line(
    tmp_path: Path, tensors: Tensors, message: str
) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {message}')}[^\n]*$"):
        load_model(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"sizes": "[4, 3, 3]"}, "sizes in the metadata: expected [4, 3, 2] as in the tensors, "),
        ({"sizes": "["}, "sizes in the metadata: expected [4, 3, 2] as in the tensors, got "),
        ({"sizes": "[" * 100_000}, "sizes in the metadata: expected [4, 3, 2] as in the tensors"),
        ({"classes": "3"}, "classes in the metadata: expected 2 as in the tensors, got "),
        ({"normalize": "x\ny"}, "normalize: expected one of scale, standardize, none, got "),
        (
            {"activation": "Relu"},
            "activation: expected one of relu, leaky-relu, tanh, sigmoid, got",
        ),
        (
            {"activation": "x\ny"},
            "activation: expected one of relu, leaky-relu, tanh, sigmoid, got",
        ),
        ({"normalize": "standardize"}, "normalization.shift: missing, though needed to "),
        ({"format_version": "2"}, 'format_version: expected 1, got "2": a newer xpnet may have '),
    ],
)
def test_metadata_that_disagree_with_the_tensors_are_refused(
    tmp_path: Path, metadata: dict[str, str], message: str
) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file(good_tensors(), path, metadata)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {message}')}[^\n]*$"):
        load_model(path)


def with_header(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


DAMAGED = {
    "empty": b"",
    "short": b"\x01\x02",
    "truncated": encode_model(model())[:-1],
    "longer": encode_model(model()) + b"\0",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07pickled\x94.",
    "header beyond the file": struct.pack("<Q", 90_000_000) + b"{}",
    "header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
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
def test_a_damaged_file_is_refused_in_one_line_and_little_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"^[^\n]*m\.safetensors: not a complete [^\n]*$"):
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=150)
@given(position=st.integers(0, len(encode_model(normalized())) - 1), value=st.integers(0, 255))
def test_any_changed_byte_gives_a_model_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    content = bytearray(encode_model(normalized()))
    content[position] = value
    path.write_bytes(content)
    try:
        outcome = str(load_model(path).sizes)
    except DataError as error:
        outcome = f"refused: {error}"
    assert re.fullmatch(r"\(4, 3, 2\)|refused: [^\n]+", outcome)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, problem in [(tmp_path, "not a file"), (tmp_path / "absent", "no such file")]:
        with pytest.raises(DataError) as caught:
            load_model(path)
        assert str(caught.value) == f"{path}: {problem}: expected a .safetensors file"


# Parameters as a training has them


@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_of_a_training_come_back_from_the_file(tmp_path: Path, batch_norm: bool) -> None:
    network = Network((4, 5, 3, 2), "sigmoid", batch_norm=batch_norm)
    parameters = initialize(network.sizes, 3, batch_norm=batch_norm)
    rng = np.random.default_rng(0)
    running = [
        RunningStatistics(*(array + rng.uniform(size=array.shape) for array in entry))
        for entry in initial_running_statistics(network)
    ]
    layers, norms = split_layers(parameters, running)
    saved = SavedModel(layers, network.sizes, norms=norms, activation="sigmoid")
    save_model(tmp_path / "m", saved)
    loaded = load_model(tmp_path / "m")
    assert loaded.network == network
    actual = join_layers(loaded)
    for left, right in zip(actual, (parameters, running), strict=True):
        assert [type(entry) for entry in left] == [type(entry) for entry in right]
        for array, expected in zip(itertools.chain(*left), itertools.chain(*right), strict=True):
            np.testing.assert_array_equal(array, expected, strict=True)


def test_batch_normalisation_without_its_statistics_is_not_saved() -> None:
    parameters = initialize((4, 3, 2), 0, batch_norm=True)
    with pytest.raises(ValueError, match="zip"):
        split_layers(parameters)


# PyTorch, whose names these are


def torch_network(sizes: tuple[int, ...], activation: str) -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = list(itertools.pairwise(sizes))
            self.layers = torch.nn.ModuleList([torch.nn.Linear(*pair) for pair in pairs])
            self.norms = torch.nn.ModuleList([torch.nn.BatchNorm1d(n) for n in sizes[1:-1]])

        def forward(self, x: Any) -> Any:
            for layer, norm in zip(self.layers, self.norms, strict=False):
                x = getattr(torch, activation)(norm(layer(x)))
            return self.layers[-1](x)

    return Net().double()


@pytest.mark.needs("torch")
def test_pytorch_computes_the_same_logits_from_the_file(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    saved, x = normalized((6, 5, 4, 3), np.float64), np.random.default_rng(0).normal(size=(7, 6))
    save_model(tmp_path / "m", saved)
    net = torch_network(saved.sizes, saved.activation)
    net.load_state_dict(load_file(tmp_path / "m"))
    expected = net.eval()(torch.tensor(x)).detach().numpy()
    assert_logits(load_model(tmp_path / "m"), x, expected)


@pytest.mark.needs("torch")
def test_a_trained_network_of_pytorch_is_read(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    net, x = torch_network((6, 5, 4, 3), "relu"), np.random.default_rng(0).normal(size=(7, 6))
    with torch.no_grad():
        for _ in range(3):
            net(torch.tensor(x))
    save_file(net.state_dict(), tmp_path / "m")
    expected = net.eval()(torch.tensor(x)).detach().numpy()
    assert_logits(load_model(tmp_path / "m"), x, expected)


def assert_logits(loaded: SavedModel, x: np.ndarray, expected: np.ndarray) -> None:
    backend = make("cpu")
    ops = Native(backend.xp, backend.device, backend.xp.float64)
    parameters, running = join_layers(loaded)
    logits, _ = forward(ops, parameters, x.T, loaded.network, running=running)
    np.testing.assert_allclose(logits.T, expected, rtol=1e-12, atol=1e-12)
