"""Checkpoints: whole or refused, exact, and the trees of arrays that go into them."""

import json
import math
import re
import struct
import zlib

import numpy as np
import pytest

from xpnet.errors import DataError
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint

DTYPES = ["?", *(f"{kind}{width}" for kind in "iu" for width in (1, 2, 4, 8)), "f2", "f4", "f8"]
NO_CHECKPOINT = "not a checkpoint of a training that this xpnet can resume"
ARRAYS = {
    "parameters.0.weight": np.arange(6.0).reshape(2, 3),
    "step": np.array(7, np.int64),
    "mask": np.array([True, False]),
}
FACTS = {"epoch": 3, "batch": 0, "rows": 4, "seconds": 0.1 + 0.2, "best": [2, -0.0, math.nan]}
FACTS |= {"words": ["weiß\n\ud800", None, {"": [-0.0, 2**70, True]}], "nan": math.nan}


def test_every_dtype_comes_back_in_any_layout_and_the_facts_exactly(tmp_path):
    arrays, expected = {"": np.zeros((0, 2)), "scalar\n": np.array(7)}, {}
    for dtype in DTYPES:
        plain = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
        turned = np.asfortranarray(plain).astype(plain.dtype.newbyteorder(">"))
        arrays |= {f"{dtype} turned": turned, f"{dtype} mirrored": plain[:, ::-1]}
        expected |= {f"{dtype} turned": plain}
    (tmp_path / "s").write_bytes(encode_checkpoint(arrays, FACTS))
    actual, facts = load_checkpoint(tmp_path / "s")
    for name, array in (arrays | expected).items():
        np.testing.assert_array_equal(actual.pop(name), array, strict=True)
    assert not actual
    assert repr(facts) == repr(FACTS)


def refused(path):
    with pytest.raises(DataError) as caught:
        load_checkpoint(path)
    place, _, problem = str(caught.value).partition(": ")
    assert place == str(path)
    assert "\n" not in problem
    return problem


def test_a_changed_byte_or_a_truncation_anywhere_is_noticed(tmp_path):
    path = tmp_path / "s"
    path.write_bytes(encode_checkpoint(ARRAYS, FACTS))
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        refused(path)
        path.write_bytes(content[:position])
        assert refused(path).startswith("not a complete .safetensors file (")
    for old, new in ((b'"I64"', b'"U64"'), (b"[2,3]", b"[3,2]")):
        path.write_bytes(content.replace(old, new))
        assert refused(path).endswith("(the checksum differs)")


def header(facts="{}", **metadata):
    """The content of a file without arrays."""
    checksum = f"{zlib.crc32(facts.encode()):08x}"
    whole = {"format": "xpnet-snapshot", "format_version": "1", "facts": facts, "checksum": checksum}
    text = json.dumps({"__metadata__": {**whole, **metadata}}).encode()
    return struct.pack("<Q", len(text)) + text


HOSTILE = [
    (header(format="pt"), NO_CHECKPOINT),
    (header(format_version="3"), "written by a newer xpnet .format version 3, .* up to 2.: update xpnet"),
    (header(checksum="00000001"), "damaged: its content is not what was written .the checksum diff"),
    (header("[" * 100_000), rf"{NO_CHECKPOINT} \(its facts are"),
    (header(json.dumps({**FACTS, "words": None, "rows": 5})), rf"{NO_CHECKPOINT} \(its facts are"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "s"
    path.write_bytes(content)
    assert re.match(message, refused(path))
