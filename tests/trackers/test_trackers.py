"""Trackers: what they hold is what the record holds, and nothing they do reaches the training."""

import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from ctrl_c import pressed
from requirements import missing, required

from xpnet import trackers, train
from xpnet._lib.locks import Lock
from xpnet.config import TrainConfig, to_json
from xpnet.config.settings import TrackerName
from xpnet.errors import ConfigError
from xpnet.storage.record import read_metrics, read_run
from xpnet.trackers import mirror
from xpnet.trackers.mirror import TrackedRun, select_final_metrics

NAMES = get_args(TrackerName)
COMMAND = [sys.executable, "-m", "xpnet.train"]
RUN = ["--data", "small.npz", "--name", "run", "--epochs", "4", "--log-every", "1", "--no-report"]


TESTED = [name for name in NAMES if not missing(name) or name in required()]
EACH = [pytest.param(name, marks=pytest.mark.needs(name)) for name in NAMES]


def small_data(folder):
    """Write small.npz: 300 + 50 images of 6 by 6 pixels, 4 classes."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(350, 36), dtype=np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(36, 4)), axis=1)
    np.savez(folder / "small.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Work in an empty folder with the data, without variables of the user's that lead elsewhere."""
    small_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith(("WANDB_", "TRACKIO_", "MLFLOW_")):
            monkeypatch.delenv(variable)


# The real libraries


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """A folder with a run that all tested trackers have; it was interrupted and went on."""
    folder = tmp_path_factory.mktemp("mirrored")
    small_data(folder)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "TRACKIO_DIR": str(folder / "trackio"),
        "HOME": str(folder),  # what wandb leaves there
    }
    words = ["--data", "small.npz", "--name", "first try", "--epochs", "200", "--seed", "3"]
    words += ["--batch-size", "16", "--hidden", "7", "--log-every", "10", "--track", *TESTED]
    assert pressed(20, words, cwd=folder, env=environment).returncode == 130
    stopped = read_metrics(folder / "runs/first try/metrics.jsonl")
    assert 3 <= len(stopped) < 21
    again = subprocess.run(
        [*COMMAND, "--resume", "runs/first try"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stderr == ""
    return folder, again.stdout, environment


@pytest.fixture(params=EACH, scope="module")
def tracked(request, mirrored):
    """The name of a tracker, what it holds of the run, the run's folder and what was printed."""
    name = request.param
    folder, printed, environment = mirrored
    run = folder / "runs/first try"
    state = json.loads((run / f"track-{name}.json").read_bytes())
    reader = Path(__file__).resolve().parents[1] / "helpers" / "read_trackers.py"
    answer = subprocess.run(
        [sys.executable, reader, name, state["name"]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return name, json.loads(answer.stdout), run, printed


def test_a_tracker_holds_the_settings(tracked):
    name, tracked_run, run, _ = tracked
    record = read_run(run)
    expected = {key: value for key, value in record["config"].items() if value is not None}
    assert expected["hidden"] == [7]
    if name == "mlflow":  # its parameters are text
        expected = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in expected.items()
        }
    assert {key: tracked_run["config"].get(key) for key in expected} == expected
    assert tracked_run["config"]["backend_used"] == record["backend"]
    assert tracked_run["config"]["data_sha256"] == record["data"]["sha256"]


def test_a_tracker_holds_every_figure_of_both_sessions_once(tracked):
    _, tracked_run, run, _ = tracked
    rows = read_metrics(run / "metrics.jsonl")
    assert rows[-1]["epoch"] == 200
    logged = [
        (epoch, key, value)
        for epoch, metrics in tracked_run["history"]
        for key, value in metrics.items()
        if not key.startswith("test_")
    ]
    expected = [(row["epoch"], key, value) for row in rows for key, value in row.items() if key != "epoch"]
    assert sorted(logged) == sorted(expected)


def test_a_tracker_holds_the_test_figures(tracked):
    _, tracked_run, run, _ = tracked
    metrics = read_run(run)["metrics"]
    logged = {
        key: value
        for epoch, metrics in tracked_run["history"]
        for key, value in metrics.items()
        if epoch == 200 and key.startswith("test_")
    }
    per_class = metrics["test_accuracy_per_class"]
    assert logged == {
        "test_loss": metrics["test_loss"],
        "test_accuracy": metrics["test_accuracy"],
        **{f"test_accuracy_class_{label}": share for label, share in enumerate(per_class)},
    }


def test_a_tracker_holds_the_model_and_the_report(tracked):
    from read_trackers import sha256

    _, tracked_run, run, _ = tracked
    assert tracked_run["files"] == {file: sha256(run / file) for file in ("model.safetensors", "report.html")}


def test_a_tracker_holds_the_ending(tracked):
    _, tracked_run, run, _ = tracked
    assert tracked_run["status"] == "completed"
    assert tracked_run["fingerprint"] == read_run(run)["fingerprint"]


def test_mlflow_holds_when_the_training_started_and_ended(tracked):
    name, tracked_run, run, _ = tracked
    if name == "mlflow":
        record = read_run(run)
        times = [datetime.fromisoformat(record[key]).timestamp() for key in ("started", "ended")]
        assert tracked_run["times"] == pytest.approx([time * 1000 for time in times], abs=1)


def test_the_last_lines_say_where_a_tracker_has_the_run(tracked):
    name, _, run, printed = tracked
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
    known = json.loads((run / f"track-{name}.json").read_bytes())
    expected = {
        "wandb": rf"runs/wandb/offline-run-\d+_\d+-{known['run']}",
        "trackio": f"project xpnet, run {known['name']}",
        "mlflow": f"runs/mlflow.db, experiment xpnet, run {known['name']}",
    }
    assert re.fullmatch(rf"{name:<14}{expected[name]}", line)


# A tracker that misbehaves: a module of the name of one, which stands before it on the path

RECORDER = """
    import json, os

    class Artifact:
        def __init__(self, name, type, metadata): self.name = name
        def add_file(self, path): pass

    class Run:
        url, dir = None, "runs/wandb/offline-run/files"
        def __init__(self, **words): self.note("init", words["name"])
        def note(self, *what):
            with open("calls.jsonl", "a") as file: file.write(json.dumps(what) + "\\n")
        def log(self, metrics, step): self.note("log", step, sorted(metrics))
        def log_artifact(self, artifact): self.note("artifact", artifact.name.partition("-")[0])
        def finish(self, exit_code=None): self.note("finish", exit_code)

    def init(**words): return Run(**words)
"""


def fake(monkeypatch, more="", name="wandb"):
    """Put a tracker before the real one that notes the calls in calls.jsonl, and does ``more``."""
    folder = Path("fakes")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(RECORDER) + textwrap.dedent(more))
    monkeypatch.syspath_prepend(str(folder.resolve()))


def calls():
    return [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]


FAILURES = {
    "import": ("raise ImportError('no such symbol')", "ImportError: no such symbol"),
    "exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "start": ("def init(**words): raise OSError('disk\\nfull')", "OSError: disk full"),
    "log": ("def log(*_, **__): 1 / 0\nRun.log = log", "ZeroDivisionError: division by zero"),
    "artifact": ("del Artifact", "AttributeError: module 'wandb' has no attribute 'Artifact'"),
    "finish": (
        "def finish(*_, **__): raise ValueError('x' * 1000)\nRun.finish = finish",
        f"ValueError: {'x' * 287}…",
    ),
    "death": ("os._exit(7)", "exit code 7"),
    "hang at import": ("import time; time.sleep(600)", "not done 0.2 s after the training"),
    "hang at the end": (
        "import time\nRun.finish = lambda *_, **__: time.sleep(600)",
        "not done 0.2 s after the training",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_tracker_that_fails_is_one_warning(capsys, monkeypatch, failure):
    more, reason = FAILURES[failure]
    if failure.startswith("hang"):
        monkeypatch.setattr(trackers, "FINISH_SECONDS", 0.2)
    fake(monkeypatch, more)
    assert train.main([*RUN, "--track", "wandb"]) == 0
    out, err = capsys.readouterr()
    assert err == (
        f"xpnet: warning: --track wandb: {reason}: nothing is lost, runs/run has the whole record\n"
    )
    assert out.splitlines()[-1] == "run           runs/run"
    assert read_run(Path("runs/run"))["status"] == "completed"
    assert len(read_metrics(Path("runs/run/metrics.jsonl"))) == 5


def test_the_warning_comes_while_training_goes_on(monkeypatch):
    fake(monkeypatch, "raise OSError('full')")
    words = [*RUN, "--epochs", "1000000", "--track", "wandb", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path("fakes").resolve())}
    with subprocess.Popen([*COMMAND, *words], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("xpnet: warning: --track wandb: OSError: full: ")
        assert process.poll() is None
        process.kill()


def test_what_a_tracker_prints_is_not_shown(capfd, monkeypatch):
    fake(monkeypatch, "print('hello'); import sys; sys.stderr.write('hello'); os.write(1, b'hello')")
    assert train.main([*RUN, "--track", "wandb"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "hello" not in out
    assert out.splitlines()[-1] == "wandb         runs/wandb/offline-run"


def test_with_debug_it_is_shown_with_the_traceback(capfd, monkeypatch):
    fake(monkeypatch, "print('hello')\ndef init(**words): raise OSError('full')")
    assert train.main([*RUN, "--track", "wandb", "--debug"]) == 0
    err = capfd.readouterr().err
    assert err.startswith("hello\nTraceback")
    assert "xpnet: warning: --track wandb: OSError: full: " in err


def test_a_tracker_that_fails_leaves_the_others_and_the_network_alone(capsys, monkeypatch):
    assert train.main([*RUN, "--quiet"]) == 0
    alone = read_run(Path("runs/run"))
    fake(monkeypatch, "raise OSError", name="trackio")
    fake(monkeypatch)
    assert train.main([*RUN, "--overwrite", "--track", "trackio", "wandb", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    beside = read_run(Path("runs/run"))
    assert beside["fingerprint"] == alone["fingerprint"]
    assert beside["config"]["track"] == ["trackio", "wandb"]
    assert calls()[-1] == ["finish", 0]


def test_what_trackio_loses_is_a_warning(capsys, monkeypatch):
    """It raises nothing, but warns: with UserWarning, from a thread of its own."""
    lose = """
        import threading, warnings
        def lose(): warnings.warn("could not flush")
        def finish(*_):
            thread = threading.Thread(target=lose)
            thread.start()
            thread.join()
        Run.finish = finish
    """
    fake(monkeypatch, lose, name="trackio")
    assert train.main([*RUN, "--track", "trackio", "--quiet"]) == 0
    assert "warning: --track trackio: RuntimeError: could not flush: nothing is lost" in (
        capsys.readouterr().err
    )


def test_a_mirror_that_cannot_start_is_one_warning(capsys, monkeypatch):
    fake(monkeypatch)
    monkeypatch.setattr(sys, "executable", "/no/python")
    assert train.main([*RUN, "--track", "wandb", "--quiet"]) == 0
    assert re.fullmatch(
        r"xpnet: warning: --track wandb: .*/no/python.*: nothing is lost, .*\n", capsys.readouterr().err
    )


# What it is told, and when


def test_a_tracker_is_told_start_epochs_test_figures_files_and_end(monkeypatch):
    fake(monkeypatch)
    assert train.main([*RUN, "--track", "wandb", "--validation", "50", "--quiet"]) == 0
    (begin, name), *epochs, test, file, end = calls()
    assert begin == "init"
    assert re.fullmatch(r"run-[0-9a-f]{8}", name)
    metrics = ["seconds", "train_accuracy", "train_loss", "validation_accuracy", "validation_loss"]
    assert epochs == [["log", epoch, metrics] for epoch in range(5)]
    per_class = [f"test_accuracy_class_{label}" for label in range(4)]
    assert test == ["log", 4, ["test_accuracy", *per_class, "test_loss"]]
    assert (file, end) == (["artifact", "model"], ["finish", 0])


def test_a_training_that_diverges_is_a_failed_run(monkeypatch, capsys):
    fake(monkeypatch)
    assert train.main([*RUN, "--track", "wandb", "--lr", "1e300", "--quiet"]) == 3
    assert calls()[0][0] == "init"
    assert calls()[-1] == ["finish", 1]
    assert capsys.readouterr().err.count("\n") == 1


def test_each_of_several_trainings_is_a_run(monkeypatch):
    fake(monkeypatch)
    assert train.main([*RUN, "--track", "wandb", "--repeats", "2", "--quiet"]) == 0
    names = [name for call, name in (each[:2] for each in calls()) if call == "init"]
    assert [name.rpartition("-")[0] for name in names] == ["seed-0", "seed-1"]


def test_when_the_training_is_killed_its_tracker_finishes(monkeypatch):
    fake(monkeypatch)
    words = [*RUN, "--epochs", "1000000", "--track", "wandb", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path("fakes").resolve())}
    with subprocess.Popen([*COMMAND, *words], env=environment) as process:
        wait_for(lambda: Path("calls.jsonl").exists() and ["log"] in [c[:1] for c in calls()])
        process.kill()
    wait_for(lambda: calls()[-1] == ["finish", 1])
    assert read_run(Path("runs/run"))["status"] == "running"


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come in a minute")


def test_a_run_that_was_not_tracked_before_is_whole_when_it_is(monkeypatch):
    fake(monkeypatch)
    assert pressed(3, [*RUN, "--epochs", "1000000"]).returncode == 130
    shorten("runs/run", len(read_metrics(Path("runs/run/metrics.jsonl"))) + 1)
    assert train.main(["--resume", "runs/run", "--track", "wandb", "--quiet"]) == 0
    rows = read_metrics(Path("runs/run/metrics.jsonl"))
    logged = [each[1] for each in calls() if each[0] == "log"]
    assert logged == [*(row["epoch"] for row in rows), rows[-1]["epoch"]]


def shorten(folder, epochs):
    """Let a run end after so many epochs."""
    path = Path(folder) / "run.json"
    record = json.loads(path.read_bytes())
    record["config"]["epochs"] = epochs
    path.write_text(json.dumps(record))


def test_after_ctrl_c_nobody_waits_for_the_trackers(monkeypatch):
    fake(monkeypatch, "import time; time.sleep(5)")
    assert train.main([*RUN, "--quiet"]) == 0
    tracker = trackers.Tracker("wandb", Path("runs/run"), pytest.fail)
    tracker.on_train_begin(None)
    process = tracker._process
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), contextlib.closing(tracker):
        raise KeyboardInterrupt
    assert time.monotonic() - started < 4
    assert process.poll() is None
    process.communicate()
    assert calls()[-1] == ["finish", 0]


def test_without_trackers_there_is_no_other_process(monkeypatch):
    library = SimpleNamespace(Popen=lambda *_, **__: pytest.fail("a process"))
    monkeypatch.setattr(trackers, "subprocess", library)
    assert train.main([*RUN, "--quiet"]) == 0


# What is refused


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_that_is_not_installed_is_one_line_and_leaves_nothing(capsys, monkeypatch, name):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    assert train.main([*RUN, "--track", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    fix = f'pip install -e ".[{name}]" in the checkout of xpnet'
    assert err == f"xpnet: --track {name}: {name} is not installed: {fix}\n"
    assert not Path("runs").exists()


def test_a_folder_of_its_name_is_no_tracker(monkeypatch):
    """Trackers leave folders of their names in the current one, where Python looks for modules."""
    Path("no_tracker").mkdir()
    monkeypatch.syspath_prepend(str(Path.cwd()))
    with pytest.raises(ConfigError, match="no_tracker is not installed"):
        trackers.check_installed(["no_tracker"])


def test_the_settings_name_the_trackers():
    assert to_json(TrainConfig(track=NAMES))["track"] == list(NAMES)


# Parts


def test_rows_are_copied_once_and_only_when_they_are_complete(monkeypatch):
    monkeypatch.setattr(mirror, "POLL_SECONDS", 0.01)
    assert train.main([*RUN, "--quiet"]) == 0
    path, ended = Path("runs/run/metrics.jsonl"), threading.Event()
    path.unlink()
    rows = TrackedRun(path.parent, "wandb", ended).read_rows()
    add = threading.Timer(0.1, path.write_bytes, [b'{"epoch": 0}\n{"epoch": 1, "train_loss": null}\n{"epo'])
    add.start()
    assert [next(rows), next(rows)] == [(0, {}), (1, {})]
    with path.open("ab") as file:
        file.write(b'ch": 2, "train_loss": 0.5}\n')
    assert next(rows) == (2, {"train_loss": 0.5})
    ended.set()
    ((epoch, metrics),) = rows
    assert (epoch, "test_loss" in metrics) == (4, True)
    ((epoch, _),) = TrackedRun(path.parent, "wandb", ended).read_rows()
    assert epoch == 4


def test_one_process_at_a_time_makes_the_tables_of_mlflow(monkeypatch):
    assert train.main([*RUN, "--quiet"]) == 0
    fake(monkeypatch, "class MlflowClient:\n    def __init__(self): Run(name='tables') / 0", name="mlflow")
    held = Lock.take(Path("runs/.mlflow.lock"))
    tracker = trackers.Tracker("mlflow", Path("runs/run"), pytest.fail)
    tracker.on_train_begin(None)
    time.sleep(2)
    assert tracker._process.poll() is None
    assert not Path("calls.jsonl").exists()
    held.release()
    tracker.close()
    assert calls() == [["init", "tables"]]


def test_a_run_that_was_replaced_is_not_copied_on(monkeypatch):
    monkeypatch.setattr(mirror, "POLL_SECONDS", 0.01)
    assert train.main([*RUN, "--quiet"]) == 0
    ended = threading.Event()
    ended.set()
    source = TrackedRun(Path("runs/run"), "wandb", ended)
    assert train.main([*RUN, "--quiet", "--overwrite"]) == 0
    with pytest.raises(ValueError, match="was replaced by another run"):
        list(source.read_rows())
    assert not Path("runs/run/track-wandb.json").exists()


def test_the_final_metrics_are_numbers_that_no_epoch_has():
    metrics = {
        "train_loss": 0.1,
        "validation_accuracy": 0.8,
        "test_loss": None,
        "test_accuracy": 0.9,
        "test_accuracy_per_class": [0.5, None],
        "best_epoch": 3,
        "epochs": 4,
        "seconds": 1.5,
    }
    expected = {"test_accuracy": 0.9, "best_epoch": 3, "test_accuracy_class_0": 0.5}
    assert select_final_metrics(metrics) == expected
