"""docs/arrays-specification.md is enough: a second implementation, in plain Python, computes its vectors."""

import math
import re

import pytest
import reference_arrays
from make_vectors import FOLDER, read

from xpnet.arithmetic import pairs

FUNCTIONS = read("arrays")["functions"]
ELSEWHERE = {"exp", "log", "sqrt", "tanh", "tan"}


@pytest.mark.parametrize("name", reference_arrays.REFERENCE)
def test_the_page_specifies_every_bit(name):
    for *args, result in FUNCTIONS[name]:
        value, expected = reference_arrays.REFERENCE[name](*map(float.fromhex, args)), float.fromhex(result)
        assert value == expected or (math.isnan(value) and math.isnan(expected)), args
        assert math.isnan(value) or math.copysign(1.0, value) == math.copysign(1.0, expected), args


def test_every_function_is_specified():
    assert FUNCTIONS.keys() - reference_arrays.REFERENCE.keys() == ELSEWHERE


def test_the_page_states_the_constants():
    text = (FOLDER.parent / "arrays-specification.md").read_text("utf-8")
    rows = re.findall(r"^\| [^|]+ \| `(0x[^`]+)` \| `(0x[^`]+)` \|$", text, re.MULTILINE)
    constants = (pairs.LN2, pairs.PER_LN2, pairs.PER_LN10, pairs.HALF_PI, pairs.PI)
    assert [tuple(map(float.fromhex, row)) for row in rows] == [*constants]
    shown = re.search(r"with L₁ = `([^`]+)`, L₂ = `([^`]+)`", text).groups()
    assert tuple(map(float.fromhex, shown)) == pairs.LN2_PARTS[:2]
