"""Trackers: what they hold is what the record holds, and nothing they do reaches the training."""

import contextlib
import faulthandler
import importlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import get_args

import filelock
import pytest
from commands import complaint
from ctrl_c import pressed
from folders import change_record
from harmed_trial import wait_until
from networks import pixels
from report_pages import save_data
from requirements import missing, required

import xpnet
from xpnet import trackers, train
from xpnet.config.settings import TrackerName
from xpnet.storage.record import read_metrics, read_run

NAMES = get_args(TrackerName)
RUN = ["--data", "small.npz", "--name", "run", "--epochs", "4", "--log-every", "1", "--no-report", "--quiet"]
RUN_FOLDER = Path("runs/run")


def small_data(folder):
    x, y = pixels(60, 36, 4)
    save_data(folder / "small.npz", x[:40], y[:40], x[40:], y[40:])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Work in an empty folder with the data, without variables of the user's that lead elsewhere."""
    small_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith(("WANDB_", "TRACKIO_", "MLFLOW_")):
            monkeypatch.delenv(variable)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """A folder with a run that all tested trackers have, interrupted and resumed, and what was printed."""
    folder = tmp_path_factory.mktemp("mirrored")
    small_data(folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {"TRACKIO_DIR": str(folder / "trackio"), "HOME": str(folder)}  # what wandb leaves there
    options = {"cwd": folder, "env": environment}
    words = ["--data=small.npz", "--epochs=100", "--batch-size=4", "--hidden=7", "--log-every=10"]
    words += ["--track", *(name for name in NAMES if not missing(name) or name in required())]
    tags = ["--name=first try", "--tag=größe-1.5", "--tag=old"]
    assert pressed(20, [*words, *tags], **options).returncode == 130
    assert 3 <= len(read_metrics(folder / "runs/first try/metrics.jsonl")) < 11
    command = [
        sys.executable,
        "-m",
        "xpnet",
        "train",
        "--resume=runs/first try",
        "--tag=größe-1.5",
        "--tag=new",
    ]
    again = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    assert again.stderr == ""
    return folder, again.stdout


def text_of(tracker, folder):
    """All that a tracker holds: the log that wandb uploads later, or the tables of a data base."""
    if tracker == "wandb":
        logs = (folder / "runs/wandb").glob("*/*.wandb")
        return "".join(log.read_bytes().decode(errors="replace") for log in logs)
    path = folder / {"trackio": "trackio/xpnet.db", "mlflow": "runs/mlflow.db"}[tracker]
    with contextlib.closing(sqlite3.connect(path)) as base:
        tables = base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = [base.execute(f"SELECT * FROM {table}").fetchall() for (table,) in tables]  # noqa: S608
        return str(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in NAMES])
def test_a_real_tracker_holds_settings_data_metrics_files_and_ending(mirrored, name):
    folder, printed = mirrored
    run = folder / "runs/first try"
    record, rows, held = read_run(run), read_metrics(run / "metrics.jsonl"), text_of(name, folder)
    losses = [*(row["train_loss"] for row in rows), record["metrics"]["test_loss"]]  # of both sessions
    words = [
        record["fingerprint"],
        record["data"]["sha256"],
        "new",
        "FINISHED" if name == "mlflow" else "completed",
    ]
    assert [value for value in [*map(str, losses), *words] if value not in held] == []
    stored = folder / {"wandb": "runs/wandb", "trackio": "trackio", "mlflow": "runs/mlartifacts"}[name]
    contents = {path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    assert {(run / file).read_bytes() for file in ("model.safetensors", "report.html")} <= contents
    state = json.loads((run / f"track-{name}.json").read_bytes())
    places = {
        "wandb": rf"runs/wandb/offline-run-\d+_\d+-{state['run']}",
        "trackio": f"project xpnet, run {state['name']}",
        "mlflow": f"experiment xpnet, run {state['name']}",
    }
    assert re.search(rf"^{name:<14}{places[name]}$", printed, re.MULTILINE)


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
    """Put a module before the real one on the path that notes the calls in calls.jsonl, and does ``more``."""

    def install(more="", name="wandb"):
        Path("fakes").mkdir(exist_ok=True)
        Path(f"fakes/{name}.py").write_text(textwrap.dedent(RECORDER) + textwrap.dedent(more))

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
def child(monkeypatch):
    """Be as the process of a tracker, after the training."""
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(os, "environ", dict(os.environ))


def copy(name="wandb", folder=RUN_FOLDER):
    """Copy the run to a tracker in this process."""
    copy_to = trackers.copy_to_mlflow if name == "mlflow" else trackers.copy_to_wandb
    return copy_to(trackers.TrackedRun(name, folder))


@pytest.fixture
def finished(recorded):
    shutil.copytree(recorded / "runs" / "plain", RUN_FOLDER)


def test_a_tracker_is_told_settings_epochs_result_files_and_end(fake, child):
    assert train.main([*RUN, "--validation", "10", "--tag", "first"]) == 0
    record, rows = read_run(RUN_FOLDER), read_metrics(RUN_FOLDER / "metrics.jsonl")
    assert copy() == "runs/wandb/offline-run"
    (begin, name, config, tags), *epochs, (_, last, result), artifact, end = calls()
    assert (begin, artifact, end) == ("init", ["artifact", "model.safetensors", "model"], ["finish", 0])
    assert (bool(re.fullmatch(r"run-[0-9a-f]{8}", name)), tags) == (True, ["first"])
    assert config.items() >= {**record["config"], "started": record["started"]}.items()
    for row, (_, epoch, metrics) in zip(rows, epochs, strict=True):
        del row["fingerprint"]  # no metric
        assert {"epoch": epoch, **metrics}.items() >= row.items()
        assert "fingerprint" not in metrics
    expected = {key: record["metrics"][key] for key in ("test_loss", "test_accuracy", "seconds")}
    assert result.items() >= {**expected, "fingerprint": record["fingerprint"]}.items()
    assert last == 4
    started, ended = (datetime.fromisoformat(record[key]).timestamp() for key in ("started", "ended"))
    times = [metrics["_timestamp"] for *_, metrics in calls("log")]
    assert times == pytest.approx([*(started + row["seconds"] for row in rows), ended], abs=0.002)


def test_a_copy_that_goes_on_leaves_out_what_was_copied(fake, finished, child):
    path = RUN_FOLDER / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    copy()
    path.write_bytes(b"".join(lines))
    copy()
    assert [call[1] for call in calls("log")] == [0, 1, 1, 2, 3, 3]  # each session ends with the result
    first, second = calls("init")
    assert first == second


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])  # running: the training was killed
def test_a_training_that_does_not_complete_is_a_failed_run(fake, finished, child, status):
    change_record(RUN_FOLDER, status=status, ended=None)
    copy()
    assert calls()[-1] == ["finish", 1]


def test_what_trackio_loses_is_a_warning(fake, finished, child):
    """It raises nothing, but warns: with UserWarning, from a thread of its own."""
    lose = """
        import threading, warnings
        def finish(*_):
            thread = threading.Thread(target=lambda: warnings.warn("could not flush"))
            thread.start()
            thread.join()
        Run.finish = finish
    """
    fake(lose, name="trackio")
    with pytest.raises(RuntimeError, match="could not flush"):
        copy("trackio")


CONSEQUENCE = "nothing is lost, runs/run has the whole record"
PRINTS = "print('hello'); os.write(1, b'hello')\n"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("def init(**words): raise OSError('disk\\nfull')", "OSError: disk full"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
    ids=["error", "exit"],
)
def test_the_answer_of_a_tracker_that_fails_is_the_reason(
    capfd, fake, finished, child, monkeypatch, more, reason
):
    fake(PRINTS + more)
    monkeypatch.setattr(sys, "argv", ["trackers", "wandb", str(RUN_FOLDER)])
    stdout = os.dup(1)
    with pytest.raises((OSError, SystemExit)):
        trackers.main()
    os.dup2(stdout, 1)
    os.close(stdout)
    assert capfd.readouterr().out.replace("hello\n", "") == reason


def test_a_tracker_that_hangs_is_one_warning_after_the_epoch(capfd, fake, finished):
    hang = "import __main__, time; __main__.LIMIT = 0.5; Run.finish = lambda *_, **__: time.sleep(600)"
    fake(PRINTS + hang)
    with contextlib.closing(trackers.Tracker("wandb", RUN_FOLDER, pytest.fail)) as tracker:
        tracker.on_train_end(None, None)  # until which none hangs
        tracker._process.wait()
        tracker.on_epoch_end(None, None)
        reason = "no answer, exit code 1 (the limit is 120 s)"
        assert capfd.readouterr() == ("", f"xpnet: warning: --track wandb: {reason}: {CONSEQUENCE}\n")


class Copying:
    """The process of a tracker, as it ends with this code and this answer, after so many waits."""

    def __init__(self, code, answer, waits=0):
        self.returncode, self.answer, self.waits, self.stdin = code, answer, waits, None

    def poll(self):
        return None

    def communicate(self, timeout=None):
        self.waits -= 1
        if self.waits >= 0:
            raise subprocess.TimeoutExpired([], timeout)
        return self.answer, None


def test_a_wait_of_more_than_a_second_is_one_line_that_names_the_tracker(monkeypatch):
    monkeypatch.setattr(trackers, "Popen", lambda *_, **__: Copying(0, "runs/wandb/offline-run", waits=1))
    lines = []
    trackers.Tracker("wandb", RUN_FOLDER, lines.append).close()
    waiting = "waiting for the copy of the run (at most 120 s; Ctrl-C leaves it to finish by itself)"
    assert lines == [f"wandb         {waiting}", "wandb         runs/wandb/offline-run"]


def test_each_training_is_a_run_and_a_tracker_that_fails_leaves_all_else_alone(
    capsys, fake, child, monkeypatch
):
    fake(name="trackio")
    copied = []

    def start(words, **_):
        copied.append(tuple(map(str, words[-2:])))
        return Copying(1, "OSError") if "trackio" in words else Copying(0, "runs/wandb/offline-run")

    monkeypatch.setattr(trackers, "Popen", start)
    words = ["--name", "seeds", "--repeats", "2", "--track", "trackio", "wandb"]
    assert train.main([*RUN, *words]) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("warning: --track trackio: OSError: "), err.count("\n")) == ("", 2, 2)
    folders = [f"runs/seeds/seed-{seed}" for seed in (0, 1)]
    assert copied == [(name, folder) for folder in folders for name in ("trackio", "wandb")]
    assert train.main([*RUN, "--name", "alone"]) == 0
    assert read_run(Path(folders[0]))["fingerprint"] == read_run(Path("runs/alone"))["fingerprint"]
    for folder in folders:
        copy(folder=Path(folder))
    (_, one, first, _), (_, two, second, _) = calls("init")
    assert one != two
    assert (first["seed"], second["seed"]) == (0, 1)
    assert calls("finish") == [["finish", 0]] * 2
    xpnet.fit(*pixels(60, 36, 4), epochs=1, run="runs/fit", track=["wandb"], report=False)
    assert copied[-1] == ("wandb", "runs/fit")


@pytest.mark.slow
def test_after_ctrl_c_nobody_waits_for_the_trackers(fake, finished):
    fake("import sys; sys.stdin.read()")  # until the training says that it has ended
    tracker = trackers.Tracker("wandb", RUN_FOLDER, pytest.fail)
    process = tracker._process
    with pytest.raises(KeyboardInterrupt), contextlib.closing(tracker):
        raise KeyboardInterrupt
    assert process.poll() is None
    process.communicate()
    assert calls()[-1] == ["finish", 0]


def test_one_process_at_a_time_makes_the_tables_of_mlflow(fake, finished, child):
    take = 'filelock.FileLock("runs/.mlflow.lock", blocking=False).acquire()'
    fake(f"import filelock\nclass MlflowClient:\n    def __init__(self): {take}", name="mlflow")
    with pytest.raises(filelock.Timeout):
        copy("mlflow")


@pytest.mark.slow
def test_when_the_training_is_killed_its_tracker_finishes(fake):
    words = [*RUN, "--epochs", "1000000", "--track", "wandb"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-m", "xpnet.train", *words], env=environment) as process:
        wait_until(lambda: Path("calls.jsonl").exists() and calls("log"))
        process.kill()
    wait_until(lambda: calls()[-1] == ["finish", 1])
    assert read_run(RUN_FOLDER)["status"] == "running"


def test_a_tracker_that_is_not_installed_is_one_line_and_leaves_nothing(capsys, monkeypatch):
    """A folder of its name is no tracker: trackers leave such where Python looks for modules."""
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
        Path(name).mkdir()
    monkeypatch.setattr(sys, "path", [str(Path.cwd())])
    importlib.invalidate_caches()
    for name in NAMES:
        fix = f'pip install -e ".[{name}]" in the checkout of xpnet'
        expected = f"--track {name}: {name} is not installed: {fix}"
        assert complaint(capsys, "train", *RUN, "--track", name) == expected
    assert not Path("runs").exists()
