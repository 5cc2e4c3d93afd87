"""examples/browser: the specification in JavaScript gives xpnet's bits, and its page verifies runs."""

import json
import random
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import browser_page
import make_vectors
import numpy as np
import pytest
from fingerprints import mnist
from recorded_runs import seal
from report_pages import trained
from vectors import trainings

import xpnet
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data import datasets

pytestmark = pytest.mark.needs("node")

ROOT = Path(__file__).resolve().parents[2]
BROWSER, VECTORS, MNIST = (ROOT / path for path in ("examples/browser", "docs/vectors", "data/mnist"))
ROW = re.compile(r"^\| (?:initial|after (\d+) epochs?) \| `(\w{64})` \|$", re.MULTILINE)
PUBLISHED = {int(epochs or 0): x for epochs, x in ROW.findall((ROOT / "docs/reproducibility.md").read_text())}


def node(script, *words):
    command = ["node", ROOT / "tests" / "helpers" / script, *map(str, words)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_the_parts_are_those_of_the_test_vectors():
    result = node("browser_vectors.mjs", BROWSER / "xpnet.js", VECTORS)
    parts = [make_vectors.read(name).keys() for name in make_vectors.FILES if name != "trainings"]
    assert result["different"] == []
    assert result["counts"].keys() == set().union(*parts) - {"specification"}


def test_the_published_trainings_have_their_results_and_others_are_refused(tmp_path):
    file, inputs = make_vectors.read("trainings"), ("name", "features", "samples", "settings")
    results = node("browser_tasks.mjs", BROWSER, "trainings", VECTORS / "trainings.json")
    computed = zip(file["trainings"], results, strict=True)
    assert [{**{key: case[key] for key in inputs}, **result} for case, result in computed] == file[
        "trainings"
    ]
    native = [{**file["trainings"][0], "settings": {"arithmetic": "native"}}]
    for changes, message in [
        ({"trainings": native}, "arithmetic: is no setting of a reproducible training"),
        ({"specification": 2}, "expected specification 1, got 2"),
    ]:
        (tmp_path / "file.json").write_text(json.dumps({**file, **changes}))
        assert set(node("browser_tasks.mjs", BROWSER, "trainings", tmp_path / "file.json")) == {message}


CHOICES = """
hidden [] [5] [12,7];  activation "relu" "leaky-relu" "elu" "tanh" "sigmoid";  init "uniform" "he" "glorot"
normalize "scale" "standardize" "none";  batch_norm false true;  dropout 0.0 0.3;  input_dropout 0.0 0.15
input_noise 0.0 0.0 0.2;  epochs 0 1 2 3;  batch_size "full" 13 32 1100;  loss "cross-entropy" "squared-error"
label_smoothing 0.0 0.1;  class_weight "none" "balanced";  learning_rate 0.1 0.003;  validation 0 15 0.25
optimizer "sgd" "momentum" "nesterov" "adam" "adamw";  schedule "constant" "step" "exponential" "cosine"
weight_decay null 0.01;  clip_norm null 0.5;  max_norm null 1.2;  augment_rotate 0.0 15.0
augment_shear 0.0 0.2;  augment_elastic_alpha 0.0 6.0;  augment_thickness 0.0 0.5
"""
"""Values of settings, from which the trainings are drawn."""


def draw_training(number):
    """A training with settings at random, without those that do not go together."""
    draw = random.Random(number)  # noqa: S311
    kind = draw.choice(["pixels", "images", "floats"])
    settings = {"seed": f"0x{draw.randrange(2**64):016x}"}
    for name, *values in map(str.split, re.split(r";|\n", CHOICES.strip())):
        settings[name] = json.loads(draw.choice(values))
    if settings["epochs"]:
        settings |= {
            "warmup_epochs": draw.choice([0, 1]),
            "average_epochs": draw.randint(1, settings["epochs"]),
        }
    if settings["validation"] and draw.random() < 0.5:
        settings |= {"patience": draw.choice([1, 2]), "average_epochs": 1}
    left_out = () if settings["hidden"] else ("activation", "batch_norm", "dropout")
    left_out += () if kind == "images" else ("augment",)
    settings = {
        name: value.hex() if isinstance(value, float) else value
        for name, value in settings.items()
        if not name.startswith(left_out)
    }
    case = {"features": kind.replace("images", "pixels"), "samples": draw.choice([40, 90, 1500])}
    return {"name": str(number), **case, "settings": settings}


@pytest.mark.slow
def test_trainings_with_settings_at_random_have_the_bits_of_the_package(tmp_path):
    drawn, backend = list(map(draw_training, range(40))), make("numpy", "cpu")
    (tmp_path / "drawn.json").write_text(json.dumps({**make_vectors.read("trainings"), "trainings": drawn}))
    results = node("browser_tasks.mjs", BROWSER, "trainings", tmp_path / "drawn.json")
    for case, result in zip(drawn, results, strict=True):
        assert {**case, **result} == trainings.train(case, backend), case


@pytest.mark.slow
def test_the_default_training_on_mnist_has_the_published_fingerprints():
    computed, data = node("browser_tasks.mjs", BROWSER, "default", MNIST, 10), mnist()
    expected = {**PUBLISHED, 2: xpnet.fit(data.x_train, data.y_train, epochs=2).fingerprint}
    assert {n: computed["fingerprints"][str(n)] for n in (0, 1, 2, 10)} == {
        n: expected[n] for n in (0, 1, 2, 10)
    }
    assert computed["result"]["digest"] == datasets.digest(data)


PIXELS = "--batch-norm --dropout 0.2 --validation 12 --patience 3 --batch-size 16 --optimizer adam --lr 0.01"
FLOATS = "--normalize standardize --hidden 6 5 --activation tanh --average-epochs 2 --batch-size 20"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs, and of their data as .npy files: pixels, and floats of 32 bits; labels of 64 bits."""
    folder, generator = tmp_path_factory.mktemp("runs"), np.random.default_rng(1)
    for kind, flags in {"pixels": PIXELS, "floats": FLOATS}.items():
        data = folder / f"{kind}-data"
        data.mkdir()
        for role, rows in {"train": 50, "test": 20}.items():
            x = generator.integers(0, 256, (rows, 5, 5), dtype=np.uint8)
            np.save(data / f"x_{role}.npy", x if kind == "pixels" else x.astype(np.float32) / 7)
            np.save(data / f"y_{role}.npy", generator.integers(0, 3, rows))
        words = ["--epochs", 5, "--log-every", 2, "--seed", 2**64 - 1, "--keep-checkpoint-every", 2]
        trained(folder / kind, "--data", data, *words, *flags.split())
    return folder


def alter(part="", **changes):
    """A change of keys of a record, or of an object in it."""

    def change(run):
        record = json.loads((run / "run.json").read_text())
        (record[part] if part else record).update(changes)
        (run / "run.json").write_text(json.dumps(record))

    return change


def replace(name, pattern, new):
    def change(run):
        content, count = re.subn(pattern, new, (run / name).read_bytes(), count=1, flags=re.DOTALL)
        assert count == 1
        (run / name).write_bytes(content)

    return change


change_weight = replace("model.safetensors", rb"(}} *)(.)", lambda match: match[1] + bytes([match[2][0] ^ 1]))
change_loss = replace("metrics.jsonl", rb'("epoch": 1.*?"validation_loss": )[\d.]+', rb"\g<1>0.5")
FORGERIES = [
    ("differs", "epoch 1: validation_loss: recorded 0.5, computed ", change_loss),
    ("differs", "model.safetensors: layers.0.bias, number 0: recorded ", change_weight),
    (
        "differs",
        "model.safetensors: has a header that",
        replace("model.safetensors", rb'"scale"', b'"none" '),
    ),
    ("differs", "run.json: seed: recorded ", alter("config", seed=7)),
    ("differs", "epoch 0: fingerprint: recorded ", alter("config", init="he")),
    ("differs", "run.json: metrics.test_loss: recorded 1, computed ", alter("metrics", test_loss=1)),
    ("differs", "run.json: metrics.note: recorded 1, computed nothing", alter("metrics", note=1)),
    ("differs", "run.json: fingerprint: recorded 0, computed ", alter(fingerprint="0")),
    ("differs", "run.json: note: is no key of a record", alter(note=1)),
    ("differs", "run.json: config.note: is no key of a record", alter("config", note=1)),
    ("differs", "run.json: data.classes: recorded 4, computed 3", alter("data", classes=4)),
    (
        "differs",
        "checkpoint-9.safetensors: is no file of",
        lambda run: (run / "checkpoint-9.safetensors").touch(),
    ),
    ("refused", "the run was trained in native arithmetic", alter("config", arithmetic="native")),
    ("refused", "the run follows version 2 of the specification", alter(specification_version=2)),
    ("refused", "the run is interrupted: ", alter(status="interrupted")),
    ("refused", "the run has the data of a CSV file: ", alter("config", label="x")),
    ("refused", 'run.json: config.epochs: cannot be "5"', alter("config", epochs="5")),
    ("refused", "the run was trained on other data: ", alter("data", sha256="0" * 64)),
]
UNSEALED = [
    ("differs", "run.json: is not what was recorded (SHA-256 ", alter("metrics", test_loss=1)),
    (
        "refused",
        'run.json: the key "seed" occurs twice',
        replace("run.json", rb'"seed": ', b'"seed": 3, "seed": '),
    ),
]


def test_true_runs_are_the_same_bits_and_the_first_difference_of_forged_ones_is_named(runs, tmp_path):
    folders = [path for kind in ("pixels", "floats") for path in (runs / kind, runs / f"{kind}-data")]
    for number, row in enumerate(FORGERIES + UNSEALED):
        run = Path(shutil.copytree(runs / "pixels", tmp_path / str(number)))
        row[-1](run)
        if row in FORGERIES:
            seal(run)
        folders += [run, runs / "pixels-data"]
    *true, twice = node("browser_tasks.mjs", BROWSER, "verify", *folders, runs / "pixels", runs / "pixels")
    assert [each["outcome"] for each in true[:2]] == ["same", "same"], true[:2]
    assert "checkpoint-2.safetensors" in true[0]["notes"][0]
    assert twice["line"].startswith("two files are named ")
    for (outcome, message, _), each in zip(FORGERIES + UNSEALED, true[2:], strict=True):
        assert (each["outcome"], each["line"][: len(message)]) == (outcome, message)


def test_the_page_is_that_of_its_sources_which_know_every_setting_and_the_published_fingerprints():
    assert browser_page.PAGE.read_text() == browser_page.build_page(), "run python scripts/browser_page.py"
    assert len((BROWSER / "xpnet.js").read_text().splitlines()) <= 750
    script, verification = (BROWSER / "page.js").read_text(), (BROWSER / "verify.js").read_text()
    assert {int(epochs): x for epochs, x in re.findall(r'(\d+): "(\w{64})"', script)} == PUBLISHED
    assert {each.name for each in fields(TrainConfig)} <= set(re.findall(r"\w+", verification))


@pytest.mark.slow
@pytest.mark.needs("browser")
def test_the_page_verifies_and_trains_from_its_file_without_a_network(browser, runs, tmp_path):
    page, trouble = browser.new_page(viewport={"width": 390, "height": 800}), []
    page.context.set_offline(True)
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url))
    page.goto(browser_page.PAGE.as_uri())

    def result_of(button, *folders):
        for folder in folders:
            page.set_input_files("#files", [str(path) for path in folder.iterdir()])
        page.click(button)
        page.locator("#verdict").wait_for(timeout=120_000)
        text = page.locator("#verdict").inner_text()
        page.click("#forget")
        return text

    assert result_of("#verify", runs / "pixels", runs / "pixels-data").startswith("The same bits\n")
    forged = Path(shutil.copytree(runs / "pixels", tmp_path / "forged"))
    change_weight(forged)
    seal(forged)
    assert "Differs\n\nmodel.safetensors: layers.0.bias" in result_of("#verify", forged, runs / "pixels-data")
    page.fill("#epochs", "1")
    text = result_of("#train", MNIST)
    assert text.startswith("The same bits as published\n")
    assert PUBLISHED[1] in text
    assert page.locator("#chart path.curve").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [text for text in trouble if not text.startswith(("file:", "data:,", "blob:"))] == []
    assert page.evaluate("fetch('data:,').then(() => 'sent', () => 'forbidden')") == "forbidden"
    page.context.close()
