"""Trackers: what they hold is what the record holds, and nothing they do reaches the training."""

import contextlib
import faulthandler
import importlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from commands import complaint
from ctrl_c import pressed
from folders import change_record
from harmed_trial import wait_until

from xpnet import trackers, train
from xpnet.config.settings import TrackerName
from xpnet.storage.record import read_metrics, read_run

NAMES = get_args(TrackerName)
RARE = {"trackio": [pytest.mark.nightly], "wandb": [pytest.mark.nightly]}
REAL = [pytest.param(name, marks=[pytest.mark.needs(name), *RARE.get(name, [])]) for name in NAMES]
RUN = ["--data", "small.npz", "--name", "run", "--epochs", "4", "--log-every", "1", "--no-report", "--quiet"]
RUN_FOLDER = Path("runs/run")


@pytest.fixture(autouse=True)
def no_variables(small_data, monkeypatch):
    """Work in a folder with the data, without variables of the user's that lead elsewhere."""
    for variable in list(os.environ):
        if variable.startswith(("WANDB_", "TRACKIO_", "MLFLOW_")):
            monkeypatch.delenv(variable)


@pytest.fixture(scope="module")
def mirrored(request, recorded, tmp_path_factory):
    tests = [item for item in request.session.items if "mirrored" in item.fixturenames]
    names = {item.callspec.params["name"] for item in tests}
    folder = tmp_path_factory.mktemp("mirrored")
    shutil.copy(recorded / "small.npz", folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {"TRACKIO_DIR": str(folder / "trackio"), "HOME": str(folder)}  # what wandb leaves there
    options = {"cwd": folder, "env": environment}
    words = ["--data=small.npz", "--epochs=100", "--batch-size=18", "--hidden=7", "--log-every=10"]
    words += ["--name=first try", "--tag=größe-1.5", "--track", *names]
    assert pressed(20, words, **options).returncode == 130
    command = [sys.executable, "-m", "xpnet", "train", "--resume=runs/first try", "--tag=new"]
    again = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    assert again.stderr == ""
    return folder


def text_of(tracker, folder):
    if tracker == "wandb":
        logs = (folder / "runs/wandb").glob("*/*.wandb")
        return "".join(log.read_bytes().decode(errors="replace") for log in logs)
    path = folder / {"trackio": "trackio/xpnet.db", "mlflow": "runs/mlflow.db"}[tracker]
    with contextlib.closing(sqlite3.connect(path)) as base:
        tables = base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return str([base.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables])  # noqa: S608


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_real_tracker_holds_settings_data_metrics_files_and_ending(mirrored, name):
    folder, run = mirrored, mirrored / "runs/first try"
    record, rows, held = read_run(run), read_metrics(run / "metrics.jsonl"), text_of(name, folder)
    words = [str(row["train_loss"]) for row in rows]  # of both sessions
    words += [record["fingerprint"], record["data"]["sha256"], "new", "FINISHED" * (name == "mlflow")]
    assert [word for word in words if word not in held] == []
    stored = folder / {"wandb": "runs/wandb", "trackio": "trackio", "mlflow": "runs/mlartifacts"}[name]
    contents = {path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    assert {(run / file).read_bytes() for file in ("model.safetensors", "report.html")} <= contents


RECORDER = """
    import json, os

    class Run:
        url, dir, config = None, "runs/wandb/offline-run/files", {}
        def __init__(self, **words): self.note("init", words["name"], words["config"], words.get("tags"))
        def note(self, *what):
            with open("calls.jsonl", "a") as file: file.write(json.dumps(what) + "\\n")
        def log(self, metrics, step): self.note("log", step, metrics)
        def log_artifact(self, path, name, type): self.note("artifact", os.path.basename(path), type)
        def finish(self, exit_code=None): self.note("finish", exit_code)

    def init(**words): return Run(**words)
"""


@pytest.fixture
def fake(monkeypatch):
    """A function that puts a tracker on the path that notes its calls in calls.jsonl, and does ``more``."""

    def install(more="", name="wandb"):
        Path("fakes").mkdir(exist_ok=True)
        Path(f"fakes/{name}.py").write_text(textwrap.dedent(RECORDER) + more)

    monkeypatch.syspath_prepend(str(Path("fakes").resolve()))
    monkeypatch.setattr(trackers, "SILENCE", 60.0)  # no line about a wait on a slow machine
    install()
    yield install
    for name in NAMES:
        sys.modules.pop(name, None)


def calls(*names):
    rows = map(json.loads, Path("calls.jsonl").read_text().splitlines())
    return [row for row in rows if not names or row[0] in names]


@pytest.fixture
def finished(recorded):
    shutil.copytree(recorded / "runs" / "plain", RUN_FOLDER)


@pytest.mark.usefixtures("fake", "finished")
def test_a_copy_has_each_epoch_once_the_result_the_model_and_the_end_of_each_session(monkeypatch):
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # as in the process of the tracker, after a training
    monkeypatch.setattr(os, "environ", dict(os.environ))
    path, record = RUN_FOLDER / "metrics.jsonl", read_run(RUN_FOLDER)
    lines = path.read_bytes().splitlines(keepends=True)
    for status, count in (("running", 2), ("completed", len(lines))):  # it was killed, and resumed
        change_record(RUN_FOLDER, status=status)
        path.write_bytes(b"".join(lines[:count]))
        tracked = trackers.TrackedRun("wandb", RUN_FOLDER)
        assert trackers.copy_to_wandb(tracked) == "runs/wandb/offline-run"
    logs = calls("log")
    assert [epoch for _, epoch, _ in logs] == [0, 1, 1, 2, 3, 3]  # each session ends with the result
    assert logs[-1][2]["test_loss"] == record["metrics"]["test_loss"]
    first, second = calls("init")
    assert first == second
    assert first[2].items() >= record["config"].items()
    assert calls("artifact") == [["artifact", "model.safetensors", "model"]] * 2
    assert calls("finish") == [["finish", 1], ["finish", 0]]


HANG = "import __main__, time; __main__.LIMIT = 0.5; Run.finish = lambda *_, **__: time.sleep(600)"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("def init(**words): raise OSError('disk\\nfull')", "OSError: disk full"),
        (HANG, "no answer, exit code 1 (the limit is 120 s)"),
    ],
)
def test_a_tracker_that_fails_or_hangs_is_one_warning_after_the_epoch(capfd, fake, finished, more, reason):
    fake(f"print('hello'); os.write(1, b'hello')\n{more}")
    with contextlib.closing(trackers.Tracker("wandb", RUN_FOLDER, pytest.fail)) as tracker:
        tracker.on_train_end(None)  # until which none hangs
        tracker._process.wait()
        tracker.on_epoch_end(None)
        warning = f"--track wandb: {reason}: nothing is lost, runs/run has the whole record"
        assert capfd.readouterr() == ("", f"xpnet: warning: {warning}\n")


def test_every_training_is_copied_and_a_tracker_that_fails_is_a_warning(capsys, fake, monkeypatch):
    fake(name="trackio")
    copied = []

    def start(words, **_):
        name, folder = map(str, words[-2:])
        copied.append((name, folder))
        code, answer = (1, "OSError") if name == "trackio" else (0, "runs/wandb/offline-run")
        communicate = lambda timeout: (answer, None)  # noqa: E731
        return SimpleNamespace(returncode=code, stdin=None, poll=lambda: None, communicate=communicate)

    monkeypatch.setattr(trackers, "Popen", start)
    assert train.main([*RUN, "--name", "seeds", "--repeats", "2", "--track", "trackio", "wandb"]) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("warning: --track trackio: OSError: "), err.count("\n")) == ("", 2, 2)
    folders = [f"runs/seeds/seed-{seed}" for seed in (0, 1)]
    assert copied == [(name, folder) for folder in folders for name in ("trackio", "wandb")]


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_when_the_training_is_killed_its_tracker_finishes():
    words = [sys.executable, "-m", "xpnet.train", *RUN, "--epochs", "1000000", "--track", "wandb"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, env=environment) as process:
        wait_until(lambda: Path("calls.jsonl").exists() and calls("log"))
        process.kill()
    wait_until(lambda: calls()[-1] == ["finish", 1])  # a failed run


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_that_is_not_installed_is_one_line_and_leaves_nothing(capsys, monkeypatch, name):
    """A folder of its name is no tracker: trackers leave such where Python looks for modules."""
    monkeypatch.setattr("xpnet._lib.extras.TRAIN", ())  # which is not found either
    monkeypatch.delitem(sys.modules, name, raising=False)
    Path(name).mkdir()
    monkeypatch.setattr(sys, "path", [str(Path.cwd())])
    importlib.invalidate_caches()
    assert f"{name} is not installed: " in complaint(capsys, "train", *RUN, "--track", name)
    assert not Path("runs").exists()
