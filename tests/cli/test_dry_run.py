"""--dry-run says what would be trained, how large it is and how long it takes, and trains nothing."""

import itertools
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from commands import complaint, printed
from networks import pixels

import xpnet
from xpnet import train
from xpnet.config import from_json, parse


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = pixels(700, 12, 4)
    np.savez("small.npz", x_train=x, y_train=y, x_test=x, y_test=y)


@pytest.mark.parametrize("words", [[], ["--hidden", "5", "3", "--batch-size", "100", "--epochs", "3"]])
def test_settings_parameters_memory_and_time_are_printed_and_nothing_is_written(words, capsys):
    out = printed(capsys, "train", "--data", "small.npz", "--dry-run", *words)
    config = parse(["--data", "small.npz", *words], "train").config
    assert from_json(tomllib.loads(out), "out") == config
    sizes = (12, *config.hidden, 4)
    parameters = sum(b * (a + 1) for a, b in itertools.pairwise(sizes))
    assert f"\n# parameters    {parameters}\n" in out
    (mebibytes,) = re.findall(r"^# memory +about ([\d,]+) MiB$", out, re.MULTILINE)
    assert 30 < int(mebibytes.replace(",", "")) < 20_000
    steps = "1 step" if config.batch_size == "full" else "7 steps"
    form = rf"^# time +about [\d.e-]+ s: {config.epochs} epochs of {steps} of [\d.e-]+ ms, and evaluation$"
    assert re.search(form, out, re.MULTILINE)
    assert [path.name for path in Path().iterdir()] == ["small.npz"]


def test_the_memory_is_at_least_the_estimate_by_which_trainings_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("xpnet.training.trainer.check_memory", lambda *_: 3 * 2**30)
    monkeypatch.setattr("xpnet.cli.dry_run.peak_memory", lambda: 2**30)
    assert "\n# memory        about 3,072 MiB\n" in printed(
        capsys, "train", "--data", "small.npz", "--dry-run"
    )


def test_several_trainings_take_their_time_together(capsys):
    words = ["--validation", "0.1", "--repeats", "4", "--epochs", "2"]
    out = printed(capsys, "train", "--data", "small.npz", "--dry-run", *words)
    assert "s: 4 trainings, one at a time, of 2 epochs of 1 step of " in out


def test_an_extension_counts_the_epochs_that_it_adds(capsys):
    assert train.main(["--data", "small.npz", "--epochs", "3", "--name", "a", "--quiet", "--no-report"]) == 0
    out = printed(capsys, "train", "--dry-run", "--extend", "runs/a", "--epochs", "2")
    assert "\n# epochs 4 to 5, after those of runs/a\n" in out
    assert "s: 2 epochs of 1 step of " in out
    Path("again.toml").write_text(out)
    again = printed(capsys, "train", "--dry-run", "--config", "again.toml")
    assert tomllib.loads(again) == tomllib.loads(out)
    line = complaint(capsys, "train", "--dry-run", "--resume", "runs/a")
    assert line == "--dry-run: expected a new training, not --resume"
    assert [path.name for path in Path("runs").iterdir()] == ["a"]


def test_an_extension_that_is_refused_has_no_estimate(capsys):
    xpnet.fit([[0.5], [1.5]], [0, 1], epochs=1, run="runs/arrays", report=False)
    line = complaint(capsys, "train", "--dry-run", "--extend", "runs/arrays", "--epochs", "2")
    assert line.startswith("runs/arrays: was trained on arrays in Python, which are in no file")
