"""docs/vectors: NumPy and tests/reference.py compute what the files of test vectors hold."""

import re
from dataclasses import fields
from decimal import localcontext

import make_vectors
import pytest
from backend_enum import CASES
from published_vectors import FILES, checks, load_reference
from vectors import trainings

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.config.training import DEFAULTS

NUMPY = make("numpy", "cpu")
CHECKS = dict(checks(load_reference()))
OF_TRAININGS = {f"trainings {case['name']}": case for case in FILES["trainings"]["trainings"]}
SLOW = {True: [pytest.mark.slow], False: []}
TRAININGS = [pytest.param(x, marks=SLOW[case["samples"] > 1000]) for x, case in OF_TRAININGS.items()]


@pytest.mark.parametrize("name", FILES)
def test_numpy_computes_what_the_file_holds(name):
    with NUMPY.scope():
        computed = make_vectors.content(name, NUMPY)
    assert computed == FILES[name]


@pytest.mark.parametrize("name", ["functions", "contractions", "public", "arrays"])
@pytest.mark.parametrize("backend", CASES[1:], indirect=True)
def test_every_backend_computes_the_functions_contractions_and_public_functions(backend, name):
    assert make_vectors.content(name, backend) == FILES[name]


def test_the_reference_computes_every_vector_but_the_trainings():
    assert [name for name in CHECKS if name not in OF_TRAININGS and not CHECKS[name]()] == []


@pytest.mark.parametrize("name", TRAININGS)
def test_the_reference_trains_as_the_file_says(name):
    assert CHECKS[name]()


def test_the_trainings_use_every_setting_that_affects_the_result():
    names = {field.name for field in fields(TrainConfig)} - trainings.WITHOUT_EFFECT
    assert FILES["trainings"]["defaults"].keys() == names
    of_trainings = [trainings.read_settings(case) for case in FILES["trainings"]["trainings"]]
    used = {name: {settings.get(name, DEFAULTS[name]) for settings in of_trainings} for name in names}
    assert {name for name, values in used.items() if len(values) < 2} == set()


@pytest.mark.tooling
def test_the_example_of_the_page_finds_no_difference(capsys, monkeypatch):
    text = (make_vectors.FOLDER / "README.md").read_text(encoding="utf-8")
    program, output = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", text, re.DOTALL).groups()
    monkeypatch.chdir(make_vectors.ROOT)
    with localcontext():
        exec(program, {})  # noqa: S102
    assert capsys.readouterr().out == output == "200 of 200\n"
