"""A training that is stopped and goes on ends as one that was never stopped."""

import contextlib
import itertools
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from ctrl_c import pressed
from networks import pixels

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.record import read_metrics, read_run
from xpnet.training import callbacks

EPOCHS, STEPS = 5, 28  # in an epoch
SETTINGS = [
    *("--data", "small.npz", "--hidden", "24", "--epochs", str(EPOCHS), "--batch-size", "16"),
    *("--optimizer", "adam", "--lr", "0.01", "--dropout", "0.2", "--batch-norm"),
    *("--augment-rotate", "5", "--validation", "60", "--patience", "4", "--log-every", "1"),
    *("--schedule", "cosine", "--no-report"),
]
RUN, CHECKPOINT = Path("runs/run"), Path("runs/run/checkpoint.safetensors")
KILLS = 20


def stop_before(step, name):
    """Train as if Ctrl-C was pressed just before a step."""
    steps = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        stop = contextlib.nullcontext(lambda: next(steps) >= step)
        patch.setattr(callbacks, "defer_interrupts", lambda _: stop)
        assert train.main([*SETTINGS, "--name", name, "--quiet"]) == 130


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with small.npz, a complete run, and one that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("made")
    x, y = pixels(550, 36, 4)
    with contextlib.chdir(folder):
        np.savez("small.npz", x_train=x[:500], y_train=y[:500], x_test=x[500:], y_test=y[500:])
        assert train.main([*SETTINGS, "--name", "whole", "--quiet"]) == 0
        stop_before(STEPS + 10, "run")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="needs a privilege for symbolic links")
@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_a_file_to_append_to_that_is_a_link_is_refused_and_its_target_kept(capsys, name):
    path, target = RUN / name, Path("target")
    target.write_bytes(before := path.read_bytes() if path.exists() else b"important")
    path.unlink(missing_ok=True)
    path.symlink_to(target.resolve())
    problem = "is a symbolic link, to a file that --resume would change: put a copy in its place"
    assert complaint(capsys, "train", "--resume", RUN) == f"{path}: {problem}"
    assert path.is_symlink()
    assert target.read_bytes() == before


@pytest.fixture(autouse=True)
def copied(made, tmp_path, monkeypatch):
    """Work in a copy of that folder."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


NAMED = {
    "evaluate": "",
    "predict": "rows.npy",
    "export": "--to torch",
    "report": "",
    "report runs/run": "--out two.html",
    "runs show": "",
    "runs compare run": "",
    "verify": "--files",
    "train --resume": "",
    "train --dry-run --epochs 1 --extend": "",
    "train --quiet --no-report --epochs 1 --extend": "",
}


@pytest.mark.parametrize("command", NAMED)
def test_a_run_is_named_by_its_folder_or_its_name_in_runs(capsys, command):
    np.save("rows.npy", np.load("small.npz")["x_test"])
    words, name = command.split(), "run" if "--resume" in command else "whole"
    problem = "no such file or folder: expected the folder of a run or its name in runs"
    for wrong in (f"{name}x", f"runs/{name}x"):
        line = complaint(capsys, *words, wrong, *NAMED[command].split())
        assert line.startswith(f"{wrong}: {problem}")
        assert line.endswith(f": did you mean runs/{name}?")
    assert main([*words, name, *NAMED[command].split()]) == 0


def outcome(name):
    """What must not depend on interruptions."""
    folder = Path("runs") / name
    record = read_run(folder)
    assert record["status"] == "completed"
    rows = [{**row, "seconds": None} for row in read_metrics(folder / "metrics.jsonl")]
    return record["fingerprint"], rows, {**record["metrics"], "seconds": None}


def killed(words, checkpoint, wait):
    """Run a command, and kill it `wait` seconds after it has saved a checkpoint; whether it was running."""

    def changed_at():
        with contextlib.suppress(FileNotFoundError):
            return checkpoint.stat().st_mtime_ns

    before = changed_at()
    with subprocess.Popen(
        [sys.executable, "-m", "xpnet.train", *words], stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and changed_at() == before:
            time.sleep(0.002)
        time.sleep(wait)
        running = process.poll() is None
        process.kill()
    return running


@pytest.mark.slow
def test_after_kills_at_random_instants_the_result_is_the_same():
    generator = np.random.default_rng(1)
    kills = 0
    while kills < KILLS:  # one training, or several where the machine lets it run on between them
        words = [*SETTINGS, "--checkpoint-seconds", "0.001", "--name", "run", "--overwrite"]
        resumed = 0
        while kills < KILLS and killed(words, CHECKPOINT, generator.uniform(0.0, 0.03)):
            resumed += words[0] == "--resume"
            kills += 1
            words = ["--resume", str(RUN)]
        if read_run(RUN)["status"] != "completed":
            assert train.main(["--resume", str(RUN), "--quiet"]) == 0
        assert outcome("run") == outcome("whole")
        assert len(read_run(RUN)["segments"]) > resumed


def test_after_ctrl_c_it_goes_on():
    process = pressed(2, [*SETTINGS, "--name", "stopped", "--report"])
    assert re.search(r"^interrupted after 2 epochs; .* --resume runs/stopped goes on$", process.stdout, re.M)
    assert process.returncode == 130
    stopped = read_run(Path("runs/stopped"))
    assert (stopped["status"], stopped["metrics"]["epochs"]) == ("interrupted", 2)
    assert stopped["fingerprint"] == xpnet.load("runs/stopped").fingerprint
    assert Path("runs/stopped/report.html").exists()
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("stopped") == outcome("whole")


def test_after_ctrl_c_between_epoch_0_and_the_first_step_no_row_stands_twice():
    stop_before(0, "stopped")
    assert [row["epoch"] for row in read_metrics(Path("runs/stopped/metrics.jsonl"))] == [0]
    assert Path("runs/stopped/checkpoint.safetensors").exists()
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("stopped") == outcome("whole")


@pytest.mark.needs("array-api-strict")
def test_a_command_that_is_repeated_starts_goes_on_and_then_says_that_the_run_is_complete(capsys):
    words = [*SETTINGS, "--resume-or-start", "--name", "again", "--out", "./runs"]
    steps = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        stop = contextlib.nullcontext(lambda: next(steps) >= STEPS + 10)
        patch.setattr(callbacks, "defer_interrupts", lambda _: stop)
        assert train.main(words) == 130
    assert "goes on" not in capsys.readouterr().out.replace("--resume runs/again goes on", "")
    assert train.main(words) == 0
    assert "\ngoes on after epoch 1 and 10 steps\n" in capsys.readouterr().out
    assert read_run(Path("runs/again"))["fingerprint"] == read_run(Path("runs/whole"))["fingerprint"]
    for quiet, out in ([], "run           runs/again is complete\n"), (["--quiet"], ""):
        assert train.main([*words, *quiet]) == 0
        assert capsys.readouterr().out == out
    message = "--epochs: runs/again was started with 5, got 6: leave it out, or start a new run"
    assert complaint(capsys, "train", *words, "--epochs", "6") == message


def test_what_only_says_where_to_compute_and_what_to_write_may_change():
    assert not Path(RUN, "report.html").exists()
    words = ["--resume", str(RUN), "--backend", "array-api-strict", "--report", "--quiet"]
    assert train.main([*words, "--tag", "first", "--tag", "again"]) == 0
    assert read_run(RUN)["config"]["tags"] == ["first", "again"]
    assert outcome("run") == outcome("whole")
    assert Path(RUN, "report.html").exists()


def test_what_cannot_go_on_is_refused_and_stays_as_it_is(capsys):
    before = Path(RUN, "run.json").read_bytes()
    for message, *words in (
        ("--learning-rate: runs/run was started with 0.01, got 0.5: leave it", RUN, "--lr", "0.5"),
        ("runs/whole: is complete", "runs/whole"),
        ("nowhere: no such file or folder: expected the folder of a run", "nowhere"),
    ):
        assert complaint(capsys, "train", "--resume", *words).startswith(message)
    with np.load("small.npz") as data:
        arrays = dict(data)
    arrays["x_train"][0, 0] ^= 1
    np.savez("small.npz", **arrays)
    line = complaint(capsys, "train", "--resume", RUN)
    assert line.startswith("--resume: runs/run was trained on other data: small with SHA-256")
    assert Path(RUN, "run.json").read_bytes() == before


def test_a_checkpoint_after_more_steps_than_an_epoch_has_is_refused(capsys):
    arrays, facts = load_checkpoint(CHECKPOINT)
    CHECKPOINT.write_bytes(encode_checkpoint(arrays, {**facts, "batch": 1000}))
    line = complaint(capsys, "train", "--resume", RUN)
    assert line.startswith(f"{CHECKPOINT}: not a checkpoint of this training: after 1000 steps of an epoch, ")
    assert line.endswith(": remove the file, and --resume starts from the first epoch")


def test_a_damaged_checkpoint_is_named_with_a_remedy_that_helps(capsys):
    arrays, facts = load_checkpoint(CHECKPOINT)
    name = next(name for name in arrays if name.startswith("state.2."))
    del arrays[name]
    CHECKPOINT.write_bytes(encode_checkpoint(arrays, facts))
    line = complaint(capsys, "train", "--resume", RUN)
    assert line.startswith(f'{CHECKPOINT}: not a checkpoint of this training: "{name}": expected float64 of')
    assert line.endswith("got no such array: remove the file, and --resume starts from the first epoch")
    CHECKPOINT.write_bytes(b"garbage")
    assert str(CHECKPOINT) in complaint(capsys, "train", "--resume", RUN)
    CHECKPOINT.unlink()
    assert train.main(["--resume", str(RUN), "--quiet"]) == 0
    assert outcome("run") == outcome("whole")
