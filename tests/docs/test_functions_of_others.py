"""docs/functions-of-others.md: functions of others have the digests of its table, and NumPy's results."""

import json
import re

import pytest
from checkout import ROOT
from script_processes import run

SCRIPT = ROOT / "docs" / "functions_of_others.py"
PAGE = (ROOT / "docs" / "functions-of-others.md").read_text(encoding="utf-8")
TABLE = re.search("<!-- functions -->(.*?)<!--", PAGE, re.DOTALL)[1]
LEAVING = re.search("<!-- leaving -->(.*?)<!--", PAGE, re.DOTALL)[1]
SHOWN = dict(re.findall(r"^\| `([^`]+)` \| ([0-9a-f]{12}) \|", TABLE, re.MULTILINE))
NEEDED = pytest.mark.needs("others", "torch", "jax", "array-api-strict")
RARE = pytest.mark.nightly
pytestmark = [pytest.mark.tooling, pytest.mark.slow, NEEDED]
CODE = "import functions_of_others as script, json; print(json.dumps({}))"
LIBRARIES = (SCRIPT, "--digests", "numpy", "torch", "jax", "array-api-strict")
KERNELS = CODE.format("{kernel: script.digests_with(kernel) for kernel in script.KERNELS}")


def test_the_table_has_sixty_functions_and_more_of_three_libraries():
    assert {re.split(r"[ .]", name)[0] for name in SHOWN} == {"sklearn", "scipy", "array_api_extra"}
    assert len(SHOWN) >= 60


@pytest.mark.parametrize(
    "words",
    [pytest.param(LIBRARIES, id="libraries"), pytest.param(("-c", KERNELS), id="kernels", marks=RARE)],
)
def test_every_digest_is_that_of_the_table(words):
    (line,) = run("-W", "ignore", *words)
    for where, digests in json.loads(line).items():
        assert {name: digest[:12] for name, digest in digests.items() if name in SHOWN} == SHOWN, where
        assert {*digests} - {*SHOWN} == {*re.findall(r"^\| `([^`]+)`", LEAVING, re.MULTILINE)}


@RARE
def test_every_result_is_near_that_of_plain_numpy():
    (line,) = run("-W", "ignore", "-c", CODE.format("script.differences()"))
    differences = json.loads(line)
    assert differences.keys() == SHOWN.keys()
    assert {name: apart for name, apart in differences.items() if not apart <= 1e-8} == {}
