"""A training that is stopped and goes on ends as one that was never stopped."""

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from ctrl_c import pressed

from xpnet import train
from xpnet.storage.checkpoint import load_checkpoint, save_checkpoint
from xpnet.storage.record import read_metrics, read_run
from xpnet.training import callbacks

COMMAND = [sys.executable, "-m", "xpnet.train"]
SETTINGS = [
    *("--data", "small.npz", "--hidden", "24", "--epochs", "40", "--batch-size", "16"),
    *("--optimizer", "adam", "--lr", "0.01", "--dropout", "0.2", "--batch-norm"),
    *("--augment-rotate", "5", "--validation", "60", "--patience", "39", "--log-every", "1"),
    *("--schedule", "cosine", "--checkpoint-seconds", "0.001", "--no-report"),
]
KILLS = 20


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 500 + 50 images of 6 by 6 pixels, 4 classes."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(550, 36), dtype=np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(36, 4)), axis=1)
    np.savez(tmp_path / "small.npz", x_train=x[:500], y_train=y[:500], x_test=x[500:], y_test=y[500:])
    monkeypatch.chdir(tmp_path)


def outcome(name):
    """What must not depend on interruptions."""
    folder = Path("runs") / name
    record = read_run(folder)
    assert record["status"] == "completed"
    rows = [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in read_metrics(folder / "metrics.jsonl")
    ]
    metrics = {key: value for key, value in record["metrics"].items() if key != "seconds"}
    return record["fingerprint"], rows, metrics


def changed_at(path):
    """When a file was replaced last; None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def killed(words, checkpoint, wait):
    """Run a command, and kill it `wait` seconds after it has saved a checkpoint; whether it was running."""
    before = changed_at(checkpoint)
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and changed_at(checkpoint) == before:
            time.sleep(0.002)
        time.sleep(wait)
        running = process.poll() is None
        process.kill()
    return running


def test_after_kills_at_random_instants_the_result_is_the_same():
    assert train.main([*SETTINGS, "--name", "whole", "--quiet"]) == 0
    generator = np.random.default_rng(1)
    kills = 0
    while kills < KILLS:  # one training, or several where the machine lets it run on between them
        checkpoint = Path("runs/killed/checkpoint.safetensors")
        words = [*SETTINGS, "--name", "killed", "--overwrite"]
        resumed = 0
        while kills < KILLS and killed(words, checkpoint, generator.uniform(0.0, 0.03)):
            resumed += words[0] == "--resume"
            kills += 1
            words = ["--resume", "runs/killed"]
        if read_run(Path("runs/killed"))["status"] != "completed":
            assert train.main(["--resume", "runs/killed", "--quiet"]) == 0
        assert outcome("killed") == outcome("whole")
        assert len(read_run(Path("runs/killed"))["resumed"]) >= resumed
        assert not checkpoint.exists()


def test_after_ctrl_c_it_goes_on(capsys):
    assert train.main([*SETTINGS, "--name", "whole", "--quiet"]) == 0
    process = pressed(5, [*SETTINGS, "--name", "stopped"])
    assert "and --resume runs/stopped goes on" in process.stdout
    assert process.returncode == 130
    assert read_run(Path("runs/stopped"))["status"] == "interrupted"
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("stopped") == outcome("whole")


def test_after_ctrl_c_between_epoch_0_and_the_first_step_no_row_stands_twice(monkeypatch):
    assert train.main([*SETTINGS, "--name", "whole", "--quiet"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "defer_interrupts", lambda _: nullcontext(lambda: True))
        assert train.main([*SETTINGS, "--name", "stopped", "--quiet"]) == 130
    metrics = Path("runs/stopped/metrics.jsonl")
    assert [row["epoch"] for row in read_metrics(metrics)] == [0]
    assert Path("runs/stopped/checkpoint.safetensors").exists()
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert [row["epoch"] for row in read_metrics(metrics)] == list(range(41))
    assert outcome("stopped") == outcome("whole")


def interrupted_run(name="run", *more):
    """A run that was interrupted after its first epoch, on this very command line."""
    assert pressed(1, [*SETTINGS, *more, "--name", name]).returncode == 130


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr", "0.5"], "--learning-rate: runs/run was started with 0.01, got 0.5: leave it out"),
        (["--epochs", "41"], "--epochs: runs/run was started with 40, got 41: leave it out"),
    ],
)
def test_other_settings_are_refused_with_the_difference(capsys, more, message):
    interrupted_run()
    before = Path("runs/run/run.json").read_bytes()
    assert train.main(["--resume", "runs/run", *more]) == 2
    assert message in capsys.readouterr().err
    assert Path("runs/run/run.json").read_bytes() == before


def test_what_only_says_where_to_compute_may_change():
    assert train.main([*SETTINGS, "--name", "whole", "--quiet"]) == 0
    interrupted_run()
    assert train.main(["--resume", "runs/run", "--backend", "array-api-strict", "--quiet"]) == 0
    assert outcome("run") == outcome("whole")


def test_a_report_may_be_asked_for_later():
    interrupted_run()
    assert not Path("runs/run/report.html").exists()
    assert train.main(["--resume", "runs/run", "--report", "--quiet"]) == 0
    assert Path("runs/run/report.html").exists()


def test_other_data_are_refused(capsys):
    interrupted_run()
    with np.load("small.npz") as data:
        arrays = dict(data)
    arrays["x_train"][0, 0] ^= 1
    np.savez("small.npz", **arrays)
    assert train.main(["--resume", "runs/run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("xpnet: --resume: runs/run was trained on other data: small with SHA-256")
    assert err.count("\n") == 1
    assert read_run(Path("runs/run"))["status"] == "interrupted"


def test_a_complete_run_does_not_go_on(capsys):
    words = ["--data", "small.npz", "--epochs", "1", "--name", "run", "--quiet", "--no-report"]
    assert train.main(words) == 0
    assert train.main(["--resume", "runs/run"]) == 2
    assert "is complete" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"garbage", json.dumps({"a": 1}).encode()])
def test_a_damaged_checkpoint_is_one_line(capsys, content):
    interrupted_run()
    Path("runs/run/checkpoint.safetensors").write_bytes(content)
    assert train.main(["--resume", "runs/run"]) == 2
    err = capsys.readouterr().err
    assert "runs/run/checkpoint.safetensors" in err
    assert err.count("\n") == 1


def test_a_checkpoint_without_an_array_is_named_with_a_remedy_that_helps(capsys):
    assert train.main([*SETTINGS, "--name", "whole", "--quiet"]) == 0
    interrupted_run()
    path = Path("runs/run/checkpoint.safetensors")
    arrays, facts = load_checkpoint(path)
    name = next(name for name in arrays if name.startswith("state.2."))
    del arrays[name]
    save_checkpoint(path, arrays, facts)
    assert train.main(["--resume", "runs/run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f'xpnet: {path}: not a checkpoint of this training: "{name}": expected float64 of')
    assert err.endswith("got no such array: remove the file, and --resume starts from the first epoch\n")
    assert err.count("\n") == 1
    path.unlink()
    assert train.main(["--resume", "runs/run", "--quiet"]) == 0
    assert outcome("run") == outcome("whole")


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_a_run_is_one_line(capsys, folder):
    assert train.main(["--resume", folder]) == 2
    err = capsys.readouterr().err
    assert err.startswith("xpnet: ")
    assert err.count("\n") == 1
