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

NO_CHECKPOINT = "not a checkpoint of a training that this xpnet can resume"
FACTS = {"epoch": 3, "batch": 0, "rows": 4, "seconds": 0.1 + 0.2, "best": [2, -0.0, math.nan]}
FACTS |= {"words": ["weiß\n\ud800", None, {"": [-0.0, 2**70, True]}], "nan": math.nan}


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
def test_every_dtype_comes_back_in_any_layout_and_the_facts_exactly(tmp_path, dtype):
    plain = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    turned = np.asfortranarray(plain).astype(plain.dtype.newbyteorder(">"))
    (tmp_path / "s").write_bytes(encode_checkpoint({"turned\n": turned}, FACTS))
    actual, facts = load_checkpoint(tmp_path / "s")
    np.testing.assert_array_equal(actual["turned\n"], plain, strict=True)
    assert repr(facts) == repr(FACTS)


def refused(path):
    with pytest.raises(DataError, match=f"^{path}: [^\n]*$") as caught:
        load_checkpoint(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_changed_byte_or_a_truncation_anywhere_is_noticed(tmp_path):
    path = tmp_path / "s"
    path.write_bytes(encode_checkpoint({"weight": np.arange(6.0).reshape(2, 3)}, FACTS))
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        refused(path)
        path.write_bytes(content[:position])
        assert refused(path).startswith("not a complete .safetensors file (")
    path.write_bytes(content.replace(b"[2,3]", b"[3,2]"))
    assert refused(path).endswith("(the checksum differs)")


def header(facts="{}", **metadata):
    checksum = f"{zlib.crc32(facts.encode()):08x}"
    whole = {"format": "xpnet-snapshot", "format_version": "1", "facts": facts, "checksum": checksum}
    text = json.dumps({"__metadata__": {**whole, **metadata}}).encode()
    return struct.pack("<Q", len(text)) + text


HOSTILE = [
    (header(format="pt"), NO_CHECKPOINT),
    (header(format_version="3"), "written by a newer xpnet .format version 3, .* up to 2.: update xpnet"),
    (header(json.dumps({**FACTS, "words": None, "rows": 5})), rf"{NO_CHECKPOINT} \(its facts are"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "s"
    path.write_bytes(content)
    assert re.match(message, refused(path))
