"""--dry-run says what would be trained, how large it is and how long it takes, and trains nothing."""

import itertools
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from commands import printed

from xpnet.config import from_json, parse


@pytest.fixture(autouse=True)
def folder(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(recorded / "small.npz", ".")


@pytest.mark.parametrize("words", [[], ["--hidden", "5", "3", "--batch-size", "100", "--repeats", "4"]])
def test_settings_parameters_memory_and_time_are_printed_and_nothing_is_written(words, capsys):
    out = printed(capsys, "train", "--data", "small.npz", "--dry-run", *words)
    config = parse(["--data", "small.npz", *words], "train").config
    assert from_json(tomllib.loads(out), "out") == config
    parameters = sum(b * (a + 1) for a, b in itertools.pairwise((36, *config.hidden, 4)))
    assert f"\n# parameters    {parameters}\n" in out
    (mebibytes,) = re.findall(r"^# memory +about ([\d,]+) MiB$", out, re.MULTILINE)
    assert 30 < int(mebibytes.replace(",", "")) < 20_000
    steps = "1 step" if config.batch_size == "full" else "2 steps"
    trainings = "4 trainings, one at a time, of " if words else ""
    trainings += f"{config.epochs} epochs of {steps}"
    form = rf"^# time +about [\d.e-]+ s: {trainings} of [\d.e-]+ ms, and evaluation$"
    assert re.search(form, out, re.MULTILINE)
    assert [path.name for path in Path().iterdir()] == ["small.npz"]


def test_an_extension_counts_the_epochs_that_it_adds(recorded, capsys):
    shutil.copytree(recorded / "runs/plain", "runs/plain")
    out = printed(capsys, "train", "--dry-run", "--extend", "runs/plain", "--epochs", "2")
    assert "\n# epochs 4 to 5, after those of runs/plain\n" in out
    assert "s: 2 epochs of 3 steps of " in out
    Path("again.toml").write_text(out)
    again = printed(capsys, "train", "--dry-run", "--config", "again.toml")
    assert tomllib.loads(again) == tomllib.loads(out)
    assert [path.name for path in Path("runs").iterdir()] == ["plain"]
