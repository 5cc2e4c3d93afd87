"""Files that earlier versions wrote: this version reads them, and they give what they gave then.

tests/fixtures/make.py wrote a folder for each version. All tests go through the command line and
the public names, and works on a copy.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from backend_enum import BackendCase

import xpnet

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
VERSIONS = sorted(path.parent.name for path in FIXTURES.glob("*/expected.json"))
ROUNDED = 1e-4
"""How near float32 in native arithmetic, whose last digits depend on the machine, is to what it was."""

DATA = "shapes.npz"
SMALL = (
    *("--data", DATA, "--device", "cpu", "--hidden", "12", "--batch-size", "16"),
    *("--no-report", "--name", "next"),
)
"""The settings of the models, as in make.py."""


@cache
def expected(version):
    """What the files of a version gave when it wrote them."""
    return json.loads((FIXTURES / version / "expected.json").read_text())


def for_each(kind):
    """Parameters for each model, or each run that goes on, of each version."""
    names = [(version, name) for version in VERSIONS for name in expected(version)[kind]]
    return pytest.mark.parametrize(("version", "name"), names)


every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def then(version, tmp_path, monkeypatch):
    """What the files gave; the test works in a copy of them, whose runs were left an hour ago."""
    folder = tmp_path / "files"
    shutil.copytree(FIXTURES / version, folder)
    for path in folder.glob("runs/**/run.json"):
        left = path.stat().st_mtime - 3600
        os.utime(path, (left, left))
    monkeypatch.chdir(folder)
    return expected(version)


def command(*words):
    """Run ``xpnet WORDS``, and return what it prints."""
    answer = subprocess.run(
        [sys.executable, "-m", "xpnet", *words], check=False, capture_output=True, encoding="utf-8"
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def run_json(*words):
    """What ``xpnet WORDS --json`` prints."""
    return json.loads(command(*words, "--json"))


def holds(now, before):
    """Whether a JSON value has all that an earlier one has; it may have more."""
    if isinstance(before, dict):
        return all(key in now and holds(now[key], value) for key, value in before.items())
    if isinstance(before, list):
        return len(now) == len(before) and all(map(holds, now, before))
    return now == before


def record(name):
    """The record of a run."""
    return json.loads(Path("runs", name, "run.json").read_text())


def rows(name):
    """The figures of a run's epochs."""
    lines = Path("runs", name, "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


def assert_as_then(actual, before, *, exact):
    """Assert that numbers are those of then, bit for bit in reproducible arithmetic."""
    if exact:
        np.testing.assert_array_equal(actual, before)
    else:
        np.testing.assert_allclose(actual, before, rtol=ROUNDED, atol=ROUNDED)


# --- models


@for_each("models")
def test_a_model_gives_what_it_gave(then, name):
    before, model = then["models"][name], xpnet.load(f"models/{name}.safetensors", device="cpu")
    with np.load(DATA) as data:
        x, y = data["x_test"], data["y_test"]
    evaluation = model.evaluate(x, y)
    assert list(model.sizes) == before["sizes"]
    assert model.fingerprint == before["fingerprint"]
    assert model.predict(x).tolist() == before["predicted"]
    assert evaluation.accuracy == before["accuracy"]
    assert evaluation.confusion.tolist() == before["confusion"]
    with np.load("probabilities.npz") as probabilities:
        assert_as_then(model.predict_proba(x), probabilities[name], exact=before["exact"])
    assert_as_then(evaluation.loss, before["loss"], exact=before["exact"])


@for_each("models")
def test_commands_take_a_model(then, name):
    before, path = then["models"][name], f"models/{name}.safetensors"
    predictions = run_json("predict", path, DATA, "--device", "cpu")["predictions"]
    assert [prediction["predicted"] for prediction in predictions] == before["predicted"]
    with np.load("probabilities.npz") as probabilities:
        actual = [prediction["probabilities"] for prediction in predictions]
        assert_as_then(actual, probabilities[name], exact=before["exact"])
    evaluation = run_json("evaluate", path, "--data", DATA, "--device", "cpu")
    assert evaluation["confusion"] == before["confusion"]
    assert_as_then(evaluation["loss"], before["loss"], exact=before["exact"])


@for_each("models")
def test_training_starts_from_a_model(then, name):
    before = then["models"][name]
    words = ("train", "--init-from", f"models/{name}.safetensors", *SMALL, *before["settings"])
    command(*words, "--epochs", "0")
    assert record("next")["fingerprint"] == before["fingerprint"]
    if "native" not in before["settings"]:
        command(*words, "--epochs", "2", "--overwrite")
        assert record("next")["fingerprint"] == before["fingerprint_two_epochs_later"]


# --- runs


@every_version
def test_runs_are_listed_as_they_were(then):
    assert holds(run_json("runs", "list"), then["listed"])


@every_version
@pytest.mark.parametrize("name", ["complete", "stopped", "killed", "failed"])
def test_everything_about_a_run_is_shown(then, name):
    content = run_json("runs", "show", name)
    assert holds(content, {**record(name), "status": content["status"]})
    assert record(name)["started"] in command("runs", "show", name)


@every_version
@pytest.mark.parametrize("name", ["seeds", "rates"])
def test_runs_that_were_trained_together_are_shown(then, name):
    summary = json.loads(Path("runs", name, "summary.json").read_text())
    text = command("runs", "show", name)
    for trial in summary["trials"]:
        assert f"{name}/{trial['run']}" in text
        assert trial["fingerprint"][:12] in text


@every_version
def test_runs_are_compared(then):
    content = run_json("runs", "compare", "complete", "stopped", "killed", "seeds")
    names = ["complete", "stopped", "killed", "seeds/seed-0", "seeds/seed-1"]
    assert content["runs"] == names
    assert content["fingerprints"] == [record(name)["fingerprint"] for name in names]
    assert not run_json("runs", "compare", "complete", "stopped")["settings"]


@every_version
def test_a_run_is_evaluated(then):
    assert holds(run_json("evaluate", "runs/complete"), then["evaluated"])
    command("evaluate", "runs/stopped", "--split", "train")


@every_version
def test_a_run_predicts_and_has_its_history(then):
    model = xpnet.load("runs/complete", device="cpu")
    assert model.fingerprint == record("complete")["fingerprint"]
    assert [{**row, "seconds": None} for row in model.history] == rows("complete")
    predictions = run_json("predict", "runs/complete", DATA)["predictions"]
    with np.load(DATA) as data:
        probabilities = model.predict_proba(data["x_test"])
        right = [prediction["predicted"] for prediction in predictions] == data["y_test"]
    assert [prediction["probabilities"] for prediction in predictions] == probabilities.tolist()
    assert right.mean() == record("complete")["metrics"]["test_accuracy"]


@every_version
@pytest.mark.parametrize("name", ["complete", "stopped", "seeds/seed-1"])
def test_a_run_has_a_report(then, name):
    command("report", f"runs/{name}", "--out", "page.html")
    page = Path("page.html").read_text()
    assert record(name)["fingerprint"] in page
    assert "</html>" in page


# --- runs that go on


def assert_goes_on(name, backend, then):
    """Resume a run, and assert that it ends as the training that was never stopped."""
    command("train", "--resume", f"runs/{name}", "--backend", backend.backend_name)
    content = record(name)
    assert content["status"] == "completed"
    assert content["fingerprint"] == then["resumed"][name]["fingerprint"]
    assert holds(content["metrics"], then["resumed"][name]["metrics"])
    assert sorted(path.name for path in Path("runs", name).iterdir()) == [
        "metrics.jsonl",
        "model.safetensors",
        "run.json",
    ]


@for_each("resumed")
@pytest.mark.parametrize("backend", [BackendCase.NUMPY])
def test_a_run_goes_on_to_the_same_end(then, name, backend):
    assert_goes_on(name, backend, then)


@every_version
@pytest.mark.parametrize("backend", [BackendCase.STRICT, BackendCase.TORCH])
def test_a_killed_run_goes_on_with_another_backend(then, backend):
    assert_goes_on("killed", backend, then)
    assert rows("killed") == rows("complete")


# --- settings


@every_version
@pytest.mark.parametrize(
    ("file", "printed"),
    [("printed.toml", "printed.toml"), ("by-hand.toml", "by-hand-printed.toml")],
)
def test_settings_mean_what_they_meant(then, file, printed):
    content = tomllib.loads(command("train", "--config", file, "--print-config"))
    assert holds(content, tomllib.loads(Path(printed).read_text()))
