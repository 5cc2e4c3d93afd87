"""Files that earlier versions wrote: this version reads them, and they give what they gave then.

scripts/make_fixtures.py wrote a folder for each version. All tests go through the commands and
the public names, and work on a copy.
"""

import json
import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from commands import printed, printed_json

import xpnet
from xpnet.__main__ import main
from xpnet.storage.schemas import list_keys

FIXTURES = ROOT / "tests" / "fixtures"
RECIPES = ROOT / "xpnet" / "config" / "recipes"
EXPECTED = {
    path.parent.name: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*/expected.json"))
}
DATA = "shapes.npz"
SMALL = f"--data {DATA} --device cpu --hidden 12 --batch-size 16 --no-report --name next".split()

QUICK = "plain", "batch-norm", "native-float32", "stopped"
"""The models and resumed runs of each version that are not slow: one for each kind of file."""


def of_each_version(kind):
    """Parameters version and name of all models or resumed runs."""
    return [
        pytest.param(version, name, marks=() if name in QUICK else pytest.mark.slow)
        for version, then in EXPECTED.items()
        for name in then[kind]
    ]


@pytest.fixture
def then(version, tmp_path, monkeypatch):
    """What the files gave; the test works in a copy of them, whose runs were left an hour ago."""
    folder = shutil.copytree(FIXTURES / version, tmp_path / "files")
    for path in folder.glob("runs/**/run.json"):
        left = path.stat().st_mtime - 3600
        os.utime(path, (left, left))
    monkeypatch.chdir(folder)
    return EXPECTED.get(version)


def holds(now, before):
    """Whether a JSON value has all that an earlier one has; it may have more."""
    if isinstance(before, dict):
        return all(key in now and holds(now[key], value) for key, value in before.items())
    if isinstance(before, list):
        return len(now) == len(before) and all(map(holds, now, before))
    return now == before


def record(name):
    return json.loads(Path("runs", name, "run.json").read_text())


def rows(name):
    """The metrics of a run's epochs, without what ``Model.history`` leaves out."""
    lines = map(json.loads, Path("runs", name, "metrics.jsonl").read_text().splitlines())
    return [{key: row[key] for key in row if key not in ("fingerprint", "seconds")} for row in lines]


@pytest.mark.parametrize(("version", "name"), of_each_version("models"))
def test_a_model_gives_what_it_gave_and_training_starts_from_it(then, name, capsys):
    before, path = then["models"][name], f"models/{name}.safetensors"
    tolerance = 0 if before["exact"] else 1e-4  # of float32, whose last digits depend on the machine
    model = xpnet.load(path, device="cpu")
    assert (list(model.sizes), model.fingerprint) == (before["sizes"], before["fingerprint"])
    with np.load(DATA) as data, np.load("probabilities.npz") as probabilities:
        actual, expected = model.predict_proba(data["x_test"]), probabilities[name]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    if "native" not in before["settings"]:
        printed(capsys, "train", "--init-from", path, *SMALL, *before["settings"], "--epochs", "2")
        assert record("next")["fingerprint"] == before["fingerprint_two_epochs_later"]


@pytest.mark.parametrize("version", EXPECTED)
def test_runs_are_listed_shown_and_evaluated_as_they_were_and_have_a_report(then, capsys):
    assert holds(printed_json(capsys, "runs", "list"), then["listed"])
    content = printed_json(capsys, "runs", "show", "killed")
    assert holds(content, {**record("killed"), "status": content["status"]})
    assert holds(printed_json(capsys, "evaluate", "runs/complete"), then["evaluated"])
    assert holds(xpnet.load("runs/complete", device="cpu").history, rows("complete"))
    printed(capsys, "report", "runs/stopped", "--out", "page.html")
    assert record("stopped")["fingerprint"] in Path("page.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("version", "name"), of_each_version("resumed"))
def test_a_run_that_goes_on_ends_as_if_it_was_never_stopped(then, version, name):
    assert main(["train", "--resume", f"runs/{name}", "--quiet"]) == 0
    content, expected = record(name), then["resumed"][name]
    assert (content["status"], content["fingerprint"]) == ("completed", expected["fingerprint"])
    assert holds(content["metrics"], expected["metrics"])
    assert content["schema_version"] == {"0.1.0": 1, "0.2.0": 2, "0.3.0": 3, "0.4.0": 4}[version]
    assert name != "killed" or holds(rows("killed"), rows("complete"))
    assert sorted(content) == list_keys(content["schema_version"], "record")
    assert content["config"]["arithmetic"] == "native" or xpnet.verify(f"runs/{name}")


VERIFIED = [(version, "stopped") for version in EXPECTED]
VERIFIED += [(version, name) for version in ("0.3.0", "0.4.0") for name in ("extended", "mpi", "fit")]
VERIFIED += [("0.4.0.dev0", "balanced"), ("0.4.0", "weighted"), ("0.4.0", "encoded")]


@pytest.mark.parametrize(("version", "name"), VERIFIED)
def test_runs_of_every_kind_are_verified(then, name):
    arrays = []
    if name == "fit":
        with np.load(DATA) as data:
            arrays = [data["x_train"], data["y_train"]]
    assert xpnet.verify(f"runs/{name}", *arrays)


def test_with_weights_the_best_epoch_of_an_older_run_is_that_of_the_highest_accuracy(tmp_path, monkeypatch):
    """0.4.0.dev0 made these, before there was a setting for it; weighted accuracy chooses other epochs."""
    monkeypatch.chdir(shutil.copytree(FIXTURES / "0.4.0.dev0", tmp_path / "files"))
    with np.load("rare.npz") as data:
        x, y, held = data["x_train"], data["y_train"], (data["x_test"], data["y_test"])
    weights, before = np.where(y == 0, 0.1, 1.5), record("balanced")
    assert xpnet.verify("runs/weighted", x, y, validation_data=held, sample_weight=weights)
    assert main(["train", "--resume", "runs/stopped", "--quiet"]) == 0
    resumed = record("stopped")
    assert (resumed["schema_version"], "best_by" in resumed["config"]) == (3, False)
    assert (resumed["fingerprint"], resumed["metrics"]["best_epoch"]) == (before["fingerprint"], 12)
    assert xpnet.verify("runs/stopped")
    assert main(["train", "--extend", "runs/balanced", "--epochs", "1", "--name", "more", "--quiet"]) == 0
    more = record("more")
    assert (more["config"]["best_by"], more["metrics"]["best_epoch"]) == ("accuracy", 12)


@pytest.mark.parametrize("version", EXPECTED)
@pytest.mark.parametrize(("name", "file"), [("printed", "printed"), ("by-hand", "by-hand-printed")])
def test_settings_mean_what_they_meant_but_for_those_of_a_recipe(then, name, file, capsys):
    content = tomllib.loads(printed(capsys, "train", "--config", f"{name}.toml", "--print-config"))
    own, expected = (tomllib.loads(Path(f"{each}.toml").read_text()) for each in (name, file))
    recipe = tomllib.loads((RECIPES / f"{own['recipe']}.toml").read_text()) if "recipe" in own else {}
    new = {**recipe, "log_every": "auto"}  # a recipe may become better; the default of log_every was 10
    assert holds(content, expected | {key: new[key] for key in new.keys() - own.keys()})
