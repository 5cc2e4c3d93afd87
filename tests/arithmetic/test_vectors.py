"""docs/vectors: every backend and tests/reference.py compute what the files of test vectors hold."""

import inspect
import json
import math
import operator
import re
import subprocess
import sys
from dataclasses import fields
from decimal import Decimal, localcontext
from functools import reduce
from typing import Literal, get_args, get_origin, get_type_hints

import make_vectors
import numpy as np
import pytest
import reference
from networks import rows_on_backends
from vectors import trainings

from xpnet.config import TrainConfig
from xpnet.config.training import DEFAULTS

FILES = {name: make_vectors.read(make_vectors.FOLDER / f"{name}.json") for name in make_vectors.FILES}
RANDOM, FUNCTIONS, CONTRACTIONS = FILES["random"], FILES["functions"], FILES["contractions"]
SUMS, TRAININGS = FILES["sums"], FILES["trainings"]["trainings"]


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


@rows_on_backends("name", list(FILES), "functions", strict=FILES.keys() - {"trainings"})
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


def test_the_reference_gives_the_uniform_initial_parameters(monkeypatch):
    case = RANDOM["initial parameters"][0]
    assert (case["init"], whole(case["seed"])) == ("uniform", reference.SEED)
    for name, size in zip(("FEATURES", "HIDDEN", "CLASSES"), case["sizes"], strict=True):
        monkeypatch.setattr(reference, name, size)
    network = reference.initial_network()
    assert same([layer.weight for layer in network], numbers(case["weights"]))
    assert same([layer.bias for layer in network], numbers(case["biases"]))


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


# What the vectors tell apart


def exactly_rounded_exp(x):
    """The float nearest to e^x."""
    with localcontext(prec=60):
        return float(Decimal(x).exp())


@pytest.mark.parametrize("constant", [1 / 6, 1 / 24, 1 / 120])
@pytest.mark.parametrize("to", [0.0, 1.0])
def test_exp_tells_another_last_place_of_a_constant_apart(constant, to):
    source = inspect.getsource(reference.exp).replace(f"1 / {round(1 / constant)}", "CONSTANT")
    assert "CONSTANT" in source
    space = vars(reference) | {"CONSTANT": math.nextafter(constant, to)}
    exec(source, space)  # noqa: S102
    assert [x for x, y in numbers(FUNCTIONS["exp"]) if not same(space["exp"](x), y)]


def test_softmaxes_tell_a_division_and_another_exp_apart():
    divided, with_another_exp = 0, 0
    for case in FUNCTIONS["softmax"]:
        logits, expected = numbers(case["logits"]), numbers(case["probabilities"])
        shifted = [z - max(logits) for z in logits]
        e = [reference.exp(t) for t in shifted]
        divided += [x / reference.folded_sum(e) for x in e] != expected
        e = [exactly_rounded_exp(t) if t >= -670 else 0.0 for t in shifted]
        with_another_exp += [x * (1 / reference.folded_sum(e)) for x in e] != expected
    assert min(divided, with_another_exp) >= 3


@pytest.mark.parametrize(("section", "key", "least"), [("folded", "terms", 3), ("tree", "blocks", 4)])
def test_sums_tell_addition_in_turn_apart(section, key, least):
    counts = {len(case[key]) for case in SUMS[section]}
    sums = [(numbers(case[key]), numbers(case["sum"])) for case in SUMS[section]]
    told_apart = {len(terms) for terms, total in sums if not same(reduce(operator.add, terms), total)}
    assert told_apart == {count for count in counts if count >= least}


def test_contractions_have_both_numbers_of_slices_and_ends_of_the_range():
    assert {case["slices"] for case in CASES} == {1, 2}
    assert {case["slices"] for case in CONTRACTIONS["gradients"]} == {1, 2}
    assert None in CONTRACTIONS["budgets"][-1]
    products = {case["name"]: numbers(case["product"]) for case in CONTRACTIONS["products"]}
    damaged = products["NaN and infinity in rows"]
    assert [all(map(math.isnan, row)) for row in damaged] == [True, False, True]
    assert not any(map(math.isnan, damaged[1]))


# The settings


def values(name):
    """The values that the trainings give a setting."""
    return [trainings.read_settings(case).get(name, DEFAULTS[name]) for case in TRAININGS]


def test_the_trainings_use_every_setting_that_affects_the_result():
    hints = get_type_hints(TrainConfig)
    names = {field.name for field in fields(TrainConfig)}
    assert names >= trainings.WITHOUT_EFFECT
    unused = {}
    for name in names - trainings.WITHOUT_EFFECT:
        used = values(name)
        choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        if hints[name] is bool:
            choices = (False, True)
        if missing := set(choices) - set(used) if choices else len(set(used)) < 2:
            unused[name] = missing
    assert unused == {}
    assert FILES["trainings"]["defaults"].keys() == names - trainings.WITHOUT_EFFECT


def test_the_trainings_use_all_numbers_of_hidden_layers_and_kinds_of_data():
    assert {len(hidden) for hidden in values("hidden")} == {0, 1, 2}
    kinds = {(case["features"], case["settings"].get("normalize", "scale")) for case in TRAININGS}
    assert len(kinds) == 6
    dropped = {case["features"] for case in TRAININGS if "input_dropout" in case["settings"]}
    assert dropped == {"pixels", "floats"}
    assert max(values("seed")) > 2**63


def test_early_stopping_keeps_an_epoch_before_the_last():
    (case,) = (case for case in FILES["trainings"]["trainings"] if "best epoch" in case)
    assert 0 < case["best epoch"] < len(case["fingerprints"]) - 1
    assert case["fingerprint"] == case["fingerprints"][case["best epoch"]]
    accuracies = [row[3] for row in numbers(case["history"])]
    assert accuracies.index(max(accuracies)) < case["best epoch"]  # a tie, decided by the loss


# The script and the page


@pytest.mark.tooling
def test_check_names_the_first_difference_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_vectors, "FILES", {"sums": make_vectors.FILES["sums"]})
    path = tmp_path / "sums.json"
    assert make_vectors.main(["--folder", str(tmp_path)]) == 0
    assert json.loads(path.read_text()) == SUMS
    assert make_vectors.main(["--check", "--folder", str(tmp_path)]) == 0
    capsys.readouterr()
    total = SUMS["tree"][20]["sum"]
    path.write_text(changed := path.read_text().replace(f'"{total}"', '"0x1.0p+0"'))
    assert make_vectors.main(["--check", "--folder", str(tmp_path)]) == 1
    difference = f'/tree/20/sum: computed "{total}", the file has "0x1.0p+0"'
    assert difference in capsys.readouterr().out
    assert path.read_text() == changed


@pytest.mark.tooling
def test_check_needs_the_files(tmp_path, capsys):
    assert make_vectors.main(["--check", "--folder", str(tmp_path)]) == 2
    assert "random.json: cannot be read" in capsys.readouterr().err


@pytest.mark.tooling
def test_the_example_of_the_page_finds_no_difference():
    text = (make_vectors.FOLDER / "README.md").read_text(encoding="utf-8")
    program, output = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", text, re.DOTALL).groups()
    words = [sys.executable, "-c", program]
    result = subprocess.run(words, cwd=make_vectors.ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == output == "200 of 200\n"
