"""docs/vectors: NumPy and tests/reference.py compute what the files of test vectors hold.

Other libraries compute the functions, contractions and public functions; in the rest they agree with
NumPy, as test_closed_world.py shows.
"""

import re
from dataclasses import fields
from decimal import localcontext
from typing import Literal, get_args, get_origin, get_type_hints

import make_vectors
import numpy as np
import pytest
import reference
from backend_enum import CASES
from vectors import trainings

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.config.training import DEFAULTS

FILES = {name: make_vectors.read(name) for name in make_vectors.FILES}
RANDOM, FUNCTIONS, CONTRACTIONS = FILES["random"], FILES["functions"], FILES["contractions"]
SUMS = FILES["sums"]
NUMPY = make("numpy", "cpu")


def numbers(texts):
    """Floats of nested lists of texts, and of long vectors, which repeat a pattern."""
    if isinstance(texts, dict):
        return np.resize(numbers(texts["repeat"]), texts["length"]).tolist()
    if isinstance(texts, list):
        return [numbers(item) for item in texts]
    return float.fromhex(texts) if isinstance(texts, str) else texts


def whole(text):
    """The word of a text, or a list of them."""
    return [whole(item) for item in text] if isinstance(text, list) else int(text, 16)


def same(a, b):
    """Whether two floats, or nested lists, have the same bits; all NaN are equal."""
    return repr(a) == repr(b)


@pytest.mark.parametrize("name", FILES)
def test_numpy_computes_what_the_file_holds(name):
    with NUMPY.scope():
        computed = make_vectors.content(name, NUMPY)
    assert computed == FILES[name]


@pytest.mark.parametrize("name", ["functions", "contractions", "public"])
@pytest.mark.parametrize("backend", CASES[1:], indirect=True, ids=lambda case: case.value)
def test_every_backend_computes_the_functions_contractions_and_public_functions(backend, name):
    assert make_vectors.content(name, backend) == FILES[name]


def test_the_reference_gives_the_random_words_and_the_order_of_the_samples():
    for use in RANDOM["uses"]:
        assert list(reference.philox(whole(use["counter"]), whole(use["key"]))) == whole(use["words"])
    for case in RANDOM["streams"]:
        counter = [case["first c0"], whole(case["index"]), whole(case["epoch"]), case["purpose"]]
        key = whole(case["seed"]), 0
        uses = [reference.philox(counter, key), reference.philox([counter[0] + 1, *counter[1:]], key)]
        assert [word for use in uses for word in use] == whole(case["words"])
    case = RANDOM["orders"][0]
    assert (whole(case["seed"]), case["epoch"]) == (reference.SEED, 0)
    assert reference.order_of_the_samples(case["samples"]) == case["order"]


def test_the_reference_gives_the_functions_and_sums():
    for name in ("exp", "log", "sqrt"):
        function, pairs = getattr(reference, name), numbers(FUNCTIONS[name])
        assert [x for x, y in pairs if not same(function(x), y)] == []
    for case in FUNCTIONS["softmax"]:
        assert same(reference.softmax(numbers(case["logits"])), numbers(case["probabilities"]))
    for case in SUMS["folded"]:
        assert same(reference.folded_sum(numbers(case["terms"])), numbers(case["sum"]))
    for case in SUMS["tree"]:
        layers = ([reference.Layer([[term]], [])] for term in numbers(case["blocks"]))
        assert same(reference.tree_sum(layers)[0].weight, [[numbers(case["sum"])]])


def is_in_range(vectors):
    """Whether the reference takes the vectors: their numbers are finite, and at most 2^400."""
    return all(abs(x) <= 2.0**400 for vector in vectors for x in vector)


CASES = [*CONTRACTIONS["products"], *CONTRACTIONS["gradients"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_reference_gives_the_products_and_sums_within_its_range(case):
    rows, columns = numbers(case["rows"]), numbers(case["columns"])
    product, bits = numbers(case["product"]), (*case["bits"], case["slices"])
    assert reference.budget(case["terms"], pixels="factor" in case) == bits
    places = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    places = [(i, j) for i, j in places if is_in_range([rows[i], columns[j]])]
    assert places
    for i, j in places:
        first = reference.rounded(rows[i], bits[0], bits[2])
        if "factor" in case:
            second, factor = reference.of_pixels(columns[j]), numbers(case["factor"])
        else:
            second, factor = reference.rounded(columns[j], bits[1], bits[2]), 1.0
        assert same(reference.contract([first], [second], factor)[0][0], product[i][j])
        if "sums" in case:
            high, *low = [part.sum() for part in first]
            assert same(high + sum(low) + 0.0, numbers(case["sums"][i]))


@pytest.mark.parametrize("case", FILES["images"]["variants"])
def test_the_pixels_of_images_are_those_of_the_formulas_of_the_page(case):
    pixel = case["pixel"]
    (p, r, p_below, r_below), (fx, fy) = pixel["P, R, P', R'"], pixel["fx, fy"]
    upper, lower = p * 128 + (r - p) * fx, p_below * 128 + (r_below - p_below) * fx
    value = (upper * 128 + (lower - upper) * fy + 2**13) // 2**14
    assert value == pixel["value"]
    if "thickness" in pixel:
        thickness = pixel["thickness"]
        around, k = thickness["left, right, above, below"], thickness["k"]
        contrast = max(value, *around) - value if k > 0 else value - min(value, *around)
        value += (contrast * k + 64) // 128
        assert value == thickness["value"]
    assert value == case["result"][pixel["row"]][pixel["column"]]


def test_the_trainings_use_every_setting_that_affects_the_result():
    hints, names = get_type_hints(TrainConfig), {field.name for field in fields(TrainConfig)}
    names -= trainings.WITHOUT_EFFECT
    assert FILES["trainings"]["defaults"].keys() == names
    of_trainings = [trainings.read_settings(case) for case in FILES["trainings"]["trainings"]]
    for name in names:
        used = {settings.get(name, DEFAULTS[name]) for settings in of_trainings}
        if get_origin(hints[name]) is Literal:
            assert used >= set(get_args(hints[name])), name
        else:
            assert len(used) >= 2, name


@pytest.mark.tooling
def test_the_example_of_the_page_finds_no_difference(capsys, monkeypatch):
    text = (make_vectors.FOLDER / "README.md").read_text(encoding="utf-8")
    program, output = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", text, re.DOTALL).groups()
    monkeypatch.chdir(make_vectors.ROOT)
    with localcontext():
        exec(program, {})  # noqa: S102
    assert capsys.readouterr().out == output == "200 of 200\n"
