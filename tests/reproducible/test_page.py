"""docs/arrays.md: the table of names, the errors, and scikit-learn with one digest on every library."""

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import array_names
import numpy as np
import pytest
from backend_enum import BackendCase
from function_bounds import BOUNDS

import xpnet.reproducible as rp
from xpnet.backends.resolve import make

PAGE = array_names.PAGE.read_text("utf-8")


def test_the_table_has_every_name_under_one_rule():
    assert array_names.table() in PAGE
    names = [name for group in array_names.rules().values() for name in group]
    assert len(names) == len({*names})
    xp = rp.namespace("numpy")
    for name in names:
        if not re.match(r"complex|fft\.|linalg\.", name):
            assert hasattr(xp, name), name


def test_the_errors_are_within_the_bounds_that_are_tested():
    errors = PAGE.partition("## Errors")[2].partition("##")[0]
    shown = {}
    for names, error in re.findall(r"\| ([^|]*`[^|]*) \| ([\d.]+) (?=\|)", errors):
        shown |= dict.fromkeys(re.findall(r"`(\w+)`", names), float(error))
    assert shown.keys() == BOUNDS.keys()
    assert {name for name in shown if not shown[name] <= BOUNDS[name] <= 2.1} == set()


@pytest.mark.needs("sklearn")
def test_the_costs_are_those_of_the_script_and_name_its_calls():
    from benchmarks import arrays

    block = PAGE.partition("<!-- costs -->\n")[2].partition("<!-- end of costs -->")[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")]
    assert {*arrays.OPERATORS, *arrays.OTHERS} <= {row[0] for row in rows}
    of_functions = block.partition(arrays.BETWEEN)[2].splitlines()
    cells = [line.strip("| ").split(" | ") for line in of_functions if line.startswith("| ")][1:]
    shown = {name: (float(a), float(b)) for row in cells for name, a, b in (row[:3], row[3:])}
    medians = shown.pop(f"median of {len(arrays.CALLS)}")
    assert shown.keys() == arrays.CALLS.keys()
    assert len(shown) > 40
    for median, column in zip(medians, zip(*shown.values(), strict=True), strict=True):
        assert abs(median - statistics.median(column)) <= 0.05


def of_scikit_learn(x, y):
    from sklearn import metrics
    from sklearn.naive_bayes import GaussianNB
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit(x).transform(x)
    model = GaussianNB().fit(scaled, y)
    numbers = [
        scaled,
        model.theta_,
        model.var_,
        model.predict_proba(scaled),
        metrics.r2_score(x[:, 0], x[:, 1]),
    ]
    return hashlib.sha256(b"".join(np.asarray(each, dtype=float).tobytes() for each in numbers)).hexdigest()


SCRIPT = """
import json
import test_page
print(json.dumps(test_page.digests()))
"""


def digests():
    import sklearn

    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(200, 10)), generator.integers(0, 3, 200)
    results = {}
    with sklearn.config_context(array_api_dispatch=True):
        for case in (BackendCase.NUMPY, BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX):
            put = make(case.backend_name, "cpu").from_host
            results[case.value] = of_scikit_learn(rp.asarray(put(x.copy())), rp.asarray(put(y.copy())))
    return results


@pytest.mark.slow
@pytest.mark.needs("sklearn", "torch", "jax", "array-api-strict")
def test_naive_bayes_of_scikit_learn_has_one_digest():
    """In a process of its own, as SciPy reads its switch when it is imported."""
    here = Path(__file__).parent
    roots = (here.parents[1] / name for name in ("scripts", "docs", "."))
    paths = [here, here.parent, here.parent / "helpers", *roots]
    variables = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    words = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    printed = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
    results = json.loads(printed.stdout)
    assert len(results) == 4
    assert len({*results.values()}) == 1, results
