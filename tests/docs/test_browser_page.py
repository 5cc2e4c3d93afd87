"""examples/browser: the specification in JavaScript gives xpnet's bits, and its page verifies runs."""

import json
import random
import re
import shutil
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import browser_page
import make_vectors
import numpy as np
import pytest
from checkout import ROOT
from fingerprints import mnist
from forgeries import OF_PAGE, by_hand, flip_a_bit, forgeries, judge, make_runs, page_verdict
from recorded_runs import seal
from report_pages import trained
from vectors import trainings

import xpnet
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data import datasets
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.optim import OPTIMIZERS

pytestmark = pytest.mark.needs("node")

MNIST, VECTORS = ROOT / "data" / "mnist", ROOT / "docs" / "vectors"
OLDER = ROOT / "tests" / "fixtures" / "0.4.0.dev0"
"""Runs of schema version 3."""
ROW = re.compile(r"^\| (?:initial|after (\d+) epochs?) \| `(\w{64})` \|$", re.MULTILINE)
PUBLISHED = {int(epochs or 0): x for epochs, x in ROW.findall((ROOT / "docs/reproducibility.md").read_text())}


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
        assert {
            **result,
            **{name: case[name] for name in case if name in ("name", "features", "samples", "settings")},
            **{name: case[name] for name in case if name.endswith(" weights")},
        } == case
    native = {**cases[0], "settings": {"arithmetic": "native"}}
    assert train_in_node(path, [native]) == ["arithmetic: is no setting of a reproducible training"]
    assert train_in_node(path, cases[:1], specification=2) == ["expected specification 1, got 2"]


CHOICES = """
hidden [] [5] [12,7];  activation ACTIVATIONS;  init "uniform" "he" "glorot"
normalize "scale" "standardize" "none";  batch_norm false true;  dropout 0.0 0.3;  input_dropout 0.0 0.15
input_noise 0.0 0.0 0.2;  epochs 1 2 3;  batch_size "full" 13 32 1100;  loss "cross-entropy" "squared-error"
label_smoothing 0.0 0.1;  class_weight "none" "balanced";  learning_rate 0.1 0.003;  validation 0 15 0.25
optimizer OPTIMIZERS;  schedule "constant" "step" "exponential" "cosine"
weight_decay null 0.01;  clip_norm null 0.5;  max_norm null 1.2;  warmup_epochs 0 1;  average_epochs 1 2
patience null 1;  augment_rotate 0.0 15.0;  augment_shift 0.0 1.5;  augment_elastic_alpha 0.0 6.0
augment_thickness 0.0 0.5;  best_by "auto" "accuracy" "weighted-accuracy" "balanced-accuracy" "loss"
"""
for table, names in {"ACTIVATIONS": ACTIVATIONS, "OPTIMIZERS": OPTIMIZERS}.items():
    CHOICES = CHOICES.replace(table, " ".join(map(json.dumps, names)))


def draw_training(number):
    """A training with settings at random, without those that do not go together."""
    draw = random.Random(number)  # noqa: S311
    kind, settings = draw.choice(["pixels", "images", "floats"]), {"seed": hex(draw.randrange(2**64))}
    for name, *values in map(str.split, re.split(r";|\n", CHOICES.strip())):
        settings[name] = json.loads(draw.choice(values), parse_float=lambda text: float(text).hex())
    left_out = () if kind == "images" else ("augment",)
    left_out += () if settings["hidden"] else ("activation", "batch_norm", "dropout")
    left_out += ("average",) if settings["epochs"] == 1 or settings["patience"] else ()
    left_out += () if settings["validation"] else ("patience", "best_by")
    settings = {name: value for name, value in settings.items() if not name.startswith(left_out)}
    samples = draw.choice([40, 90] if kind == "images" else [90, 1500])
    return {"features": kind.replace("images", "pixels"), "samples": samples, "settings": settings}


@pytest.mark.slow
def test_trainings_with_settings_at_random_have_the_bits_of_the_package(tmp_path):
    drawn, backend = list(map(draw_training, range(40))), make("numpy", "cpu")
    for case, result in zip(drawn, train_in_node(tmp_path / "drawn.json", drawn), strict=True):
        assert {**case, **result} == trainings.train(case, backend), case


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [2, pytest.param(10, marks=pytest.mark.nightly)])
def test_the_default_training_on_mnist_has_the_published_fingerprints(epochs):
    computed, data = node("default", MNIST, epochs), mnist()
    expected = {**PUBLISHED, 2: xpnet.fit(data.x_train, data.y_train, epochs=2).fingerprint}
    assert all(computed["fingerprints"][epoch] == expected[epoch] for epoch in {0, 1, 2, epochs})
    assert computed["digest"] == datasets.digest(data)


COMMON = f"--epochs 5 --log-every 2 --seed {2**64 - 1} --keep-checkpoint-every 2"
PIXELS = "--batch-norm --dropout 0.2 --validation 12 --patience 3 --batch-size 16 --optimizer adam --lr 0.01"
PIXELS += " --best-by balanced-accuracy"
FLOATS = "--normalize standardize --hidden 6 5 --activation tanh --average-epochs 2 --batch-size 20"
FLOATS += " --validation 0.3 --class-weight balanced"
FLOATS += " --optimizer nesterov"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs, one of schema version 3, and of their data as .npy files.

    These are pixels, and floats of 32 bits, many subnormal.
    """
    folder, generator = tmp_path_factory.mktemp("runs"), np.random.default_rng(1)
    for kind, flags in {"pixels": PIXELS, "floats": FLOATS}.items():
        (data := folder / f"{kind}-data").mkdir()
        for role, rows in {"train": 50, "test": 20}.items():
            x = generator.integers(0, 256, (rows, 5, 5), dtype=np.uint8)
            np.save(
                data / f"x_{role}.npy", x if kind == "pixels" else x / np.float32(7) * np.float32(2.0**-130)
            )
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
    *results, twice = node("verify", *folders, runs / "pixels", runs / "pixels")
    assert [result["outcome"] for result in results[:3]] == ["same"] * 3, results[:3]
    assert "model, checkpoints, metrics and fingerprint are the same bits" in results[0]["line"]
    assert twice["line"].startswith("two files are named ")
    for forgery, result in zip(by_hand("page"), results[3:], strict=True):
        line = result["line"][: len(forgery.message)]
        assert (result["outcome"], line) == (forgery.outcome, forgery.message)


@pytest.mark.slow
def test_both_verifiers_judge_forged_records_alike_and_believe_none_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_COMPILE", "0")
    make_runs()
    folders, listed = [], forgeries(runs=OF_PAGE)
    for number, forgery in enumerate(listed):
        run = Path(shutil.copytree(f"runs/{forgery.run}", f"forged/{number}/{forgery.run}"))
        forgery.make(run.parent)
        folders += [run, "small"]
    ours, page = judge(listed), map(page_verdict, node("verify", *folders))
    pairs = {
        forgery.name: (ours[forgery.name], verdict) for forgery, verdict in zip(listed, page, strict=True)
    }
    assert len(pairs) >= 140
    assert {name: pair for name, pair in pairs.items() if "same" in (pair[0][0], pair[1][0])} == {}
    other = {name: pair for name, pair in pairs.items() if (pair[0][0] == "but") != (pair[1][0] == "but")}
    assert other == {}


def test_the_page_is_made_of_its_sources_which_know_every_setting_and_the_report_names_it():
    texts = {path.name: path.read_text() for path in browser_page.FOLDER.glob("*.*")}
    assert texts["xpnet.html"] == browser_page.build_page(), "run python examples/browser/browser_page.py"
    assert {int(n): x for n, x in re.findall(r'(\d+): "(\w{64})"', texts["page.js"])} == PUBLISHED
    assert {each.name for each in fields(TrainConfig)} <= set(re.findall(r"\w+", texts["verify.js"]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    place = project.get("urls", {}).get("Documentation", "examples/browser/xpnet.html")
    assert place in (ROOT / "xpnet/report/templates/run.html").read_text()


@pytest.mark.slow
@pytest.mark.needs("browser")
def test_the_page_verifies_and_trains_from_its_file_without_a_network(browser, runs, tmp_path):
    page, requests = browser.new_page(viewport={"width": 390, "height": 800}), []
    page.context.set_offline(True)
    for event in ("console", "pageerror", "request"):
        page.on(event, lambda value: requests.append(getattr(value, "url", str(value))))
    page.goto(browser_page.PAGE.as_uri())

    def result_of(button, *folders):
        for folder in folders:
            page.set_input_files("#files", [str(path) for path in folder.iterdir()])
        page.click(button)
        page.locator("#verdict").wait_for(timeout=120_000)
        page.click("#forget")
        return page.locator("#verdict").inner_text()

    assert result_of("#verify", runs / "pixels", runs / "pixels-data").startswith("The same bits\n")
    forged = Path(shutil.copytree(runs / "pixels", tmp_path / "forged"))
    flip_a_bit(forged)
    seal(forged)
    assert "Differs\n\nmodel.safetensors: layers.0.bias" in result_of("#verify", forged, runs / "pixels-data")
    page.fill("#epochs", "1")
    assert re.match(f"The same bits as published\n.*{PUBLISHED[1]}", result_of("#train", MNIST), re.DOTALL)
    assert page.locator("#chart path.curve").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [text for text in requests if not text.startswith(("file:", "data:,", "blob:"))] == []
    assert page.evaluate("fetch('data:,').then(() => 'sent', () => 'forbidden')") == "forbidden"
    page.context.close()
