"""assert_parity finds the bugs of a table, and none in functions of array-api-extra."""

import re

import numpy as np
import parity_table
import pytest
from checkout import ROOT
from porting_bugs import BUGS, COMPLEX, GAP, SQUARE

from xpnet.parity import assert_parity

PAGE = ROOT / "docs" / "parity.md"
LINE = r"[\w, -]+ on \w+: (((result|argument \d)\S*|raises|gradient) .*|.* \(porting_bugs.py:\d+\).*)"
NEEDED = pytest.mark.needs("array-api-extra", "array-api-strict", "torch", "jax")
COUNTS, X = np.asarray([3, 1, 2, 1]), np.sort(SQUARE[0])
PASSING = [
    ("cov sinc deg2rad", (SQUARE,)),
    ("kron isclose", (SQUARE, SQUARE)),
    ("nan_to_num nanmax nansum", (GAP,)),
    ("searchsorted", (X, SQUARE[1])),
    ("create_diagonal", (X,)),
    ("pad", (SQUARE, 1)),
    ("isin", (COUNTS, COUNTS[:2])),
    ("unravel_index", (COUNTS, (2, 3))),
    ("angle", COMPLEX[:1]),
]
FINDINGS = [
    ("one_hot", lambda x, n: np.eye(n)[x], (COUNTS, 4), "torch on cpu: result has dtype float32, the ref"),
    ("setdiff1d", np.setdiff1d, (COUNTS, COUNTS[:1]), "array-api-strict on device1: .* data-dependent shap"),
    ("at", lambda x, y: np.asarray([y, *x[1:]]), (X, 9.0), ".*: argument 0 is changed in place"),
]
FUNCTIONS = [(name, arguments) for names, arguments in PASSING for name in names.split()]
OPTIONS = {"rtol": 1e-12, "backends": parity_table.BACKENDS}


@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, marks=pytest.mark.needs(bug.backend.partition(":")[0])) for bug in BUGS.values()],
    ids=BUGS,
)
def test_a_bug_is_found_in_one_line_with_library_and_place(bug):
    options = bug.options if "raises" in bug.options else {"rtol": 1e-12, **bug.options}
    with pytest.raises(AssertionError) as caught:
        assert_parity(bug.port, *bug.arguments, reference=bug.original, backends=[bug.backend], **options)
    lines, where = str(caught.value).splitlines(), (bug.backend.replace(":", " on "), "torch on meta")
    assert [line for line in lines if not re.fullmatch(LINE, line)] == []
    assert len([line for line in lines if line.startswith(where) and bug.text in line]) == 1, lines


@pytest.mark.slow
@pytest.mark.nightly
@NEEDED
def test_the_page_says_who_finds_which_bug():
    table = PAGE.read_text().partition("| bugs | `assert_parity` | array-api-extra |\n|---|---|---|\n")[2]
    assert table.partition("\n\n")[0].splitlines() == list(parity_table.rows())


@NEEDED
@pytest.mark.parametrize(("name", "arguments"), FUNCTIONS)
def test_functions_of_array_api_extra_pass(name, arguments):
    import array_api_extra

    original = getattr(np, name.replace("create_diagonal", "diag"))
    assert_parity(getattr(array_api_extra, name), *arguments, reference=original, **OPTIONS)


@NEEDED
@pytest.mark.parametrize(("name", "original", "arguments", "finding"), FINDINGS)
def test_findings_in_others_are_true(name, original, arguments, finding):
    import array_api_extra

    function = getattr(array_api_extra, name)
    port = function if name != "at" else lambda x, y: array_api_extra.at(x)[0].set(y)
    with pytest.raises(AssertionError, match=f"^{finding}"):
        assert_parity(port, *arguments, reference=original, **OPTIONS)
