"""docs/vectors: NumPy and tests/reference.py compute what the files of test vectors hold.

Other libraries compute the functions and contractions; in the rest they agree with NumPy, as
test_closed_world.py shows.
"""

import re
import subprocess
import sys
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import make_vectors
import numpy as np
import pytest
import reference
from backend_rows import on_numpy
from vectors import trainings

from xpnet.config import TrainConfig
from xpnet.config.training import DEFAULTS

FILES = {name: make_vectors.read(make_vectors.FOLDER / f"{name}.json") for name in make_vectors.FILES}
RANDOM, FUNCTIONS, CONTRACTIONS = FILES["random"], FILES["functions"], FILES["contractions"]
SUMS = FILES["sums"]


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


@on_numpy("name", FILES, elsewhere=["functions", "contractions"])
def test_every_backend_computes_what_the_file_holds(backend, name):
    computed = make_vectors.content(name, backend)
    assert make_vectors.first_difference(computed, FILES[name]) is None


def test_the_files_are_small_and_as_the_script_writes_them():
    texts = {name: (make_vectors.FOLDER / f"{name}.json").read_text() for name in FILES}
    assert {path.stem for path in make_vectors.FOLDER.glob("*.json")} == set(FILES)
    assert max(map(len, texts.values())) < 150_000
    assert sum(map(len, texts.values())) < 500_000
    assert texts == {name: f"{make_vectors.as_text(content)}\n" for name, content in FILES.items()}


# The second implementation


def test_the_reference_gives_the_random_words():
    for use in RANDOM["uses"]:
        assert list(reference.philox(whole(use["counter"]), whole(use["key"]))) == whole(use["words"])
    for case in RANDOM["streams"]:
        counter = [case["first c0"], whole(case["index"]), whole(case["epoch"]), case["purpose"]]
        key = whole(case["seed"]), 0
        uses = [reference.philox(counter, key), reference.philox([counter[0] + 1, *counter[1:]], key)]
        assert [word for use in uses for word in use] == whole(case["words"])


def test_the_reference_gives_the_order_of_the_samples():
    case = RANDOM["orders"][0]
    assert (whole(case["seed"]), case["epoch"]) == (reference.SEED, 0)
    assert reference.order_of_the_samples(case["samples"]) == case["order"]


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_the_reference_gives_the_functions(name):
    function, pairs = getattr(reference, name), numbers(FUNCTIONS[name])
    assert len(pairs) == 200
    assert [x for x, y in pairs if not same(function(x), y)] == []


def test_the_reference_gives_the_softmaxes():
    for case in FUNCTIONS["softmax"]:
        assert same(reference.softmax(numbers(case["logits"])), numbers(case["probabilities"]))


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


def test_the_reference_gives_the_sums():
    for case in SUMS["folded"]:
        assert same(reference.folded_sum(numbers(case["terms"])), numbers(case["sum"]))
    for case in SUMS["tree"]:
        layers = ([reference.Layer([[term]], [])] for term in numbers(case["blocks"]))
        assert same(reference.tree_sum(layers)[0].weight, [[numbers(case["sum"])]])


# The settings


def test_the_trainings_use_every_setting_that_affects_the_result():
    hints = get_type_hints(TrainConfig)
    names = {field.name for field in fields(TrainConfig)}
    assert names >= trainings.WITHOUT_EFFECT
    unused = {}
    of_trainings = [trainings.read_settings(case) for case in FILES["trainings"]["trainings"]]
    for name in names - trainings.WITHOUT_EFFECT:
        used = {settings.get(name, DEFAULTS[name]) for settings in of_trainings}
        choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        if hints[name] is bool:
            choices = (False, True)
        if missing := set(choices) - used if choices else len(used) < 2:
            unused[name] = missing
    assert unused == {}
    assert FILES["trainings"]["defaults"].keys() == names - trainings.WITHOUT_EFFECT


# The script and the page


@pytest.mark.tooling
def test_check_names_the_first_difference_or_a_missing_file_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_vectors, "FILES", {"sums": make_vectors.FILES["sums"]})
    check = ["--check", "--folder", str(tmp_path)]
    assert make_vectors.main(check) == 2
    assert "sums.json: cannot be read" in capsys.readouterr().err
    assert make_vectors.main(check[1:]) == 0
    assert make_vectors.main(check) == 0
    path, total = tmp_path / "sums.json", SUMS["tree"][20]["sum"]
    path.write_text(changed := path.read_text().replace(f'"{total}"', '"0x1.0p+0"'))
    assert make_vectors.main(check) == 1
    assert re.search(f'"{re.escape(total)}".*, the file has .*"0x1.0p\\+0"', capsys.readouterr().out)
    assert path.read_text() == changed


@pytest.mark.tooling
def test_the_example_of_the_page_finds_no_difference():
    text = (make_vectors.FOLDER / "README.md").read_text(encoding="utf-8")
    program, output = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", text, re.DOTALL).groups()
    words = [sys.executable, "-c", program]
    result = subprocess.run(words, cwd=make_vectors.ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == output == "200 of 200\n"
