"""FIFOs and devices in place of the files of a run, or of settings: refused at once, not waited for."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet import train

pytestmark = pytest.mark.skipif(os.name != "posix", reason="has no such files")

PATIENCE = 60
"""Seconds after which a command is taken to wait for ever."""


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    x, y = np.arange(40, dtype=np.uint8).reshape(10, 4), np.arange(10) % 2
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(tmp_path)


def device(path):
    path.symlink_to("/dev/zero")


def link_to_a_fifo(path):
    os.mkfifo("elsewhere")
    path.symlink_to(Path("elsewhere").resolve())


def refusal(*words):
    """The line on standard error of a command that ends with code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "xpnet", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("put", [os.mkfifo, device, link_to_a_fifo])
@pytest.mark.parametrize(
    ("name", "commands"),
    [
        (
            "run.json",
            [
                ("train", "--resume", "runs/run"),
                ("report", "runs/run"),
                ("predict", "runs/run", "small.npz"),
                ("evaluate", "runs/run"),
                ("runs", "show", "run"),
            ],
        ),
        (
            "metrics.jsonl",
            [
                ("train", "--resume", "runs/run"),
                ("report", "runs/run"),
                ("runs", "show", "run"),
            ],
        ),
    ],
)
def test_a_special_file_in_a_run_is_refused(name, commands, put):
    words = ["--data", "small.npz", "--name", "run", "--epochs", "1", "--quiet", "--no-report"]
    assert train.main(words) == 0
    path = Path("runs/run", name)
    if name == "metrics.jsonl":
        record = Path("runs/run/run.json")
        record.write_text(record.read_text().replace('"completed"', '"interrupted"'))
    path.unlink()
    put(path)
    for command in commands:
        assert f"runs/run/{name}: is not a regular file: expected a" in refusal(*command)


@pytest.mark.parametrize("put", [os.mkfifo, device, link_to_a_fifo])
def test_a_special_file_of_settings_is_refused(put):
    put(Path("mine.toml"))
    message = "mine.toml: is not a regular file: --config takes a TOML file"
    assert message in refusal("train", "--config", "mine.toml")
