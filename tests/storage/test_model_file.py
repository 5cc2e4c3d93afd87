"""Model files: their layout, their fingerprint, and every way in which a file can be wrong."""

import json
import re
import struct

import numpy as np
import pytest
import safetensors.numpy
from saved_models import saved_model

from xpnet.errors import DataError
from xpnet.nn.functional import ACTIVATIONS
from xpnet.storage.model_file import encode_model, load_model

NORM = ("weight", "bias", "running_mean", "running_var")


def test_arrays_are_aligned_for_readers_that_map_the_file():
    statistics = {"shift": np.zeros(2), "scale": np.ones(2)}
    data = encode_model(saved_model([{"weight": ones(5, 2), "bias": ones(5)}], **statistics))
    (length,) = struct.unpack("<Q", data[:8])
    names = json.loads(data[8 : 8 + length])
    assert (8 + length) % 8 == 0
    assert [names[f"normalization.{name}"]["data_offsets"][0] % 8 for name in statistics] == [0, 0]


def ones(*shape):
    return np.ones(shape, "f4")


W0, B0, B1 = "layers.0.weight", "layers.0.bias", "layers.1.bias"
GOOD = {W0: ones(3, 4), "layers.1.weight": ones(2, 3), B0: ones(3), B1: ones(2)}
NORMS = {f"norms.0.{name}": ones(3) for name in NORM}
SHAPE = f"{W0}: expected F32 or F64 of shape (outputs, inputs), got"
VARIANCE = "norms.0.running_var"
WRONG = [
    ({W0: None}, None, f"{SHAPE} no such tensor: a model file has layers.0.weight (outputs, inputs), "),
    ({B1: np.float32([np.nan, np.inf])}, None, f"{B1}: 2 of its 2 numbers are NaN, "),
    ({"a\nb": ones(3)}, None, '"a\\nb": expected no such tensor, got F32 of shape (3,): a model file has '),
    ({**NORMS, VARIANCE: -ones(3)}, None, f"{VARIANCE}: 3 of its 3 numbers are NaN, "),
    ({}, {"sizes": "[" * 100_000}, "sizes in the metadata: expected [4, 3, 2], got "),
    ({}, {"activation": "x\ny"}, f"activation: expected one of {', '.join(ACTIVATIONS)}, got"),
    ({}, {"format_version": "4"}, "written by a newer xpnet (format version 4, this one reads up to 3): up"),
]


@pytest.mark.parametrize(("changes", "metadata", "message"), WRONG)
def test_what_makes_no_network_is_refused_in_one_line(tmp_path, changes, metadata, message):
    path, tensors = tmp_path / "m.safetensors", GOOD | changes
    present = {name: array for name, array in tensors.items() if array is not None}
    safetensors.numpy.save_file(present, path, metadata)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {message}')}[^\n]*$"):
        load_model(path)
