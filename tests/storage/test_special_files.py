"""FIFOs in place of the files of a run, or of settings: refused at once, not waited for."""

import os
from pathlib import Path

import numpy as np
import pytest
from commands import complaint

from xpnet.__main__ import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="has no such files")

COMMANDS = {
    "run.json": ["train --resume", "report", "predict", "evaluate", "runs show"],
    "metrics.jsonl": ["train --resume", "report", "runs show"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_special_file_in_a_run_is_refused(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(40, dtype=np.uint8).reshape(10, 4), np.arange(10) % 2
    np.savez("small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    words = ["--data", "small.npz", "--name", "run", "--epochs", "1", "--quiet", "--no-report"]
    assert main(["train", *words]) == 0
    record = Path("runs/run/run.json")
    record.write_text(record.read_text().replace('"completed"', '"interrupted"'))
    Path("runs/run", name).unlink()
    os.mkfifo(Path("runs/run", name))
    for command in COMMANDS[name]:
        more = ["small.npz"] if command == "predict" else []
        line = complaint(capsys, *command.split(), "runs/run", *more)
        assert f"runs/run/{name}: is not a regular file: expected a" in line


def test_a_special_file_of_settings_is_refused(capsys, tmp_path):
    os.mkfifo(tmp_path / "mine.toml")
    message = "mine.toml: is not a regular file: --config takes a TOML file"
    assert message in complaint(capsys, "train", "--config", tmp_path / "mine.toml")
