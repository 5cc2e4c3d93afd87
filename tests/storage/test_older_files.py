"""Files that earlier versions wrote: this version reads them, and they give what they gave then.

tests/fixtures/make.py wrote a folder for each version. All tests go through the commands and
the public names, and work on a copy.
"""

import json
import os
import shutil
import tomllib
from pathlib import Path

import commands
import numpy as np
import pytest
from backend_enum import BackendCase

import xpnet
from xpnet.__main__ import main

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
EXPECTED = {
    path.parent.name: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*/expected.json"))
}
"""What the files of each version gave when it wrote them."""
ROUNDED = 1e-4
"""How near float32 in native arithmetic, whose last digits depend on the machine, is to what it was."""

DATA = "shapes.npz"
SMALL = (
    *("--data", DATA, "--device", "cpu", "--hidden", "12", "--batch-size", "16"),
    *("--no-report", "--name", "next"),
)
"""The settings of the models, as in make.py."""


def for_each(kind):
    """Parameters for each model, or each run that goes on, of each version."""
    names = [(version, name) for version, then in EXPECTED.items() for name in then[kind]]
    return pytest.mark.parametrize(("version", "name"), names)


@pytest.fixture
def then(version, tmp_path, monkeypatch):
    """What the files gave; the test works in a copy of them, whose runs were left an hour ago."""
    folder = shutil.copytree(FIXTURES / version, tmp_path / "files")
    for path in folder.glob("runs/**/run.json"):
        left = path.stat().st_mtime - 3600
        os.utime(path, (left, left))
    monkeypatch.chdir(folder)
    return EXPECTED[version]


@pytest.fixture
def command(capsys):
    """Run ``xpnet WORDS``, and return what it prints."""
    return lambda *words: commands.printed(capsys, *words)


@pytest.fixture
def run_json(command):
    """What ``xpnet WORDS --json`` prints."""
    return lambda *words: json.loads(command(*words, "--json"))


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
    """The metrics of a run's epochs."""
    lines = Path("runs", name, "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


@for_each("models")
def test_a_model_gives_what_it_gave(then, name, run_json):
    before, path = then["models"][name], f"models/{name}.safetensors"
    tolerance = 0 if before["exact"] else ROUNDED
    model = xpnet.load(path, device="cpu")
    assert (list(model.sizes), model.fingerprint) == (before["sizes"], before["fingerprint"])
    with np.load(DATA) as data, np.load("probabilities.npz") as probabilities:
        actual, expected = model.predict_proba(data["x_test"]), probabilities[name]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    predictions = run_json("predict", path, DATA, "--device", "cpu")["predictions"]
    assert [prediction["predicted"] for prediction in predictions] == before["predicted"]
    evaluation = run_json("evaluate", path, "--data", DATA, "--device", "cpu")
    assert (evaluation["confusion"], evaluation["accuracy"]) == (before["confusion"], before["accuracy"])
    assert evaluation["loss"] == pytest.approx(before["loss"], rel=tolerance, abs=0)


@for_each("models")
def test_training_starts_from_a_model(then, name, command):
    before = then["models"][name]
    words = ("train", "--init-from", f"models/{name}.safetensors", *SMALL, *before["settings"])
    command(*words, "--epochs", "0")
    assert record("next")["fingerprint"] == before["fingerprint"]
    if "native" not in before["settings"]:
        command(*words, "--epochs", "2", "--overwrite")
        assert record("next")["fingerprint"] == before["fingerprint_two_epochs_later"]


@pytest.mark.parametrize("version", EXPECTED)
def test_runs_are_listed_shown_and_compared_as_they_were(then, command, run_json):
    assert holds(run_json("runs", "list"), then["listed"])
    for name in ("complete", "stopped", "killed", "failed"):
        content = run_json("runs", "show", name)
        assert holds(content, {**record(name), "status": content["status"]})
        assert record(name)["started"] in command("runs", "show", name)
    for name in ("seeds", "rates"):
        text = command("runs", "show", name)
        for trial in json.loads(Path("runs", name, "summary.json").read_text())["trials"]:
            assert f"{name}/{trial['run']}" in text
            assert trial["fingerprint"][:12] in text
    content = run_json("runs", "compare", "complete", "stopped", "killed", "seeds")
    assert content["runs"] == ["complete", "stopped", "killed", "seeds/seed-0", "seeds/seed-1"]
    assert content["fingerprints"] == [record(name)["fingerprint"] for name in content["runs"]]
    assert not run_json("runs", "compare", "complete", "stopped")["settings"]


@pytest.mark.parametrize("version", EXPECTED)
def test_a_run_is_evaluated_and_predicts_and_has_its_history(then, command, run_json):
    assert holds(run_json("evaluate", "runs/complete"), then["evaluated"])
    command("evaluate", "runs/stopped", "--split", "train")
    model = xpnet.load("runs/complete", device="cpu")
    assert model.fingerprint == record("complete")["fingerprint"]
    assert [{**row, "seconds": None} for row in model.history] == rows("complete")
    predictions = run_json("predict", "runs/complete", DATA)["predictions"]
    with np.load(DATA) as data:
        probabilities = model.predict_proba(data["x_test"])
    assert [prediction["probabilities"] for prediction in predictions] == probabilities.tolist()


@pytest.mark.parametrize("version", EXPECTED)
@pytest.mark.parametrize("name", ["complete", "stopped", "seeds/seed-1"])
def test_a_run_has_a_report(then, name, command):
    command("report", f"runs/{name}", "--out", "page.html")
    page = Path("page.html").read_text()
    assert record(name)["fingerprint"] in page
    assert "</html>" in page


def goes_on():
    """Parameters for each run of each version that goes on, and for a killed one with other backends."""
    rows = [(each, name, BackendCase.NUMPY) for each, then in EXPECTED.items() for name in then["resumed"]]
    for case in (BackendCase.STRICT, BackendCase.TORCH):
        rows += [pytest.param(each, "killed", case, marks=pytest.mark.slow) for each in EXPECTED]
    return pytest.mark.parametrize(("version", "name", "backend"), rows)


@goes_on()
def test_a_run_that_goes_on_ends_as_if_it_was_never_stopped(then, name, backend):
    assert main(["train", "--resume", f"runs/{name}", "--backend", backend.backend_name, "--quiet"]) == 0
    content, expected = record(name), then["resumed"][name]
    assert (content["status"], content["fingerprint"]) == ("completed", expected["fingerprint"])
    assert holds(content["metrics"], expected["metrics"])
    assert name != "killed" or rows("killed") == rows("complete")
    files = {path.name for path in Path("runs", name).iterdir()}
    assert files == {"metrics.jsonl", "model.safetensors", "run.json"}


@pytest.mark.parametrize("version", EXPECTED)
@pytest.mark.parametrize("name", ["printed", "by-hand"])
def test_settings_mean_what_they_meant(then, name, command):
    content = tomllib.loads(command("train", "--config", f"{name}.toml", "--print-config"))
    printed = "by-hand-printed.toml" if name == "by-hand" else "printed.toml"
    expected = tomllib.loads(Path(printed).read_text())
    if name == "by-hand":
        expected["log_every"] = "auto"  # the default, which was 10
    assert holds(content, expected)
