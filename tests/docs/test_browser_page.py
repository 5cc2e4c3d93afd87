"""examples/browser: the specification in JavaScript gives xpnet's bits, and its page verifies runs."""

import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import browser_page
import make_vectors
import numpy as np
import pytest
from checkout import ROOT
from fingerprints import GOLDEN, mnist
from forgeries import by_hand, judge, make_runs, of_page, page_verdict
from report_pages import trained

import xpnet
from xpnet.config import TrainConfig
from xpnet.data import datasets

pytestmark = pytest.mark.needs("node")

MNIST, VECTORS = ROOT / "data" / "mnist", ROOT / "docs" / "vectors"
OLDER = ROOT / "tests" / "fixtures" / "0.4.0.dev0"
INPUTS = {"name", "features", "samples", "settings"}


def node(*words):
    command = ["node", ROOT / "tests" / "helpers" / "browser.mjs", *map(str, words)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def train_in_node(path, cases, **changes):
    path.write_text(json.dumps({**make_vectors.read("trainings"), "trainings": cases, **changes}))
    return node("trainings", path)


def test_every_part_is_that_of_the_test_vectors():
    names = make_vectors.FILES.keys() - {"trainings", "public", "arrays"}  # functions that no training needs
    parts = node("vectors", *(VECTORS / f"{name}.json" for name in names))
    assert {part: same for part, (same, cases) in parts.items() if same < cases} == {}
    assert parts.keys() == set().union(*map(make_vectors.read, names)) - {"specification"}


@pytest.mark.slow
def test_the_published_trainings_have_their_results_and_others_are_refused(tmp_path):
    path, cases = tmp_path / "trainings.json", make_vectors.read("trainings")["trainings"]
    for case, result in zip(cases, train_in_node(path, cases), strict=True):
        given = {name for name in case if name in INPUTS or name.endswith(" weights")}
        assert result == {name: value for name, value in case.items() if name not in given}
    native = {**cases[0], "settings": {"arithmetic": "native"}}
    assert train_in_node(path, [native]) == ["arithmetic: is no setting of a reproducible training"]
    assert train_in_node(path, cases[:1], specification=2) == ["expected specification 1, got 2"]


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [2, pytest.param(10, marks=pytest.mark.nightly)])
def test_the_default_training_on_mnist_has_the_published_fingerprints(epochs):
    computed, data = node("default", MNIST, epochs), mnist()
    expected = {**GOLDEN, 2: xpnet.fit(data.x_train, data.y_train, epochs=2).fingerprint}
    assert all(computed["fingerprints"][epoch] == expected[epoch] for epoch in {0, 1, 2, epochs})
    assert computed["digest"] == datasets.digest(data)


COMMON = f"--epochs 5 --log-every 2 --seed {2**64 - 1} --keep-checkpoint-every 2 --hidden 6 5"
FLAGS = {
    "pixels": "--batch-norm --dropout 0.2 --validation 12 --patience 3 --batch-size 16 --optimizer adam",
    "floats": "--normalize standardize --activation tanh --average-epochs 2 --optimizer nesterov",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs, one of schema version 3, and their data: pixels, and floats of 32 bits, many subnormal."""
    folder, generator = tmp_path_factory.mktemp("runs"), np.random.default_rng(1)
    for kind, flags in FLAGS.items():
        (data := folder / f"{kind}-data").mkdir()
        for role, rows in {"train": 50, "test": 20}.items():
            x = generator.integers(0, 256, (rows, 5, 5), dtype=np.uint8)
            np.save(data / f"x_{role}.npy", x if kind == "pixels" else x * np.float32(2.0**-133))
            np.save(data / f"y_{role}.npy", generator.integers(0, 3, rows))
        trained(folder / kind, "--data", data, *COMMON.split(), *flags.split())
    shutil.copytree(OLDER / "runs" / "balanced", folder / "older")
    (folder / "older-data").mkdir()
    with np.load(OLDER / "rare.npz") as data:
        for role, array in data.items():
            np.save(folder / "older-data" / f"{role}.npy", array)
    return folder


@pytest.mark.slow
def test_true_runs_are_the_same_bits_and_the_first_difference_of_forged_ones_is_named(runs, tmp_path):
    kinds = "pixels", "floats", "older"
    folders = [path for kind in kinds for path in (runs / kind, runs / f"{kind}-data")]
    for number, forgery in enumerate(by_hand("page")):
        run = Path(shutil.copytree(runs / "pixels", tmp_path / str(number) / "pixels"))
        forgery.make(run.parent)
        folders += [run, runs / "pixels-data"]
    results = node("verify", *folders)
    assert [result["outcome"] for result in results[:3]] == ["same"] * 3, results[:3]
    for forgery, result in zip(by_hand("page"), results[3:], strict=True):
        line = result["line"][: len(forgery.message)]
        assert (result["outcome"], line) == (forgery.outcome, forgery.message)


@pytest.mark.slow
def test_both_verifiers_judge_forged_records_alike_and_believe_none_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_COMPILE", "0")
    make_runs()
    folders, listed = [], of_page()
    for number, forgery in enumerate(listed):
        run = Path(shutil.copytree(f"runs/{forgery.run}", f"forged/{number}/{forgery.run}"))
        forgery.make(run.parent)
        folders += [run, "small"]
    ours, page = judge(listed), map(page_verdict, node("verify", *folders))
    pairs = {each.name: (ours[each.name][0], verdict[0]) for each, verdict in zip(listed, page, strict=True)}
    assert len(pairs) >= 140
    assert {name: pair for name, pair in pairs.items() if "same" in pair} == {}
    assert {name: pair for name, pair in pairs.items() if (pair[0] == "but") != (pair[1] == "but")} == {}


def test_the_page_is_made_of_its_sources_which_know_every_setting():
    texts = {path.name: path.read_text() for path in browser_page.FOLDER.glob("*.*")}
    assert texts["xpnet.html"] == browser_page.build_page(), "run python examples/browser/browser_page.py"
    assert {int(n): x for n, x in re.findall(r'(\d+): "(\w{64})"', texts["page.js"])} == GOLDEN
    assert {each.name for each in fields(TrainConfig)} <= set(re.findall(r"\w+", texts["verify.js"]))


@pytest.mark.slow
@pytest.mark.needs("browser")
def test_the_page_verifies_and_trains_from_its_file_without_a_network(browser, page, runs):
    page.goto(browser_page.PAGE.as_uri())

    def result_of(button, *folders):
        for folder in folders:
            page.set_input_files("#files", [str(path) for path in folder.iterdir()])
        page.click(button)
        page.locator("#verdict").wait_for(timeout=120_000)
        page.click("#forget")
        return page.locator("#verdict").inner_text()

    assert result_of("#verify", runs / "pixels", runs / "pixels-data").startswith("The same bits\n")
    page.fill("#epochs", "1")
    assert re.match(f"The same bits as published\n.*{GOLDEN[1]}", result_of("#train", MNIST), re.DOTALL)
    assert page.locator("#chart path.curve").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unwatched = browser.new_page()
    unwatched.goto(browser_page.PAGE.as_uri())
    assert unwatched.evaluate("fetch('data:,').then(() => 'sent', () => 'forbidden')") == "forbidden"
